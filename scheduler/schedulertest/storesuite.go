package schedulertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
)

// TestStore runs the conformance suite of scheduler.Store. open opens the store that lives in dir, which exists: empty the first time; the
// suite closes a store before it opens it again. A store in memory keeps a map by dir.
func TestStore(t *testing.T, open func(t *testing.T, dir string) scheduler.Store) {
	t.Helper()
	for _, tt := range []struct {
		name string
		test func(*storeTest)
	}{
		{"a new store is fresh", testFresh},
		{"what was applied is there after a reopen", testReopen},
		{"an arrival is inserted once", testArrivalOnce},
		{"arrivals come in their order", testArrived},
		{"a final disposition never changes", testFinal},
		{"groups and held batches are remembered", testGroups},
		{"cursors and ticks never go back", testCursors},
		{"batches above the cursor are ahead", testAhead},
		{"a new run that exists is left alone", testNewRunOnce},
		{"a run keeps its inputs", testInputs},
		{"a run keeps the digests of its images", testImages},
		{"a wrong revision changes nothing", testConflict},
		{"a row that is new must be new", testInsertConflict},
		{"attempts are replaced, moves appended", testAttempts},
		{"mapped tasks come in pages, and are counted", testMapped},
		{"one of many racers wins a revision", testRace},
		{"load has what is live and no more", testLoad},
		{"a run that had ended may live again", testLiveAgain},
		{"runs come in pages", testRunPages},
		{"batches come in pages and by offset", testBatchPages},
		{"replays and runs of backfills are found", testReplays},
		{"backfills are kept with their items", testBackfills},
		{"the queued items of a cancelled backfill are cancelled", testBackfillCancelled},
		{"the past of batches and runs", testPast},
		{"what is not there is not found", testNotFound},
		{"an ended context commits nothing", testContext},
		{"heads are replaced, versions stay", testVersions},
		{"outputs and cached outputs are kept", testOutputs},
		{"notices are sent in order", testOutbox},
		{"open deadlines are loaded", testDeadlines},
		{"runs that ended are forgotten as they were", testHistory},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			st := &storeTest{T: t, open: func() scheduler.Store { return open(t, dir) }}
			st.Store = st.open()
			t.Cleanup(func() { st.Close() })
			tt.test(st)
		})
	}
}

type storeTest struct {
	*testing.T
	scheduler.Store
	open func() scheduler.Store
}

func (t *storeTest) reopen() {
	t.Helper()
	for range 2 {
		if err := t.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	t.Store = t.open()
}

func (t *storeTest) apply(c *scheduler.Change) {
	t.Helper()
	if err := t.Apply(t.Context(), c); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func (t *storeTest) memory() trigger.Memory {
	t.Helper()
	m, err := t.Remember(t.Context())
	if err != nil {
		t.Fatalf("remember: %v", err)
	}
	return m
}

func (t *storeTest) run(id string) *scheduler.RunDetail {
	t.Helper()
	d, err := t.Run(t.Context(), id)
	if err != nil {
		t.Fatalf("run %s: %v", id, err)
	}
	return d
}

// Run hides testing.T's.
func (t *storeTest) Run(ctx context.Context, id string) (*scheduler.RunDetail, error) {
	return t.Store.Run(ctx, id)
}

func (t *storeTest) same(what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, diff)
	}
}

// started is an arrival of batch n and its run, in one change.
func started(n int) (*scheduler.Change, batcher.Batch, scheduler.NewRun) {
	b := ExampleBatch(n)
	r := ExampleRun(b)
	return &scheduler.Change{Arrivals: []trigger.Arrival{arrival(b, r.Run)}, NewRuns: []scheduler.NewRun{r}}, b, r
}

func testFresh(t *storeTest) {
	m := t.memory()
	if !m.Fresh || len(m.Cursors)+len(m.Ahead)+len(m.Groups)+len(m.Held)+len(m.Ticks) != 0 {
		t.Fatalf("got %+v, want nothing and Fresh", m)
	}
	t.apply(&scheduler.Change{})
	t.apply(&scheduler.Change{Cursors: []trigger.Cursor{{Stream: ExampleStream, Seq: 0}}})
	if t.memory().Fresh {
		t.Fatal("got Fresh after a cursor of 0, want it to count")
	}
}

func testReopen(t *storeTest) {
	c, b, r := started(1)
	head := scheduler.DAGHead{ID: "load", Version: "v1", File: "load.yaml", Error: "line 3", Paused: true, UpdatedAt: Epoch}
	version := scheduler.DAGVersion{Version: "v1", DAG: "load", Canonical: []byte(`{"v":1}`), CreatedAt: Epoch}
	c.Heads, c.Versions = []scheduler.DAGHead{head}, []scheduler.DAGVersion{version}
	c.Moves = []scheduler.Move{{Run: r.Run.ID, MapIndex: scheduler.NoMap, From: scheduler.StateNone, To: scheduler.StateQueued, Reason: "new", At: Epoch}}
	t.apply(c)
	t.reopen()
	want := &scheduler.RunDetail{Run: r.Run, Tasks: slices.Clone(r.Tasks), Batches: []batcher.Batch{b}, Moves: c.Moves}
	want.Run.Rev = 1
	for i := range want.Tasks {
		want.Tasks[i].Rev = 1
	}
	t.same("run", t.run(r.Run.ID), want)
	snap, err := t.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	t.same("snapshot", snap, &scheduler.Snapshot{
		Heads: []scheduler.DAGHead{head}, Versions: []scheduler.DAGVersion{version},
		Live: []scheduler.LiveRun{{Run: want.Run, Tasks: want.Tasks, Batches: want.Batches}},
	})
	d, err := t.Batch(t.Context(), b.ID)
	if err != nil {
		t.Fatalf("batch: %v", err)
	}
	t.same("batch", d, &scheduler.BatchDetail{Batch: b, Dispositions: c.Arrivals[0].Dispositions})
}

func testArrivalOnce(t *storeTest) {
	c, b, r := started(1)
	t.apply(c)
	again := arrival(b, r.Run)
	again.Batch.Events = 7
	again.Dispositions[0].Fate = trigger.FateFiltered
	again.Dispositions = append(again.Dispositions, trigger.Disposition{Batch: b.ID, Rule: "late/rule", Fate: trigger.FateRun, At: Epoch})
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{again}})
	d, err := t.Batch(t.Context(), b.ID)
	if err != nil {
		t.Fatalf("batch: %v", err)
	}
	t.same("batch", d, &scheduler.BatchDetail{Batch: b, Dispositions: c.Arrivals[0].Dispositions})
}

func testFinal(t *storeTest) {
	b := ExampleBatch(1)
	rule := func(id string, fate trigger.Fate) trigger.Disposition {
		return trigger.Disposition{Batch: b.ID, Rule: id, Fate: fate, At: Epoch}
	}
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{{Batch: b, Dispositions: []trigger.Disposition{
		rule("d/coalesced", trigger.FateCoalesced), rule("d/filtered", trigger.FateFiltered), rule("d/held", trigger.FateHeld),
	}}}})
	run := trigger.Disposition{Batch: b.ID, Rule: "d/coalesced", Fate: trigger.FateRun, Run: "r1", Group: "coal:k:1", At: Epoch.Add(time.Second)}
	gone := trigger.Disposition{Batch: b.ID, Rule: "d/held", Fate: trigger.FateDropped, Reason: "rule_removed", At: Epoch.Add(time.Second)}
	t.apply(&scheduler.Change{Updates: []trigger.Disposition{run, gone, rule("d/filtered", trigger.FateRun), rule("d/unknown", trigger.FateRun)}})
	t.apply(&scheduler.Change{Updates: []trigger.Disposition{rule("d/coalesced", trigger.FateExpired), rule("d/held", trigger.FateHeld)}})
	d, err := t.Batch(t.Context(), b.ID)
	if err != nil {
		t.Fatalf("batch: %v", err)
	}
	t.same("dispositions", d.Dispositions, []trigger.Disposition{run, rule("d/filtered", trigger.FateFiltered), gone})
}

func testCursors(t *storeTest) {
	other := ingest.Stream{Log: "log2", Incarnation: "i", Partition: 3}
	put := func(seq int64, at time.Time) {
		t.apply(&scheduler.Change{
			Cursors: []trigger.Cursor{{Stream: other, Seq: seq}, {Stream: ExampleStream, Seq: 2 * seq}}, Ticks: []trigger.Tick{{Rule: "d/cron", At: at}},
		})
	}
	put(5, Epoch)
	put(4, Epoch.Add(-time.Minute))
	m := t.memory()
	t.same("cursors", m.Cursors, []trigger.Cursor{{Stream: ExampleStream, Seq: 10}, {Stream: other, Seq: 5}})
	t.same("ticks", m.Ticks, []trigger.Tick{{Rule: "d/cron", At: Epoch}})
	put(6, Epoch.Add(time.Minute))
	t.same("ticks", t.memory().Ticks, []trigger.Tick{{Rule: "d/cron", At: Epoch.Add(time.Minute)}})
}

func testAhead(t *storeTest) {
	var arrivals []trigger.Arrival
	want := []trigger.Ahead{}
	for n := 1; n <= 6; n++ {
		b := ExampleBatch(n)
		if n > 4 {
			b.Stream.Log = "another" // without a cursor
		}
		if n > 2 {
			want = append(want, trigger.Ahead{Stream: b.Stream, Seq: b.Seq, Batch: b.ID})
		}
		arrivals = append(arrivals, trigger.Arrival{Batch: b})
	}
	t.apply(&scheduler.Change{Arrivals: arrivals, Cursors: []trigger.Cursor{{Stream: ExampleStream, Seq: 2}}})
	t.same("ahead", t.memory().Ahead, []trigger.Ahead{want[2], want[3], want[0], want[1]})
}

func testNewRunOnce(t *storeTest) {
	c, _, r := started(1)
	t.apply(c)
	r.Run.State, r.Run.Rev, r.Run.StartedAt = scheduler.StateRunning, 1, Epoch
	attempt := scheduler.Attempt{
		ID: r.Tasks[0].AttemptID(1), Run: r.Run.ID, Task: "check", MapIndex: scheduler.NoMap, Try: 1, State: scheduler.StateRunning, CreatedAt: Epoch,
	}
	t.apply(&scheduler.Change{Runs: []scheduler.Run{r.Run}, Attempts: []scheduler.Attempt{attempt}})
	before := t.run(r.Run.ID)

	again, _, r2 := started(1)
	again.NewRuns[0].Run.Params = json.RawMessage(`{}`)
	again.NewRuns[0].Run.Batches = []string{"other", "inputs"}
	again.NewRuns[0].Tasks = again.NewRuns[0].Tasks[:1]
	stale := attempt
	stale.State, stale.Reason = scheduler.StateLaunching, "decided again"
	again.Attempts = []scheduler.Attempt{stale}
	again.Moves = []scheduler.Move{{Run: r2.Run.ID, To: scheduler.StateQueued, At: Epoch}}
	t.apply(again)
	t.same("run", t.run(r.Run.ID), before)
}

func testInputs(t *storeTest) {
	b1, b2, b3 := ExampleBatch(1), ExampleBatch(2), ExampleBatch(3)
	r := ExampleRun(b1)
	r.Run.Batches = []string{b3.ID, b1.ID, b2.ID}
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{{Batch: b1}, {Batch: b2}, {Batch: b3}}, NewRuns: []scheduler.NewRun{r}})
	upd := r.Run
	upd.State, upd.Rev, upd.Batches = scheduler.StateRunning, 1, []string{"something else"}
	t.apply(&scheduler.Change{Runs: []scheduler.Run{upd}})
	d := t.run(r.Run.ID)
	t.same("batches", d.Batches, []batcher.Batch{b3, b1, b2})
	t.same("ids", d.Run.Batches, r.Run.Batches)
	page, _, err := t.Runs(t.Context(), scheduler.RunQuery{Batch: b2.ID})
	if err != nil {
		t.Fatalf("runs: %v", err)
	}
	t.same("runs by batch", page, []scheduler.Run{d.Run})
}

func testConflict(t *storeTest) {
	c, _, r := started(1)
	t.apply(c)
	before := t.run(r.Run.ID)
	good := r.Run
	good.State, good.Rev = scheduler.StateRunning, 1
	task := func(rev int64) scheduler.TaskRun {
		k := r.Tasks[0]
		k.State, k.Rev = scheduler.StateScheduled, rev
		return k
	}
	unknown := task(1)
	unknown.Task = "unknown"
	for name, bad := range map[string]scheduler.TaskRun{"older": task(7), "unknown": unknown} {
		other, b, _ := started(2)
		other.Runs = []scheduler.Run{good}
		other.Tasks = []scheduler.TaskRun{task(1), bad}
		other.Heads = []scheduler.DAGHead{{ID: "new", UpdatedAt: Epoch}}
		other.Cursors = []trigger.Cursor{{Stream: ExampleStream, Seq: 9}}
		if err := t.Apply(t.Context(), other); !errors.Is(err, scheduler.ErrConflict) {
			t.Fatalf("%s: got %v, want ErrConflict", name, err)
		}
		t.same("run", t.run(r.Run.ID), before)
		if _, err := t.Batch(t.Context(), b.ID); !errors.Is(err, scheduler.ErrNotFound) {
			t.Fatalf("%s: batch of the undone change: got %v, want ErrNotFound", name, err)
		}
		if snap, err := t.Load(t.Context()); err != nil || len(snap.Heads) != 0 || len(snap.Live) != 1 || !t.memory().Fresh {
			t.Fatalf("%s: got %+v, %v: want nothing of the undone change", name, snap, err)
		}
	}
	bad := good
	bad.Rev = 2
	if err := t.Apply(t.Context(), &scheduler.Change{Runs: []scheduler.Run{bad}}); !errors.Is(err, scheduler.ErrConflict) {
		t.Fatalf("run: got %v, want ErrConflict", err)
	}
	t.apply(&scheduler.Change{Runs: []scheduler.Run{good}, Tasks: []scheduler.TaskRun{task(1)}})
	if d := t.run(r.Run.ID); d.Run.Rev != 2 || d.Tasks[0].Rev != 2 || d.Tasks[0].State != scheduler.StateScheduled {
		t.Fatalf("got %+v, want revision 2", d)
	}
}

func testInsertConflict(t *storeTest) {
	c, _, r := started(1)
	t.apply(c)
	mapped := r.Tasks[0]
	mapped.MapIndex = 3
	add := &scheduler.Change{Tasks: []scheduler.TaskRun{mapped}}
	t.apply(add)
	if err := t.Apply(t.Context(), add); !errors.Is(err, scheduler.ErrConflict) {
		t.Fatalf("task: got %v, want ErrConflict", err)
	}
	if err := t.Apply(t.Context(), &scheduler.Change{Runs: []scheduler.Run{r.Run}}); !errors.Is(err, scheduler.ErrConflict) {
		t.Fatalf("run: got %v, want ErrConflict", err)
	}
	if d := t.run(r.Run.ID); len(d.Tasks) != 3 || d.Tasks[2].MapIndex != 3 || d.Tasks[2].Rev != 1 {
		t.Fatalf("got %+v, want the added task last, at revision 1", d.Tasks)
	}
}

func testAttempts(t *storeTest) {
	c, _, r := started(1)
	a := scheduler.Attempt{
		ID: r.Tasks[0].AttemptID(1), Run: r.Run.ID, Task: "check", MapIndex: scheduler.NoMap, Try: 1, Executor: "local",
		State: scheduler.StateLaunching, Exit: -1, CreatedAt: Epoch,
	}
	m1 := scheduler.Move{Run: r.Run.ID, Task: "check", MapIndex: -1, Try: 1, From: scheduler.StateScheduled, To: scheduler.StateLaunching, At: Epoch}
	c.Attempts, c.Moves = []scheduler.Attempt{a}, []scheduler.Move{m1}
	t.apply(c)
	a.State, a.Exit, a.Reason, a.Log, a.Node, a.StartedAt, a.EndedAt = scheduler.StateFailed, 3, "exit 3", "l/1", "n", Epoch, Epoch.Add(time.Second)
	b := a
	b.ID, b.Try = r.Tasks[0].AttemptID(2), 2
	m2 := m1
	m2.From, m2.To, m2.Reason = m1.To, scheduler.StateUpForRetry, "exit 3"
	t.apply(&scheduler.Change{Attempts: []scheduler.Attempt{a, b}, Moves: []scheduler.Move{m2, m2}})
	d := t.run(r.Run.ID)
	t.same("attempts", d.Attempts, []scheduler.Attempt{a, b})
	t.same("moves", d.Moves, []scheduler.Move{m1, m2, m2})
}

func testRace(t *storeTest) {
	c, _, r := started(1)
	t.apply(c)
	const racers, rounds = 8, 10
	var wg sync.WaitGroup
	wins := make([]int, rounds+1)
	var mu sync.Mutex
	for i := range racers {
		wg.Go(func() {
			for rev := int64(1); rev <= rounds; rev++ {
				k := r.Tasks[0]
				k.Rev, k.Reason = rev, fmt.Sprint(i)
				err := t.Apply(context.Background(), &scheduler.Change{Tasks: []scheduler.TaskRun{k}})
				switch {
				case err == nil:
					mu.Lock()
					wins[rev]++
					mu.Unlock()
				case !errors.Is(err, scheduler.ErrConflict):
					t.Errorf("racer %d: got %v, want nil or ErrConflict", i, err)
				default:
					if d, err := t.Run(context.Background(), r.Run.ID); err != nil || d.Tasks[0].Rev < rev {
						t.Errorf("racer %d lost at revision %d: got %+v, %v", i, rev, d, err)
					}
				}
			}
		})
	}
	wg.Wait()
	for rev, n := range wins[1:] {
		if n > 1 {
			t.Errorf("revision %d: got %d winners, want at most 1", rev+1, n)
		}
	}
	if d := t.run(r.Run.ID); d.Tasks[0].Rev != rounds+1 {
		t.Errorf("got revision %d, want %d", d.Tasks[0].Rev, rounds+1)
	}
}

func testLoad(t *storeTest) {
	version := func(v string) scheduler.DAGVersion {
		return scheduler.DAGVersion{Version: v, DAG: "load", Canonical: []byte("{}"), CreatedAt: Epoch}
	}
	for n, state := range []scheduler.State{scheduler.StateSuccess, scheduler.StateRunning, scheduler.StateCancelled, scheduler.StateQueued} {
		c, _, _ := started(n)
		c.NewRuns[0].Run.State = state
		c.NewRuns[0].Run.Version = fmt.Sprintf("v%d", n)
		c.Versions = []scheduler.DAGVersion{version(fmt.Sprintf("v%d", n))}
		t.apply(c)
	}
	t.apply(&scheduler.Change{Versions: []scheduler.DAGVersion{version("v9")}, Heads: []scheduler.DAGHead{{ID: "load", Version: "v9", UpdatedAt: Epoch}}})
	snap, err := t.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	t.same("versions", snap.Versions, []scheduler.DAGVersion{version("v1"), version("v3"), version("v9")})
	var states []scheduler.State
	for _, l := range snap.Live {
		states = append(states, l.Run.State)
		if len(l.Tasks) != 2 || l.Tasks[0].Task != "check" || len(l.Batches) != 1 || l.Batches[0].ID != l.Run.Batches[0] {
			t.Errorf("got %+v, want two tasks in order and one batch", l)
		}
	}
	t.same("states", states, []scheduler.State{scheduler.StateRunning, scheduler.StateQueued})
}

func testLiveAgain(t *storeTest) {
	c, _, r := started(1)
	c.NewRuns[0].Run.State, c.NewRuns[0].Tasks[0].State = scheduler.StateFailed, scheduler.StateFailed
	c.Versions = []scheduler.DAGVersion{{Version: r.Run.Version, DAG: "load", Canonical: []byte("{}"), CreatedAt: Epoch}}
	t.apply(c)
	run, task := t.run(r.Run.ID).Run, t.run(r.Run.ID).Tasks[0]
	run.State, run.EndedAt = scheduler.StateQueued, time.Time{}
	task.State, task.Try, task.Cleared, task.Since = scheduler.StateNone, 3, 3, Epoch.Add(time.Minute)
	t.apply(&scheduler.Change{Runs: []scheduler.Run{run}, Tasks: []scheduler.TaskRun{task}})
	t.reopen()
	snap, err := t.Load(t.Context())
	if err != nil || len(snap.Live) != 1 || len(snap.Versions) != 1 {
		t.Fatalf("load: got %+v, %v, want the run and its version", snap, err)
	}
	run.Rev, task.Rev = 2, 2
	live := snap.Live[0]
	t.same("run", live.Run, run)
	t.same("task", live.Tasks[0], task)
	if len(live.Batches) != 1 || live.Batches[0].ID != run.Batches[0] {
		t.Errorf("got batches %+v, want its input", live.Batches)
	}
}

func testNotFound(t *storeTest) {
	_, errRun := t.Run(t.Context(), "r?")
	_, errBatch := t.Batch(t.Context(), "b?")
	_, errVersion := t.Version(t.Context(), "v?")
	for name, err := range map[string]error{"run": errRun, "batch": errBatch, "version": errVersion} {
		if !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
}

func testContext(t *storeTest) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, b, _ := started(1)
	if err := t.Apply(ctx, c); !errors.Is(err, scheduler.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want ErrUnavailable because the context has ended", err)
	}
	if _, err := t.Batch(t.Context(), b.ID); !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
}

func testVersions(t *storeTest) {
	v := scheduler.DAGVersion{Version: "v1", DAG: "load", Canonical: []byte(`{"v":1}`), CreatedAt: Epoch}
	h := scheduler.DAGHead{ID: "load", Version: "v1", File: "a.yaml", UpdatedAt: Epoch}
	t.apply(&scheduler.Change{Versions: []scheduler.DAGVersion{v}, Heads: []scheduler.DAGHead{h}})
	later := v
	later.CreatedAt = Epoch.Add(time.Hour)
	h.Error, h.Removed, h.File, h.UpdatedAt = "bad", true, "b.yaml", Epoch.Add(time.Hour)
	t.apply(&scheduler.Change{Versions: []scheduler.DAGVersion{later}, Heads: []scheduler.DAGHead{h}})
	got, err := t.Version(t.Context(), "v1")
	if err != nil {
		t.Fatalf("version: %v", err)
	}
	t.same("version", got, &v)
	snap, err := t.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	t.same("heads", snap.Heads, []scheduler.DAGHead{h})
}
