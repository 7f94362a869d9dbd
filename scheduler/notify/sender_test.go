package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// rig is a service whose tries a test decides on.
type rig struct {
	*testing.T
	*Service
	store *schedulertest.Store
	stop  func()

	mu   sync.Mutex // guards the rest
	fail func(n *Notifier, b *scheduler.NoticeBody) error
	sent []string // notifier, run, reason
	at   []time.Duration
}

var errAway = errors.New("answered 500")

func newRig(t *testing.T, store *schedulertest.Store, names ...string) *rig {
	t.Helper()
	var notifiers []Notifier
	for _, name := range names {
		notifiers = append(notifiers, Notifier{Name: name, Kind: KindCommand, Run: []string{"x"}})
	}
	s, err := New(store, notifiers, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, Service: s, store: store}
	began := time.Now()
	s.deliver = func(ctx context.Context, n *Notifier, _ string, b *scheduler.NoticeBody) error {
		r.mu.Lock()
		fail := r.fail
		r.at = append(r.at, time.Since(began))
		r.mu.Unlock()
		if fail != nil {
			if err := fail(n, b); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, strings.TrimPrefix(n.Name+" "+b.Run+" "+strings.TrimPrefix(b.Reason, "task a: exit code "), ""))
		return nil
	}
	return r
}

func (r *rig) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with ctx, and is waited for by stop
		_ = r.Run(ctx)
		close(done)
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	r.Cleanup(func() { r.stop() })
}

func (r *rig) fails(fail func(n *Notifier, b *scheduler.NoticeBody) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = fail
}

func (r *rig) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sent)
}

func (r *rig) tries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.at)
}

// Run hides testing.T's.
func (r *rig) Run(ctx context.Context) error { return r.Service.Run(ctx) }

// Those of one run come in their order, whatever fails; others pass them, and so do other notifiers.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := schedulertest.NewStore()
		r := newRig(t, store, "ops", "hook")
		r.fails(func(n *Notifier, b *scheduler.NoticeBody) error {
			if n.Name == "ops" && b.Run == "r1" && r.tries() < 6 {
				return errAway
			}
			return nil
		})
		fill(t, store, notice("r1", "ops", 1), notice("r1", "ops", 2), notice("r2", "ops", 3), notice("r1", "hook", 4))
		r.begin()
		synctest.Wait()
		got := r.told()
		slices.Sort(got)
		if want := []string{"hook r1 4", "ops r2 3"}; !slices.Equal(got, want) {
			t.Errorf("at first: got %v, want %v", got, want)
		}
		time.Sleep(time.Hour)
		if got := r.told(); !slices.Equal(got[2:], []string{"ops r1 1", "ops r1 2"}) {
			t.Errorf("in the end: got %v", got)
		}
		for _, n := range all(t, store) {
			if n.State != scheduler.NoticeSent || n.Error != "" || n.EndedAt.IsZero() {
				t.Errorf("got %+v", n)
			}
		}
		fill(t, store, notice("r3", "ops", 5))
		r.Wake()
		synctest.Wait()
		if got := r.told(); got[len(got)-1] != "ops r3 5" {
			t.Errorf("after a wake: got %v", got)
		}
		r.stop()
	})
}

// A notifier that hangs holds up nobody else, and what it was told when the process ended is told again.
func TestSlowNotifier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := schedulertest.NewStore()
		r := newRig(t, store, "slow", "fast")
		r.fails(func(n *Notifier, _ *scheduler.NoticeBody) error {
			if n.Name == "slow" {
				time.Sleep(time.Hour)
			}
			return nil
		})
		fill(t, store, notice("r1", "slow", 1))
		r.begin()
		synctest.Wait()
		fill(t, store, notice("r1", "fast", 2), notice("r2", "fast", 3))
		r.Wake()
		synctest.Wait()
		if got := r.told(); !slices.Equal(got, []string{"fast r1 2", "fast r2 3"}) {
			t.Errorf("got %v", got)
		}
		r.stop()
		next := newRig(t, store, "slow", "fast")
		next.begin()
		synctest.Wait()
		if got := next.told(); !slices.Equal(got, []string{"slow r1 1"}) {
			t.Errorf("after a restart: got %v", got)
		}
		next.stop()
	})
}

// A notifier that does not work is tried less and less often, one notice at a time, and at once when a person asks; when it works again, all is told.
func TestCircuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := schedulertest.NewStore()
		r := newRig(t, store, "ops")
		r.fails(func(*Notifier, *scheduler.NoticeBody) error { return errAway })
		var last scheduler.Notice
		for i := range 100 {
			last = notice(fmt.Sprint("r", i), "ops", i)
			fill(t, store, last)
		}
		r.begin()
		time.Sleep(time.Hour)
		st, err := r.Notifiers(t.Context())
		if err != nil || len(st) != 1 || st[0].Circuit != "open" || st[0].Pending != 100 || st[0].LastError != "answered 500" || st[0].Failed != int64(r.tries()) || st[0].RetryAt.IsZero() || st[0].Oldest.IsZero() {
			t.Errorf("got %+v, %v", st, err)
		}
		if n := r.tries(); n < 12 || n > 30 {
			t.Errorf("tried %d times in an hour, want 5 and then once in about 5m", n)
		}
		before := r.tries()
		if _, err := r.Retry(t.Context(), last.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r.tries() != before+1 {
			t.Errorf("tried %d times when asked to, want once", r.tries()-before)
		}
		r.fails(nil)
		time.Sleep(20 * time.Minute)
		if st, err = r.Notifiers(t.Context()); err != nil || st[0].Circuit != "closed" || st[0].Pending != 0 || st[0].Sent != 100 || st[0].LastError != "" {
			t.Errorf("got %+v, %v", st, err)
		}
		r.stop()
	})
}

// What can not be sent for a day is given up with its reason, also what is for a notifier that does not exist; a person can begin anew.
func TestGivingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := schedulertest.NewStore()
		r := newRig(t, store, "ops")
		r.fails(func(*Notifier, *scheduler.NoticeBody) error { return errAway })
		ours, behind, nobodys := notice("r1", "ops", 1), notice("r1", "ops", 2), notice("r1", "none", 3)
		fill(t, store, ours, behind, nobodys)
		r.begin()
		time.Sleep(23 * time.Hour)
		for id, n := range all(t, store) {
			if n.State != scheduler.NoticePending {
				t.Errorf("%s is %s after 23h", id, n.State)
			}
		}
		time.Sleep(2 * time.Hour)
		got := all(t, store)
		for id, want := range map[string]string{
			ours.ID: "tries: answered 500", behind.ID: "given up after 24h0m0s and 0 tries: answered 500", nobodys.ID: "the configuration has no notifier none",
		} {
			if n := got[id]; n.State != scheduler.NoticeDead || !strings.Contains(n.Error, want) || n.EndedAt.IsZero() {
				t.Errorf("got %+v, want %q", n, want)
			}
		}
		r.fails(nil)
		if _, err := r.Retry(t.Context(), ours.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := all(t, store)[ours.ID]; n.State != scheduler.NoticeSent || n.Tries != 1 {
			t.Errorf("after a person asked: got %+v", n)
		}
		r.stop()
	})
}

// A receiver that says when to come again is heeded, within reason; waits grow to ten minutes.
func TestWaits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tries int
		err   error
		least time.Duration
	}{
		{1, errAway, 2 * time.Second}, {2, errAway, 4 * time.Second}, {100, errAway, 10 * time.Minute}, {1, &again{errAway, time.Minute}, time.Minute},
		{100, &again{errAway, time.Minute}, 10 * time.Minute},
	} {
		if got := retryWait(tt.tries, tt.err); got < tt.least || got > tt.least*6/5+1 {
			t.Errorf("after %d tries and %v: got %v, want %v and a fifth at most", tt.tries, tt.err, got, tt.least)
		}
	}
}

// A changed configuration takes effect, and leaves alone what is as it was.
func TestSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := schedulertest.NewStore()
		r := newRig(t, store, "ops")
		r.begin()
		fill(t, store, notice("r1", "ops", 1), notice("r1", "late", 2))
		r.Wake()
		synctest.Wait()
		missing, err := r.Missing(t.Context())
		if err != nil || len(missing) != 0 {
			t.Errorf("got %v missing, %v", missing, err)
		}
		ops := r.sender("ops")
		if err := r.Set([]Notifier{ops.n, {Name: "late", Kind: KindCommand, Run: []string{"x"}}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.told(); !slices.Equal(got, []string{"ops r1 1", "late r1 2"}) || r.sender("ops") != ops {
			t.Errorf("got %v", got)
		}
		if err := r.Set([]Notifier{{Name: "ops", Kind: "mail"}}); err == nil || r.sender("late") == nil {
			t.Errorf("a faulty configuration: got %v", err)
		}
		r.stop()
	})
}
