package dagfactory

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "github.com/goccy/go-yaml"

	"millrace/scheduler/spec"
)

// fan is what expand says of a task: the list over which it is mapped.
type fan struct {
	at place
	// keys are those of expand, in their order. With one, an item is its value; with more, a mapping of all.
	keys []string
	// items is a CEL expression for the list. listed has the items if they stand in the file, nil if a task puts them out.
	items  string
	listed []*node
}

// maxListed bounds the items that stand in the file, as combinations of several lists.
const maxListed = 1000

// unfold returns a task with what partial says of it among its own keys.
func unfold(f field) field {
	part := f.value.get("partial")
	if part == nil || part.kind != mapping {
		return f
	}
	own := &node{kind: mapping, at: f.value.at}
	for _, k := range f.value.fields {
		if k.key != "partial" {
			own.fields = append(own.fields, k)
		}
	}
	return field{f.key, f.at, merge(own, part)}
}

// fan reads expand.
func (b *builder) fan(n *node) (*fan, error) {
	if n.kind != mapping || len(n.fields) == 0 {
		return nil, errors.New("it is not a mapping of arguments and their lists")
	}
	out := &fan{at: n.at, listed: []*node{{kind: mapping}}}
	for _, f := range n.fields {
		out.keys = append(out.keys, f.key)
		if from, ok := b.reference(f.value); ok && len(n.fields) == 1 {
			out.items, out.listed = from.cel(), nil
			return out, b.puts(from)
		} else if ok {
			return nil, errors.New("only lists that stand in the file are combined: let the task that puts out " + f.value.text + " put out the combinations")
		}
		if f.value.kind != sequence {
			return nil, fmt.Errorf("%s is neither a list nor the output of a task of this DAG (+task, task.output)", f.key)
		}
		var more []*node
		for _, head := range out.listed {
			for _, item := range f.value.items {
				more = append(more, &node{kind: mapping, fields: append(slices.Clone(head.fields), field{f.key, item.at, item})})
			}
		}
		if len(more) > maxListed {
			return nil, fmt.Errorf("its lists have more than %d combinations", maxListed)
		}
		out.listed = more
	}
	whole := &node{kind: sequence}
	for i, item := range out.listed {
		if len(out.keys) == 1 {
			out.listed[i] = item.fields[0].value
		}
		if b.refers(out.listed[i]) || template.MatchString(out.listed[i].json()) {
			return nil, errors.New("nothing fills in what is in its list: " + oneLine(out.listed[i].json()))
		}
		whole.items = append(whole.items, out.listed[i])
	}
	out.items = whole.json() // which is CEL as it stands
	return out, nil
}

// foreach returns the key of a mapped task.
func (b *builder) foreach(f field, list *fan) yaml.MapItem {
	each := yaml.MapSlice{{Key: "items", Value: list.items}}
	if most := f.value.get("max_active_tis_per_dagrun"); most != nil && most.kind == scalar {
		each = append(each, yaml.MapItem{Key: "max_concurrent", Value: most.plain()})
	}
	if label := f.value.get("map_index_template"); label != nil {
		b.note(label.at, f.key+".map_index_template", "how a page calls the items: write foreach.key with an expression of item")
	}
	return yaml.MapItem{Key: "foreach", Value: each}
}

// foreachKeys say how a mapped task is mapped.
var foreachKeys = []string{"expand", "partial", "map_index_template", "max_active_tis_per_dagrun"}

// output is a value that another task puts out.
type output struct {
	task string // millrace's id
	key  string // of a mapping; "" for all of it
	text bool   // key is a text, not a number
}

var outputOf = regexp.MustCompile(`^(\+?)([A-Za-z0-9_.-]+?)(\.output)?(?:\[(?:"([^"\\]+)"|'([^'\\]+)'|([0-9]+))\])?$`)

// older is how dag-factory wrote +task before.
var older = regexp.MustCompile(`^X[Cc]omArg\((.+)\)$`)

// reference reads a value that dag-factory takes from another task: +task, task.output or task.output["key"].
func (b *builder) reference(n *node) (output, bool) {
	if n == nil || n.kind != scalar {
		return output{}, false
	}
	m := outputOf.FindStringSubmatch(older.ReplaceAllString(strings.TrimSpace(n.text), "+$1"))
	if m == nil || m[1] == "" && m[3] == "" {
		return output{}, false
	}
	id := b.ids[m[2]]
	if _, bare, ok := strings.Cut(m[2], "."); ok && id == "" { // group.task
		id = b.ids[bare]
	}
	return output{task: id, key: m[4] + m[5] + m[6], text: m[6] == ""}, id != ""
}

// puts reports a task that has no output here as it has in Airflow: what a program prints is in its log only.
func (b *builder) puts(from output) error {
	for _, f := range byID("tasks", orEmpty(b.src.get("tasks"))).fields {
		op := f.value.get("operator")
		if b.ids[f.key] == from.task && !decorated(f.value) && (op == nil || class(op.text) != "PythonOperator") {
			return errors.New("task " + f.key + " calls no function, and only what a function returns becomes an output: let it write JSON to MILLRACE_OUTPUT, and say foreach: " + from.cel())
		}
	}
	return nil
}

// refers reports whether a value has such a reference somewhere in it.
func (b *builder) refers(n *node) bool {
	_, ok := b.reference(n)
	return ok || slices.ContainsFunc(n.items, b.refers) || slices.ContainsFunc(n.fields, func(f field) bool { return b.refers(f.value) })
}

var celName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// cel is the expression for it.
func (o output) cel() string {
	task := "tasks." + o.task
	if !celName.MatchString(o.task) {
		task = "tasks[" + strconv.Quote(o.task) + "]"
	}
	return task + ".output" + o.index()
}

// python is the expression for it, where i is the input document.
func (o output) python() string { return `i["upstream"][` + strconv.Quote(o.task) + "]" + o.index() }

func (o output) index() string {
	switch {
	case o.key == "":
		return ""
	case o.text:
		return "[" + strconv.Quote(o.key) + "]"
	}
	return "[" + o.key + "]"
}

// uses returns the tasks whose outputs a task is given: it needs them, as in Airflow, also if it does not say so.
func (b *builder) uses(f field) (out []string) {
	var walk func(n *node)
	walk = func(n *node) {
		if from, ok := b.reference(n); ok {
			out = append(out, from.task)
		}
		for _, k := range n.list() {
			walk(k.value)
		}
	}
	walk(f.value.get("expand"))
	if decorated(f.value) {
		walk(&node{kind: mapping, fields: arguments(f.value)})
	} else if op := f.value.get("operator"); op != nil && class(op.text) == "PythonOperator" {
		walk(f.value.get("op_kwargs"))
	}
	return out
}

// mapped converts a task with expand, by the operator's name, or fails.
func (b *builder) mapped(f field, kind string, convert func(b *builder, f field) (yaml.MapSlice, []string)) (yaml.MapSlice, []string) {
	expand := f.value.get("expand")
	lost := func(why string) (yaml.MapSlice, []string) {
		return b.failing(f, expand.at, f.key+".expand", why), allKeys(f.value)
	}
	list, err := b.fan(expand)
	if err != nil {
		return lost(err.Error())
	}
	var out yaml.MapSlice
	var keys []string
	switch {
	case kind == "PythonOperator":
		for _, key := range list.keys {
			if key != "op_args" && key != "op_kwargs" {
				return lost("only op_args and op_kwargs of a PythonOperator are mapped, not " + key)
			}
			if f.value.get(key) != nil {
				return lost(key + " is in partial, too, and Airflow takes it from one of them only")
			}
		}
		out, keys = b.call(f, f.value.get("op_args"), f.value.get("op_kwargs"), list)
		keys = append(keys, "op_args", "op_kwargs", "templates_dict")
	case decorated(f.value):
		out, keys = b.call(f, nil, &node{kind: mapping, fields: arguments(f.value)}, list)
		keys = append(keys, names(arguments(f.value))...)
	case len(list.keys) > 1 || kind != "BashOperator" && kind != "TriggerDagRunOperator":
		return lost("of operator " + kind + " it has no counterpart: mapped are bash_command or env of a BashOperator, op_args and op_kwargs of a PythonOperator, conf of a TriggerDagRunOperator")
	default:
		if f, err = b.itemized(f, list); err != nil {
			return lost(err.Error())
		}
		out, keys = convert(b, f)
	}
	return append(yaml.MapSlice{b.foreach(f, list)}, out...), append(keys, foreachKeys...)
}

// itemized puts expressions of the item into a task whose bash_command, env or conf is mapped.
func (b *builder) itemized(f field, list *fan) (field, error) {
	key := list.keys[0]
	over := &node{kind: mapping, at: f.value.at}
	switch {
	case f.value.get(key) != nil:
		return f, errors.New(key + " is in partial, too, and Airflow takes it from one of them only")
	case key == "bash_command":
		env := &node{kind: mapping, fields: []field{{"MAPPED_COMMAND", list.at, itemText("item")}}}
		over.fields = []field{{key, list.at, &node{kind: scalar, at: list.at, text: `eval "$MAPPED_COMMAND"`, str: true}}, {"env", list.at, env}}
	case key == "env" || key == "conf":
		if len(list.listed) == 0 {
			return f, errors.New(key + " is mapped over what a task puts out, whose keys are not known here: write foreach, and each key with an expression of item")
		}
		first := names(list.listed[0].fields)
		fields := &node{kind: mapping, at: list.at}
		for _, item := range list.listed {
			if item.kind != mapping || !slices.Equal(names(item.fields), first) {
				return f, errors.New("the items of " + key + " have not the same keys, in one order")
			}
		}
		for _, name := range first {
			if !celName.MatchString(name) {
				return f, errors.New("the key " + name + " of " + key + " is no name")
			}
			fields.fields = append(fields.fields, field{name, list.at, itemText("item." + name)})
		}
		over.fields = []field{{key, list.at, fields}}
	default:
		return f, errors.New(key + " is not mapped: only bash_command and env of a BashOperator and conf of a TriggerDagRunOperator are")
	}
	return field{f.key, f.at, merge(over, f.value)}, nil
}

func itemText(expr string) *node { return &node{kind: scalar, text: "${{ " + expr + " }}", str: true} }

func names(fields []field) (out []string) {
	for _, f := range fields {
		out = append(out, f.key)
	}
	return out
}

// slotKeys are about slots, of which a task that starts a run takes none.
var slotKeys = []string{"pool", "pool_slots", "priority_weight"}

// dagRun converts a TriggerDagRunOperator, which starts a run of another DAG.
func (b *builder) dagRun(f field) (yaml.MapSlice, []string) {
	keys := []string{"trigger_dag_id", "conf", "wait_for_completion", "poke_interval", "deferrable"}
	id, conf := f.value.get("trigger_dag_id"), f.value.get("conf")
	if id == nil || id.kind != scalar || template.MatchString(id.text) {
		return b.failing(f, f.at, f.key, "trigger_dag_id is not the name of a DAG"), allKeys(f.value)
	}
	dag := yaml.MapSlice{{Key: "id", Value: b.id(id.at, id.text, "DAG")}}
	var params yaml.MapSlice
	if conf != nil && conf.kind != mapping && conf.kind != null {
		return b.failing(f, conf.at, f.key+".conf", "it is not a mapping: only keys and values become parameters"), allKeys(f.value)
	}
	for _, p := range conf.list() {
		text := p.value.json()
		value := p.value.plain()
		if m := parameter.FindStringSubmatch(strings.TrimSpace(p.value.text)); m != nil && slices.Contains(b.params, m[1]+m[2]) {
			value = "${{ params." + m[1] + m[2] + " }}"
		} else if template.MatchString(strings.ReplaceAll(text, "${{", "")) {
			return b.failing(f, p.at, f.key+".conf."+p.key, "nothing fills in the template "+oneLine(text)+": only one of a declared parameter that stands alone"), allKeys(f.value)
		}
		if spec.CheckID(p.key) != nil {
			return b.failing(f, p.at, f.key+".conf."+p.key, "a parameter can not be called so"), allKeys(f.value)
		}
		params = append(params, yaml.MapItem{Key: p.key, Value: value})
	}
	if len(params) > 0 {
		dag = append(dag, yaml.MapItem{Key: "params", Value: params})
		b.note(conf.at, f.key+".conf", "the DAG "+id.text+" must declare these as params")
	}
	if !f.value.get("wait_for_completion").is("true") {
		dag = append(dag, yaml.MapItem{Key: "wait", Value: false})
	}
	for _, p := range f.value.fields {
		if slices.Contains(slotKeys, p.key) {
			b.note(p.at, f.key+"."+p.key, "a task that starts a run takes no slot")
		}
	}
	return yaml.MapSlice{{Key: "dag", Value: dag}}, keys
}
