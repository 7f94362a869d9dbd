package plan

import (
	"encoding/json"
	"fmt"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/operator"
	"millrace/trigger"
)

// Ask returns the firing of the run that task i starts as its next try, but for the version. Its key follows from run, task, map index and
// try, so whoever decides the same twice names the same run. The error is a sentence for people.
func (r *Run) Ask(i int) (*trigger.Firing, error) {
	t, sub := &r.Tasks[i], r.Spec(i).SubDAG
	params, err := r.subParams(i)
	if err != nil {
		return nil, err
	}
	f := &trigger.Firing{Kind: trigger.KindDAG, DAG: sub.ID, Key: t.AttemptID(t.Try + 1), Params: params, Parent: t.ID()}
	f.Path = append(append(f.Path, r.Row.Trigger.Path...), r.Row.DAG)
	if !sub.NoInputs {
		f.Batches = r.Batches
	}
	return f, nil
}

// subParams evaluates the parameters of the run that task i starts.
func (r *Run) subParams(i int) (json.RawMessage, error) {
	sub := r.Spec(i).SubDAG
	if len(sub.Params) == 0 {
		return nil, nil
	}
	eval, err := r.parkedEval(i)
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	for name, raw := range sub.Params {
		if out[name], err = operator.FillJSON(raw, eval); err != nil {
			return nil, fmt.Errorf("dag.params.%s: %w", name, err)
		}
	}
	return json.Marshal(out)
}

// WordSkipped begins the reason of a run that is cancelled since its concurrency group is full, and its DAG skips such runs.
const WordSkipped = "skipped: "

// Outcome returns what a task becomes whose run has ended: state, reason and output, with those of the run's leaves if there is room.
func Outcome(row *scheduler.Run, leaves Leaves) (scheduler.State, string, []byte) {
	state, reason := row.State, fmt.Sprintf("run %s of dag %s ended: %s", row.ID, row.DAG, row.State)
	if row.State == scheduler.StateCancelled && row.StartedAt.IsZero() && strings.HasPrefix(row.Reason, WordSkipped) {
		state = scheduler.StateSkipped // it never was to be: its group was full
	}
	if row.State != scheduler.StateSuccess {
		reason = sentence(reason, row.Reason)
	} else {
		reason = ""
	}
	doc := SubOutput{Run: row.ID, DAG: row.DAG, State: row.State, Outputs: leaves.Outputs, Truncated: leaves.Cut}
	out, err := json.Marshal(&doc)
	if err != nil || len(out) > scheduler.MaxOutput {
		doc.Outputs, doc.Truncated = nil, true
		out, _ = json.Marshal(&doc)
	}
	return state, reason, out
}

// SubOutput is the output of a task that started a run.
type SubOutput struct {
	Run   string          `json:"run"`
	DAG   string          `json:"dag"`
	State scheduler.State `json:"state"`
	// Outputs are those of the tasks that no other task of that run needs, by id; Truncated says that some were too large, or all together.
	Outputs   map[string]json.RawMessage `json:"outputs,omitempty"`
	Truncated bool                       `json:"truncated,omitempty"`
}

// Leaves are the outputs of the tasks that no other needs, by id. Cut says that one of them is too large for its row.
type Leaves struct {
	Outputs map[string]json.RawMessage
	Cut     bool
}

// Leaves returns those of a run of d.
func (d *DAG) Leaves(rows []scheduler.TaskRun) Leaves {
	leaf := map[string]bool{}
	for i := range d.Tasks {
		leaf[d.Tasks[i].ID] = len(d.nodes[i].children) == 0
	}
	out := Leaves{Outputs: map[string]json.RawMessage{}}
	for i := range rows {
		switch t := &rows[i]; {
		case !leaf[t.Task] || t.MapIndex != scheduler.NoMap:
		case t.OutputRef != nil:
			out.Cut = true
		case len(t.Output) > 0:
			out.Outputs[t.Task] = t.Output
		}
	}
	return out
}
