package plan

import (
	"encoding/json"
	"fmt"

	"millrace/scheduler"
)

// near are the outputs of rows in their order, nil for one that has none, failed, or has it in the object store.
func (r *Run) near(rows []int) []json.RawMessage {
	out := make([]json.RawMessage, len(rows))
	for k, row := range rows {
		if t := &r.Tasks[row]; t.State == scheduler.StateSuccess {
			out[k] = t.Output
		}
	}
	return out
}

// listOf is the JSON list of outputs, with null for what is not there.
func listOf(outputs []json.RawMessage) json.RawMessage {
	size := len("[]")
	for _, o := range outputs {
		size += max(len(o), len("null")) + 1
	}
	out := append(make([]byte, 0, size), '[')
	for k, o := range outputs {
		if k > 0 {
			out = append(out, ',')
		}
		if len(o) == 0 {
			out = append(out, "null"...)
		}
		out = append(out, o...)
	}
	return append(out, ']')
}

// saysLarge is about a list that the row of a whole can not have.
func saysLarge(size int) string {
	if size > scheduler.MaxSpilled {
		return fmt.Sprintf("the outputs of its items have %d bytes together, so there is no list of them (the limit is %d)", size, scheduler.MaxSpilled)
	}
	return fmt.Sprintf("the outputs of its items have %d bytes together: expressions do not see them, and tasks find the list below upstream_refs", size)
}

// freezeList has the list of whole p written for the task, if it is too large for the document. It is made off the loop, by [Frozen.Spill].
func (r *Run) freezeList(f *Frozen, in *scheduler.Input, p int) {
	m := r.Tasks[p].Map
	if m == nil || m.Large == 0 || m.Large > scheduler.MaxSpilled {
		return
	}
	if f.lists == nil {
		f.lists = map[string][]json.RawMessage{}
	}
	if in.UpstreamRefs == nil {
		in.UpstreamRefs = map[string]scheduler.UpstreamRef{}
	}
	rows := r.Rows(p)
	f.lists[r.Tasks[p].Task] = r.near(rows[:min(len(rows), m.Made)])
}

// Spill has put store the lists that are too large for the document, which then names them. put returns nil if there is no place for them: then the
// document has null, as for a task without an output. It returns the first error of put.
func (f Frozen) Spill(put func(body []byte) (*scheduler.OutputRef, error)) error {
	for task, list := range f.lists {
		ref, err := put(listOf(list))
		if err != nil {
			return fmt.Errorf("store the list of the outputs of task %s: %w", task, err)
		}
		if ref != nil {
			f.in.UpstreamRefs[task] = scheduler.UpstreamRef{OutputRef: *ref}
			delete(f.in.Upstream, task)
		}
	}
	return nil
}
