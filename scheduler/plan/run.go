package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/adhocore/gronx"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// Run is a run in memory.
type Run struct {
	DAG *DAG
	Row scheduler.Run
	// Tasks has the row of each task, in the order of the DAG, and after these the rows of mapped tasks, in the order in which they were made.
	Tasks []scheduler.TaskRun
	// Batches are the inputs, oldest first.
	Batches []batcher.Batch

	begun []time.Time // when the present attempts were decided on; zero after a restart
	open  int         // tasks that are not terminal

	owners []int          // the wholes of the rows after the DAG's own
	wholes map[int]*whole // of mapped tasks that were expanded
}

// DefaultExecutor runs tasks that name none.
const DefaultExecutor = "local"

// NewRun makes the run that a firing starts. params is the run's JSON object with defaults filled in. What the run can begin with is in the
// Delta; its moves and rows describe the new run, so the caller stores [Run.New] as it is after the last step of the same transaction.
func NewRun(dag *DAG, f *trigger.Firing, params json.RawMessage, now time.Time) (*Run, Delta) {
	return NewRunOn(dag, f, Terms{Params: params}, now)
}

// Terms are what a run is made with besides its firing.
type Terms struct {
	// Params are the run's JSON object with defaults filled in.
	Params json.RawMessage
	// Of is the run that is replayed, whose data interval the new one has, whatever the DAG's rules say now, and by the same version its images;
	// nil: none.
	Of *scheduler.Run
	// Backfill and NoEmit are those of [scheduler.Run].
	Backfill string
	NoEmit   bool
	// Past has the durations of the DAG's newest successful runs, newest first. Told are the deadlines that the inputs have missed, and of which
	// somebody was told, while there was no run.
	Past []time.Duration
	Told []int
	// Class is that of the run whose task asks for this one.
	Class scheduler.Class
}

// NewRunOn is [NewRun] for a run that is no rule's own.
func NewRunOn(dag *DAG, f *trigger.Firing, t Terms, now time.Time) (*Run, Delta) {
	id := f.RunID()
	r := &Run{
		DAG:     dag,
		Batches: f.Batches,
		Row: scheduler.Run{
			ID: id, DAG: dag.ID, Version: dag.Version, State: scheduler.StateQueued, CreatedAt: now, Params: t.Params, Replay: f.Replay,
			Backfill: t.Backfill, NoEmit: t.NoEmit,
			Trigger: scheduler.Trigger{Kind: f.Kind, Rule: f.Rule, Key: f.Key, LaneKey: f.LaneKey, Closed: f.Closed, Parent: f.Parent, Path: f.Path, Class: t.Class},
		},
		Tasks: make([]scheduler.TaskRun, len(dag.Tasks)),
		begun: make([]time.Time, len(dag.Tasks)),
		open:  len(dag.Tasks),
	}
	if f.Replay > 0 {
		original := *f
		original.Replay = 0
		r.Row.ReplayOf = original.RunID()
	}
	r.sum()
	if r.cronInterval(f); t.Of != nil {
		r.Row.IntervalStart, r.Row.IntervalEnd = t.Of.IntervalStart, t.Of.IntervalEnd
	}
	r.setImages(t.Of)
	r.Row.Trace = traceOf(id, f.Batches)
	r.setDeadlines(f, &t)
	for i := range dag.Tasks {
		executor := cmp.Or(dag.Tasks[i].Executor, DefaultExecutor)
		if dag.Parks(i) != "" {
			executor = ""
		}
		r.Tasks[i] = scheduler.TaskRun{
			Run: id, Task: dag.Tasks[i].ID, MapIndex: scheduler.NoMap, State: scheduler.StateNone, Executor: executor, Exit: noExit,
		}
	}
	s := &step{Run: r, now: now}
	s.d.Run = true
	for i := range r.Tasks {
		s.touch(i)
		s.settle(i) // those that wait for nothing
	}
	s.finish()
	return r, s.d
}

// Restore makes a stored run ready for use.
func Restore(dag *DAG, live *scheduler.LiveRun) (*Run, error) {
	r := &Run{
		DAG: dag, Row: live.Run, Batches: live.Batches,
		Tasks: make([]scheduler.TaskRun, len(dag.Tasks)), begun: make([]time.Time, len(dag.Tasks)),
	}
	r.setImages(nil) // of a run that an older version made
	rows := make(map[string]*scheduler.TaskRun, len(dag.Tasks))
	mapped := make([]*scheduler.TaskRun, 0, max(0, len(live.Tasks)-len(dag.Tasks)))
	for i := range live.Tasks {
		if live.Tasks[i].MapIndex == scheduler.NoMap {
			rows[live.Tasks[i].Task] = &live.Tasks[i]
		} else {
			mapped = append(mapped, &live.Tasks[i])
		}
	}
	for i := range dag.Tasks {
		row, ok := rows[dag.Tasks[i].ID]
		if !ok {
			return nil, fmt.Errorf("restore run %s: task %s is not stored", live.Run.ID, dag.Tasks[i].ID)
		}
		r.Tasks[i] = *row
		if !row.State.Terminal() {
			r.open++
		}
	}
	if err := r.restoreRows(mapped); err != nil {
		return nil, err
	}
	return r, nil
}

// New returns the run as it is to be stored for the first time.
func (r *Run) New() scheduler.NewRun {
	n := scheduler.NewRun{Run: r.Row, Tasks: make([]scheduler.TaskRun, len(r.Tasks))}
	copy(n.Tasks, r.Tasks)
	return n
}

// Attempt returns the id of the present attempt of task i.
func (r *Run) Attempt(i int) string { return r.Tasks[i].AttemptID(r.Tasks[i].Try) }

// sum fills in what the batches add up to.
func (r *Run) sum() {
	row := &r.Row
	row.Batches = make([]string, len(r.Batches))
	for i := range r.Batches {
		b := &r.Batches[i]
		row.Batches[i] = b.ID
		row.Events += b.Events
		row.Bytes += b.Bytes
		if !b.EventMin.IsZero() && (row.IntervalStart.IsZero() || b.EventMin.Before(row.IntervalStart)) {
			row.IntervalStart = b.EventMin
		}
		if b.EventMax.After(row.IntervalEnd) {
			row.IntervalEnd = b.EventMax
		}
		if i == 0 || b.Watermark.Before(row.Watermark) {
			row.Watermark = b.Watermark
		}
	}
}

// cronInterval sets the interval of a cron run: from the tick before its own to its own.
func (r *Run) cronInterval(f *trigger.Firing) {
	if f.Kind != trigger.KindCron || f.Due.IsZero() {
		return
	}
	r.Row.IntervalEnd = f.Due.UTC()
	for _, rule := range r.DAG.On {
		if rule.ID != f.Rule || rule.Cron == "" {
			continue
		}
		zone, err := time.LoadLocation(rule.Timezone)
		if err != nil {
			return
		}
		// gronx is asked about the clock on the wall, as if it were UTC, since it does not know that clocks change. A tick that was moved out of
		// a gap finds itself; then the one before is meant.
		wall := onWall(f.Due.In(zone), time.UTC)
		for range 2 {
			if wall, err = gronx.PrevTickBefore(rule.Cron, wall, false); err != nil {
				return
			}
			if start := nominal(wall, zone); start.Before(f.Due) {
				r.Row.IntervalStart = start.UTC()
				return
			}
		}
	}
}

// onWall returns the time at which a clock of zone shows what t shows.
func onWall(t time.Time, zone *time.Location) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone)
}

// nominal returns when a tick comes whose time on the wall is wall: at the end of the gap if the clocks of zone skip it, the first time if
// they show it twice. Package trigger/rules, which makes the ticks, has the same rule.
func nominal(wall time.Time, zone *time.Location) time.Time {
	t := onWall(wall, zone)
	start, end := t.ZoneBounds()
	if shown := onWall(t, time.UTC); shown.After(wall) {
		return start
	} else if shown.Before(wall) {
		return end
	}
	if start.IsZero() {
		return t
	}
	_, now := t.Zone()
	_, before := start.Add(-time.Second).Zone()
	if first := t.Add(time.Duration(now-before) * time.Second); first.Before(start) {
		return first
	}
	return t
}

var traceRule = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceOf continues the trace of the first batch, or begins one that is a function of the run's id
// (W3C Trace Context, section 3.2: version-trace id-parent id-flags).
func traceOf(run string, batches []batcher.Batch) string {
	if len(batches) > 0 && traceRule.MatchString(batches[0].Trace) {
		return batches[0].Trace
	}
	sum := sha256.Sum256([]byte("trace\x00" + run))
	text := hex.EncodeToString(sum[:24])
	return "00-" + text[:32] + "-" + text[32:] + "-01"
}
