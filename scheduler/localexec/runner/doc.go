//go:build linux

// Package runner is the process that executes the local attempts of a directory: their parent, their log keeper and the memory of what became
// of them. Package localexec starts it and talks to it.
//
// Everything is decided by one goroutine (loop); the others wait for a connection, a disk or a process, and hand it functions to call.
// An attempt costs one fork and exec, a map entry, and no goroutine, thread or descriptor: its output goes from the task to the file. One that was
// given secrets costs two goroutines and two descriptors more: its output is masked on the way, see masked.go.
//
//	<dir>/LOCK       flock: one runner for each directory
//	<dir>/socket     where the client connects, one at a time, the newest wins
//	<dir>/journal    what was decided and seen; format in journal.go, fold in table.go
//	<dir>/logs/      one file for each attempt, removed by the client when the run is forgotten
//	<dir>/state/     what tasks keep for their next try; made by them, removed by the client when the run has ended
//	<dir>/attempts/  input.json, output.json, perhaps heartbeat and output.pipe, and the working directory of each attempt; removed or used again when its end was taken
//
// # At most once
//
// An attempt goes through these steps; what is left when the runner, or the machine, stops behind one of them:
//
//  1. Launch arrives. Behind it: nothing is known, the client has no answer; its Reconcile claims the attempt as never to be started.
//  2. The claim is appended. Only then is the launch answered, and the attempt queued. It is not synced: it has to survive this process, not the
//     machine, after whose death nothing of the attempt runs, and the client asks after each attempt that its own store has as active before
//     it launches anything: one whose claim is gone is then claimed as never to be started, and is lost, as it would be with its claim.
//     Behind it: the attempt has a claim and no start. A later launch finds the claim; nobody executes it; it ends as lost, see below.
//  3. The log is created, O_EXCL; fork; exec. Behind it: a process exists of which the journal says nothing. It is found, see below.
//  4. The start (pid, start time, boot id) is appended. Not synced: it has to survive this process, not the machine, after whose death no
//     process is left. Behind it: the next runner adopts the process.
//  5. The leader ends; what is left of its group is killed; when nothing of the group can run, the end is appended, reported and synced.
//     The report does not wait for the sync: until the client has committed it nothing depends on it, and then nothing depends on our record.
//     Behind it: the end is reported by the next runner; or, if the machine died before the sync, lost is, and if the client had
//     committed the end, it ignores that.
//  6. The client acknowledges: the attempt is taken. Its output is forgotten, its id is not: the newest 4,096 stay in the journal, and the log
//     of each attempt that was ever executed makes step 3 fail for as long as it is kept.
//
// An attempt that Reconcile asks for and that nobody knows is claimed as ended in the same journal, synced before it is reported: launch and
// reconciliation are one race for the first claim, and whoever wins decides.
//
// # A claim without a start
//
// Was it executed? A successor holds the lock. A lock of flock(2) belongs to the open file, which a forked child shares until its exec
// closes it (close-on-exec). So once the lock was granted, every child of the dead runner is past that point of its exec or dead; there is
// none that might yet start. Those past it have the attempt's log as standard output and error since before the exec, and MILLRACE_OUTPUT
// with the attempt's own path in their environment: recover looks through /proc for both. A leader that is found gets its start record and is
// adopted; if there is none, the attempt does not run, and never will. A task that closed its output, replaced its environment and left its group
// at once would escape this, and only this: it is then reported as lost while it still runs, but is not executed a second time.
//
// # Adoption
//
// A start is alive if the boot id is today's and the process has the recorded start time: pids are reused, start times with them are
// not. An adopted process is the child of another, so its exit status is known only from a kernel that keeps it for holders of a pidfd
// (PIDFD_GET_INFO, Linux 6.15); else it ends as lost. Timeouts count from the recorded start, and a kill that was asked for goes on.
//
// # The journal fails
//
// When the journal can not be written, or a sync of it has failed, launches are refused as unavailable, running tasks go on, their ends are
// reported from memory, and once a second all that is known is written to a new file, whose sync is then the one that counts. A journal that
// has lost records that were durable is not opened: "journal is damaged". Moving it away forgets who was executed.
//
// # Versions
//
// A client names its build, the versions of protocol and journal that it speaks, and how its own runner is started. A runner of another build
// becomes the client's by exec in place, at a moment at which nothing is under way: the pid stays, the children stay its children, and lock and
// socket are passed on. So after an upgrade the tasks of the old version go on, with their exit codes, under the new runner, and the protocol
// only has to agree on the hello. A client that can not read the journal (a downgrade) is served if it speaks our protocol; if it does not either,
// it is turned away, and the older millrace has no local executor until the newer one has drained it.
//
// # End
//
// Without a client the runner stays while an attempt has not ended or an end was not taken, and then for as long as the client said (a
// minute), for a few seconds if there never was one, or not at all if the client said that it ends. SIGTERM makes it leave its tasks to the next runner.
package runner
