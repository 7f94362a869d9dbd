// Package mesosexec is a framework of a Mesos cluster. At present it has [Client], the connection to the master that leads, and [Judge], which says what
// an update of a task means for its attempt; package match below decides which task goes on which agent.
//
//	Detector ─ masters ─▶ Client.Run ── SUBSCRIBE ──▶ master
//	                          │  ▲ 307: to the leader
//	       handler ◀─ events ─┘  └─ one stream; heartbeats watch over it
//	       callers ─ Client.Call ── other connections, with the id of the stream ──▶ the same master
//
// # Guarantees of the client
//
//   - The id of the framework is kept by [IDs] before anybody hears of it, so nothing is launched under an id that is not kept. A framework
//     that a master has removed stays so: the client never takes a new id by itself.
//   - Events come one at a time, in order. The next is not read before the handler has returned, so a slow handler slows the master. An
//     event that the handler refuses ends the stream; what matters comes again on the next one.
//   - A stream that is silent for five heartbeats is dropped. Subscribing is tried again for ever, with pauses of at most 15 s with jitter,
//     except after what only a person can mend: [ErrRemoved], [ErrSuperseded], [ErrRefused].
//   - Every call has a time-out, and all ends with ctx. A call says whether the master has read it, not that it did something.
//
// # What a crash does
//
// If we stop between the answer to the first SUBSCRIBE and the keeping of the id, the master has a framework without tasks that ends after its failover
// time-out; the next start registers another. If we stop anywhere else, the next start subscribes with the kept id: tasks run on for the
// failover time-out, offers come anew, updates that were not acknowledged are repeated.
package mesosexec
