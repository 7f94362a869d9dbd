// Package engine runs the scheduler: one goroutine owns every decision.
//
//	trigger.Starter ─┐                     ┌─▶ launcher per executor ─▶ Launch, Kill, Reconcile
//	Report ──────────┤  group ▸ decide ▸   │
//	Control ─────────┼─▶ Store.Apply ──────┼─▶ answers to callers
//	DAG files ───────┤  (one transaction)  │
//	registries ──────┤                     ├─▶ questions to registries
//	timers ──────────┘                     └─▶ rules, watchers, metrics
//
// The steps of one round: 1. take all inputs that wait. 2. Decide in memory, with package plan. 3. Commit everything as one Change. 4. Act:
// launch, kill, answer, publish. While 3 is under way new inputs queue, which makes groups exactly as large as the store is slow. A run and
// the launch intents of its first tasks are in the same transaction if there are free slots.
//
// It guarantees that nothing is acted on before it is committed; that memory is never ahead of the store for longer than one commit: if that
// fails, all of it is thrown away and loaded again, and the inputs are decided again; that no input is lost, because a caller gets its answer
// only after the commit; that an attempt is handed to an executor only by the transaction that made it, so at most once, since executors start
// an id at most once and never after they called it lost; and that slots can not leak, because they are the set of tasks in active states.
//
// What waits is in an index by what it waits for, and is not looked at before that changes: a run without a place in its concurrency group in the
// group (limits.go), a ready task in the line of its pool in the queue of its executor (queue.go), or before that
// at the gate of its image (images.go), a retry among the timers. Each of them keeps
// the value on which it stopped last, and explain.go makes its sentences of those. Places and slots are sets of rows that are under way, so they
// are found again by loading the rows.
//
// Backfills are lists of runs to be made, of which as many are under way as each permits (backfill.go). A run of one is made, and a place in it is
// given up, in the transaction that says so of its item.
//
// An image that a DAG names by a tag has one digest in all attempts of a run (images.go): the run is made at once, with the image open in its row; the
// registry is asked by a deed; its answer is an input that is committed into the row; and no attempt is launched before that. If we stop between any
// two of these, the row is open, and the registry is asked again: nobody has acted on an answer that is not in the row.
//
// If we stop: before 3, the inputs come again, from the chain, from the executor, from the caller who has no answer. Between 3 and 4, the
// attempts are `launching` and the executor is asked about each after the restart; those it does not know it reports as lost, and that costs an
// infra retry. During 4, the same. A caller who has no answer may repeat the call: runs have ids that follow from what started them.
//
// It does not guarantee that a task runs once, only that an attempt does: side effects of tasks are at-least-once.
package engine
