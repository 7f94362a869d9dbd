//go:build linux

package runner

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"millrace/ingest/vfs"
	"millrace/scheduler"
)

// bench is a runner without a loop, whose journal is on a disk that fails at will. Nothing is ever executed.
func bench(t *testing.T) (*runner, *client, *error) {
	t.Helper()
	var fail error
	j, tab, err := openJournal(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync || op.Kind == vfs.OpWrite {
			return fail
		}
		return nil
	}), "/d/journal")
	must(t, err)
	c := &client{out: make(chan *Message, 16)}
	r := &runner{
		place: &place{dir: "/d"}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), jnl: j, tab: tab, client: c,
		running: map[int]*attempt{}, lingering: map[*attempt]struct{}{}, events: make(chan func(), 16), done: make(chan struct{}),
	}
	return r, c, &fail
}

// step does what loop does for one message, but for executing.
func (r *runner) step(c *client, m *Message) {
	r.handle(c, m)
	for r.settle(); r.syncing; r.settle() {
		(<-r.events)()
	}
}

// TestClaimsNeedTheDisk: while claims can not be written nothing is queued for execution, and nothing is reported as lost; when the
// disk is back, both are.
func TestClaimsNeedTheDisk(t *testing.T) {
	t.Parallel()
	r, c, fail := bench(t)
	*fail = vfs.ErrNoSpace
	launch := &Message{Kind: KindLaunch, Seq: 1, Launch: []scheduler.Launch{{ID: "r.a.0.1"}, {ID: "r.b.0.1"}}}
	ask := &Message{Kind: KindReconcile, Seq: 2, IDs: []string{"r.c.0.1"}}
	for _, m := range []*Message{launch, ask, launch} {
		r.step(c, m)
		if got := <-c.out; got.Kind != KindDone || got.Seq != m.Seq || got.Error == "" {
			t.Errorf("got %+v, want request %d failed", got, m.Seq)
		}
	}
	if len(r.queue) != 0 || len(r.tab.all) != 0 || len(r.pending) != 0 || r.tab.active != 0 {
		t.Errorf("got %d queued, %d known, %d reports, want nothing claimed", len(r.queue), len(r.tab.all), len(r.pending))
	}
	r.mend()
	if !r.jnl.broken {
		t.Error("got a journal that works on a disk that does not")
	}
	*fail = nil
	r.mend()
	for _, m := range []*Message{launch, ask, launch} {
		r.step(c, m)
	}
	var kinds []string
	for len(c.out) > 0 {
		m := <-c.out
		kinds = append(kinds, m.Kind)
		if m.Error != "" {
			t.Errorf("got %+v, want it done", m)
		}
	}
	if len(r.queue) != 2 || len(kinds) != 4 {
		t.Errorf("got %d queued and %q, want 2 attempts, three answers and a report", len(r.queue), kinds)
	}
}

// TestRefusalIsHidden: that an attempt was claimed as never to be started is not said before it is durable.
func TestRefusalIsHidden(t *testing.T) {
	t.Parallel()
	r, c, _ := bench(t)
	r.handle(c, &Message{Kind: KindReconcile, Seq: 1, IDs: []string{"r.x.0.1"}})
	r.handle(c, &Message{Kind: KindLaunch, Seq: 2, Launch: []scheduler.Launch{{ID: "r.x.0.1"}}})
	r.flush()
	if len(c.out) != 1 || len(r.pending) != 0 {
		t.Errorf("got %d messages and %d reports before the sync, want the answer to the launch alone", len(c.out), len(r.pending))
	}
	for r.settle(); r.syncing; r.settle() {
		(<-r.events)()
	}
	r.workers.Wait()
	if len(r.queue) != 0 || len(c.out) != 3 {
		t.Errorf("got %d queued, %d messages, want none executed, two answers and the report", len(r.queue), len(c.out))
	}
}

// TestClaimsAreNotSynced: a launch does not wait for the disk; the claims get there a while later, or with what does wait for it.
func TestClaimsAreNotSynced(t *testing.T) {
	t.Parallel()
	r, c, fail := bench(t)
	*fail = nil
	r.step(c, &Message{Kind: KindLaunch, Seq: 1, Launch: []scheduler.Launch{{ID: "r.a.0.1"}}})
	if m := <-c.out; m.Kind != KindDone || m.Error != "" || len(r.queue) != 1 || r.jnl.durable == r.jnl.end {
		t.Errorf("got %+v, %d queued, %d of %d bytes durable; want it taken, and not synced", m, len(r.queue), r.jnl.durable, r.jnl.end)
	}
	if r.syncTick == nil {
		t.Error("no sync is due")
	}
	r.syncTick, r.due = nil, true
	for r.settle(); r.syncing; r.settle() {
		(<-r.events)()
	}
	if r.jnl.durable != r.jnl.end {
		t.Errorf("got %d of %d bytes durable, want all", r.jnl.durable, r.jnl.end)
	}
}

// TestKillBeforeExec: an attempt that is killed while it waits for its turn is never executed.
func TestKillBeforeExec(t *testing.T) {
	t.Parallel()
	r, c, _ := bench(t)
	r.step(c, &Message{Kind: KindLaunch, Seq: 1, Launch: []scheduler.Launch{{ID: "r.a.0.1", Argv: []string{"/bin/false"}}}})
	r.step(c, &Message{Kind: KindKill, Seq: 2, Kill: &Kill{ID: "r.a.0.1", Grace: time.Second}})
	a := r.queue[0]
	r.execute(a)
	if a.start != nil || a.end == nil || a.end.Outcome != scheduler.OutcomeExited || a.end.Signal != "SIGTERM" {
		t.Errorf("got %+v, want an end by SIGTERM without a start", a.end)
	}
	if errors.Is(r.note(), errBroken) {
		t.Error("got a broken journal")
	}
}
