package graph

import (
	"slices"

	"millrace/scheduler"
)

// Parents returns what a task of d comes after, as people think of it: what it needs; its setups, unless something that it needs comes after them
// already; and of a teardown only the last of what it covers.
func Parents(d *scheduler.DAG, t *scheduler.Task) []string {
	all := slices.Concat(t.Setups, t.Needs)
	implied := map[string]bool{}
	for _, id := range all {
		if before := d.Task(id); before != nil && (t.Part == scheduler.PartTeardown || len(t.Setups) > 0) {
			for _, list := range [][]string{before.Setups, before.Needs} {
				for _, id := range list {
					implied[id] = t.Part == scheduler.PartTeardown || slices.Contains(t.Setups, id) || implied[id]
				}
			}
		}
	}
	return slices.DeleteFunc(all, func(id string) bool { return implied[id] })
}

// drawn returns d with the parents of each task as people think of them.
func drawn(d *scheduler.DAG) *scheduler.DAG {
	out := *d
	out.Tasks = slices.Clone(d.Tasks)
	for i := range out.Tasks {
		t := &out.Tasks[i]
		if t.Needs = Parents(d, &d.Tasks[i]); t.Part == scheduler.PartTeardown {
			t.Rule = ""
		}
	}
	return &out
}
