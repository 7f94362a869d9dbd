package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// The simulation runs the engine's own rounds and launchers, one operation at a time, with a store and an executor that fail, lose answers
// and outlive crashes, which may come before and after every operation. Each schedule follows from its seed.

// simDAGs are the files that schedules draw from.
var simDAGs = func() []spec.File {
	var files []spec.File
	for i, tasks := range []string{
		"{a: {run: x, retry: {limit: 1, delay: 5s}, timeout: {queue: 20s, start: 10s}}}",
		"{a: {run: x}, b: {run: x, needs: a, retry: 1}, c: {run: x, needs: a}, d: {run: x, needs: [b, c]}}",
		"{c: {run: x, needs: [b]}, b: {run: x, needs: [a], when: 'tasks.a.exit == 0'}, a: {run: x, retry: {limit: 2, delay: 1s, jitter: full}}}",
		"{a: {run: x}, b: {run: x}, c: {run: x}, no: {run: x, when: 'false'}, after: {run: x, needs: [a, b, c]}}",
		"{a: {run: x, retry: 1}, b: {run: x}, one: {run: x, needs: [a, b], rule: one_success}, bad: {run: x, needs: [a, b], rule: one_failed}," +
			" now: {run: x, needs: a, rule: always}, end: {run: x, needs: [one, bad, now], rule: all_done, timeout: {start: 10s}}}",
		"{a: {run: x, pool: p}, b: {run: x, pool: p, pool_slots: 2, priority: 3}, c: {run: x, needs: [a, b]}}\nconcurrency: 2",
		"{a: {run: x, retry: 1}, b: {run: x, pool: p, needs: a}}\nconcurrency: {when_full: cancel_running, group: '${{ run.dag }}'}",
		"{a: {run: x, pool: p, pool_slots: 2, retry: 1, env: {S: '${{ secrets.s }}', V: '${{ vars.v }}'}}}\nconcurrency: {when_full: skip}",
		"{a: {run: x, retry: 1}, b: {run: x, needs: a}}\nsetup: {s: {run: x, retry: 1}}\nteardown: {s: {run: x, retry: 1}, t: {run: x, for: a}}",
		"{a: {run: x}, b: {run: x, rule: always, needs: a}, c: {run: x}}\nconcurrency: {when_full: cancel_running, max_runs: 2}\n" +
			"setup: {s: {run: x, env: {S: '${{ secrets.s }}'}}, in: {run: x, needs: [s, c], for: b}}\nteardown: {s: {run: x, fail_run: true}, in: {run: x, retry: 2}}",
		"{a: {run: x}, ask: {approval: {message: go, expires: 30s, on_expire: approve}, needs: a}, no: {approval: {message: go, expires: 10m, on_reject: fail}}," +
			" b: {run: x, needs: [ask, no], rule: none_failed}}",
		"{a: {run: x}, sub: {dag: leaf, needs: a, retry: 1}, quick: {dag: {id: leaf, wait: false}}, up: {dag: {id: d0, inputs: none}, timeout: 1m}, z: {run: x, needs: sub}}",
		"{ask: {approval: 'for ever?'}, top: {dag: d11, needs: ask}, z: {run: x, needs: top, rule: all_done}}\nconcurrency: 2",
		"{a: {run: x, retry: 1}}\nconcurrency: 1\non: [{batch: {}, order: lifo}, {id: z, batch: {}}]",
		"{a: {run: x, retry: 1, cache: {key: 'run.dag', ttl: 4m}}, b: {run: x, needs: a, cache: {key: 'inputs.digest'}, output: {schema: {type: object}}}," +
			" c: {run: x, needs: b, when: 'tasks.b.output_ref == null || tasks.b.output_ref.bytes > 0'}}\nconcurrency: 2",
		"{a: {run: x, retry: 1}, b: {run: x, needs: a}}\nconcurrency: {when_full: coalesce, group: '${{ trigger.rule }}'}\non: [{batch: {}}, {id: z, batch: {}}]",
		"{a: {run: x, retry: 1, foreach: {items: params.list, as: it, key: it, max_concurrent: 2, tolerate_failures: 1}, when: 'it != 3'}," +
			" b: {run: x, needs: a, foreach: {items: lists.range(3), tolerate_failures: 34%}}}\nparams: {list: [1, 2, 3, 4, 5]}",
		"{list: {run: x}, each: {run: [x, '${{ item }}'], needs: list, foreach: {items: 'tasks.list.output', max_concurrent: 3}, retry: {limit: 1, delay: 3s}}," +
			" end: {run: x, needs: each, rule: all_done}}",
		"{a: {run: x, pool: p, foreach: batches}, b: {run: x, foreach: 'lists.range(totals.batches)', timeout: {queue: 30s}}, c: {run: x, needs: [a, b]}}\n" +
			"concurrency: {when_full: cancel_running}",
		"{a: {run: x, concurrency: 1, retry: 1, pool: p}, b: {run: x, pool: p, pool_slots: 2, concurrency: 2, at_least_once_fast: true}, c: {run: x}," +
			" each: {run: x, concurrency: 2, foreach: 'lists.range(4)', retry: {limit: 1, delay: 3s}}, end: {run: x, needs: [a, each], concurrency: 1}}",
		"{a: {image: 'r.example/a:1', retry: 2}, b: {image: 'r.example/a:1', needs: a, foreach: lists.range(3), retry: 1}, c: {image: r.example/c, pool: p}," +
			" d: {image: 'o.example/d:2', needs: c, retry: 1, cache: {key: run.dag, ttl: 4m}, env: {S: '${{ secrets.s }}'}}, e: {run: x, needs: [a, d], rule: all_done}}",
		"{a: {image: r.example/c, timeout: {queue: 30s}}, b: {image: 'b@sha256:" + strings.Repeat("0", 64) + "', needs: a, rule: all_done}}\nconcurrency: 2",
	} {
		name := fmt.Sprint("d", i)
		src := fmt.Sprintf("dag: %s\ndefaults: {infra_retry: 8}\ntasks: %s\n", name, tasks)
		if !strings.Contains(tasks, "\non:") {
			src += "on: [{batch: {}}]\n"
		}
		src += simNotices[i%len(simNotices)]
		files = append(files, spec.ReadFile(name+".yaml", []byte(src)), spec.ReadFile(name+".yaml", []byte(src+"env: {V: '2'}\n")),
			spec.ReadFile(name+".yaml", []byte("dag: "+name+"\ntasks: [")))
	}
	return files
}()

// simLeaf is always there, for tasks that start runs of it.
var simLeaf = spec.ReadFile("leaf.yaml", []byte("dag: leaf\nconcurrency: 2\ntasks: {x: {run: x, retry: 1}, y: {run: x, needs: x, when: 'totals.batches < 3'}}\n"))

// crash is what is thrown where the process ends.
type crash struct{}

// violation ends a schedule that broke a promise.
type violation string

type sim struct {
	rng   *rand.Rand
	store *schedulertest.Store
	ex    *simExec
	e     *Engine
	calm  bool // nothing fails any more

	set      spec.Set
	batches  int
	wanted   []trigger.Intake  // intakes whose answer was not yet nil
	accepted map[string]bool   // runs that were promised
	manuals  map[string]string // requests without an answer: id to DAG
	crashes  int
	rounds   int
	mended   int // tasks that were cleared or marked
	decided  int // by a person
	started  int // runs that tasks asked for
	simBackfills
	simImages

	keeper error // what whoever keeps the secrets says now
}

func (s *sim) chance(percent int) bool { return !s.calm && s.rng.IntN(100) < percent }

func (s *sim) crashPoint(percent int) {
	if s.chance(percent) {
		panic(crash{})
	}
}

// intercept is the store's bad luck.
func (s *sim) intercept(c *scheduler.Change, commit func() error) error {
	s.crashPoint(2)
	if s.chance(6) {
		return scheduler.ErrUnavailable
	}
	if s.chance(2) {
		return scheduler.ErrConflict
	}
	err := commit()
	s.crashPoint(3)
	if err == nil && s.chance(6) {
		return scheduler.ErrUnavailable
	}
	return err
}

// boot starts an engine, as after a crash. It may crash again.
func (s *sim) boot() {
	e, err := New(s.store, map[string]scheduler.Executor{"local": s.ex}, Options{
		Env: []string{}, Seed: s.rng.Uint64() | 1, Pools: map[string]int{"p": 2}, Values: s,
	})
	if err == nil {
		// Of what the launcher says itself, the loop hears as of what the executor says.
		e.launchers["local"].report = func(_ context.Context, _ string, list []scheduler.Report) error {
			s.ex.queue = append(s.ex.queue, list...)
			return nil
		}
		err = e.load(context.Background(), nil)
	}
	if err != nil {
		panic(violation(err.Error()))
	}
	s.e, s.said = e, nil
	s.round(s.dagSet())
}

func (s *sim) dagSet() *dagSet { return &dagSet{set: s.set, done: make(answer, 1)} }

// round takes a group through the engine, and lets the launcher work or not.
func (s *sim) round(group ...input) {
	began := time.Now() // The store's delays are within the round.
	if err := s.e.round(context.Background(), group); err != nil {
		panic(violation(err.Error()))
	}
	s.checkSlots()
	s.checkImages(began)
}

// checkSlots counts the slots anew from the states.
func (s *sim) checkSlots() {
	active, ready := 0, 0
	for _, l := range s.e.core.runs {
		for i := range l.Tasks {
			if l.Tasks[i].State.Active() {
				active++
			}
			if p := l.Image(i); (ref{l, i}).ready() && (p == nil || !p.Open()) {
				ready++
			}
		}
	}
	p := s.e.core.queues["local"]
	if active != len(p.active) || active != len(s.e.core.attempts) || active > p.executor.Slots() {
		panic(violation(fmt.Sprintf("%d tasks are active, %d slots taken, %d attempts known", active, len(p.active), len(s.e.core.attempts))))
	}
	if ready > p.depth {
		panic(violation(fmt.Sprintf("%d tasks are ready, and the queue has %d", ready, p.depth)))
	}
	s.checkPools()
	s.checkLimits()
	s.checkGroups()
	s.checkSubs()
	s.checkBackfills()
	if s.rounds++; s.rounds%5 == 0 {
		s.checkReasons()
	}
}

// do takes one random step.
func (s *sim) do() {
	switch roll := s.rng.IntN(100); {
	case roll < 30:
		s.group()
	case roll < 60:
		s.ex.progress()
	case roll < 85:
		s.keeper = s.keeperNow()
		s.askRegistry()
		s.e.launchers["local"].work(context.Background())
	case roll < 95:
		time.Sleep(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
		s.round()
	case roll < 97:
		time.Sleep(6 * time.Minute)
		s.round()
	case roll < 99:
		s.edit()
		s.round(s.dagSet())
	default:
		panic(crash{})
	}
}

// edit changes one of the DAG files.
func (s *sim) edit() {
	i, name := s.rng.IntN(2), 3*s.rng.IntN(len(simDAGs)/3)
	if s.set.Files[1-i].Name != simDAGs[name].Name {
		s.set.Files[i] = simDAGs[name+s.rng.IntN(3)]
	}
}

// group makes a group of inputs, and sees what was answered.
func (s *sim) group() {
	var group []input
	var after []func()
	for range 1 + s.rng.IntN(4) {
		in, then := s.input()
		group, after = append(group, in), append(after, then)
	}
	s.round(group...)
	for _, f := range after {
		f()
	}
}

func (s *sim) input() (input, func()) {
	done := make(answer, 1)
	if len(s.said) > 0 && s.rng.IntN(4) == 0 {
		return s.hear(done)
	}
	switch roll := s.rng.IntN(100); {
	case roll < 40 && len(s.ex.queue) > 0:
		n := 1 + s.rng.IntN(len(s.ex.queue))
		list := slices.Clone(s.ex.queue[:n])
		if s.chance(10) {
			s.rng.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		judged, _ := s.e.judge(context.Background(), list) // without a store nothing is left for later
		return &reports{executor: "local", list: judged, done: done}, func() {
			// Taken: not repeated, unless the answer gets lost.
			if err := s.answered(done); err == nil && !s.chance(10) {
				s.drop(list)
			}
		}
	case roll < 43:
		s.edit()
		return &dagSet{set: s.set, done: done}, func() { s.answered(done) }
	case roll < 50:
		return s.manual(done)
	case roll < 55 && len(s.e.core.runs) > 0:
		ids := slices.Sorted(maps.Keys(s.e.core.runs))
		return &cancel{id: ids[s.rng.IntN(len(ids))], done: done}, func() { s.answered(done) }
	case roll < 61 && len(s.accepted) > 0:
		return s.mend(done)
	case roll < 68:
		if in, then := s.decision(done); in != nil {
			return in, then
		}
		return s.manual(done)
	case roll < 73 && len(s.accepted) > 0:
		return s.again(done)
	case roll < 82 && len(s.wanted) > 0:
		return s.intake(s.rng.IntN(len(s.wanted)), done)
	}
	if s.batches >= 5 {
		return s.manual(done)
	}
	s.batches++
	s.wanted = append(s.wanted, trigger.Intake{Arrivals: []trigger.Arrival{{Batch: testBatch(s.batches)}}})
	return s.intake(len(s.wanted)-1, done)
}

// answered returns the answer to an input whose round came back.
func (s *sim) answered(done answer) error {
	select {
	case err := <-done:
		return err
	default:
		panic(violation("a round came back without an answer"))
	}
}

// intake decides anew on a batch that was not accepted so far, as dispatch would, with the rules of now.
func (s *sim) intake(i int, done answer) (input, func()) {
	b := s.wanted[i].Arrivals[0].Batch
	set, _ := s.e.Rules()
	in := trigger.Intake{Gen: set.Gen, Arrivals: []trigger.Arrival{{Batch: b}}}
	for _, r := range set.Rules {
		f := trigger.Firing{Kind: trigger.KindBatch, DAG: r.DAG, Rule: r.ID, Key: b.ID, Version: r.Version}
		f.Batches = append(f.Batches, b)
		in.Firings = append(in.Firings, f)
		in.Arrivals[0].Dispositions = append(in.Arrivals[0].Dispositions,
			trigger.Disposition{Batch: b.ID, Rule: r.Name(), Fate: trigger.FateRun, Run: f.RunID()})
	}
	return &intake{in: in, done: done}, func() {
		switch err := s.answered(done); {
		case err == nil:
			for _, f := range in.Firings {
				s.accepted[f.RunID()] = true
			}
			if !s.chance(10) { // else the answer is lost, and the batch comes again
				s.wanted = slices.DeleteFunc(s.wanted, func(w trigger.Intake) bool { return w.Arrivals[0].Batch.ID == b.ID })
			}
		case !errors.Is(err, trigger.ErrStale) && !errors.Is(err, trigger.ErrUnavailable):
			panic(violation("intake: " + err.Error()))
		}
	}
}

func (s *sim) manual(done answer) (input, func()) {
	id := fmt.Sprint("m", len(s.manuals))
	if len(s.manuals) >= 5 || len(s.manuals) > 0 && s.chance(30) {
		id = fmt.Sprint("m", s.rng.IntN(len(s.manuals)))
	}
	if s.manuals[id] == "" {
		s.manuals[id] = fmt.Sprint("d", s.rng.IntN(len(simDAGs)/3))
	}
	in := &manual{dag: s.manuals[id], id: id, done: done}
	return in, func() {
		if err := s.answered(done); err == nil {
			s.accepted[in.run.ID] = true
		} else if !errors.Is(err, scheduler.ErrNotFound) {
			panic(violation("trigger: " + err.Error()))
		}
	}
}

// mend clears or marks something of a run that was promised, whether it has ended or not.
func (s *sim) mend(done answer) (input, func()) {
	ids := slices.Sorted(maps.Keys(s.accepted))
	id := ids[s.rng.IntN(len(ids))]
	d, as, err := s.store.Rows(context.Background(), id)
	if err != nil {
		panic(violation("promised run " + id + ": " + err.Error()))
	}
	one := &d.Tasks[s.rng.IntN(len(d.Tasks))]
	task := one.Task
	if one.MapIndex != scheduler.NoMap && one.State != scheduler.StateRemoved && s.rng.IntN(2) == 0 {
		task = rowName(one.Task, one.MapIndex)
	}
	in := &mend{id: id, done: done, rows: d, as: as}
	s.revived[id] = true
	switch roll := s.rng.IntN(10); {
	case roll < 6:
		in.clear = &scheduler.Clear{Failed: roll < 2, Downstream: s.rng.IntN(2) == 0}
		if roll > 3 {
			in.clear.Tasks = []string{task}
		}
	case roll < 8:
		in.mark = &scheduler.Mark{Task: task, State: []scheduler.State{scheduler.StateSuccess, scheduler.StateFailed, scheduler.StateSkipped}[s.rng.IntN(3)]}
	default:
		in.mark = &scheduler.Mark{State: []scheduler.State{scheduler.StateSuccess, scheduler.StateFailed}[s.rng.IntN(2)]}
	}
	return in, func() {
		// A list may have become shorter meanwhile.
		err := s.answered(done)
		if errors.Is(err, errStored) {
			return // it has changed since it was read: whoever asked reads it anew, and asks again, or does not
		}
		if err != nil && !(strings.Contains(task, "/") && errors.Is(err, scheduler.ErrNotFound)) {
			panic(violation("mend: " + err.Error()))
		}
		s.mended += len(in.out.Tasks)
	}
}

// drop takes reports that were accepted out of the queue.
func (s *sim) drop(list []scheduler.Report) {
	for _, rep := range list {
		same := func(q scheduler.Report) bool {
			return q.Attempt == rep.Attempt && q.Outcome == rep.Outcome && q.EndedAt.Equal(rep.EndedAt)
		}
		if i := slices.IndexFunc(s.ex.queue, same); i >= 0 {
			s.ex.queue = slices.Delete(s.ex.queue, i, i+1)
		}
	}
}

// schedule runs one schedule.
func (s *sim) schedule(steps int) {
	s.survive(s.boot)
	for range steps {
		s.survive(s.do)
	}
	s.calm = true
	for i := 0; !s.drained(); i++ {
		if i > 3000 {
			panic(violation("it does not come to an end"))
		}
		s.drain()
	}
	s.checkEnd()
}

// survive runs f, and boots again after a crash until a boot succeeds.
func (s *sim) survive(f func()) {
	for crashed := s.crashed(f); crashed; crashed = s.crashed(s.boot) {
		s.crashes++
	}
}

func (s *sim) crashed(f func()) (yes bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			yes = true
		}
	}()
	f()
	return false
}

// drain lets everything go well for a while.
func (s *sim) drain() {
	if len(s.wanted) > 0 {
		in, then := s.intake(0, make(answer, 1))
		s.round(in)
		then()
	}
	s.unpause()
	s.hearAll()
	s.e.launchers["local"].work(context.Background())
	for range s.ex.running() {
		s.ex.progress()
	}
	if n := len(s.ex.queue); n > 0 {
		done := make(answer, 1)
		judged, _ := s.e.judge(context.Background(), s.ex.queue)
		s.round(&reports{executor: "local", list: judged, done: done})
		if s.answered(done) == nil {
			s.ex.queue = s.ex.queue[n:]
		}
	}
	if in, then := s.decision(make(answer, 1)); in != nil {
		s.round(in)
		then()
	}
	time.Sleep(6 * time.Minute)
	s.round()
}

func (s *sim) drained() bool {
	return len(s.wanted) == 0 && len(s.ex.queue) == 0 && len(s.e.core.runs) == 0 && len(s.ex.running()) == 0 &&
		len(s.e.core.backfills) == 0
}

// checkEnd looks at what the store has at the end.
func (s *sim) checkEnd() {
	ctx := context.Background()
	for id := range s.accepted {
		d, err := s.store.Run(ctx, id)
		if err != nil {
			panic(violation("promised run " + id + ": " + err.Error()))
		}
		if !d.Run.State.Terminal() {
			panic(violation("run " + id + " is forgotten: " + states(d)))
		}
		s.checkMoves(d)
		s.checkTakenDown(d)
		s.checkStarted(d)
		s.checkNotices(d)
		s.checkPins(d)
	}
	s.checkItems()
	snap, err := s.store.Load(ctx)
	if err != nil || len(snap.Live)+len(snap.Backfills) > 0 {
		panic(violation(fmt.Sprintf("%d runs are live at the end, %v", len(snap.Live), err)))
	}
	if p := s.e.core.queues["local"]; len(p.active) > 0 || len(s.e.core.attempts) > 0 {
		panic(violation(fmt.Sprintf("%d slots and %d attempts are left", len(p.active), len(s.e.core.attempts))))
	}
	for id, v := range s.e.core.versions {
		if v.refs <= 0 {
			panic(violation("version " + id + " is kept without a user"))
		}
	}
}

// checkMoves follows the audit trail: each task's moves are one chain by the tables, and end in its state.
func (s *sim) checkMoves(d *scheduler.RunDetail) {
	at := map[string]scheduler.State{"": scheduler.StateQueued}
	for _, t := range d.Tasks {
		at[rowName(t.Task, t.MapIndex)] = scheduler.StateNone
	}
	for _, m := range d.Moves {
		name := rowName(m.Task, m.MapIndex)
		if at[name] != m.From {
			panic(violation(fmt.Sprintf("run %s: move %+v, but it was %s", d.Run.ID, m, at[name])))
		}
		at[name] = m.To
	}
	for _, t := range d.Tasks {
		s.checkCached(&t)
		if name := rowName(t.Task, t.MapIndex); at[name] != t.State {
			panic(violation(fmt.Sprintf("run %s: task %s is %s, its moves end in %s", d.Run.ID, name, t.State, at[name])))
		}
	}
	checkWholes(d)
	if at[""] != d.Run.State {
		panic(violation(fmt.Sprintf("run %s is %s, its moves end in %s", d.Run.ID, d.Run.State, at[""])))
	}
}

// tally is what schedules have done.
type tally struct{ crashes, runs, mended, decided, started, again int64 }

func (t *tally) add(o tally) {
	for _, p := range []struct {
		to *int64
		n  int64
	}{{&t.crashes, o.crashes}, {&t.runs, o.runs}, {&t.mended, o.mended}, {&t.decided, o.decided}, {&t.started, o.started}, {&t.again, o.again}} {
		atomic.AddInt64(p.to, p.n)
	}
}

// simulate runs the schedule of one seed and returns what it broke, or "".
func simulate(seed uint64) (broke string, did tally) {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 17)), store: schedulertest.NewStore(), accepted: map[string]bool{}, manuals: map[string]string{},
		simImages:    simImages{digests: map[string]string{}},
		simBackfills: simBackfills{plans: map[string]*scheduler.BackfillPlan{}, promised: map[string]bool{}, revived: map[string]bool{}},
	}
	s.store.Intercept = s.intercept
	s.ex = &simExec{s: s, attempts: map[string]*simAttempt{}}
	for _, i := range s.rng.Perm(len(simDAGs) / 3)[:2] {
		s.set.Files = append(s.set.Files, simDAGs[3*i])
	}
	s.set.Files = append(s.set.Files, simLeaf)
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(violation)
			if !ok {
				panic(r)
			}
			broke = string(v)
		}
		did = tally{crashes: int64(s.crashes), runs: int64(len(s.accepted)), mended: int64(s.mended), decided: int64(s.decided), started: int64(s.started), again: int64(s.begun)}
	}()
	s.schedule(20 + s.rng.IntN(80))
	return "", tally{}
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	const parts = 8
	var all tally
	t.Run("seeds", func(t *testing.T) {
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					for seed := uint64(part); seed < simSchedules; seed += parts {
						broke, did := simulate(seed)
						if broke != "" {
							t.Fatalf("seed %d: %s", seed, broke)
						}
						all.add(did)
					}
				})
			})
		}
	})
	t.Logf("%d schedules: %+v, %d taken down, %d taken from the cache, %d notices, %d deadlines missed, %d images pinned, %d refused", simSchedules, all, takenDown.Load(), fromCache.Load(),
		simNoticed.Load(), simLate.Load(), simPinned.Load(), simRefused.Load())
	t.Logf("%d attempts were seen under a limit of their task, %d times something waited for one", limited.Load(), capped.Load())
	if min(limited.Load(), capped.Load()) < simSchedules/50 {
		t.Error("the simulation does too little with limits of tasks")
	}
	if min(all.crashes, all.runs, all.mended) < simSchedules || all.again < simSchedules/2 || min(all.decided, all.started) < simSchedules/10 ||
		min(takenDown.Load(), simLate.Load()) < simSchedules/4 || simNoticed.Load() < simSchedules || fromCache.Load() < simSchedules/50 ||
		simPinned.Load() < simSchedules/10 || simRefused.Load() < simSchedules/1000 {
		t.Error("the simulation does too little")
	}
}
