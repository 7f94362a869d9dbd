//go:build linux

// Package dockerexec is a scheduler.Executor that runs attempts as containers of a Docker engine, by its HTTP API.
//
//	engine ─▶ Executor ─▶ records (the claim) ─▶ POST /containers/create ─▶ PUT …/archive (the input) ─▶ POST …/start
//	   ◀── reports ◀── GET /events, GET /containers/json, GET …/logs ─▶ logs/<run>/<task>.<map>.<try>.log
//
// It was tested against an engine of our own that runs containers as processes, not against Docker's: none runs where the tests do.
//
// # Guarantees
//
//   - Launch returns nil when the claims of all attempts are in the store's records; from then on each ends in a report.
//   - An attempt is started at most once, however often it is launched and reconciled, and whatever dies in between: see below.
//   - Containers outlive millrace. One is removed when its log is in our file, its output in the report, and the report was taken.
//   - An end is reported when the container has ended, and with it all processes that it had.
//
// # At most once
//
// An attempt goes through these steps; what is left when millrace stops behind one of them:
//
//  1. The claim is in the records. A later launch of the same id finds it, and does nothing. Behind it: there is no container; the attempt is lost.
//  2. The container is created. Its name is made of the attempt's id, so there is one at most; what it is told is in the memory of this process
//     alone, since secrets are in it. Behind it: the container is removed, and the attempt is lost.
//  3. The container is started, by the process that has made the claim, with one request. If nothing is known of its outcome, it is not made
//     again: one that has ended would be started anew. The container is asked after: if it was not started, it is removed, which an engine refuses to do
//     with one that runs.
//  4. The container ends. Log, output and exit code are read; then the report is in the records. Behind it: it is reported by the next process.
//  5. The report was taken; the container is removed; the record is over. Behind it: the report is repeated.
//
// A container of ours that has no record, because a backup of the store was restored, is adopted by its labels.
//
// # What it does not do
//
// It hands out no ports, fetches no URIs and has no health checks: such tasks are refused. The order of what a program writes to both of its
// streams is not kept by engines, unless it is started by millrace-task, which has one stream. An exit code of 128 and the number of a signal is reported as
// that signal, since engines do not tell the two apart.
package dockerexec
