package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// intakes takes an intake.
func (f *fixture) intakes(in trigger.Intake) {
	f.t.Helper()
	if err := f.e.Start(f.t.Context(), in); err != nil {
		f.t.Fatal(err)
	}
	synctest.Wait()
}

// ends says of each deadline of a run what became of it, and how long after its time.
func (f *fixture) ends(run string) (out []string) {
	f.t.Helper()
	d, err := f.store.Run(f.t.Context(), run)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, d := range d.Run.Deadlines {
		switch {
		case !d.MissedAt.IsZero() && !d.MetAt.IsZero():
			out = append(out, "both")
		case !d.MissedAt.IsZero():
			out = append(out, fmt.Sprintf("%s: missed %v", d.Rule, d.MissedAt.Sub(d.At)))
		case !d.MetAt.IsZero():
			out = append(out, fmt.Sprintf("%s: met %v", d.Rule, d.MetAt.Sub(d.At)))
		default:
			out = append(out, d.Rule+": open")
		}
	}
	return out
}

// A deadline counts from what it says, is missed when its time has come without success, and told once; it does not touch the run.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, deadline, on string
		at                 time.Duration // of the run's end, after the tick or cut, which is 10s before the run
		exit               int
		want, told         []string
	}{
		{name: "none", at: time.Hour},
		{name: "met", deadline: "{from: run_created, within: 1m, notify: [n]}", at: 30 * time.Second, want: []string{"1m after run_created: met -40s"}},
		{name: "met in the last second", deadline: "{from: run_created, within: 1m, notify: [n]}", at: 69 * time.Second, want: []string{"1m after run_created: met -1s"}},
		{name: "missed", deadline: "{from: run_created, within: 1m, notify: [n]}", at: 71 * time.Second,
			want: []string{"1m after run_created: missed 0s"}, told: []string{"n deadline running"}},
		{name: "from the cut", deadline: "{from: batch_sealed, within: 1m, notify: [n]}", at: 61 * time.Second,
			want: []string{"1m after batch_sealed: missed 0s"}, told: []string{"n deadline running"}},
		{name: "from the tick", on: "cron: '0 0 * * *'", deadline: "{from: cron_time, within: 1m, notify: [n]}", at: 61 * time.Second,
			want: []string{"1m after cron_time: missed 0s"}, told: []string{"n deadline running"}},
		{name: "past when the run comes", deadline: "{from: batch_sealed, within: 5s, notify: [n]}", at: 60 * time.Second,
			want: []string{"5s after batch_sealed: missed 5s"}, told: []string{"n deadline running"}},
		{name: "that no run has", deadline: "{from: cron_time, within: 1m, notify: [n]}", at: time.Hour},
		{name: "several, and on_event", deadline: "[{from: run_created, within: 1m, notify: [n, m]}, {from: run_created, within: 2m}]\non_event: {deadline: [m, o]}", at: time.Hour,
			want: []string{"1m after run_created: missed 0s", "2m after run_created: missed 0s"},
			told: []string{"n deadline running", "m deadline running", "o deadline running", "m deadline running", "o deadline running"}},
		{name: "failed before", deadline: "{from: run_created, within: 1m, notify: [n]}", at: 30 * time.Second, exit: 64,
			want: []string{"1m after run_created: missed 0s"}, told: []string{"n deadline failed"}},
		{name: "nobody is told", deadline: "{from: run_created, within: 1m}", at: time.Hour, want: []string{"1m after run_created: missed 0s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				on := tt.on
				if on == "" {
					on = "batch: {}"
				}
				src := "dag: a\non: [{" + on + "}]\ntasks: {one: {run: x}}\n"
				if tt.deadline != "" {
					src += "deadline: " + tt.deadline + "\n"
				}
				f := newFixture(t, map[string]string{"a.yaml": src})
				f.world.play(runs)
				b, began := testBatch(1), time.Now()
				time.Sleep(10 * time.Second)
				in := f.intake(b)
				if tt.on != "" {
					in.Firings[0].Kind, in.Firings[0].Due, in.Firings[0].Batches = trigger.KindCron, began, nil
					in.Arrivals = nil
				}
				f.intakes(in)
				run := in.Firings[0].RunID()
				time.Sleep(time.Until(began.Add(tt.at)))
				f.world.tell(scheduler.Report{Attempt: f.world.launched()[0], Outcome: scheduler.OutcomeExited, Exit: tt.exit})
				if d := f.wait(run); (d.Run.State == scheduler.StateSuccess) != (tt.exit == 0) {
					t.Errorf("the run is %s", d.Run.State)
				}
				time.Sleep(2 * time.Hour)
				want(t, f.ends(run), tt.want)
				want(t, f.told(), tt.told)
			})
		})
	}
}

// The average is that of the newest successful runs, once there are enough, and is found again after a restart.
func TestAverageDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\ndeadline: {from: average(2), min_runs: 2, within: 1s, notify: [n]}\ntasks: {one: {run: x}}"}
		f := newFixture(t, files)
		f.world.play(runs)
		var got []string
		for i, long := range []time.Duration{10, 20, 40, 60, 30} {
			if i == 3 {
				f.restart(files)
			}
			id := f.trigger("a", fmt.Sprint(i), "").ID
			time.Sleep(long * time.Second)
			f.end(id, "one")
			f.wait(id)
			got = append(got, strings.Join(f.ends(id), ""))
		}
		want(t, got, []string{
			"", "", "1s after average(2): missed 0s", // 16s
			"1s after average(2): missed 0s", // 31s
			"1s after average(2): met -21s",  // 51s
		})
	})
}

// What passes while the engine is away is told once, when it is back; and what was told is not told again.
func TestDeadlinesAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\ndeadline: [{from: run_created, within: 1m, notify: [n]}, {from: run_created, within: 1h, notify: [n]}]\ntasks: {one: {run: x}}"}
		f := newFixture(t, files)
		f.world.play(runs)
		live := f.trigger("a", "live", "").ID
		f.world.play(exits(64))
		failed := f.trigger("a", "failed", "").ID
		f.wait(failed)
		f.stop()
		time.Sleep(5 * time.Minute)
		for range 3 {
			f.restart(files)
			for _, id := range []string{live, failed} {
				want(t, f.ends(id), []string{"1m after run_created: missed 4m0s", "1h after run_created: open"})
			}
			want(t, len(f.told()), 2)
		}
		f.stop()
		time.Sleep(time.Hour)
		f.restart(files)
		f.restart(files)
		want(t, len(f.told()), 4)
		snap, err := f.store.Load(t.Context())
		if err != nil || len(snap.Late) > 0 {
			t.Errorf("got %d runs with open deadlines, %v", len(snap.Late), err)
		}
	})
}

// A run that succeeded in time and is executed again has no deadline any more; one that failed can still meet its own.
func TestDeadlinesOfMendedRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ndeadline: {from: run_created, within: 1m, notify: [n]}\ntasks: {one: {run: x}}"})
		met := f.trigger("a", "met", "").ID
		f.wait(met)
		f.world.play(exits(64))
		failed := f.trigger("a", "failed", "").ID
		f.wait(failed)
		f.world.play(runs)
		time.Sleep(10 * time.Second)
		for _, id := range []string{met, failed} {
			if _, err := f.e.Clear(t.Context(), id, scheduler.Clear{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		f.end(failed, "one")
		time.Sleep(time.Hour)
		want(t, f.ends(met), []string{"1m after run_created: met -1m0s"})
		want(t, f.ends(failed), []string{"1m after run_created: met -50s"})
		want(t, f.told(), []string(nil))
	})
}

// A store that can not be read when the time has come is asked again.
func TestDeadlineWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.stop()
		away := &awayStore{Store: f.store}
		e, err := New(away, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{"a.yaml": "dag: a\ndeadline: {from: run_created, within: 1m, notify: [n]}\ntasks: {one: {run: x}}"})
		f.world.play(exits(64))
		id := f.trigger("a", "x", "").ID
		f.wait(id)
		away.until.Store(time.Now().Add(3 * time.Minute).UnixNano())
		time.Sleep(2 * time.Minute)
		want(t, len(f.told()), 0)
		time.Sleep(2 * time.Minute)
		want(t, f.told(), []string{"n deadline failed"})
	})
}

// awayStore does not answer for runs until a time.
type awayStore struct {
	*schedulertest.Store
	until atomic.Int64 // Unix nanoseconds
}

// Run implements scheduler.Store.
func (s *awayStore) Run(ctx context.Context, id string) (*scheduler.RunDetail, error) {
	if time.Now().UnixNano() < s.until.Load() {
		return nil, scheduler.ErrUnavailable
	}
	return s.Store.Run(ctx, id)
}

// waitingFiles has a rule that coalesces, and says nothing of deadlines for another.
func waitingFiles(within string) map[string]string {
	return map[string]string{"a.yaml": "dag: a\non: [{id: r, batch: {}, coalesce: {max_wait: 1h}}]\ndeadline: {from: batch_sealed, within: " + within + ", notify: [n]}\ntasks: {one: {run: x}}"}
}

// waits makes an intake of batches that wait for rule a/r: in a group, or held.
func (f *fixture) waits(group string, batches ...batcher.Batch) trigger.Intake {
	set, _ := f.e.Rules()
	in := trigger.Intake{Gen: set.Gen}
	fate := trigger.FateHeld
	if group != "" {
		fate = trigger.FateCoalesced
	}
	for _, b := range batches {
		in.Arrivals = append(in.Arrivals, trigger.Arrival{Batch: b, Dispositions: []trigger.Disposition{{Batch: b.ID, Rule: "a/r", Fate: fate, Group: group}}})
	}
	return in
}

// fires makes an intake that turns what waits into a run.
func (f *fixture) fires(key, group string, batches ...batcher.Batch) (trigger.Intake, string) {
	set, _ := f.e.Rules()
	in := trigger.Intake{Gen: set.Gen}
	fire := trigger.Firing{Kind: trigger.KindBatch, DAG: "a", Rule: "r", Key: key, Version: set.Rules[0].Version, Batches: batches}
	for _, b := range batches {
		in.Updates = append(in.Updates, trigger.Disposition{Batch: b.ID, Rule: "a/r", Fate: trigger.FateRun, Run: fire.RunID(), Group: group})
	}
	in.Firings = []trigger.Firing{fire}
	return in, fire.RunID()
}

// What waits in an open group is late once, whether there is a run by then or not, also over restarts.
func TestDeadlineOfAGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := waitingFiles("1m")
		f := newFixture(t, files)
		f.world.play(runs)
		one := testBatch(1)
		f.intakes(f.waits("g1", one))
		time.Sleep(30 * time.Second)
		two := testBatch(2)
		f.intakes(f.waits("g1", two))
		time.Sleep(25 * time.Second)
		want(t, f.told(), []string(nil))
		why, err := f.e.BatchDeadlines(t.Context(), two.ID)
		if err != nil || len(why["a/r"]) != 1 || !why["a/r"][0].Open() || !why["a/r"][0].At.Equal(one.CreatedAt.Add(time.Minute)) {
			t.Errorf("got the deadlines %+v, %v", why, err)
		}
		f.restart(files)
		time.Sleep(time.Minute)
		want(t, f.told(), []string{"n deadline "})
		n := f.notices()[0]
		b := bodyOf(t, &n)
		_, run := f.fires("g1", "g1", one, two)
		if b.Run != run || n.Run != run || b.Batch != one.ID || b.Batches != 2 || b.URL != "batches/"+one.ID || !strings.HasPrefix(b.Reason, "2 batches wait in an open group") ||
			b.Deadline == nil || b.Deadline.Rule != "1m after batch_sealed" {
			t.Errorf("got %+v", b)
		}
		f.restart(files)
		if why, _ = f.e.BatchDeadlines(t.Context(), two.ID); len(why["a/r"]) != 1 || why["a/r"][0].MissedAt.IsZero() {
			t.Errorf("got the deadlines %+v, want one that was missed", why)
		}
		in, _ := f.fires("g1", "g1", one, two)
		f.intakes(in)
		time.Sleep(time.Hour)
		want(t, len(f.told()), 1)
		if got := f.ends(run); len(got) != 1 || !strings.HasPrefix(got[0], "1m after batch_sealed: missed") {
			t.Errorf("got %v", got)
		}
		if snap, err := f.store.Load(t.Context()); err != nil || len(snap.Overdue) > 0 {
			t.Errorf("got %+v, %v, want nothing overdue", snap.Overdue, err)
		}
	})
}

// A group that becomes a run in time leaves the deadline to that.
func TestDeadlineOfAGroupInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, waitingFiles("1m"))
		one := testBatch(1)
		f.intakes(f.waits("g1", one))
		time.Sleep(50 * time.Second)
		in, run := f.fires("g1", "g1", one)
		f.intakes(in)
		f.wait(run)
		time.Sleep(time.Hour)
		want(t, f.ends(run), []string{"1m after batch_sealed: met -10s"})
		want(t, f.told(), []string(nil))
	})
}

// A pause that holds many batches is told of once, and their runs, when they come, are not told of again; one that is not late has its own time.
func TestDeadlineOfAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := waitingFiles("1m")
		f := newFixture(t, files)
		f.world.play(runs)
		var held []batcher.Batch
		for i := range 5 {
			b := testBatch(i)
			held = append(held, b)
			f.intakes(f.waits("", b))
			time.Sleep(time.Minute)
		}
		f.restart(files)
		want(t, f.told(), []string{"n deadline "})
		fresh := testBatch(9)
		f.intakes(f.waits("", fresh))
		var late, inTime string
		for _, b := range append(held, fresh) {
			in, run := f.fires(b.ID, "", b)
			f.intakes(in)
			late, inTime = inTime, run
		}
		want(t, f.ends(inTime), []string{"1m after batch_sealed: open"})
		if got := f.ends(late); !strings.Contains(got[0], "missed") {
			t.Errorf("got %v", got)
		}
		time.Sleep(time.Hour)
		// Once when the first was late, once for those that came after that, and once for the run that was late itself.
		want(t, f.told(), []string{"n deadline ", "n deadline ", "n deadline running"})
	})
}

// A deadline that comes into the file counts for what waits already.
func TestDeadlineOfAChangedFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, waitingFiles("2h"))
		f.intakes(f.waits("g1", testBatch(1)))
		f.setDAGs(waitingFiles("1m"))
		time.Sleep(2 * time.Minute)
		want(t, len(f.told()), 1)
		in := f.waits("g1")
		in.Updates = []trigger.Disposition{{Batch: f.notices()[0].ID, Rule: "a/r", Fate: trigger.FateDropped}}
		f.intakes(in) // of a batch that does not wait: nothing happens
		want(t, len(f.told()), 1)
	})
}

// What is held, and goes one by one, is told of again when all have gone that waited the last time: the first time does not hide others.
func TestDeadlinesOfALine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, waitingFiles("1m"))
		f.world.play(runs)
		var held []batcher.Batch
		for i := range 3 {
			b := testBatch(i)
			held = append(held, b)
			f.intakes(f.waits("", b))
			time.Sleep(2 * time.Minute)
		}
		for i, b := range held {
			want(t, len(f.told()), min(i+1, 2)) // the second time it was two that waited
			in, run := f.fires(b.ID, "", b)
			f.intakes(in)
			time.Sleep(5 * time.Minute)
			if got := f.ends(run); !strings.Contains(got[0], "missed") {
				t.Errorf("run %d: got %v", i, got)
			}
		}
		want(t, len(f.told()), 2)
	})
}
