package schedulertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

// ExampleNotice returns the n'th notice of a run for a notifier.
func ExampleNotice(run, notifier string, n int) scheduler.Notice {
	at := Epoch.Add(time.Duration(n) * time.Second)
	return scheduler.Notice{
		ID: scheduler.NoticeID(notifier, run, fmt.Sprint(n)), Notifier: notifier, Event: scheduler.OnFailure, DAG: "load", Run: run, Task: "check",
		State: scheduler.NoticePending, NextAt: at, CreatedAt: at, Since: at, Body: json.RawMessage(`{"v":1}`),
	}
}

func (t *storeTest) outbox() scheduler.Outbox { return t.Store.(scheduler.Outbox) }

func (t *storeTest) due(notifier string, at time.Time) []scheduler.Notice {
	t.Helper()
	list, err := t.outbox().DueNotices(t.Context(), notifier, at, 10)
	if err != nil {
		t.Fatalf("due notices of %s: %v", notifier, err)
	}
	return list
}

func (t *storeTest) settle(n scheduler.Notice) {
	t.Helper()
	if err := t.outbox().SettleNotice(t.Context(), &n); err != nil {
		t.Fatalf("settle notice %s: %v", n.ID, err)
	}
}

// numbered is the same notice with its place in the store's order.
func numbered(n scheduler.Notice, seq int64) scheduler.Notice {
	n.Seq = seq
	return n
}

func testOutbox(t *storeTest) {
	c, _, r := started(1)
	a1, a2 := ExampleNotice(r.Run.ID, "ops", 1), ExampleNotice(r.Run.ID, "ops", 2)
	other, b1 := ExampleNotice(r.Run.ID, "hook", 1), ExampleNotice("rb", "ops", 3)
	c.Notices = []scheduler.Notice{a1, a2, other, b1}
	t.apply(c)
	// Again: the run is there, so its notices belong to a decision that was taken before; a known id is left alone.
	c.Notices = []scheduler.Notice{ExampleNotice(r.Run.ID, "ops", 9), b1}
	t.apply(c)
	t.reopen()
	late := Epoch.Add(time.Hour)
	first := []scheduler.Notice{numbered(a1, 1), numbered(b1, 4)}
	t.same("the first of each run", t.due("ops", late), first)
	t.same("those whose time has come", t.due("ops", Epoch.Add(2*time.Second)), first[:1])
	t.same("those of nobody", t.due("none", late), []scheduler.Notice(nil))

	failed := first[0]
	failed.Tries, failed.NextAt, failed.Error = 1, late.Add(time.Second), "answered 500"
	t.settle(failed)
	t.same("what waits behind one that failed", t.due("ops", late), first[1:])
	sent := failed
	sent.State, sent.Tries, sent.NextAt, sent.Error, sent.EndedAt = scheduler.NoticeSent, 2, time.Time{}, "", late
	t.settle(sent)
	t.settle(failed) // comes too late
	t.same("the next of a run", t.due("ops", late), []scheduler.Notice{numbered(a2, 2), first[1]})
	behind := numbered(a2, 2)
	behind.Tries, behind.NextAt = 1, late.Add(time.Minute)
	t.settle(behind)
	dead := numbered(b1, 4)
	dead.State, dead.NextAt, dead.Error, dead.EndedAt = scheduler.NoticeDead, time.Time{}, "not for 24h", late
	t.settle(dead)

	counts, err := t.outbox().CountNotices(t.Context())
	if err != nil {
		t.Fatalf("count: %v", err)
	}
	t.same("counts", counts, []scheduler.NoticeCount{
		{Notifier: "hook", Pending: 1, Oldest: other.CreatedAt, Next: other.NextAt},
		{Notifier: "ops", Pending: 1, Oldest: a2.CreatedAt, Next: behind.NextAt, Dead: 1},
	})
	again, err := t.outbox().RetryNotice(t.Context(), dead.ID, late)
	if err != nil {
		t.Fatalf("retry: %v", err)
	}
	want := dead
	want.State, want.NextAt, want.Since, want.EndedAt = scheduler.NoticePending, late, late, time.Time{}
	t.same("one that is tried again", *again, want)
	if _, err := t.outbox().RetryNotice(t.Context(), "n0", late); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("retry of none: got %v, want ErrNotFound", err)
	}
	noticePages(t, []scheduler.Notice{want, numbered(other, 3), behind, sent}, dead.Run)
}

// noticePages reads the notices in all ways; all of them are given, newest first, and the first alone is of the run.
func noticePages(t *storeTest, all []scheduler.Notice, run string) {
	t.Helper()
	ask := func(q scheduler.NoticeQuery) ([]scheduler.Notice, string) {
		t.Helper()
		list, next, err := t.outbox().Notices(t.Context(), q)
		if err != nil {
			t.Fatalf("notices %+v: %v", q, err)
		}
		return list, next
	}
	page, next := ask(scheduler.NoticeQuery{Limit: 3})
	t.same("a page", page, all[:3])
	page, next = ask(scheduler.NoticeQuery{Limit: 3, Before: next})
	t.same("the last page", page, all[3:])
	if next != "" {
		t.Errorf("got %q after the last page, want none", next)
	}
	page, _ = ask(scheduler.NoticeQuery{Run: run})
	t.same("of a run", page, all[:1])
	page, _ = ask(scheduler.NoticeQuery{Notifier: "hook"})
	t.same("of a notifier", page, all[1:2])
	page, _ = ask(scheduler.NoticeQuery{State: scheduler.NoticeSent})
	t.same("those that were sent", page, all[3:])
	if _, _, err := t.outbox().Notices(t.Context(), scheduler.NoticeQuery{Before: "x"}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("a cursor that is none: got %v, want ErrInvalid", err)
	}
}

func testDeadlines(t *storeTest) {
	c, _, r := started(1)
	deadlines := []scheduler.Deadline{
		{N: 0, Rule: "1s after run_created", At: Epoch.Add(time.Second), MissedAt: Epoch.Add(2 * time.Second)},
		{N: 1, Rule: "1m after run_created", At: Epoch.Add(time.Minute)},
	}
	c.NewRuns[0].Run.Deadlines = deadlines
	held := ExampleBatch(2)
	c.Arrivals = append(c.Arrivals, trigger.Arrival{Batch: held, Dispositions: []trigger.Disposition{
		{Batch: held.ID, Rule: "load/a", Fate: trigger.FateHeld, Reason: "paused", At: Epoch},
		{Batch: held.ID, Rule: "load/b", Fate: trigger.FateCoalesced, Group: "coal:x", At: Epoch},
	}})
	o := scheduler.Overdue{Rule: "load/a", Key: held.ID, N: 1, At: Epoch, MissedAt: Epoch.Add(time.Second)}
	c.Overdue = []scheduler.Overdue{o, {Rule: "load/a", Key: "gone", At: Epoch, MissedAt: Epoch}}
	t.apply(c)
	run := r.Run
	run.Rev, run.Deadlines, run.State = 1, deadlines, scheduler.StateFailed
	again := o
	again.MissedAt = Epoch.Add(time.Hour)
	t.apply(&scheduler.Change{Runs: []scheduler.Run{run}, Overdue: []scheduler.Overdue{again, {Rule: "load/a", Key: "gone", Done: true}}})
	t.reopen()
	run.Rev = 2
	snap, err := t.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	late := run
	late.Batches = nil
	for i := range snap.Late {
		snap.Late[i].Batches = nil
	}
	t.same("the run that failed", snap.Late, []scheduler.Run{late})
	t.same("what waits", snap.Waiting, []scheduler.Waiting{
		{Batch: held.ID, Rule: "load/a", SealedAt: held.CreatedAt}, {Batch: held.ID, Rule: "load/b", Group: "coal:x", SealedAt: held.CreatedAt},
	})
	t.same("what is overdue", snap.Overdue, []scheduler.Overdue{o})
	t.same("the run", t.run(run.ID).Run.Deadlines, deadlines)
	run.Deadlines = []scheduler.Deadline{deadlines[0], deadlines[1]}
	run.Deadlines[1].MissedAt = Epoch.Add(2 * time.Minute)
	t.apply(&scheduler.Change{Runs: []scheduler.Run{run}})
	if snap, err = t.Load(t.Context()); err != nil || len(snap.Late) > 0 {
		t.Errorf("no deadline is open: got %v, %v", snap.Late, err)
	}
}
