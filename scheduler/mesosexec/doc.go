// Package mesosexec is the executor on a Mesos cluster: a framework. [Executor] is all of it; [Client] is the connection to the master that leads,
// [Judge] says what an update of a task means for its attempt. Package match decides which task goes on which agent, sandbox reads what tasks leave there.
//
//	             launches                             reports
//	engine ──────────────▶ Executor ─────────────────────────────────▶ engine
//	                       │ ▲    ▲ │
//	  records, then ACCEPT │ │    │ └─ sandbox: log and output of an attempt, archived before its end is reported
//	                       ▼ │    │ offers, updates
//	Detector ─ masters ─▶ Client.Run ── SUBSCRIBE ──▶ master
//	                       │  ▲ 307: to the leader
//	                       └──┴ one stream, heartbeats watch over it; calls go over other connections
//
// # Guarantees of the executor
//
//   - Nothing is launched that is not on record in the store, and nothing twice. An attempt that was sent and of which the cluster knows nothing is lost
//     only when no ACCEPT can be under way any more and all agents have had the time to come back; the engine makes a new attempt, with a new id, then.
//   - An update is acknowledged when what it says is committed by the engine: for the end of an attempt, that is after its log is in the object store.
//   - The end of this process is not the end of a task, and nothing but a person's word removes the framework.
//   - A cluster that knows none of the tasks that ran is taken for another one: nothing is launched and nothing given up before a person has confirmed it.
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
//   - Between the answer to the first SUBSCRIBE and the keeping of the id: the master has a framework without tasks that ends after its failover
//     time-out; the next start registers another.
//   - Before the record of an attempt: it is not known any more. The engine asks after it, hears that it is unsent, and launches it again.
//   - Between the record and the ACCEPT: the master does not know the task; it is lost after ExecutorOptions.Settle.
//   - After the ACCEPT: the next start subscribes with the kept id and asks after it; tasks run on for the failover time-out.
//   - Between the archive of the log, the engine's commit, the record of the end and the ACKNOWLEDGE: the update comes again, and each of them finds that
//     it has been done.
package mesosexec
