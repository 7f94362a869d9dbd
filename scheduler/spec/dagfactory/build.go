package dagfactory

import (
	"slices"
	"strings"
	"time"

	yaml "github.com/goccy/go-yaml"
)

// builder converts one DAG.
type builder struct {
	*converter
	src    *node
	params []string
	// ids are millrace's ids of tasks by Airflow's; groups the tasks and groups that stand in a group.
	ids    map[string]string
	groups map[string]*group
}

// What the keys of a DAG, of default_args and of a task mean that runs do not depend on, and why they are left out.
var asides = map[string]string{
	"default_view": "how Airflow's page looks", "orientation": "how Airflow's page looks", "dag_display_name": "how Airflow's page looks",
	"tooltip": "how Airflow's page looks", "ui_color": "how Airflow's page looks", "ui_fgcolor": "how Airflow's page looks", "task_display_name": "how Airflow's page looks",
	"doc_md": "documentation: write it as a comment", "doc_md_file_path": "documentation: write it as a comment", "doc": "documentation: write it as a comment",
	"doc_md_python_callable_name": "documentation: write it as a comment", "doc_md_python_callable_file": "documentation: write it as a comment",
	"doc_md_python_arguments":       "documentation: write it as a comment",
	"render_template_as_native_obj": "there are no templates", "do_xcom_push": "a task's output is what it writes to MILLRACE_OUTPUT",
	"multiple_outputs": "a task's output is what it writes to MILLRACE_OUTPUT", "show_return_value_in_logs": "what a task prints is in its log",
	"weight_rule": "the priority of a task is its own", "email": "nobody is written to unless something else says so",
	"start_date": "a rule fires from the time at which its file is in force", "access_control": "whoever has the console's token sees all DAGs",
	"map_index_template": "how a page calls the items of a mapped task", "max_active_tis_per_dagrun": "a task that is not mapped runs once in a run",
	"is_paused_upon_creation": "a DAG is not paused when it comes; 'millrace dags pause' does that",
}

// losses are keys with no counterpart, and what to do instead.
var losses = map[string]string{
	"end_date":            "a rule has no end: take it out of the file then",
	"dagrun_timeout":      "a run has no time limit as a whole: give the tasks a timeout",
	"max_active_tasks":    "the number of tasks at a time is limited by the slots of the executor only",
	"concurrency":         "the number of tasks at a time is limited by the slots of the executor only",
	"sla":                 "a deadline is one of the run: write deadline: {from: …, within: …}, see docs/notifications.md",
	"queue":               "there are no queues: executor: says where a task runs",
	"run_as_user":         "tasks run as the user of the executor",
	"executor_config":     "an executor takes no settings of a task",
	"resources":           "an executor takes no settings of a task",
	"inlets":              "there are no datasets: a rule can subscribe to the batches of a source",
	"outlets":             "there are no datasets: a rule can subscribe to the batches of a source",
	"pre_execute":         "write a task before it",
	"post_execute":        "write a task after it",
	"execution_delta":     "there are no sensors: a task may need tasks of its own DAG",
	"template_searchpath": "there are no templates: a task reads its files itself",
}

// harmless are values of keys with no counterpart that ask for what is so anyway.
var harmless = map[string][]string{
	"max_active_tasks": {"0"}, "depends_on_past": {"false"}, "wait_for_downstream": {"false"}, "email_on_failure": {"false"}, "email_on_retry": {"false"},
	"catchup": {"false"}, "queue": {"default"},
	"retry_exponential_backoff": {"false"}, "is_paused_upon_creation": {"false"}, "max_consecutive_failed_dag_runs": {"0"},
	"fail_fast": {"false"}, "reset_dag_run": {"false"}, "skip_when_already_exists": {"false"}, "fail_when_dag_is_paused": {"false"}, "allow_nested_operators": {"true"}, "ignore_first_depends_on_past": {"true", "false"}, "auto_register": {"true"},
}

// other reports a key that has no counterpart.
func (b *builder) other(f field) {
	switch {
	case f.value.kind == null, f.value.is(harmless[f.key]...):
	case strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(f.key, "_name"), "_file"), "_callback"):
		b.lost(f.at, f.key, "no function is called when a run or a task ends: on_event tells a notifier of the configuration, see docs/notifications.md")
	case f.key == "email_on_failure" || f.key == "email_on_retry":
		b.lost(f.at, f.key, "on_event tells a notifier of the configuration, such as a command that sends mail: see docs/notifications.md")
	case f.key == "depends_on_past" || f.key == "wait_for_downstream":
		b.lost(f.at, f.key, "a run does not wait for the one before it")
	case f.key == "catchup":
		b.lost(f.at, f.key, "ticks that were missed are made up for within two hours: catchup of the rule says how far back, at most 31d; a backfill goes further")
	case losses[strings.TrimSuffix(strings.TrimSuffix(f.key, "_secs"), "_sec")] != "":
		b.lost(f.at, f.key, losses[strings.TrimSuffix(strings.TrimSuffix(f.key, "_secs"), "_sec")])
	case asides[f.key] != "":
		b.note(f.at, f.key, asides[f.key])
	default:
		b.lost(f.at, f.key, "it has no counterpart that this command knows")
	}
}

// build returns the document of a DAG.
func (b *builder) build(id string) yaml.MapSlice {
	doc := yaml.MapSlice{{Key: "dag", Value: id}}
	args := b.src.get("default_args")
	if v := b.src.get("description"); v != nil && v.text != "" {
		doc = append(doc, yaml.MapItem{Key: "description", Value: v.text})
	}
	if v := args.get("owner"); v != nil && v.text != "" {
		doc = append(doc, yaml.MapItem{Key: "owner", Value: v.text})
	}
	if tags := b.src.get("tags").strings(); len(tags) > 0 {
		doc = append(doc, yaml.MapItem{Key: "tags", Value: tags})
	}
	if params := b.readParams(); len(params) > 0 {
		doc = append(doc, yaml.MapItem{Key: "params", Value: params})
	}
	if on := b.schedule(); on != nil {
		doc = append(doc, yaml.MapItem{Key: "on", Value: on})
	}
	if most := b.src.get("max_active_runs"); most != nil && most.kind == scalar {
		doc = append(doc, yaml.MapItem{Key: "concurrency", Value: most.plain()})
	}
	if defaults := b.common(args); len(defaults) > 0 {
		doc = append(doc, yaml.MapItem{Key: "defaults", Value: defaults})
	}
	for _, f := range b.src.fields {
		switch f.key {
		case "dag_id", "description", "tags", "params", "schedule", "schedule_interval", "timezone", "max_active_runs", "default_args", "tasks", "task_groups":
		default:
			b.other(f)
		}
	}
	for _, f := range args.list() {
		if !slices.Contains(commonKeys, f.key) && f.key != "owner" && f.key != "timezone" && f.key != "trigger_rule" {
			b.other(f)
		}
	}
	return append(doc, yaml.MapItem{Key: "tasks", Value: b.tasks()})
}

// list returns the fields of a mapping that may be nil.
func (n *node) list() []field {
	if n == nil {
		return nil
	}
	return n.fields
}

// readParams returns parameters with their defaults.
func (b *builder) readParams() (out yaml.MapSlice) {
	for _, f := range b.src.get("params").list() {
		value, n := any(nil), f.value
		if n.kind == mapping && n.get("__type__") != nil {
			n = n.get("default")
		}
		if n != nil && n.kind == scalar {
			value = n.plain()
		}
		if value == nil || b.id(f.at, f.key, "parameter") != f.key {
			b.lost(f.at, "params."+f.key, "a parameter is a text, a number, true or false, and has a default")
			continue
		}
		b.params = append(b.params, f.key)
		out = append(out, yaml.MapItem{Key: f.key, Value: value})
	}
	return out
}

// schedule returns the rules, or nil if people start runs.
func (b *builder) schedule() any {
	n, at := b.src.get("schedule"), place{}
	for _, f := range b.src.fields {
		if f.key == "schedule" || f.key == "schedule_interval" {
			n, at = f.value, f.at
		}
	}
	if n == nil || n.kind == null || n.is("None", "@none", "null") {
		return nil
	}
	if n.kind == mapping && n.get("value") != nil { // {type: cron, value: …}
		n = n.get("value")
	}
	cron, zone := "", b.zone()
	switch {
	case n.is("@once", "@continuous"):
		b.lost(at, "schedule", n.text+" is not a time: start a run with 'millrace dags trigger'")
	case n.kind == scalar:
		cron = n.text
	case n.kind == mapping && n.get("cron") != nil:
		cron = n.get("cron").text
		if v := n.get("timezone"); v != nil {
			zone = v.text
		}
	case n.kind == mapping:
		cron = b.interval(at, n)
	default:
		b.lost(at, "schedule", "datasets and assets start no runs: subscribe to the batches of a source with on: [{batch: {source: …}}]")
	}
	if cron == "" {
		return nil
	}
	rule := yaml.MapSlice{{Key: "id", Value: "schedule"}, {Key: "cron", Value: cron}}
	if zone != "" && zone != "UTC" {
		rule = append(rule, yaml.MapItem{Key: "timezone", Value: zone})
	}
	return []any{rule}
}

// interval makes a time between runs a cron expression.
func (b *builder) interval(at place, n *node) string {
	d, ok := duration(n)
	cron, whole := everyCron(d)
	switch {
	case !ok:
		b.lost(at, "schedule", "this kind of timetable has no counterpart: write a cron expression")
	case !whole:
		b.lost(at, "schedule", "runs every "+short(d)+" are not at the same times of each hour or day: write a cron expression")
	default:
		b.note(at, "schedule", "every "+short(d)+" counts from midnight UTC, not from start_date")
	}
	return cron
}

// zone is the zone of cron expressions: that of the start date, as in Airflow.
func (b *builder) zone() string {
	args := b.src.get("default_args")
	for _, from := range []*node{b.src, args} {
		if zone := from.get("timezone"); zone != nil && from.get("start_date") != nil {
			return zone.text
		}
	}
	if zone := b.src.get("timezone"); zone != nil {
		return zone.text
	}
	return ""
}

// commonKeys are keys that default_args and tasks have in common, and that have a counterpart.
var commonKeys = []string{
	"retries", "retry_delay", "retry_delay_sec", "retry_exponential_backoff", "max_retry_delay", "max_retry_delay_sec", "execution_timeout",
	"execution_timeout_secs", "pool", "pool_slots", "priority_weight",
}

// common returns retry and timeout.
func (b *builder) common(n *node) (out yaml.MapSlice) {
	var retry yaml.MapSlice
	var timeout string
	for _, f := range n.list() {
		key := strings.TrimSuffix(strings.TrimSuffix(f.key, "_secs"), "_sec")
		switch {
		case !slices.Contains(commonKeys, f.key) || f.value.kind == null:
		case key == "retries":
			limit, ok := f.value.plain().(int64)
			if !ok || limit < 0 {
				b.lost(f.at, f.key, "it is not a whole number")
				continue
			}
			retry = append(retry, yaml.MapItem{Key: "limit", Value: limit})
		case key == "pool", key == "pool_slots", key == "priority_weight":
			out = append(out, b.slots(f)...)
		case key == "retry_exponential_backoff":
			if f.value.is("true") {
				retry = append(retry, yaml.MapItem{Key: "backoff", Value: 2})
			}
		default:
			d, ok := duration(f.value)
			if !ok {
				b.lost(f.at, f.key, "it is neither a number of seconds nor a datetime.timedelta")
				continue
			}
			if key == "execution_timeout" {
				timeout = short(d)
			} else {
				retry = append(retry, yaml.MapItem{Key: map[string]string{"retry_delay": "delay", "max_retry_delay": "max_delay"}[key], Value: short(d)})
			}
		}
	}
	if len(retry) > 0 {
		out = append(out, yaml.MapItem{Key: "retry", Value: b.delayed(retry)})
	}
	if timeout != "" {
		out = append(out, yaml.MapItem{Key: "timeout", Value: timeout})
	}
	return out
}

// slots returns what a task asks of a pool, and its place in the queue.
func (b *builder) slots(f field) yaml.MapSlice {
	switch {
	case f.value.is(map[string]string{"pool": "default_pool", "pool_slots": "1", "priority_weight": "1"}[f.key]):
		return nil
	case f.key == "pool":
		b.note(f.at, f.key, "add pools: {"+f.value.text+": …} with its slots to millrace.yaml, else the DAG is not put into force")
	case f.key == "priority_weight":
		b.note(f.at, f.key, "the priority of a task is its own: weights of tasks after it are not added")
		return yaml.MapSlice{{Key: "priority", Value: f.value.plain()}}
	}
	return yaml.MapSlice{{Key: f.key, Value: f.value.plain()}}
}

// airflowDelay is how long Airflow waits before a retry, if nobody says so.
const airflowDelay = 5 * time.Minute

// delayed adds Airflow's delay, where there are retries and none is given.
func (b *builder) delayed(retry yaml.MapSlice) yaml.MapSlice {
	has := func(key string) bool {
		return slices.ContainsFunc(retry, func(i yaml.MapItem) bool { return i.Key == key && i.Value != int64(0) })
	}
	args := b.src.get("default_args")
	if has("limit") && !has("delay") && args.get("retry_delay") == nil && args.get("retry_delay_sec") == nil {
		retry = append(retry, yaml.MapItem{Key: "delay", Value: short(airflowDelay)})
	}
	return retry
}
