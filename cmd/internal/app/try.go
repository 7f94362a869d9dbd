package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/batcher/dirstore"
	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/scheduler/engine"
	"millrace/scheduler/localexec"
	"millrace/scheduler/operator"
	taskout "millrace/scheduler/output"
	"millrace/scheduler/spec"
	"millrace/scheduler/sqlstore"
	"millrace/trigger"
	"millrace/trigger/rules"
)

// TryOptions say what [Try] runs, and to whom it tells what happens.
type TryOptions struct {
	DAG *scheduler.DAG
	// Batch is given to the run if one of the DAG's rules takes it; nil: the run is one by hand.
	Batch *TryBatch
	// Params are the run's parameters as a JSON object, or nil.
	Params json.RawMessage
	// Runner is the command that supervises local tasks.
	Runner []string
	// Move is called for each change of a state, Output for each line of a task's output, without its end, in the order in which they came as
	// well as can be told; from one goroutine.
	Move   func(m scheduler.Move)
	Output func(task, line string)
}

// ErrNoRule is returned by [Try] if no rule of the DAG takes the batch; the message has each rule's reason.
var ErrNoRule = errors.New("no rule takes the batch")

// Try runs a DAG once, with the engine, the executor and the object layout of a server, below a temporary directory of which nothing is left.
// When ctx ends the run is cancelled: what runs is asked to end, with its grace, and Try returns after that.
func Try(ctx context.Context, o TryOptions) (detail *scheduler.RunDetail, err error) {
	dir, err := os.MkdirTemp("", "millrace-test-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	store, err := sqlstore.Open(work, filepath.Join(dir, "state.db"), sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	tasks := filepath.Join(dir, "tasks")
	objects, err := dirstore.Open(filepath.Join(dir, "outputs"), dirstore.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, objects.Close()) }()
	large := taskout.NewStore(objects)
	local, err := localexec.New(tasks, localexec.Options{RunnerArgv: o.Runner, Idle: time.Second, Outputs: large})
	if err != nil {
		return nil, err
	}
	eng, err := engine.New(store, map[string]scheduler.Executor{"local": local}, engine.Options{
		Operators: operator.All(operator.Options{Program: o.Runner[0]}), Pools: poolsOf(o.DAG), Outputs: large,
	})
	if err != nil {
		return nil, err
	}
	t := &trial{TryOptions: o, dir: dir, store: store, local: local, engine: eng, ended: make(chan error, 1), seen: map[string]*output{}}
	go func() { t.ended <- eng.Run(work) }() // ends with work; received below
	defer func() {
		_ = local.Kill(work, "none", 0) // of no attempt: returns when there is a runner, which only then can be told to end
		stop()
		err = errors.Join(err, <-t.ended)
		awaitRunner(tasks)
	}()
	id, err := t.start(work)
	if err != nil {
		return nil, err
	}
	return t.follow(ctx, work, id)
}

// poolsOf are the pools that the tasks name, with room for them: how large they are is the installation's to say.
func poolsOf(d *scheduler.DAG) map[string]int {
	out := map[string]int{}
	for _, t := range d.Tasks {
		if t.Pool != "" {
			out[t.Pool] = max(out[t.Pool], t.PoolSlots, 100)
		}
	}
	return out
}

// awaitRunner waits for the end of the process that supervised the tasks: it has nothing to do any more and was told that nobody comes back.
func awaitRunner(dir string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		lock, err := vfs.OS.Lock(filepath.Join(dir, "LOCK"))
		if err == nil {
			_ = lock.Close()
			return
		}
		if !errors.Is(err, vfs.ErrLocked) {
			return
		}
	}
}

// trial is a run while it is tried.
type trial struct {
	TryOptions
	dir    string
	store  *sqlstore.Store
	local  *localexec.Executor
	engine *engine.Engine
	ended  chan error

	moves int                // told already
	seen  map[string]*output // by attempt
}

// output is what was told of an attempt's output.
type output struct {
	task   string
	offset int64
	part   []byte // of a line whose end has not come
	// running says that it was told to be; before that no output is, and after its end there is none.
	running bool
}

// start puts the DAG into force and starts its run.
func (t *trial) start(ctx context.Context) (string, error) {
	if err := t.engine.SetDAGs(ctx, spec.Set{Files: []spec.File{{Name: t.DAG.ID + ".yaml", DAGs: []scheduler.DAG{*t.DAG}}}}); err != nil {
		return "", err
	}
	head, _, err := t.engine.DAG(ctx, t.DAG.ID)
	if err != nil {
		return "", err
	}
	if head.Error != "" {
		return "", errors.New(head.Error)
	}
	if _, err := spec.Params(t.DAG.Params, t.Params); err != nil {
		return "", fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	if t.Batch == nil {
		run, err := t.engine.Trigger(ctx, t.DAG.ID, "", t.Params)
		if err != nil {
			return "", err
		}
		return run.ID, nil
	}
	b, err := t.Batch.store(filepath.Join(t.dir, "objects"))
	if err != nil {
		return "", err
	}
	return t.startWith(ctx, b)
}

// startWith starts the run that a server would start for the batch.
func (t *trial) startWith(ctx context.Context, b batcher.Batch) (string, error) {
	active, _ := t.engine.Rules()
	set, err := new(rules.Compiler).Compile(active)
	if err != nil {
		return "", err
	}
	in := trigger.Intake{Gen: active.Gen}
	arrival := trigger.Arrival{Batch: b}
	var why []string
	now := time.Now().UTC()
	for _, v := range set.Match(&b) {
		d := trigger.Disposition{Batch: b.ID, Rule: v.Rule.Name(), Fate: v.Fate, Reason: v.Reason, At: now}
		// A join gets the one batch that there is, as if the other sides had none to bring.
		wanted := v.Fate == trigger.FateRun || v.Fate == trigger.FateCoalesced || v.Fate == trigger.FateHeld && v.Reason == trigger.HeldJoin
		if wanted && len(in.Firings) == 0 {
			f := trigger.Firing{
				Kind: trigger.KindBatch, DAG: v.Rule.DAG, Rule: v.Rule.ID, Key: b.ID, Version: v.Rule.Version, Batches: []batcher.Batch{b},
				LaneKey: v.Key, At: now, Params: t.Params,
			}
			in.Firings = append(in.Firings, f)
			d.Fate, d.Run = trigger.FateRun, f.RunID()
		} else if wanted {
			d.Fate, d.Reason = trigger.FateDropped, "another rule of the DAG took it" // one run is what was asked for
		} else {
			why = append(why, fmt.Sprintf("rule %s: %s (%s)", v.Rule.ID, v.Fate, v.Reason))
		}
		arrival.Dispositions = append(arrival.Dispositions, d)
	}
	if len(in.Firings) == 0 {
		if len(why) == 0 {
			why = []string{"dag " + t.DAG.ID + " has no rule for batches"}
		}
		return "", fmt.Errorf("%w of source %s: %s", ErrNoRule, b.Source, strings.Join(why, "; "))
	}
	in.Arrivals = []trigger.Arrival{arrival}
	if err := t.engine.Start(ctx, in); err != nil {
		return "", err
	}
	return in.Firings[0].RunID(), nil
}

// follow tells what happens until the run has ended.
func (t *trial) follow(ctx, work context.Context, id string) (*scheduler.RunDetail, error) {
	poll := time.NewTicker(50 * time.Millisecond) // for output: nobody tells of it
	defer poll.Stop()
	end := ctx.Done()
	for {
		changed, leave := t.engine.Watch(id)
		d, err := t.store.Run(work, id)
		if err != nil {
			leave()
			return nil, err
		}
		t.tell(work, d)
		if d.Run.State.Terminal() {
			leave()
			return d, nil
		}
		select {
		case <-changed:
		case <-poll.C:
		case err := <-t.ended:
			leave()
			t.ended <- nil
			return nil, errors.Join(errors.New("the engine has ended"), err)
		case <-end:
			end = nil // once
			if _, err := t.engine.Cancel(work, id); err != nil {
				leave()
				return nil, err
			}
		}
		leave()
	}
}

// tell passes on what is new of a run. The end of an attempt comes after its output.
func (t *trial) tell(ctx context.Context, d *scheduler.RunDetail) {
	for _, m := range d.Moves[t.moves:] {
		if m.Task != "" && m.Try > 0 {
			task := scheduler.TaskRun{Run: m.Run, Task: m.Task, MapIndex: m.MapIndex}
			attempt := task.AttemptID(m.Try)
			if t.seen[attempt] == nil {
				t.seen[attempt] = &output{task: scheduler.TaskName(m.Task, m.MapIndex)}
			}
			if m.To.Terminal() || m.To == scheduler.StateUpForRetry {
				t.read(ctx, attempt, true)
			}
			t.seen[attempt].running = m.To == scheduler.StateRunning
		}
		t.Move(m)
	}
	t.moves = len(d.Moves)
	for attempt, out := range t.seen {
		if out.running {
			t.read(ctx, attempt, false)
		}
	}
}

// maxPart bounds what is kept of a line without an end.
const maxPart = 64 << 10

// read passes on the output of an attempt from where it was left; with over, also a last line without an end.
func (t *trial) read(ctx context.Context, attempt string, over bool) {
	out := t.seen[attempt]
	log, err := t.local.Log(ctx, attempt, out.offset)
	if err != nil {
		return // none yet, or none at all
	}
	defer func() { _ = log.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := log.Read(buf)
		out.offset += int64(n)
		out.part = append(out.part, buf[:n]...)
		for {
			line, rest, whole := bytes.Cut(out.part, []byte("\n"))
			if !whole && len(out.part) < maxPart {
				break
			}
			t.Output(out.task, string(line))
			out.part = rest
		}
		if err != nil || n == 0 {
			break
		}
	}
	if over && len(out.part) > 0 {
		t.Output(out.task, string(out.part))
		out.part = nil
	}
}
