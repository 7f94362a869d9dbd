package plan

import (
	"slices"

	"millrace/scheduler"
)

// Waits returns the setups and parents of task i that have not ended, by index, as long as its join rule has not decided: it waits for some of them.
func (r *Run) Waits(i int) []int {
	if i >= len(r.DAG.nodes) {
		return nil
	}
	s := &step{Run: r}
	if state, _ := s.judge(i); state != scheduler.StateNone {
		return nil
	}
	var out []int
	for _, p := range slices.Concat(r.DAG.nodes[i].setups, r.DAG.nodes[i].parents) {
		if !r.Tasks[p].State.Terminal() {
			out = append(out, p)
		}
	}
	return out
}
