package plan

import "millrace/scheduler"

// Waits returns the parents of task i that have not ended, by index, as long as its join rule has not decided: it waits for some of them.
func (r *Run) Waits(i int) []int {
	s := &step{Run: r}
	if state, _ := join(r.DAG.Tasks[i].Rule, s.ends(i)); state != scheduler.StateNone {
		return nil
	}
	var out []int
	for _, p := range r.DAG.nodes[i].parents {
		if !r.Tasks[p].State.Terminal() {
			out = append(out, p)
		}
	}
	return out
}
