package dagfactory

import (
	"maps"
	"slices"
	"strings"

	yaml "github.com/goccy/go-yaml"
)

// group is a task group. What needs it is written out, since groups within groups have no counterpart: a task is in the innermost.
type group struct {
	at      place
	id      string // millrace's
	parent  string
	needs   []string
	members []string // tasks, and those of groups within
}

// joinRules are Airflow's older names of trigger rules; the newer ones are millrace's, too.
var joinRules = map[string]string{"dummy": "always", "none_failed_or_skipped": "none_failed_min_one_success"}

// tasks returns all tasks, by id.
func (b *builder) tasks() yaml.MapSlice {
	tasks := byID("tasks", orEmpty(b.src.get("tasks"))).fields
	for _, f := range tasks {
		b.ids[f.key] = b.id(f.at, f.key, "task")
	}
	b.readGroups(tasks)
	var out yaml.MapSlice
	for _, f := range tasks {
		out = append(out, yaml.MapItem{Key: b.ids[f.key], Value: b.task(f, tasks)})
	}
	return out
}

func orEmpty(n *node) *node {
	if n == nil {
		return &node{kind: mapping}
	}
	return n
}

func (b *builder) readGroups(tasks []field) {
	b.groups = map[string]*group{}
	for _, f := range byID("task_groups", orEmpty(b.src.get("task_groups"))).fields {
		g := &group{at: f.at, needs: f.value.get("dependencies").strings()}
		if p := f.value.get("parent_group_name"); p != nil {
			g.parent = p.text
		}
		b.groups[f.key] = g
		if g.id = b.id(f.at, f.key, "task group"); slices.Contains(slices.Collect(maps.Values(b.ids)), g.id) {
			g.id += "_group" // here tasks and groups share their names
		}
		if g.parent != "" {
			b.note(f.at, "task group "+f.key, "groups are not within groups: its tasks are in this one only")
		}
		for _, key := range f.value.fields {
			if !slices.Contains([]string{"dependencies", "parent_group_name", "group_name", "tooltip", "prefix_group_id"}, key.key) {
				b.other(key)
			}
		}
	}
	for _, f := range tasks {
		name := f.value.get("task_group_name")
		for depth := 0; name != nil && depth < maxDepth; depth++ {
			g := b.groups[name.text]
			if g == nil {
				break
			}
			g.members = append(g.members, f.key)
			name = &node{text: g.parent}
		}
	}
}

// needs returns what a task needs: its own dependencies, and, if it is the first of a group, those of the group.
func (b *builder) needs(f field, tasks []field) []string {
	own := f.value.get("dependencies").strings()
	all := slices.Clone(own)
	name := f.value.get("task_group_name")
	for depth := 0; name != nil && depth < maxDepth; depth++ {
		g := b.groups[name.text]
		if g == nil {
			break
		}
		if !slices.ContainsFunc(own, func(id string) bool { return slices.Contains(g.members, id) || b.within(id, name.text) }) {
			all = append(all, g.needs...)
		}
		name = &node{text: g.parent}
	}
	var out []string
	for _, id := range all {
		for _, one := range b.last(id, tasks) {
			if to := b.ids[one]; to == "" {
				b.lost(f.at, f.key+".dependencies", "there is no task "+one)
			} else if !slices.Contains(out, to) {
				out = append(out, to)
			}
		}
	}
	return out
}

// within reports whether a group is in another.
func (b *builder) within(id, outer string) bool {
	for depth := 0; depth < maxDepth && b.groups[id] != nil; depth++ {
		if id = b.groups[id].parent; id == outer {
			return true
		}
	}
	return false
}

// last returns the tasks of a group that no other of it needs; of a task, itself. A prefix of a group is taken off: group.task.
func (b *builder) last(id string, tasks []field) []string {
	g := b.groups[id]
	if g == nil {
		if _, bare, ok := strings.Cut(id, "."); ok && b.ids[id] == "" {
			return b.last(bare, tasks)
		}
		return []string{id}
	}
	var out []string
	for _, member := range g.members {
		if !slices.ContainsFunc(tasks, func(f field) bool {
			return slices.Contains(g.members, f.key) && slices.Contains(f.value.get("dependencies").strings(), member)
		}) {
			out = append(out, member)
		}
	}
	return out
}

// taskKeys have a counterpart, or only say how the tasks hang together.
var taskKeys = []string{"task_id", "operator", "decorator", "dependencies", "task_group_name", "parent_group_name", "trigger_rule", "owner", "params"}

// task converts one task. One that can not be converted fails at once, and says why.
func (b *builder) task(f field, tasks []field) yaml.MapSlice {
	f = unfold(f)
	var out yaml.MapSlice
	needs := b.needs(f, tasks)
	for _, id := range b.uses(f) {
		if !slices.Contains(needs, id) {
			needs = append(needs, id)
		}
	}
	if len(needs) > 0 {
		out = append(out, yaml.MapItem{Key: "needs", Value: needs})
	}
	if name := f.value.get("task_group_name"); name != nil && b.groups[name.text] != nil {
		out = append(out, yaml.MapItem{Key: "group", Value: b.groups[name.text].id})
	}
	rule := f.value.get("trigger_rule")
	if rule == nil {
		rule = b.src.get("default_args").get("trigger_rule")
	}
	if rule != nil && !rule.is("all_success") {
		word := rule.text[strings.LastIndexByte(rule.text, '.')+1:] // TriggerRule.ALL_DONE
		word = strings.ToLower(word)
		if newer := joinRules[word]; newer != "" {
			word = newer
		}
		out = append(out, yaml.MapItem{Key: "rule", Value: word})
	}
	cmd, known := b.operator(f)
	out = append(out, cmd...)
	if slices.ContainsFunc(cmd, func(i yaml.MapItem) bool { return i.Key == "dag" }) {
		out = append(out, b.common(without(f.value, slotKeys))...)
	} else {
		out = append(out, b.common(f.value)...)
	}
	for _, key := range f.value.fields {
		if !slices.Contains(known, key.key) && !slices.Contains(commonKeys, key.key) && !slices.Contains(taskKeys, key.key) {
			b.other(key)
		}
	}
	if owner, all := f.value.get("owner"), b.src.get("default_args").get("owner"); owner != nil && (all == nil || owner.text != all.text) {
		b.note(owner.at, f.key+".owner", "a DAG has one owner, a task none of its own")
	}
	if p := f.value.get("params"); p != nil {
		b.lost(p.at, f.key+".params", "a task has no parameters of its own: make them those of the DAG")
	}
	return out
}

// without returns a mapping without some keys.
func without(n *node, keys []string) *node {
	out := &node{kind: n.kind, at: n.at}
	for _, f := range n.fields {
		if !slices.Contains(keys, f.key) {
			out.fields = append(out.fields, f)
		}
	}
	return out
}
