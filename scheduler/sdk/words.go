package sdk

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Join is how the parents of a task must have ended for it to run; docs/joins.md has a table.
type Join string

// The join rules; AllSuccess is the default.
const (
	AllSuccess              Join = "all_success"
	AllFailed               Join = "all_failed"
	AllDone                 Join = "all_done"
	AllDoneMinOneSuccess    Join = "all_done_min_one_success"
	AllSkipped              Join = "all_skipped"
	OneFailed               Join = "one_failed"
	OneSuccess              Join = "one_success"
	OneDone                 Join = "one_done"
	NoneFailed              Join = "none_failed"
	NoneFailedMinOneSuccess Join = "none_failed_min_one_success"
	NoneSkipped             Join = "none_skipped"
	Always                  Join = "always"
)

// Order is in which order batches start runs, and which run of those that wait begins; "" is as they come, and the oldest.
type Order string

// The orders of a batch rule.
const (
	FIFO       Order = "fifo"
	LIFO       Order = "lifo"
	LatestOnly Order = "latest_only"
)

// Mode is which of the batches that come together a run gets; "" is all.
type Mode string

// The modes of [Coalesce].
const (
	AllBatches  Mode = "all"
	LatestBatch Mode = "latest"
)

// WhenPaused is what becomes of batches that come while the DAG is paused; "" is [PausedHold].
type WhenPaused string

// What becomes of batches while the DAG is paused: all start runs when it goes on, none does, or the latest of each key.
const (
	PausedHold   WhenPaused = "hold"
	PausedDrop   WhenPaused = "drop"
	PausedLatest WhenPaused = "latest"
)

// CatchupPolicy is what becomes of the times of a cron rule that passed while millrace was away; "" is [CatchupAll].
type CatchupPolicy string

// The policies of [Catchup]: a run for each of the times, for the latest, or for none.
const (
	CatchupAll    CatchupPolicy = "all"
	CatchupLatest CatchupPolicy = "latest"
	CatchupSkip   CatchupPolicy = "skip"
)

// WhenFull is what becomes of a run beyond [Concurrency]; "" is [WhenFullQueue].
type WhenFull string

// What becomes of a run for which there is no place: it waits, is cancelled, takes the place of the oldest, or fails; or its batches wait, and
// become one run.
const (
	WhenFullQueue         WhenFull = "queue"
	WhenFullSkip          WhenFull = "skip"
	WhenFullCancelRunning WhenFull = "cancel_running"
	WhenFullFail          WhenFull = "fail"
	WhenFullCoalesce      WhenFull = "coalesce"
)

// DeadlineFrom is what a [Deadline] counts from; [AverageOf] is another one.
type DeadlineFrom string

// The cut of the oldest batch of the run, its creation, and the nominal time of the tick that started it.
const (
	FromBatchSealed DeadlineFrom = "batch_sealed"
	FromRunCreated  DeadlineFrom = "run_created"
	FromCronTime    DeadlineFrom = "cron_time"
)

// AverageOf counts from the creation of the run plus the average duration of the last n successful runs.
func AverageOf(n int) DeadlineFrom { return DeadlineFrom(fmt.Sprintf("average(%d)", n)) }

// Verdict is what is decided on an [Approval].
type Verdict string

// The verdicts. SkipQuestion is only for a time that is over: as if nobody had been asked.
const (
	Approve      Verdict = "approve"
	Reject       Verdict = "reject"
	SkipQuestion Verdict = "skip"
)

// OnReject is what becomes of the task that is rejected; "" is [RejectSkips].
type OnReject string

// What a rejection makes of the task: it is skipped, or has failed.
const (
	RejectSkips OnReject = "skip"
	RejectFails OnReject = "fail"
)

// Pull is when an image is fetched; "" is [PullMissing].
type Pull string

// When an image is fetched: if it is not there, or for each attempt.
const (
	PullMissing Pull = "missing"
	PullAlways  Pull = "always"
)

// Text puts the value of a CEL expression into a text, where the DAG format permits that: arguments of commands, variables, addresses, messages.
// Text("params.day") is "${{ params.day }}". A text that is nothing else keeps the type of the value, where values have types.
func Text(cel string) string { return "${{ " + cel + " }}" }

// Secret is the [Text] of a secret of the installation; docs/variables.md says where it may stand.
func Secret(name string) string { return Text(field("secrets", name)) }

// Var is the [Text] of a variable of the installation.
func Var(name string) string { return Text(field("vars", name)) }

// Output is a CEL expression for what the task puts out, or for a field of it: counted.Output("rows") is "tasks.count.output.rows".
func (s *Step[Out]) Output(path ...string) string {
	return field(field("tasks", s.t.id)+".output", path...)
}

var celName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// celWords can be no names in CEL.
var celWords = strings.Fields("true false null in as break const continue else for function if import let loop package namespace return var void while")

// field selects fields of a CEL expression, one in another.
func field(of string, path ...string) string {
	for _, name := range path {
		if celName.MatchString(name) && !slices.Contains(celWords, name) {
			of += "." + name
		} else {
			of += "[" + strconv.Quote(name) + "]"
		}
	}
	return of
}
