// Package sandbox reads what tasks leave in their sandboxes on Mesos agents: their logs while they run and when they have ended, what they put out, why
// they could not be started, and whether they beat.
//
//	agent ── LIST_FILES, READ_FILE ──▶ Keeper.Run ── masked ──▶ <dir>/<run>/<attempt>.log ──▶ Keeper.Log
//	                                                             │   <attempt>.json: how far
//	       └────────── the rest ─────▶ Keeper.Finish ◀───────────┘
//	                                      ├─▶ object store: the log (package tasklog), a large output (package output)
//	                                      └─▶ Result; the executor reports, and acknowledges the last update afterwards
//
// # Guarantees
//
//   - When Finish has returned a result, the log is in the object store as far as it could be read, and what is missing is said in the log and in the
//     result. So whatever the agent does with the sandbox after the acknowledgement, nothing is lost.
//   - No secret is written to this machine's disk or to the object store, wherever the pieces that are read are cut. What may be the beginning of one is
//     read again after a restart.
//   - Offsets are those of the masked log. What was read from an offset stays there, except that what a process had collected in its last second is
//     collected again by the next one: of one stream the same bytes, of two perhaps in another order.
//   - Attempts cost what they write: a quiet one is looked at every two seconds. An agent that does not answer delays only its own.
//
// # What a crash does
//
// The spool and what is known of it are on this disk without syncs, and the length and checksum in the second tell whether they belong together: if not,
// and on another machine, the sandbox is read again from its beginning. If we stop before the log is archived, the next Finish goes on collecting. If
// we stop behind that, it finds the result on the disk, or collects again and finds the archive there, which never changes.
package sandbox
