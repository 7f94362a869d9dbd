// Package scheduler holds the words and the seams of the fourth stage: what a DAG file compiles to ([DAG], [Task]), what a run consists of
// ([Run], [TaskRun], [Attempt]) and which states these go through (states.go, STATES.md), where all of it is kept ([Store]), who executes an
// attempt ([Executor]), what turns a task into a command ([Operator]), and what people ask for ([Control]).
//
//	trigger.Starter ──▶ engine: plan (pure) ▸ Store.Apply (one transaction) ▸ Executor.Launch ──▶ Report ──▶ engine …
//
// Nothing is acted on before it is committed. The package starts no goroutine and does no I/O.
package scheduler
