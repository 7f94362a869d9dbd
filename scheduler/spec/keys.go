package spec

import (
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/trigger"
)

// Key describes one key of a DAG file. The schema, the reference and the hints for a key in the wrong place are made of this list; a test asks
// the decoder for all of its keys and compares.
type Key struct {
	// Path is its place, with * for a name that people choose and [] for each element of a list: "tasks.*.retry.limit", "on[].cron".
	Path string
	// Type is for people; "mapping" has keys below it.
	Type string
	// Doc says what the key does.
	Doc string

	schema node // of a value that is not a mapping, or a list of them; nil if it has to be one
	item   node // of an element of a list that is not a mapping; nil if it has to be one
	// again says that it means what the same key of a task means.
	again bool
}

// value is what may stand behind a key.
type value struct {
	name   string
	schema node
}

var (
	anyText    = value{"text", node{"type": "string"}}
	anyScalar  = value{"text", node{"type": []string{"string", "number", "boolean"}}}
	constants  = value{"text or list", node{"type": []string{"string", "number", "boolean", "array"}}}
	anyID      = value{"id", node{"type": []string{"string", "number"}, "pattern": idRule.String()}}
	boolean    = value{"true or false", node{"type": "boolean"}}
	expression = value{"CEL expression", node{"type": []string{"string", "boolean"}}}
	texts      = value{"list of text", oneOrMore(node{"type": "string"})}
	aNumber    = value{"number", node{"type": "number"}}
	exitCodes  = value{"list of exit codes", oneOrMore(node{"type": "integer", "minimum": 0, "maximum": 255})}
	mapping    = value{"mapping", nil}
	priorities = value{"whole number", node{"type": "integer", "minimum": -scheduler.MaxPriority, "maximum": scheduler.MaxPriority}}
	duration   = value{"duration", node{"anyOf": []node{
		{"type": "string", "pattern": `^([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))*$`}, {"type": "integer", "enum": []int{0}},
	}}}
	size = value{"size", node{"anyOf": []node{
		{"type": "number", "minimum": 0}, {"type": "string", "pattern": `^[0-9.]+ *(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`},
	}}}
	variables = value{"mapping of text", node{
		"type": "object", "additionalProperties": anyScalar.schema, "propertyNames": node{"pattern": envRule.String()},
	}}
	command = value{"text, or list of arguments", node{"anyOf": []node{
		{"type": "string"}, {"type": "array", "items": anyScalar.schema, "minItems": 1},
	}}}
)

// ruleWord is a rule of nothing but its kind.
var ruleWord = node{"type": "string", "enum": []string{"manual", "batch"}}

func oneOrMore(one node) node {
	return node{"anyOf": []node{one, {"type": "array", "items": one}}}
}

func count(most int64) value {
	return value{"whole number", node{"type": "integer", "minimum": 0, "maximum": most}}
}

func word(words ...string) value {
	return value{strings.Join(words, " or "), node{"type": "string", "enum": words}}
}

// or is a mapping that can be written as a single value instead.
func (v value) or(mapping string) value { return value{v.name + ", or " + mapping, v.schema} }

// Keys returns all keys that this version knows, in the order in which people write them; not to be changed.
func Keys() []Key { return allKeys }

var allKeys = slices.Concat(dagKeys, paramKeys, ruleKeys, noticeKeys, groupKeys, under("defaults", sharedKeys), taskKeys, foreachKeys, operatorKeys, machineKeys,
	under("tasks.*", sharedKeys), under("tasks.*", taskNoticeKeys), partKeys(scheduler.PartSetup, setupKeys), partKeys(scheduler.PartTeardown, teardownKeys))

var dagKeys = []Key{
	is("dag", anyID, "The DAG's id. Required."),
	is("description", anyText, "What the DAG is for, in a line."),
	is("owner", anyText, "Who looks after it."),
	is("tags", texts, "Words to find it by."),
	is("env", variables, "Variables of every task; a task's own win. ${{ }} takes params, batch, batches, inputs, totals, trigger, run, tasks, vars, secrets and conns."),
	is("defaults", mapping, "What tasks have that do not say otherwise."),
	is("concurrency", count(maxSlots).or("mapping"), "How many runs may be under way at once: so many, or as the mapping says. Default: no bound."),
	is("concurrency.group", anyScalar, "Runs for which this is the same count together. ${{ }} takes params, batch, batches, totals, trigger and run. Default: all runs of the DAG."),
	is("concurrency.max_runs", count(maxSlots), "So many runs of a group. Default: 1."),
	is("concurrency.when_full", word(whenFull...), "What becomes of a run beyond that: see waiting.md. Default: queue."),
	is("priority", priorities, "The priority of tasks that have none of their own. Default: 0."),
	is("params", mapping, "Parameters of a run, by name."),
}

// paramKeys are those of parameters, of a run and of an approval.
var paramKeys = []Key{
	is("params.*", constants.or("mapping"), "One parameter: a mapping, or its default alone, whose type is then the parameter's."),
	is("params.*.type", word(paramTypes...), "The type that a value must have; default: that of the default."),
	is("params.*.description", anyText, "What it is, for those who start runs."),
	is("params.*.required", boolean, "A run by hand must give it, unless there is a default."),
	is("params.*.default", value{"text, list or mapping", node{"type": []string{"string", "number", "boolean", "array", "object"}}}, "The value if none is given."),
	is("params.*.title", anyText, "What a form calls it."),
	is("params.*.enum", value{"list of anything", node{"type": "array", "minItems": 1}}, "The only values that it may have."),
	is("params.*.minimum", aNumber, "Of a number: it is not less."),
	is("params.*.maximum", aNumber, "Of a number: it is not more."),
	is("params.*.pattern", anyText, "Of a text: a regular expression that matches a part of it; ^ and $ for all of it."),
	is("params.*.format", word(paramFormats...), "Of a text: it is written so."),
	is("params.*.items", anyMapping, "Of an array: the JSON Schema of its elements."),
	is("params.*.properties", anyMapping, "Of an object: the JSON Schemas of what it has, by name."),
}

var ruleKeys = []Key{
	is("on", value{"list of rules", ruleWord}, "What starts runs. Without it, only people do.").of(ruleWord),
	is("on[].id", anyID, "Name of the rule, by which the ledger knows it: an edit keeps it. Default: its kind."),
	is("on[].batch", value{"true, or mapping", node{"type": "boolean", "enum": []bool{true}}}, "Batches that start runs: those that match all that is below."),
	is("on[].batch.source", anyScalar, "Of this source; * or nothing: of all."),
	is("on[].batch.tenant", anyScalar, "Of this tenant; * for all. Default: the tenant called default."),
	is("on[].batch.types", texts, "With at least one event of one of these types."),
	is("on[].batch.quarantine", boolean, "Also batches of events that were set aside."),
	is("on[].if", expression, "A batch counts only if this is true. It is about batch."),
	is("on[].key", expression, "Batches with one value of this are coalesced, joined or put in order with each other. Default: all are."),
	is("on[].coalesce", mapping, "Several batches become one run: when the first of these bounds is reached."),
	is("on[].coalesce.max_batches", count(trigger.MaxGroup), "So many batches."),
	is("on[].coalesce.max_events", count(1<<50), "So many events."),
	is("on[].coalesce.max_bytes", size, "So many stored bytes."),
	is("on[].coalesce.quiet", duration, "No batch came for so long."),
	is("on[].coalesce.max_wait", duration, "The first batch is so old."),
	is("on[].coalesce.mode", word(modes...), "The run gets all batches, or the latest of them alone; the others are dropped then. Default: all."),
	is("on[].order", word(orders...), "In which order batches start runs, and which of those that wait does: see triggers.md. Default: as they come, and the oldest run first."),
	is("on[].all_of", value{"list of ids", node{"type": "array", "items": anyID.schema, "minItems": 2, "maxItems": trigger.MaxSides}}, "Instead of batch: a run when each of these rules has a batch of the same key, with all that came: see triggers.md."),
	is("on[].expire", duration, "How long a batch waits for those of the other rules of all_of, from when it was cut. Default: for ever."),
	is("on[].only_joined", boolean, "The rule starts no runs of its own, only those of rules that name it in all_of do."),
	is("on[].when_paused", word(pausedWords...), "What becomes of batches that come while the DAG is paused: all start runs when it goes on, none does, or the latest of each key. Default: hold."),
	is("on[].cron", anyText, "A run at these times: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly."),
	is("on[].timezone", anyText, "The zone in which cron is read, such as Europe/Berlin. Default: UTC."),
	is("on[].jitter", duration, "Each run comes later by a part of this, at most 1h: the same for the same time, another for other rules."),
	is("on[].catchup", word(catchupPolicies...).or("mapping"), "What becomes of times that passed while millrace was away: all of them, the latest, or none. Default: all of the last 2h, or the latest before."),
	is("on[].catchup.window", duration, "How far back they count, at most 31d. Default: 2h."),
	is("on[].catchup.policy", word(catchupPolicies...), "all, latest or skip, as above. Default: all."),
	is("on[].manual", value{"true", node{"type": "boolean", "enum": []bool{true}}}, "The rule that runs by hand are counted under."),
}

var taskKeys = []Key{
	is("tasks", mapping, "What a run does, by id. Required."),
	is("tasks.*", mapping, "One task."),
	is("tasks.*.needs", texts, "Tasks, or groups of them, that must have ended first: its parents."),
	is("tasks.*.group", anyID, "The group that it is in. What needs a group needs its last tasks, those that no other of it needs."),
	is("tasks.*.rule", word(scheduler.Joins...), "How the parents must have ended: see joins.md. Default: all_success."),
	is("tasks.*.when", expression, "The task is skipped unless this is true. It is about params, batch, batches, inputs, totals, trigger, run and tasks."),
	is("tasks.*.concurrency", value{"whole number", node{"type": "integer", "minimum": 1, "maximum": maxSlots}}, "So many attempts of the task at once, in all runs of the DAG: see waiting.md. Default: no bound."),
	is("tasks.*.output", mapping, "What the output must be."),
	is("tasks.*.output.schema", value{"path, or mapping", node{"type": []string{"string", "object"}}}, "A JSON Schema, or the path of one relative to this file. An attempt whose output does not fit has failed."),
	is("tasks.*.cache", mapping, "An output of an earlier run is taken instead of executing the task, if it was made of the same."),
	is("tasks.*.cache.key", expression, "What it was made of: inputs.digest, for instance. About params, inputs, batch, batches, totals, trigger, run and tasks. Required."),
	is("tasks.*.cache.ttl", duration, "How long an output is taken after its task has ended, at most 365d. Default: 7d."),
	is("tasks.*.run", command, "The program with its arguments, or text for sh -c. Only a list takes ${{ }}."),
}

// sharedKeys are those that a task has and that defaults has, too.
var sharedKeys = []Key{
	is("env", variables, "Variables of the task; they win over those of the DAG."),
	is("executor", anyID, "Where it runs. Default: local."),
	is("pool", anyScalar, "The pool of the installation that it takes slots of, besides that of its executor."),
	is("pool_slots", count(maxSlots), "So many of them. Default: 1."),
	is("priority", priorities, "What waits for the same executor or pool starts in this order: higher first. Default: that of the DAG."),
	is("retry", count(1000).or("mapping"), "Failed attempts are tried again: so often, or as the mapping says. Default: never."),
	is("retry.limit", count(1000), "Tries after the first."),
	is("retry.delay", duration, "Wait before the first of them."),
	is("retry.backoff", value{"number", node{"type": "number", "minimum": 1, "maximum": 100}}, "Each further wait is so many times as long."),
	is("retry.max_delay", duration, "No wait is longer."),
	is("retry.jitter", word("full", "none"), "full: wait a random part of it."),
	is("retry.on_exit", exitCodes, "Only after these exit codes."),
	is("retry.never_on", exitCodes, "Not after these exit codes."),
	is("infra_retry", count(1000), "Attempts that infrastructure may lose. Default: 3."),
	is("timeout", duration.or("mapping"), "How long an attempt may run, or a mapping. Default: no bound."),
	is("timeout.queue", duration, "From when it may run until it has a slot. Then this try has failed. Default: no bound."),
	is("timeout.start", duration, "From then until it runs. Then it is ended, and this try has failed. Default: no bound."),
	is("timeout.run", duration, "From the start of the program to SIGTERM."),
	is("timeout.heartbeat", duration, "It is ended if it has not changed the file that MILLRACE_HEARTBEAT names for so long. At least 1s. Default: it need not."),
	is("timeout.grace", duration, "From SIGTERM to SIGKILL. Default: 10s."),
	is("resources", mapping, "What an attempt needs of the machine that it runs on, for executors that see to it; the local one does not. A task's own keys win."),
	is("resources.cpu", value{"number", node{"type": "number", "minimum": 0, "maximum": maxCores}}, "So many cores, such as 0.5."),
	is("resources.cpu_limit", value{"number", node{"type": "number", "minimum": 0, "maximum": maxCores}}, "It may take so many if they are idle. Default: what the executor permits."),
	is("resources.mem", size, "So much memory."),
	is("resources.mem_limit", size, "It may take so much if there is some to spare. Default: what mem says."),
	is("resources.disk", size, "So much room on disk."),
	is("resources.gpu", count(maxDevices), "So many GPUs. The local executor refuses a task that wants one."),
	is("constraints", constraintList, "Machines on which it may run: each is [attribute, operator] or [attribute, operator, value], see tasks.md. The local executor refuses them."),
	is("user", anyText, "The user of the machine that it runs as. Default: what the executor says. The local executor refuses it."),
	is("at_least_once_fast", boolean, "An attempt that the executor does not reach is given up and tried again at once, while it may still run. Default: only after the unreachable grace."),
}

var constraintList = value{"list of constraints", node{"type": "array", "maxItems": maxConstraints, "items": node{
	"type": "array", "minItems": 2, "maxItems": 3, "items": anyScalar.schema,
}}}

func is(path string, v value, doc string) Key {
	return Key{Path: path, Type: v.name, Doc: doc, schema: v.schema}
}

// of returns a key whose list may have elements that are no mappings.
func (k Key) of(item node) Key {
	k.item = item
	return k
}

// under returns keys as they stand below a path.
func under(path string, keys []Key) []Key {
	out := slices.Clone(keys)
	for i := range out {
		out[i].Path = path + "." + out[i].Path
	}
	return out
}

// name is the last part of the key's path.
func (k *Key) name() string { return k.Path[strings.LastIndexByte(k.Path, '.')+1:] }

// parent is the path of the mapping that the key stands in, "" for the file.
func (k *Key) parent() string {
	i := strings.LastIndexByte(k.Path, '.')
	if i < 0 {
		return ""
	}
	return k.Path[:i]
}

// belongs says where a key that is unknown in one mapping can stand, or "".
func belongs(name string) string {
	var places []string
	for i := range allKeys {
		if k := &allKeys[i]; k.name() == name && !k.again && !strings.HasSuffix(k.parent(), "on_event") { // these are words for what happens
			places = append(places, placeOf(k.parent()))
		}
	}
	if len(places) == 0 || name == "*" {
		return ""
	}
	return name + " is a key of " + strings.Join(places, " and of ")
}

// placeOf names a mapping for people.
func placeOf(path string) string {
	words := map[string]string{"": "the file", "on[]": "a rule of on", "tasks.*": "a task", "groups.*": "a group", "setup.*": "a setup", "teardown.*": "a teardown", "params.*": "a parameter",
		"deadline[]": "a list of deadlines"}
	if w, ok := words[path]; ok {
		return w
	}
	return strings.NewReplacer("tasks.*.", "a task's ", "on[].", "a rule's ", "params.*.", "a parameter's ").Replace(path)
}
