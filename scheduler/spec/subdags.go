package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/scheduler"
)

// The kinds of warnings that [SubDAGs] finds.
const (
	// WarnNoSuchDAG: a task starts runs of a DAG that no file has.
	WarnNoSuchDAG = "no-such-dag"
	// WarnDAGCircle: DAGs start each other's runs in a circle, which is refused when the first starts again.
	WarnDAGCircle = "dag-circle"
)

// SubDAGs warns of tasks that start runs of other DAGs, and of one that no file has, or in a circle. Only all files together can tell.
func SubDAGs(files []File) []Warning {
	owner, starts := map[string]string{}, map[string][]string{}
	for i := range files {
		for j := range files[i].DAGs {
			dag := &files[i].DAGs[j]
			owner[dag.ID] = files[i].Name
			for k := range dag.Tasks {
				if sub := dag.Tasks[k].SubDAG; sub != nil {
					starts[dag.ID] = append(starts[dag.ID], sub.ID)
				}
			}
		}
	}
	known := slices.Sorted(maps.Keys(owner))
	var out []Warning
	for i := range files {
		for j := range files[i].DAGs {
			out = append(out, missingSubs(&files[i], &files[i].DAGs[j], known)...)
		}
	}
	for _, id := range known {
		if path := circle(id, starts); path != nil && id == slices.Min(path) { // each is named once
			path = append(path, id)
			out = append(out, Warning{Code: WarnDAGCircle, File: owner[id], DAG: id,
				Msg: fmt.Sprintf("dags start runs of each other in a circle, and the task that closes it fails: %s", strings.Join(path, " → "))})
		}
	}
	return out
}

func missingSubs(f *File, dag *scheduler.DAG, known []string) []Warning {
	var out []Warning
	for i := range dag.Tasks {
		t := &dag.Tasks[i]
		if t.SubDAG == nil || slices.Contains(known, t.SubDAG.ID) {
			continue
		}
		out = append(out, Warning{Code: WarnNoSuchDAG, File: f.Name, DAG: dag.ID, Hint: Suggest(t.SubDAG.ID, known),
			Msg: fmt.Sprintf("task %q starts a run of dag %q, which none of the files has", t.ID, t.SubDAG.ID)})
	}
	return out
}

// circle returns the ids on the shortest way from a DAG back to itself, or nil.
func circle(id string, starts map[string][]string) []string {
	seen := map[string]bool{}
	paths := [][]string{{id}}
	for len(paths) > 0 {
		path := paths[0]
		paths = paths[1:]
		for _, next := range starts[path[len(path)-1]] {
			if next == id {
				return path
			}
			if !seen[next] {
				seen[next] = true
				paths = append(paths, append(slices.Clone(path), next))
			}
		}
	}
	return nil
}
