package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// DefaultGrace is from SIGTERM to SIGKILL for tasks that say nothing.
const DefaultGrace = 10 * time.Second

// maxBatchIDs is how many batch ids a task finds in its environment; with more, it reads them from its input.
const maxBatchIDs = 50

// evalFlags are arguments after which many programs take code; see scheduler/spec, which refuses them beside an expression. Here the same is
// refused for values that are known only now.
var evalFlags = []string{"-c", "-e", "--eval"}

// Launch returns what the executor needs for the present attempt of task i, after the step that launched it, or for the next attempt before
// that step. base is the environment under everything else, as "NAME=value", of tasks that are processes of this machine. Input is not filled in: see
// [Run.Input]. An error says that the task can never be started; it is a sentence for people.
func (r *Run) Launch(i, try int, op scheduler.Operator, base []string) (scheduler.Launch, error) {
	vars, err := r.launchVars(i)
	if err != nil {
		return scheduler.Launch{}, err
	}
	return r.launch(attempt{i: r.node(i), t: r.Tasks[i], try: try, op: op, base: base, image: r.imageRef(i)}, vars)
}

// attempt is one that is to be launched. i is the index of its task in the DAG.
type attempt struct {
	i    int
	t    scheduler.TaskRun
	try  int
	op   scheduler.Operator
	base []string
	// image is that of the task by its digest.
	image string
}

// launch is [Run.Launch] with the variables at hand. It looks at no task of r.
func (r *Run) launch(a attempt, vars *expr.Vars) (scheduler.Launch, error) {
	t, i, try, op := &a.t, a.i, a.try, a.op
	task, n := r.DAG.Tasks[i], &r.DAG.nodes[i]
	var err error
	if task.Run, err = evalArgv(n.argv, vars); err != nil {
		return scheduler.Launch{}, fmt.Errorf("run: %w", err)
	}
	container, err := n.container(task.Container, a.image, vars)
	if err != nil {
		return scheduler.Launch{}, err
	}
	env := map[string]string{}
	base := a.base
	if container != nil || t.Executor != DefaultExecutor {
		base = nil // It is of this machine: elsewhere, and in an image, there is another PATH, and nothing of what ours names.
	}
	for _, kv := range base {
		if name, val, ok := strings.Cut(kv, "="); ok {
			env[name] = val
		}
	}
	for _, list := range [][]binding{r.DAG.env, n.env} {
		for _, b := range list {
			if env[b.name], err = b.text.Eval(vars); err != nil {
				return scheduler.Launch{}, fmt.Errorf("env %s: %w", b.name, err)
			}
		}
	}
	r.contract(env, t, try)
	if err := r.settings(env, &task, op, evaluator{n.settings, vars}); err != nil {
		return scheduler.Launch{}, err
	}
	argv, err := op.Compile(&task)
	if err != nil {
		return scheduler.Launch{}, err
	}
	l := scheduler.Launch{
		ID: t.AttemptID(try), Run: t.Run, Task: t.Task, MapIndex: t.MapIndex, Try: try, Argv: argv, Container: container, Resources: task.Resources, Constraints: task.Constraints,
		Machine: task.Machine,
		Timeout: task.Timeout.Run, Grace: r.Grace(i), Heartbeat: task.Timeout.Heartbeat, Secrets: r.sensitive(i),
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		l.Env = append(l.Env, name+"="+env[name])
	}
	return l, nil
}

// container is the image that the task runs in, by its digest, with its arguments evaluated; nil for none.
func (n *node) container(c *scheduler.Container, image string, vars *expr.Vars) (*scheduler.Container, error) {
	switch {
	case c == nil:
		return nil, nil
	case image == "": // can not be: it waits for that
		return nil, fmt.Errorf("image %s is not pinned to a digest", c.Image)
	}
	out := *c
	out.Image = image
	var err error
	if out.Args, err = evalArgv(n.args, vars); err != nil {
		return nil, fmt.Errorf("args: %w", err)
	}
	return &out, nil
}

// Grace is from SIGTERM to SIGKILL for task i.
func (r *Run) Grace(i int) time.Duration {
	if g := r.Spec(i).Timeout.Grace; g > 0 {
		return g
	}
	return DefaultGrace
}

// contract adds the variables that every task gets. All but MILLRACE_TRY are the same for all tries.
func (r *Run) contract(env map[string]string, t *scheduler.TaskRun, try int) {
	row := &r.Row
	env["MILLRACE_RUN_ID"] = row.ID
	env["MILLRACE_TASK_ID"] = t.Task
	env["MILLRACE_TRY"] = strconv.Itoa(try)
	env["MILLRACE_MAP_INDEX"] = strconv.Itoa(t.MapIndex)
	env["MILLRACE_DAG_ID"] = row.DAG
	env["MILLRACE_DAG_VERSION"] = row.Version
	env["MILLRACE_EVENT_COUNT"] = strconv.FormatInt(row.Events, 10)
	env["MILLRACE_IDEMPOTENCY_KEY"] = t.IdempotencyKey()
	env["TRACEPARENT"] = row.Trace
	if n := len(row.Batches); n > 0 && n <= maxBatchIDs {
		env["MILLRACE_BATCH_IDS"] = strings.Join(row.Batches, ",")
	}
	for name, at := range map[string]time.Time{
		"MILLRACE_WATERMARK": row.Watermark, "MILLRACE_INTERVAL_START": row.IntervalStart, "MILLRACE_INTERVAL_END": row.IntervalEnd,
	} {
		if !at.IsZero() {
			env[name] = at.UTC().Format(time.RFC3339Nano)
		}
	}
}

func evalArgv(argv []*expr.Text, vars *expr.Vars) ([]string, error) {
	var out []string
	for _, text := range argv {
		arg, err := text.Eval(vars)
		if err != nil {
			return nil, err
		}
		if !text.Const() && (slices.Contains(evalFlags, arg) || strings.HasPrefix(arg, "--eval=")) {
			return nil, fmt.Errorf("an expression yields %q, after which a program may take code", arg)
		}
		out = append(out, arg)
	}
	return out, nil
}

// Frozen is the input of one task, which shares nothing with its run that changes.
type Frozen struct {
	in scheduler.Input
	// lists are those of the outputs of mapped tasks that are too large for the document.
	lists map[string][]json.RawMessage
}

// Far reports whether the task reads an output from the object store.
func (f Frozen) Far() bool { return len(f.in.UpstreamRefs)+len(f.lists) > 0 }

// Place fills in where the outputs are that lie in the object store. It returns the first error of place.
func (f Frozen) Place(place func(ref scheduler.OutputRef) (uri, path string, err error)) error {
	for task, ref := range f.in.UpstreamRefs {
		var err error
		if ref.URI, ref.Path, err = place(ref.OutputRef); err != nil {
			return fmt.Errorf("fetch the output of task %s: %w", task, err)
		}
		f.in.UpstreamRefs[task] = ref
	}
	return nil
}

// Input returns the document. Any goroutine may call it.
func (f Frozen) Input() ([]byte, error) {
	raw, err := json.Marshal(&f.in)
	if err != nil {
		return nil, fmt.Errorf("encode the input of task %s/%s: %w", f.in.Run.ID, f.in.Task, err)
	}
	return raw, nil
}

// Freeze returns the input of task i. It is cheap: the document, which may have thousands of batches, is made by [Frozen.Input].
func (r *Run) Freeze(i int) Frozen {
	row := &r.Row
	f := Frozen{}
	in := scheduler.Input{
		V: 1, Task: r.Tasks[i].Task, Trigger: row.Trigger, Batches: r.Batches, Params: row.Params,
		Run: scheduler.InputRun{
			ID: row.ID, DAG: row.DAG, Version: row.Version, ReplayOf: row.ReplayOf, IntervalStart: row.IntervalStart,
			IntervalEnd: row.IntervalEnd, Watermark: row.Watermark, CreatedAt: row.CreatedAt,
		},
		Totals:   scheduler.InputTotals{Batches: len(r.Batches), Events: row.Events, Bytes: row.Bytes},
		Upstream: map[string]json.RawMessage{},
	}
	if in.Batches == nil {
		in.Batches = []batcher.Batch{}
	}
	if len(in.Params) == 0 {
		in.Params = json.RawMessage("{}")
	}
	r.freezeItem(&in, i)
	for _, p := range r.upstream(r.node(i)) {
		r.farItems(&in, p)
		out := r.Tasks[p].Output
		if ref := r.Tasks[p].OutputRef; ref != nil {
			if in.UpstreamRefs == nil {
				in.UpstreamRefs = map[string]scheduler.UpstreamRef{}
			}
			in.UpstreamRefs[r.Tasks[p].Task] = scheduler.UpstreamRef{OutputRef: *ref}
			continue
		}
		if len(out) == 0 {
			out = json.RawMessage("null")
		}
		in.Upstream[r.Tasks[p].Task] = out
		r.freezeList(&f, &in, p)
	}
	f.in = in
	return f
}

// vars returns the variables for expressions that name these tasks.
func (r *Run) vars(refs []expr.Ref) (*expr.Vars, error) {
	vars, err := expr.NewVars(&r.Row, r.Batches, r.DAG.Params)
	if err != nil {
		return nil, err
	}
	if err := r.addVariables(vars, refs); err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if ref.Root != "tasks" {
			continue
		}
		for i := range r.DAG.nodes {
			if t := &r.Tasks[i]; t.Task == ref.Name && t.State.Terminal() {
				vars.AddTask(t)
			}
		}
	}
	return vars, nil
}

func (r *Run) launchVars(i int) (*expr.Vars, error) {
	vars, err := r.vars(r.DAG.launchRefs(r.node(i)))
	if err != nil {
		return nil, err
	}
	return vars, r.setItem(vars, i)
}

// launchRefs are all names in the expressions of task i that are evaluated when it is launched.
func (d *DAG) launchRefs(i int) []expr.Ref {
	var refs []expr.Ref
	for _, text := range slices.Concat(d.nodes[i].argv, d.nodes[i].args) {
		refs = append(refs, text.Refs()...)
	}
	for _, list := range [][]binding{d.env, d.nodes[i].env} {
		for _, b := range list {
			refs = append(refs, b.text.Refs()...)
		}
	}
	for _, text := range d.nodes[i].settings {
		refs = append(refs, text.Refs()...)
	}
	return refs
}
