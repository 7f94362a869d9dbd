package spec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// group is what a file says of a group of tasks.
type group struct {
	at          ast.Node
	description string
	needs       []string
	needsAt     []ast.Node
	// members are the indexes of its tasks.
	members []int
}

// readGroups reads the root key; tasks say themselves which group they are in.
func (b *builder) readGroups(n ast.Node) {
	for _, p := range b.pairs(n, "groups") {
		if err := CheckID(p.key); err != nil {
			b.errorf(p.node, "", "group: %v", err)
			continue
		}
		g := &group{at: p.node}
		b.groups[p.key] = g
		b.groupOrder = append(b.groupOrder, p.key)
		b.mapping(p.value, fmt.Sprintf("group %q", p.key), fields{
			"description": func(v ast.Node) { g.description = b.str(v, "description") },
			"needs":       func(v ast.Node) { g.needs, g.needsAt = b.strs(v, "needs"), b.list(v, "needs", true) },
		})
	}
}

// joinGroups puts tasks where groups are named: in needs the last tasks of a group stand for it, those that no other of it needs; and its first
// ones, those that need no other of it, need what it does.
func (b *builder) joinGroups() {
	b.findGroups()
	last, first := map[string][]string{}, map[string]map[int]bool{}
	for name, g := range b.groups {
		last[name], first[name] = b.ends(g)
	}
	for _, name := range slices.Sorted(maps.Keys(b.groups)) {
		g := b.groups[name]
		for _, i := range g.members {
			if at := slices.Index(b.dag.Tasks[i].Needs, name); at >= 0 {
				b.errorf(b.tasks[i].needs[at], "", "task %q needs group %q, which it is in", b.tasks[i].id, name)
			}
			for j, need := range g.needs {
				if first[name][i] && !slices.Contains(b.dag.Tasks[i].Needs, need) {
					b.dag.Tasks[i].Needs = append(b.dag.Tasks[i].Needs, need)
					b.tasks[i].needs = append(b.tasks[i].needs, g.needsAt[j])
				}
			}
		}
	}
	for i := range b.tasks {
		b.dag.Tasks[i].Needs, b.tasks[i].needs = b.spelledOut(b.dag.Tasks[i].Needs, b.tasks[i].needs, last)
	}
	for _, name := range b.groupOrder {
		b.dag.Groups = append(b.dag.Groups, scheduler.Group{ID: name, Description: b.groups[name].description})
	}
}

// findGroups fills in the members of all groups, and finds names that say nothing, or two things.
func (b *builder) findGroups() {
	for i := range b.dag.Tasks {
		if name := b.dag.Tasks[i].Group; name != "" {
			if b.groups[name] == nil {
				b.groups[name] = &group{at: b.tasks[i].at}
				b.groupOrder = append(b.groupOrder, name)
			}
			b.groups[name].members = append(b.groups[name].members, i)
		}
	}
	for _, name := range b.groupOrder {
		g := b.groups[name]
		if len(g.members) == 0 {
			b.errorf(g.at, fmt.Sprintf("add group: %s to its tasks, or remove it", name), "group %q has no task", name)
		}
		if i := slices.IndexFunc(b.tasks, func(p placed) bool { return p.id == name || p.pair == name }); i >= 0 {
			b.errorf(g.at, "give one of them another name", "group %q has the name of %s", name, b.tasks[i].what())
		}
	}
}

// ends returns the last tasks of a group, and which are its first.
func (b *builder) ends(g *group) (last []string, first map[int]bool) {
	first = map[int]bool{}
	needed := map[string]bool{}
	for _, i := range g.members {
		first[i] = true
		for _, need := range b.dag.Tasks[i].Needs {
			needed[need] = true
			if t := b.dag.Task(need); t != nil && t.Group == b.dag.Tasks[i].Group {
				first[i] = false
			}
		}
	}
	for _, i := range g.members {
		if id := b.dag.Tasks[i].ID; !needed[id] {
			last = append(last, id)
		}
	}
	return last, first
}

// spelledOut returns needs with the last tasks of groups in place of their names. A task that a group brings along and that is there already is
// not there twice.
func (b *builder) spelledOut(needs []string, nodes []ast.Node, last map[string][]string) ([]string, []ast.Node) {
	if !slices.ContainsFunc(needs, func(need string) bool { return b.groups[need] != nil }) {
		return needs, nodes
	}
	var out []string
	var at []ast.Node
	for j, need := range needs {
		if b.groups[need] == nil {
			if !slices.Contains(out, need) || slices.Contains(needs[:j], need) { // twice by hand is a fault
				out, at = append(out, need), append(at, nodes[j])
			}
			continue
		}
		for _, id := range last[need] {
			if !slices.Contains(out, id) {
				out, at = append(out, id), append(at, nodes[j])
			}
		}
	}
	return out, at
}

// known returns what may stand in needs: tasks and groups.
func (b *builder) known(ids []string) []string {
	return slices.Concat(ids, slices.Collect(maps.Keys(b.groups)))
}

// membersOf returns the ids of the tasks of a group; none if there is no such group.
func (b *builder) membersOf(name string) []string {
	var out []string
	if g := b.groups[name]; g != nil {
		for _, i := range g.members {
			out = append(out, b.dag.Tasks[i].ID)
		}
	}
	return out
}

var groupKeys = []Key{
	is("groups", mapping, "What is to be said of groups of tasks, by name. A group is there as soon as a task is in it."),
	is("groups.*", mapping, "One group. Its name can stand in needs and for."),
	is("groups.*.description", anyText, "What it is for, in a line."),
	is("groups.*.needs", texts, "What its first tasks need, those that need no other of it."),
}
