package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// usedExpr is an expression whose names can be checked when the whole document is read.
type usedExpr struct {
	at   ast.Node
	task string // "" in env
	what string
	refs []expr.Ref
	// place says which values of the installation may stand there.
	place place
}

// checkGraph finds parents that do not exist, and cycles.
func (b *builder) checkGraph() {
	index := map[string]int{}
	for i, t := range b.dag.Tasks {
		index[t.ID] = i
	}
	ids := slices.Sorted(maps.Keys(index))
	for i, t := range b.dag.Tasks {
		if t.Part == scheduler.PartTeardown {
			continue // what it needs is not written in the file
		}
		seen := map[string]bool{}
		for j, need := range t.Needs {
			at := b.tasks[i].needs[j]
			switch _, known := index[need]; {
			case need == "":
			case need == t.ID:
				b.errorf(at, "", "task %q needs itself", t.ID)
			case !known:
				b.errorf(at, suggest(need, b.known(ids)), "task %q needs %q, which does not exist", t.ID, need)
			case seen[need]:
				b.errorf(at, "", "task %q needs %q twice", t.ID, need)
			}
			seen[need] = true
		}
	}
	b.checkCycles(index)
}

// checkCycles takes away, again and again, the tasks whose parents are all taken away. Whatever stays is on a cycle or after one.
func (b *builder) checkCycles(index map[string]int) {
	tasks := b.dag.Tasks
	waits := make([]int, len(tasks))
	children := make([][]int, len(tasks))
	for i, t := range tasks {
		for _, need := range slices.Concat(t.Setups, t.Needs) {
			if p, ok := index[need]; ok && p != i {
				waits[i]++
				children[p] = append(children[p], i)
			}
		}
	}
	var queue []int
	for i, n := range waits {
		if n == 0 {
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		for _, c := range children[i] {
			if waits[c]--; waits[c] == 0 {
				queue = append(queue, c)
			}
		}
	}
	onCycle := b.reportCycles(index, waits)
	for i, n := range waits {
		if n > 0 && !onCycle[i] {
			b.errorf(b.tasks[i].at, "", "task %q can never start: it comes after a cycle", tasks[i].ID)
		}
	}
}

// reportCycles follows parents that wait, from each task that waits: within a finite number of steps that comes back.
func (b *builder) reportCycles(index map[string]int, waits []int) map[int]bool {
	onCycle := map[int]bool{}
	visited := map[int]bool{}
	for start := range waits {
		var path []int
		at := start
		for waits[at] > 0 && !visited[at] {
			visited[at] = true
			path = append(path, at)
			at = b.waitingParent(index, waits, at)
		}
		from := slices.Index(path, at)
		if from < 0 {
			continue
		}
		var names []string
		for _, i := range path[from:] {
			onCycle[i] = true
			names = append(names, b.dag.Tasks[i].ID)
		}
		slices.Reverse(names)
		b.errorf(b.tasks[at].at, "", "tasks need each other in a circle: %s → %s", strings.Join(names, " → "), names[0])
	}
	return onCycle
}

func (b *builder) waitingParent(index map[string]int, waits []int, i int) int {
	for _, need := range slices.Concat(b.dag.Tasks[i].Setups, b.dag.Tasks[i].Needs) {
		if p, ok := index[need]; ok && p != i && waits[p] > 0 {
			return p
		}
	}
	return i // can not be: a task that waits has such a parent
}

// checkExprs checks the names of parameters and tasks in expressions: a task may only look at tasks that are done before it.
func (b *builder) checkExprs() {
	params := slices.Sorted(maps.Keys(b.dag.Params))
	var ids []string
	for _, t := range b.dag.Tasks {
		ids = append(ids, t.ID)
	}
	for _, u := range b.exprs {
		var before map[string]bool
		for _, ref := range u.refs {
			line, col := b.within(u.at, ref.Line, ref.Col)
			report := func(hint, format string, args ...any) {
				b.at(b.decoder.dag, line, col, u.what+": "+fmt.Sprintf(format, args...), hint)
			}
			if b.checkValue(u, ref, report) {
				continue
			}
			if ref.Root == "params" {
				if !slices.Contains(params, ref.Name) {
					report(suggest(ref.Name, slices.Clone(params)), "parameter %q is not declared", ref.Name)
				}
				continue
			}
			if before == nil {
				before = b.ancestors(u.task, true)
			}
			switch {
			case !slices.Contains(ids, ref.Name):
				hint := suggest(ref.Name, slices.Clone(ids))
				if id := partID(ref.Name, scheduler.PartSetup); slices.Contains(ids, id) {
					hint = "the setup's task is tasks." + id
				}
				report(hint, "there is no task %q", ref.Name)
			case u.task != "" && !before[ref.Name] && b.ancestors(u.task, false)[ref.Name]:
				report("", "task %q need not have ended when task %q starts: a rule of one_* or always does not wait for it", ref.Name, u.task)
			case u.task != "" && !before[ref.Name]:
				report(fmt.Sprintf("add %q to needs", ref.Name), "task %q does not come before task %q", ref.Name, u.task)
			}
		}
	}
	b.checkEnvTasks()
}

// checkEnvTasks checks the tasks that env values name, for each task that is given the value.
func (b *builder) checkEnvTasks() {
	for _, t := range b.dag.Tasks {
		var before map[string]bool
		for _, env := range []map[string]string{b.dag.Env, t.Env} {
			for name, val := range env {
				if !strings.Contains(val, "tasks") || !expr.HasExpr(val) {
					continue
				}
				text, err := expr.CompileTextIn(expr.ScopeOf(&t), val)
				if err != nil {
					continue // reported
				}
				if before == nil {
					before = b.ancestors(t.ID, true)
				}
				b.checkEnvRefs(t.ID, name, text.Refs(), before)
			}
		}
	}
}

func (b *builder) checkEnvRefs(task, name string, refs []expr.Ref, before map[string]bool) {
	for _, ref := range refs {
		if ref.Root == "tasks" && !before[ref.Name] && b.dag.Task(ref.Name) != nil {
			why := "does not come before it"
			if b.ancestors(task, false)[ref.Name] {
				why = "need not have ended when that starts: a rule of one_* or always does not wait for it"
			}
			line, col := position(b.taskAt(task))
			b.at(b.decoder.dag, line, col, fmt.Sprintf("env %s of task %q names task %q, which %s", name, task, ref.Name, why), "")
		}
	}
}

func (b *builder) taskAt(id string) ast.Node {
	i := slices.IndexFunc(b.tasks, func(p placed) bool { return p.id == id })
	return b.tasks[i].at
}

// ancestors returns the tasks that are above a task; with ended, only those that have ended before it starts, as far as rules wait for them.
func (b *builder) ancestors(id string, ended bool) map[string]bool {
	seen := map[string]bool{}
	queue := []string{id}
	for len(queue) > 0 {
		t := b.dag.Task(queue[0])
		queue = queue[1:]
		if t == nil {
			continue
		}
		before := t.Setups // it waits for them whatever its rule
		if !ended || scheduler.JoinWaits(t.Rule, len(t.Needs)) {
			before = slices.Concat(t.Setups, t.Needs)
		}
		for _, need := range before {
			if !seen[need] {
				seen[need] = true
				queue = append(queue, need)
			}
		}
	}
	delete(seen, id)
	return seen
}
