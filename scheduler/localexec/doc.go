//go:build linux

// Package localexec is a scheduler.Executor that runs attempts as processes of this machine. It is the client: the processes are children of
// one runner process for each directory (package runner below), which [Executor.Run] starts when there is none, and which outlives millrace.
//
//	engine ─▶ Executor ──unix socket──▶ runner ──fork, exec──▶ task
//	                                       └─ journal            └─ stdout, stderr ─▶ logs/<run>/<task>.<map>.<try>.log
//
// # Guarantees
//
//   - Launch returns nil when the claims of all attempts are on the disk of the runner; from then on each ends in a report.
//   - An attempt is executed at most once, however often it is launched, reconciled, and whichever process dies in between.
//   - A report is delivered until it was taken, to this process or to the next one. An attempt has one end: repeated reports of it are equal,
//     except that the output is dropped once it was taken.
//   - What a try keeps in MILLRACE_STATE, a directory that it makes, is there for the next one, until [Options.Ended] says that the run has ended.
//   - An end is reported when no process of the attempt's group can run any more.
//
// # What a crash does
//
//   - millrace dies: nothing happens to the tasks. The next one connects to the same runner, which repeats all reports that were not taken,
//     and the running ones. Launch, Kill and Reconcile that had not returned may or may not have been carried out: Reconcile decides.
//   - The runner dies: its tasks go on. Run starts another runner, which finds them in its journal and in /proc, and goes on watching, with
//     the same timeouts and kills. On Linux ≥ 6.15 it learns their exit status; on older kernels such tasks end as lost.
//   - The machine dies: all attempts that had not ended are lost.
//   - millrace is replaced by another build: the runner replaces itself by the client's build in place and keeps its children; see package
//     runner, Versions.
//
// It does not limit cpu, memory or files of a task, does not change the user, and does not keep processes that leave their process group
// (setsid) from surviving. A service manager must not kill the runner with millrace: systemd needs KillMode=process.
package localexec
