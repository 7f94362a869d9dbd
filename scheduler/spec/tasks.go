package spec

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// defaultInfraRetry is how many attempts of a task may be lost to infrastructure, if the file does not say.
const defaultInfraRetry = 3

// KindCommand is the kind of a task that has `run`.
const KindCommand = "command"

// MaxTasks bounds the tasks of one DAG.
const MaxTasks = 2000

// taskDefaults is what `defaults` says.
type taskDefaults struct {
	retry    scheduler.Retry
	infra    int
	timeout  scheduler.Timeout
	executor string
	env      map[string]string
	limits   taskLimits
	asks     asks
}

func (b *builder) readDefaults(n ast.Node) {
	def := &b.defaults
	b.mapping(n, "defaults", with(with(b.taskLimitFields(&def.limits), b.askFields(&def.asks)), fields{
		"retry":       func(v ast.Node) { b.retry(v, &def.retry) },
		"infra_retry": func(v ast.Node) { def.infra = int(b.integer(v, "infra_retry", 1000)) },
		"timeout":     func(v ast.Node) { b.timeout(v, &def.timeout) },
		"executor":    func(v ast.Node) { def.executor = b.id(v, "executor") },
		"env":         func(v ast.Node) { def.env = b.env(v, "defaults.env") },
	}))
}

// readTasks only notes the tasks: `defaults` may stand after them.
func (b *builder) readTasks(n ast.Node) {
	for _, p := range b.pairs(n, "tasks") {
		if err := CheckID(p.key); err != nil {
			b.errorf(p.node, "", "task: %v", err)
			continue
		}
		b.tasks = append(b.tasks, placed{id: p.key, at: p.node, value: p.value})
	}
}

func (b *builder) finishTasks(root ast.Node) {
	if len(b.tasks) == 0 {
		b.errorf(root, `add "tasks: {<id>: {run: …}}"`, "the DAG has no task")
	}
	b.tasks = b.withParts(b.tasks)
	if len(b.tasks) > MaxTasks {
		b.errorf(b.tasks[MaxTasks].at, "", "the DAG has %d tasks, the limit is %d", len(b.tasks), MaxTasks)
		b.tasks = b.tasks[:MaxTasks]
	}
	for i := range b.tasks {
		b.dag.Tasks = append(b.dag.Tasks, b.task(&b.tasks[i]))
	}
}

func (b *builder) task(p *placed) scheduler.Task {
	def := b.defaults
	t := scheduler.Task{
		ID: p.id, Kind: KindCommand, Executor: def.executor, Retry: def.retry, Timeout: def.timeout, InfraRetry: def.infra,
	}
	t.Part, t.Pair = p.part, p.pair
	what := p.what()
	var run ast.Node
	var env map[string]string
	limits := def.limits
	limits.slotsAt = nil
	b.item = b.itemOf(p.value)
	defer func() { b.item = "" }()
	asks := def.asks
	known := with(with(b.taskLimitFields(&limits), b.askFields(&asks)), fields{
		"concurrency": func(v ast.Node) { t.Concurrency = b.taskConcurrency(v) },
		"foreach":     func(v ast.Node) { t.Foreach = b.foreach(v, p.id) },
		"needs":       func(v ast.Node) { t.Needs, p.needs = b.strs(v, "needs"), b.list(v, "needs", true) },
		"run":         func(v ast.Node) { run = v; b.run(v, &t) },
		"env":         func(v ast.Node) { env = b.env(v, "env") },
		"when":        func(v ast.Node) { t.When = b.when(v, p.id) },
		"retry":       func(v ast.Node) { b.retry(v, &t.Retry) },
		"infra_retry": func(v ast.Node) { t.InfraRetry = int(b.integer(v, "infra_retry", 1000)) },
		"timeout":     func(v ast.Node) { b.timeout(v, &t.Timeout) },
		"executor":    func(v ast.Node) { t.Executor = b.id(v, "executor") },
		"rule":        func(v ast.Node) { t.Rule = b.joinRule(v) },
		"group":       func(v ast.Node) { t.Group = b.id(v, "group") },
		"with":        func(v ast.Node) { p.own.with = v },
		"args":        func(v ast.Node) { p.own.args = v },
		"pull":        func(v ast.Node) { p.own.pull = v },
		"on_event":    func(v ast.Node) { t.OnEvent = b.onEvent(v, taskEvents) },
	})
	known = with(b.machineFields(p, &t), with(b.outputFields(&t), known))
	b.operators(known, &t)
	b.partFields(p, &t, known)
	b.mapping(p.value, what, known)
	b.setLimits(&t, limits)
	asks.set(&t)
	b.finishUse(p.own.with, &t)
	b.finishOperator(p, &t, run)
	if run == nil && t.Kind == KindCommand && !b.hasErrorWithin(p) {
		b.errorf(p.at, `add run: ["program", "argument"]`, "%s has no run", what)
	}
	if len(def.env)+len(env) > 0 && t.Parks() == "" {
		t.Env = maps.Clone(def.env)
		if t.Env == nil {
			t.Env = map[string]string{}
		}
		maps.Copy(t.Env, env)
	}
	return t
}

// hasErrorWithin reports whether the task's first lines have a fault already: `run` may be what was misspelt.
func (b *builder) hasErrorWithin(p *placed) bool {
	from, _ := position(p.at)
	to := from
	for _, kv := range b.pairs(p.value, "") {
		line, _ := position(kv.node)
		to = max(to, line)
	}
	return slices.ContainsFunc(b.errs, func(e *Error) bool { return e.Line >= from && e.Line <= to })
}

// evalFlags are arguments after which many programs take code. Nothing that comes from outside may stand beside them.
var evalFlags = []string{"-c", "-e", "--eval"}

func (b *builder) run(n ast.Node, t *scheduler.Task) {
	if _, ok := b.resolve(n).(*ast.SequenceNode); !ok {
		t.Shell = b.str(n, "run")
		if strings.TrimSpace(t.Shell) == "" {
			b.errorf(n, "", "run is empty")
		}
		if expr.HasExpr(t.Shell) {
			b.errorf(n, `put it into env: and use "$NAME", or write run as a list`,
				"${{ }} can not stand in a shell command: the value would be read as code")
		}
		return
	}
	if t.Run = b.arguments(n, "run", t.ID); len(t.Run) == 0 || t.Run[0] == "" {
		b.errorf(n, "", "run names no program")
	}
}

var envRule = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)

// ownEnv are variables that are millrace's to set.
const ownEnv = "MILLRACE_"

func (b *builder) env(n ast.Node, what string) map[string]string {
	defer b.standing(inEnv)()
	env := map[string]string{}
	for _, p := range b.pairs(n, what) {
		val := b.scalar(p.value, what+" "+p.key)
		switch {
		case !envRule.MatchString(p.key):
			b.errorf(p.node, "", "%q can not be the name of a variable", p.key)
			continue
		case strings.HasPrefix(p.key, ownEnv) || p.key == "TRACEPARENT":
			b.errorf(p.node, "", "variable %s is set by millrace", p.key)
			continue
		case strings.ContainsRune(val, 0) || len(val) > expr.MaxValue:
			b.errorf(p.value, "", "the value of %s has a NUL or is too long", p.key)
			continue
		}
		env[p.key] = val
		if expr.HasExpr(val) {
			b.text(p.value, val, "", what+" "+p.key)
		}
	}
	if len(env) == 0 {
		return nil
	}
	return env
}

func (b *builder) when(n ast.Node, task string) string {
	text := b.expression(n, "when")
	if text == "" {
		return ""
	}
	prg, err := expr.CompileBool(b.scope(), text)
	if err != nil {
		b.exprErrors(n, "when", err)
		return text
	}
	b.exprs = append(b.exprs, usedExpr{at: n, task: task, what: "when", refs: prg.Refs()})
	return text
}

// text compiles a value with ${{ }}, to find its faults.
func (b *builder) text(n ast.Node, val, task, what string) {
	text, err := expr.CompileTextIn(b.scope(), val)
	if err != nil {
		b.exprErrors(n, what, err)
		return
	}
	b.exprs = append(b.exprs, usedExpr{at: n, task: task, what: what, refs: text.Refs(), place: b.stands})
}

// retry reads a number of retries, or the keys that change what r says already.
func (b *builder) retry(n ast.Node, r *scheduler.Retry) {
	if _, ok := b.resolve(n).(*ast.IntegerNode); ok {
		r.Limit = int(b.integer(n, "retry", 1000))
		return
	}
	b.mapping(n, "retry", fields{
		"limit":     func(v ast.Node) { r.Limit = int(b.integer(v, "limit", 1000)) },
		"delay":     func(v ast.Node) { r.Delay = b.duration(v, "delay") },
		"backoff":   func(v ast.Node) { r.Backoff = b.float(v, "backoff", 1, 100) },
		"max_delay": func(v ast.Node) { r.MaxDelay = b.duration(v, "max_delay") },
		"jitter":    func(v ast.Node) { r.Jitter = b.jitter(v) },
		"on_exit":   func(v ast.Node) { r.OnExit = b.exits(v, "on_exit") },
		"never_on":  func(v ast.Node) { r.NeverOn = b.exits(v, "never_on") },
	})
	if r.MaxDelay > 0 && r.MaxDelay < r.Delay {
		b.errorf(n, "", "max_delay is shorter than delay")
	}
}

func (b *builder) jitter(n ast.Node) string {
	switch text := b.str(n, "jitter"); text {
	case "full":
		return text
	case "", "none":
		return ""
	default:
		b.errorf(n, "", "jitter is %q, want full or none", text)
		return ""
	}
}

func (b *builder) exits(n ast.Node, what string) []int {
	var out []int
	for _, v := range b.list(n, what, true) {
		out = append(out, int(b.integer(v, "an exit code", 255)))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// timeout reads the bound of a run, or {queue, start, run, heartbeat, grace}.
func (b *builder) timeout(n ast.Node, t *scheduler.Timeout) {
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		t.Run = b.duration(n, "timeout")
		return
	}
	b.mapping(n, "timeout", fields{
		"queue":     func(v ast.Node) { t.Queue = b.duration(v, "queue") },
		"start":     func(v ast.Node) { t.Start = b.duration(v, "start") },
		"run":       func(v ast.Node) { t.Run = b.duration(v, "run") },
		"grace":     func(v ast.Node) { t.Grace = b.duration(v, "grace") },
		"heartbeat": func(v ast.Node) { t.Heartbeat = b.duration(v, "heartbeat") },
	})
	if t.Heartbeat > 0 && t.Heartbeat < time.Second {
		b.errorf(n, "", "heartbeat is shorter than 1s")
	}
	if t.Grace > 0 && t.Grace < time.Millisecond {
		b.errorf(n, "", "grace is shorter than 1ms")
	}
}

// joinRule returns "" for the default, which has one spelling in the compiled form.
func (b *builder) joinRule(n ast.Node) string {
	rule := b.str(n, "rule")
	if !slices.Contains(scheduler.Joins, rule) {
		hint := suggest(rule, slices.Clone(scheduler.Joins))
		if hint == "" {
			hint = "known rules: " + strings.Join(scheduler.Joins, ", ")
		}
		b.errorf(n, hint, "rule %q is not known", rule)
	}
	if rule == scheduler.JoinAllSuccess {
		return ""
	}
	return rule
}
