// Package sdk writes DAGs as Go programs. A program made with it is one executable that says what its DAG is and runs the DAG's tasks:
//
//	func main() {
//		d := sdk.New("load").OnBatch(sdk.BatchRule{Source: "web"})
//		counted := sdk.Task(d, "count", sdk.None, count)
//		sdk.Task(d, "store", counted, store, sdk.Retry{Limit: 3})
//		sdk.Main(d)
//	}
//
//	func count(ctx context.Context, a *sdk.Attempt, _ sdk.Nothing) (Counts, error)
//	func store(ctx context.Context, a *sdk.Attempt, in Counts) (sdk.Nothing, error)
//
// Whatever a DAG file can say, a program can: a test walks the keys of the format. The first argument of what adds a task is where it stands: the
// DAG, a [Group], its setups or teardowns.
//
// The output of count is the input of store; that they have one type is checked by the compiler. Both are plain functions: a test calls them
// with &sdk.Attempt{} and no server.
//
//	            describe                            run-task <id>
//	millrace ─────────────▶ program      millrace ─────────────────▶ program, once for each attempt
//	         ◀── a DAG file ──            MILLRACE_INPUT, _OUTPUT, … as for any task (docs/tasks.md)
//
// It guarantees that describing a DAG runs none of its tasks, and gives equal bytes for equal programs at equal places; that an output is
// written in whole or refused; that a value that [State.Put] has returned for survives the process and the machine.
//
// It does not check what the scheduler checks: names, cycles, expressions. What `describe` prints is read like a DAG file, and its faults are
// shown like those of one. It imports the standard library only, so that a program needs nothing else of millrace.
package sdk
