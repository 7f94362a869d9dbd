package engine

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// forget makes the store forget all runs that have ended.
func (f *fixture) forget(object string) {
	f.t.Helper()
	ended, err := f.store.Ended(f.t.Context(), time.Now().Add(time.Hour), 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	gone, err := f.store.Forget(f.t.Context(), ended, object)
	if err == nil {
		err = f.store.Clean(f.t.Context(), gone)
	}
	if err != nil || len(gone) == 0 {
		f.t.Fatalf("forgot %v, %v", gone, err)
	}
}

// TestForgotten: what started a run that was archived since starts no second one: not the same firing, not the same request, and a replay gets a
// number that none had.
func TestForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		in := f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		id := in.Firings[0].RunID()
		f.wait(id)
		hand := f.trigger("chain", "by-hand", "{}").ID
		f.wait(hand)
		launched := len(f.world.launched())
		f.forget("k1")
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := f.e.Trigger(t.Context(), "chain", "by-hand", nil); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), "started run "+hand+" before, which is archived in k1") {
			t.Errorf("the same request: got %v", err)
		}
		synctest.Wait()
		if n := len(f.world.launched()); n != launched {
			t.Errorf("%d attempts were launched for runs that are archived", n-launched)
		}
		if _, err := f.store.Run(t.Context(), id); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("the run is back: %v", err)
		}
		if other := f.trigger("chain", "another", "{}").ID; other == hand {
			t.Error("another request got the id of the first")
		} else {
			f.wait(other)
		}
	})
}

// TestReplayNumberIsNew: a replay does not get the number of one that was archived, whose id it would have.
func TestReplayNumberIsNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		original := f.trigger("chain", "x", "{}").ID
		f.wait(original)
		first, err := f.e.Replay(t.Context(), original, scheduler.Replay{})
		if err != nil {
			t.Fatal(err)
		}
		f.wait(first.ID)
		ended, err := f.store.Ended(t.Context(), time.Now().Add(time.Hour), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ended {
			if e.ID == first.ID {
				if gone, err := f.store.Forget(t.Context(), []scheduler.Ended{e}, "k1"); err != nil || len(gone) != 1 {
					t.Fatalf("got %v, %v", gone, err)
				}
			}
		}
		second, err := f.e.Replay(t.Context(), original, scheduler.Replay{})
		if err != nil || second.ID == first.ID || second.Replay != 2 {
			t.Fatalf("got %+v, %v, want replay 2", second, err)
		}
		f.wait(second.ID)
	})
}
