package airflow

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"millrace/scheduler"
)

// Try is Airflow's TaskInstanceHistoryResponse: one attempt of a task.
type Try struct {
	Task           string  `json:"task_id"`
	DisplayName    string  `json:"task_display_name"`
	DAG            string  `json:"dag_id"`
	DAGDisplayName string  `json:"dag_display_name"`
	Run            string  `json:"dag_run_id"`
	MapIndex       int     `json:"map_index"`
	State          *string `json:"state"`
	// Number is 0 before the first try. MaxTries is how many there may be after the first.
	Number   int `json:"try_number"`
	MaxTries int `json:"max_tries"`

	QueuedAt *time.Time `json:"queued_when"`
	Start    *time.Time `json:"start_date"`
	End      *time.Time `json:"end_date"`
	Seconds  *float64   `json:"duration"`

	Operator     *string `json:"operator"`
	OperatorName *string `json:"operator_name"`
	Executor     *string `json:"executor"`
	Host         *string `json:"hostname"`

	Pool      string `json:"pool"`
	PoolSlots int    `json:"pool_slots"`
	Priority  *int   `json:"priority_weight"`

	// What millrace does not have, as Airflow has it by default.
	Queue          *string    `json:"queue"`
	ScheduledAt    *time.Time `json:"scheduled_when"`
	PID            *int       `json:"pid"`
	User           *string    `json:"unixname"`
	ExecutorConfig string     `json:"executor_config"`
	Version        *struct{}  `json:"dag_version"`
}

// Tries is Airflow's TaskInstanceHistoryCollectionResponse.
type Tries struct {
	Tries []Try `json:"task_instances"`
	Total int   `json:"total_entries"`
}

// Task is Airflow's TaskInstanceResponse.
type Task struct {
	Try
	// ID is a UUID, as clients require: a function of run, task and map index.
	ID      string     `json:"id"`
	Logical *time.Time `json:"logical_date"`
	After   time.Time  `json:"run_after"`
	// Note is why it failed, was skipped or waits.
	Note *string `json:"note"`

	Fields       map[string]any `json:"rendered_fields"`
	RenderedMap  *string        `json:"rendered_map_index"`
	Trigger      *struct{}      `json:"trigger"`
	TriggererJob *struct{}      `json:"triggerer_job"`
}

// Tasks is Airflow's TaskInstanceCollectionResponse.
type Tasks struct {
	Tasks []Task `json:"task_instances"`
	Total int    `json:"total_entries"`
}

// defaultPool is the name of the pool that a task of Airflow is in if it names none.
const defaultPool = "default_pool"

// try fills in what a task and its tries have in common. spec may be nil.
func try(run *scheduler.Run, t *scheduler.TaskRun, spec *scheduler.Task) Try {
	out := Try{
		Task: t.Task, DisplayName: t.Task, DAG: run.DAG, DAGDisplayName: run.DAG, Run: run.ID, MapIndex: t.MapIndex,
		State: orNil(State(t.State)), Number: t.Try, Pool: defaultPool, PoolSlots: 1, ExecutorConfig: "{}", Executor: orNil(t.Executor),
		Start: at(t.StartedAt), End: at(t.EndedAt), Seconds: seconds(t.StartedAt, t.EndedAt),
	}
	if spec != nil {
		out.MaxTries, out.Operator, out.OperatorName = spec.Retry.Limit, orNil(spec.Kind), orNil(spec.Kind)
		out.Pool, out.PoolSlots, out.Priority = cmp.Or(spec.Pool, defaultPool), max(1, spec.PoolSlots), &spec.Priority
	}
	return out
}

// uuid returns a UUID for a name: version 8 of RFC 9562, of its SHA-256.
func uuid(name string) string {
	sum := sha256.Sum256([]byte(name))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// NewTasks returns what Airflow says of the tasks of a run, in the order of the DAG. spec is the compiled form that the run pins, or nil.
func NewTasks(d *scheduler.RunDetail, spec *scheduler.DAG) []Task {
	if spec == nil {
		spec = &scheduler.DAG{}
	}
	present := map[string]*scheduler.Attempt{}
	for i := range d.Attempts {
		present[d.Attempts[i].ID] = &d.Attempts[i]
	}
	out := make([]Task, len(d.Tasks))
	for i := range d.Tasks {
		t := &d.Tasks[i]
		task := Task{
			Try: try(&d.Run, t, spec.Task(t.Task)), ID: uuid(t.ID()), Logical: logical(d.Run), After: d.Run.CreatedAt, Note: orNil(t.Reason),
			Fields: map[string]any{},
		}
		if t.Item != nil {
			task.RenderedMap = orNil(t.Item.Key)
		}
		if a := present[t.AttemptID(t.Try)]; a != nil {
			task.QueuedAt, task.Host = at(a.CreatedAt), orNil(a.Node)
		}
		out[i] = task
	}
	return out
}

// NewTries returns the attempts of a task of the run, the first one first.
func NewTries(d *scheduler.RunDetail, t *scheduler.TaskRun, spec *scheduler.Task) []Try {
	out := []Try{}
	for i := range d.Attempts {
		a := &d.Attempts[i]
		if a.Task != t.Task || a.MapIndex != t.MapIndex {
			continue
		}
		one := try(&d.Run, t, spec)
		one.Number, one.Executor, one.Host = a.Try, orNil(a.Executor), orNil(a.Node)
		one.QueuedAt, one.Start, one.End, one.Seconds = at(a.CreatedAt), at(a.StartedAt), at(a.EndedAt), seconds(a.StartedAt, a.EndedAt)
		if a.Try != t.Try || a.State.Terminal() {
			one.State = orNil(State(a.State))
		} else {
			one.Start = at(t.StartedAt) // The attempt's own row is written again at its end only.
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Try) int { return cmp.Compare(a.Number, b.Number) })
	return out
}
