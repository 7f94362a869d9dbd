package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

const fillDAG = `
dag: load
on: [{id: clicks, batch: {source: web}}, {id: nightly, cron: "0 3 * * *"}]
params: {n: 3}
tasks: {a: {run: [prog, "${{ params.n }}"]}}
`

// stored puts batches into the ledger that no rule has seen.
func (f *fixture) stored(n int) []batcher.Batch {
	f.t.Helper()
	var out []batcher.Batch
	in := f.intake()
	for i := range n {
		b := testBatch(i + 1)
		out, in.Arrivals = append(out, b), append(in.Arrivals, trigger.Arrival{Batch: b})
	}
	if err := f.e.Start(f.t.Context(), in); err != nil {
		f.t.Fatal(err)
	}
	return out
}

// plan is a backfill with an item for each batch.
func (f *fixture) plan(id string, most int, batches ...batcher.Batch) *scheduler.BackfillPlan {
	f.t.Helper()
	head, _, err := f.e.DAG(f.t.Context(), "load")
	if err != nil {
		f.t.Fatal(err)
	}
	p := &scheduler.BackfillPlan{Backfill: scheduler.Backfill{Version: head.Version, BackfillSpec: scheduler.BackfillSpec{
		ID: id, DAG: "load", Rule: "clicks", MaxActive: most, Reprocess: scheduler.ReprocessNone, Params: []byte(`{"n": 7}`),
	}}}
	for i, b := range batches {
		p.Items = append(p.Items, scheduler.BackfillItem{
			Backfill: id, N: i, Kind: trigger.KindBatch, Rule: "clicks", Key: b.ID, LaneKey: "lane", Batches: []string{b.ID},
		})
	}
	return p
}

func (f *fixture) backfill(p *scheduler.BackfillPlan) {
	f.t.Helper()
	if _, err := f.e.StartBackfill(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
}

// filled returns the backfill as it is once nothing more happens by itself, and its items.
func (f *fixture) filled(id string) (*scheduler.Backfill, []scheduler.BackfillItem) {
	f.t.Helper()
	synctest.Wait()
	b, err := f.store.Backfill(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	items, err := f.store.BackfillItems(f.t.Context(), id, 0, 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	return b, items
}

// end lets the n'th attempt that was launched end.
func (f *fixture) exit(n, exit int) {
	f.world.tell(scheduler.Report{Attempt: f.world.launched()[n], Outcome: scheduler.OutcomeExited, Exit: exit, EndedAt: time.Now()})
	synctest.Wait()
}

// A backfill has as many runs under way as it may, in the order of its items, over restarts, and ends with the last; a second request with its id
// is the same backfill.
func TestBackfill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		f.world.play(runs)
		batches := f.stored(4)
		p := f.plan("fill", 2, batches...)
		f.backfill(p)
		f.backfill(p)
		for n, want := range []scheduler.BackfillCounts{
			{Total: 4, Waiting: 2, Running: 2}, {Total: 4, Waiting: 1, Running: 2, Success: 1}, {Total: 4, Running: 2, Success: 1, Failed: 1},
			{Total: 4, Running: 1, Success: 2, Failed: 1}, {Total: 4, Success: 2, Failed: 2},
		} {
			b, items := f.filled("fill")
			if b.Counts != want || b.State.Ended() != (n == 4) || b.EndedAt.IsZero() == (n == 4) {
				t.Fatalf("step %d: got %+v, %s, want %+v", n, b.Counts, b.State, want)
			}
			if n == 4 {
				f.checkRuns(items, batches)
				break
			}
			if got := len(f.world.launched()); got != min(n+2, 4) {
				t.Fatalf("step %d: %d attempts were launched, want %d", n, got, min(n+2, 4))
			}
			f.stop()
			f.start()
			f.setDAGs(map[string]string{"load.yaml": strings.ReplaceAll(fillDAG, "prog", fmt.Sprint("other", n))}) // its runs pin the version
			synctest.Wait()
			f.exit(n, n%2)
		}
		f.backfill(p) // long after its end, and with another file
		if _, items := f.filled("fill"); len(f.world.launched()) != 4 || len(items) != 4 {
			t.Errorf("a repeated request has started something: %v", f.world.launched())
		}
	})
}

// checkRuns requires that items are the runs of their batches.
func (f *fixture) checkRuns(items []scheduler.BackfillItem, batches []batcher.Batch) {
	f.t.Helper()
	for i, it := range items {
		d, err := f.store.Run(f.t.Context(), it.Run)
		if err != nil {
			f.t.Fatal(err)
		}
		f0 := trigger.Firing{DAG: "load", Rule: "clicks", Key: batches[i].ID}
		r := d.Run
		if r.Backfill != "fill" || !r.NoEmit || r.Replay != 1 || r.ReplayOf != f0.RunID() || r.Trigger.Key != batches[i].ID || r.Trigger.LaneKey != "lane" ||
			string(r.Params) != `{"n":7}` || len(d.Batches) != 1 || d.Batches[0].ID != batches[i].ID || r.State != it.State {
			f.t.Errorf("item %d is %+v, its run %+v", i, it, r)
		}
		if l := f.launchOf(it.Run, "a"); l.Argv[0] != "prog" {
			f.t.Errorf("item %d ran %v, want the version of when the backfill was made", i, l.Argv)
		}
	}
}

// What happened since a backfill was planned counts: a batch that has a run by then is left out, with the reason.
func TestBackfillLooksAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		f.world.play(runs)
		batches := f.stored(3)
		first, second := f.plan("fill", 1, batches...), f.plan("other", 3, batches...)
		second.Items[0].Batches = append(second.Items[0].Batches, "gone")
		f.backfill(first)
		f.backfill(second)
		b, items := f.filled("other")
		if b.State != scheduler.BackfillRunning || items[0].State != scheduler.StateSkipped || !strings.Contains(items[0].Reason, "which is under way") ||
			!strings.Contains(items[0].Reason, "batch gone is not in the ledger any more") || b.Counts.Running != 2 {
			t.Errorf("got %+v, %+v", b, items[0])
		}
		f.exit(1, 0)
		f.exit(2, 1) // fails
		if b, _ := f.filled("other"); b.State != scheduler.BackfillDone {
			t.Errorf("got %+v, want it done", b)
		}
		f.exit(0, 0)
		b, items = f.filled("fill")
		if items[1].State != scheduler.StateSkipped || !strings.Contains(items[1].Reason, "which is success (reprocess is none)") || items[2].State != scheduler.StateRunning {
			t.Errorf("got %+v, %+v", b, items)
		}
		if d, err := f.store.Run(t.Context(), items[2].Run); err != nil || d.Run.Replay != 2 {
			t.Errorf("got %+v, %v, want the second replay", d, err)
		}
	})
}

func TestSteerBackfill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		f.world.play(runs)
		p := f.plan("fill", 1, f.stored(4)...)
		p.Backfill.Emit = true
		f.backfill(p)
		for _, tt := range []struct {
			id   string
			to   scheduler.BackfillState
			want error
		}{{"none", scheduler.BackfillPaused, scheduler.ErrNotFound}, {"fill", scheduler.BackfillDone, scheduler.ErrInvalid}} {
			if _, err := f.e.SteerBackfill(t.Context(), tt.id, tt.to, scheduler.Steer{}); !errors.Is(err, tt.want) {
				t.Errorf("%s to %s: got %v, want %v", tt.id, tt.to, err, tt.want)
			}
		}
		steer := func(to scheduler.BackfillState, o scheduler.Steer) *scheduler.Backfill {
			t.Helper()
			b, err := f.e.SteerBackfill(t.Context(), "fill", to, o)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if b := steer(scheduler.BackfillPaused, scheduler.Steer{By: "ann"}); b.State != scheduler.BackfillPaused || b.Reason != "paused by ann" || b.Counts.Running != 1 {
			t.Errorf("paused: got %+v", b)
		}
		f.stop()
		f.start()
		f.setDAGs(map[string]string{"load.yaml": fillDAG})
		synctest.Wait()
		f.exit(0, 0)
		if b, _ := f.filled("fill"); b.Counts.Waiting != 3 || b.Counts.Running != 0 || b.State != scheduler.BackfillPaused {
			t.Errorf("while paused, after a restart: got %+v", b)
		}
		if b := steer(scheduler.BackfillRunning, scheduler.Steer{}); b.State != scheduler.BackfillRunning || b.Counts.Running != 1 || b.Reason != "" {
			t.Errorf("resumed: got %+v", b)
		}
		b := steer(scheduler.BackfillCancelled, scheduler.Steer{By: "ann", Runs: true})
		if b.State != scheduler.BackfillCancelled || b.Counts.Cancelled < 2 || b.EndedAt.IsZero() {
			t.Errorf("cancelled: got %+v", b)
		}
		b, items := f.filled("fill")
		if want := (scheduler.BackfillCounts{Total: 4, Success: 1, Cancelled: 3}); b.Counts != want {
			t.Errorf("got %+v, want %+v", b.Counts, want)
		}
		d, err := f.store.Run(t.Context(), items[1].Run)
		if err != nil || d.Run.State != scheduler.StateCancelled || !strings.Contains(d.Run.Reason, "backfill fill was cancelled by ann") || d.Run.NoEmit {
			t.Errorf("got %+v, %v", d, err)
		}
		if b := steer(scheduler.BackfillRunning, scheduler.Steer{}); b.State != scheduler.BackfillCancelled {
			t.Errorf("resumed after its end: got %+v", b)
		}
	})
}

// A run of a backfill that has ended can be cleared: its item says what became of it in the end.
func TestClearedItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		f.world.play(failing("a"))
		f.backfill(f.plan("fill", 1, f.stored(1)...))
		b, items := f.filled("fill")
		if b.State != scheduler.BackfillDone || b.Counts.Failed != 1 {
			t.Fatalf("got %+v", b)
		}
		f.world.play(runs)
		f.clear(items[0].Run, scheduler.Clear{})
		if b, _ := f.filled("fill"); b.Counts.Running != 1 || b.State != scheduler.BackfillDone {
			t.Errorf("cleared: got %+v", b)
		}
		f.exit(1, 0)
		if b, _ := f.filled("fill"); b.Counts.Success != 1 {
			t.Errorf("at the end: got %+v", b)
		}
	})
}

// The run of a nominal time has that time's interval, and is a replay of the run that the rule would have made.
func TestBackfillOfTicks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		id := f.startAs(trigger.KindCron) // of 22 November 2026
		f.wait(id)
		p := f.plan("fill", 5)
		for i, day := range []int{21, 22} {
			due := time.Date(2026, 11, day, 3, 0, 0, 0, time.UTC)
			p.Items = append(p.Items, scheduler.BackfillItem{Backfill: "fill", N: i, Kind: trigger.KindCron, Rule: "nightly", Key: due.Format(time.RFC3339), Due: due})
		}
		f.backfill(p)
		_, items := f.filled("fill")
		d, err := f.store.Run(t.Context(), items[0].Run)
		if err != nil || !d.Run.IntervalEnd.Equal(items[0].Due) || !d.Run.IntervalStart.Equal(items[0].Due.AddDate(0, 0, -1)) || d.Run.Trigger.Kind != trigger.KindCron {
			t.Errorf("got %+v, %v", d, err)
		}
		if items[1].State != scheduler.StateSkipped || !strings.Contains(items[1].Reason, "had run "+id) {
			t.Errorf("got %+v, want it left out: it had a run", items[1])
		}
	})
}

// A batch that was found in the chain comes back into the ledger with the backfill.
func TestBackfillOfWhatWasPruned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		b := testBatch(1)
		p := f.plan("fill", 1, b)
		p.Found = []batcher.Batch{b}
		f.backfill(p)
		_, items := f.filled("fill")
		d, err := f.store.Run(t.Context(), items[0].Run)
		if err != nil || d.Run.State != scheduler.StateSuccess || len(d.Batches) != 1 {
			t.Errorf("got %+v, %v, items %+v", d, err, items)
		}
	})
}

// A backfill whose runs can not be made says why, and waits for a person.
func TestBackfillThatCanNotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		p := f.plan("fill", 1, f.stored(2)...)
		f.setDAGs(map[string]string{"load.yaml": strings.NewReplacer("n: 3", "m: 3", "params.n", "params.m").Replace(fillDAG)})
		if _, err := f.e.StartBackfill(t.Context(), p); !errors.Is(err, scheduler.ErrConflict) {
			t.Errorf("of a version that is not in force: got %v, want ErrConflict", err)
		}
		p.Backfill.Version = f.plan("fill", 1).Backfill.Version
		f.backfill(p)
		b, items := f.filled("fill")
		if b.State != scheduler.BackfillPaused || !strings.Contains(b.Reason, `unknown parameter "n"`) || items[0].State != scheduler.StateQueued {
			t.Errorf("got %+v, %+v", b, items[0])
		}
		if n := len(f.e.core.versions); n != 1 {
			t.Errorf("%d versions are in memory, want one", n)
		}
	})
}

// Thousands of runs that end at once do not hold up the loop: they are begun some at a time.
func TestBackfillInRounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": strings.ReplaceAll(fillDAG, "{a: {", "{a: {when: 'false', ")})
		most := 0
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			most = max(most, len(c.NewRuns))
			return commit()
		}
		f.backfill(f.plan("fill", 10, f.stored(3*feedMost)...))
		b, _ := f.filled("fill")
		if b.State != scheduler.BackfillDone || b.Counts.Success != 3*feedMost || most > feedMost {
			t.Errorf("got %+v, at most %d runs in one transaction, want %d", b, most, feedMost)
		}
	})
}

// While the store can not be read, a backfill waits; nothing of it is lost.
func TestBackfillWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": fillDAG})
		batches := f.stored(2)
		synctest.Wait()
		away := &awayReader{reader: f.store}
		away.away.Store(true)
		done := make(answer, 1)
		if err := f.e.ask(t.Context(), &question{done: done, ask: func(c *core) { c.read = away }}, done); err != nil {
			t.Fatal(err)
		}
		f.backfill(f.plan("fill", 2, batches...))
		if b, _ := f.filled("fill"); b.Counts.Waiting != 2 {
			t.Errorf("got %+v, want all to wait", b)
		}
		away.away.Store(false)
		time.Sleep(time.Minute)
		if b, _ := f.filled("fill"); b.State != scheduler.BackfillDone || b.Counts.Success != 2 {
			t.Errorf("got %+v, want it done", b)
		}
	})
}

// awayReader is a store that sometimes can not say what happened to batches.
type awayReader struct {
	reader
	away atomic.Bool
}

func (r *awayReader) PastBatches(ctx context.Context, dag string, batches []string) (map[string]scheduler.Past, error) {
	if r.away.Load() {
		return nil, scheduler.ErrUnavailable
	}
	return r.reader.PastBatches(ctx, dag, batches)
}
