package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// partID is the id of the task that an entry of setup or teardown becomes.
func partID(name, part string) string { return name + "_" + part }

// readPart notes the entries of setup or teardown. Each is a task.
func (b *builder) readPart(n ast.Node, part string) {
	for _, p := range b.pairs(n, part) {
		err := CheckID(p.key)
		if err == nil {
			err = CheckID(partID(p.key, part))
		}
		if err != nil {
			b.errorf(p.node, "take a shorter name, or one of these", "%s: %v", part, err)
			continue
		}
		b.parts = append(b.parts, placed{id: partID(p.key, part), at: p.node, value: p.value, part: part, pair: p.key})
	}
}

// withParts returns the tasks with the setups before and the teardowns after them: the order in which people look for them.
func (b *builder) withParts(tasks []placed) []placed {
	var before, after []placed
	for _, p := range b.parts {
		if i := slices.IndexFunc(tasks, func(t placed) bool { return t.id == p.id }); i >= 0 {
			b.errorf(tasks[i].at, "give the task another id", "task %q has the id that %s gets", p.id, p.what())
		}
		if p.part == scheduler.PartSetup {
			before = append(before, p)
		} else {
			after = append(after, p)
		}
	}
	return slices.Concat(before, tasks, after)
}

// what names a task for people.
func (p *placed) what() string {
	return fmt.Sprintf("%s %q", cmp.Or(p.part, "task"), cmp.Or(p.pair, p.id))
}

// partFields changes the keys of a task to those of a setup or a teardown.
func (b *builder) partFields(p *placed, t *scheduler.Task, known fields) {
	if p.part == "" {
		return
	}
	known["for"] = func(v ast.Node) { p.covers, p.coversAt = b.strs(v, "for"), b.list(v, "for", true) }
	delete(known, "rule")
	delete(known, "group")
	delete(known, "cache")   // it has to be done, each time
	delete(known, "foreach") // what is set up is one thing
	if p.part == scheduler.PartSetup {
		return
	}
	t.Rule = scheduler.JoinAllDone
	delete(known, "needs")
	known["fail_run"] = func(v ast.Node) { t.FailRun = b.boolean(v, "fail_run") }
}

// joinParts puts setups before the tasks that they cover, and teardowns after them.
func (b *builder) joinParts() {
	setups := map[string]int{} // by name
	for i := range b.tasks {
		if b.tasks[i].part == scheduler.PartSetup {
			setups[b.tasks[i].pair] = i
		}
	}
	b.checkParts(setups)
	for i := range b.tasks {
		b.needSetups(i, setups)
	}
	for _, i := range b.innerFirst(setups) {
		b.cover(i, setups)
	}
}

// checkParts refuses names that could be read in two ways.
func (b *builder) checkParts(setups map[string]int) {
	for i := range b.tasks {
		p := &b.tasks[i]
		switch _, paired := setups[p.pair]; {
		case p.part == "":
		case b.dag.Task(p.pair) != nil:
			b.errorf(p.at, "give one of them another name", "%s has the name of a task", p.what())
		case p.part == scheduler.PartTeardown && paired && p.coversAt != nil:
			b.errorf(p.coversAt[0], "write it there", "%s covers what its setup does: for stands in setup.%s", p.what(), p.pair)
		}
	}
}

// needSetups takes the names of setups out of what a setup needs: they cover it. Tasks have them by `for`.
func (b *builder) needSetups(i int, setups map[string]int) {
	p, t := &b.tasks[i], &b.dag.Tasks[i]
	var needs []string
	var nodes []ast.Node
	for j, need := range t.Needs {
		s, isSetup := setups[need]
		other := slices.IndexFunc(b.parts, func(o placed) bool { return o.id == need || o.pair == need })
		switch {
		case isSetup && p.part == scheduler.PartSetup && s != i:
			t.Setups = append(t.Setups, b.tasks[s].id)
			continue
		case other >= 0 && b.parts[other].part == scheduler.PartTeardown && !isSetup:
			b.errorf(p.needs[j], "if something is to come after it, make it a task with rule: all_done",
				"%s needs %s: nothing can come after a teardown, which runs last, also of a run that was cancelled", p.what(), b.parts[other].what())
			continue
		case other >= 0 && s != i:
			b.errorf(p.needs[j], "remove it; for, in the setup, says which tasks it is for",
				"%s needs %s: what a setup covers comes after it anyway", p.what(), b.parts[other].what())
			continue
		}
		needs, nodes = append(needs, need), append(nodes, p.needs[j])
	}
	t.Needs, p.needs = needs, nodes
}

// innerFirst returns the indexes of all setups and of teardowns without one, those within others first: a setup that needs another is within it.
func (b *builder) innerFirst(setups map[string]int) []int {
	var out []int
	seen := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		for j := range b.tasks {
			if b.tasks[j].part == scheduler.PartSetup && slices.Contains(b.dag.Tasks[j].Setups, b.tasks[i].id) {
				visit(j)
			}
		}
		out = append(out, i)
	}
	for i := range b.tasks {
		if _, paired := setups[b.tasks[i].pair]; b.tasks[i].part == scheduler.PartSetup || b.tasks[i].part == scheduler.PartTeardown && !paired {
			visit(i)
		}
	}
	return out
}

// cover joins setup i, or a teardown without one, with the tasks that it covers and with its teardown. What a setup within it covers, it covers too.
func (b *builder) cover(i int, setups map[string]int) {
	p := &b.tasks[i]
	covered := b.coveredBy(i)
	for j := range b.tasks {
		if j != i && p.part == scheduler.PartSetup && slices.Contains(b.dag.Tasks[j].Setups, p.id) {
			covered[p.id] = true
			for k := range b.tasks {
				inner := b.tasks[k].part == "" && slices.Contains(b.dag.Tasks[k].Setups, b.tasks[j].id)
				covered[b.tasks[k].id] = covered[b.tasks[k].id] || inner || k == j || b.tasks[k].pair == b.tasks[j].pair && b.tasks[k].part != ""
			}
		}
	}
	delete(covered, p.id)
	down := b.dag.Task(partID(p.pair, scheduler.PartTeardown))
	for j := range b.tasks {
		t := &b.dag.Tasks[j]
		if !covered[t.ID] || t == down {
			continue
		}
		if p.part == scheduler.PartSetup && t.Part == "" && !slices.Contains(t.Setups, p.id) {
			t.Setups = append(t.Setups, p.id)
		}
		if down != nil {
			down.Needs = append(down.Needs, t.ID)
		}
	}
	if down != nil && p.part == scheduler.PartSetup {
		down.Setups = append(down.Setups, p.id)
	}
}

// coveredBy returns what `for` says, or else all tasks that do not come before the setup.
func (b *builder) coveredBy(i int) map[string]bool {
	p := &b.tasks[i]
	out := map[string]bool{}
	if p.coversAt == nil {
		before := b.ancestors(p.id, false)
		for j := range b.tasks {
			out[b.tasks[j].id] = b.tasks[j].part == "" && !before[b.tasks[j].id]
		}
		return out
	}
	var ids []string
	for j := range b.tasks {
		if b.tasks[j].part == "" {
			ids = append(ids, b.tasks[j].id)
		}
	}
	for j, id := range p.covers {
		for _, member := range b.membersOf(id) {
			out[member] = true
		}
		if b.groups[id] != nil {
			continue
		}
		if !slices.Contains(ids, id) {
			hint := suggest(id, b.known(ids))
			if hint == "" {
				hint = "its tasks are " + strings.Join(ids, ", ")
			}
			b.errorf(p.coversAt[j], hint, "%s is for %q, which is neither a task nor a group", p.what(), id)
			continue
		}
		out[id] = true
	}
	if len(p.covers) == 0 {
		b.errorf(p.at, "leave for out to cover all tasks", "%s is for no task", p.what())
	}
	return out
}
