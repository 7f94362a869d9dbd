// Package plan is the brain of the scheduler: pure functions from a run, an event and the time to what changes. It does no I/O, starts
// nothing, reads no clock, and takes its randomness as an argument, so every decision can be repeated.
//
//	Firing ─▶ NewRun ─▶ Run ◀─ Step(event, now) ─▶ Delta: rows, attempts, moves; what is ready, what is to be killed
//
// It guarantees that every change of a state is one that scheduler.CheckTaskMove and CheckRunMove permit; that a task is ready only when
// its join rule says so; that an attempt that is not the present one changes nothing; and that a run ends when all its tasks have ended, and
// not before. It does not decide when a ready task starts: slots belong to the engine.
//
// A [Run] is changed in place and belongs to its caller, who must not act on a [Delta] before it is committed, and must throw the Run away,
// and load it again, if it can not be.
package plan
