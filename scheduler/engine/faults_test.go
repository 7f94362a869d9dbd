package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// A store whose answer is lost: the run is launched once, and counts no loss.
func TestLostAnswerOfACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		lose := 1
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			err := commit()
			if len(c.NewRuns) > 0 && lose > 0 {
				lose--
				return scheduler.ErrUnavailable
			}
			return err
		}
		in := f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		d := f.wait(in.Firings[0].RunID())
		if got := states(d); got != "success first=success second=success" || d.Tasks[0].Lost != 0 || len(f.world.doubled) > 0 {
			t.Errorf("got %s, %d lost", got, d.Tasks[0].Lost)
		}
	})
}

// The same with a commit that compares revisions, so that the second attempt is a conflict.
func TestLostAnswerBeforeALaunch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		lost := false
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			err := commit()
			if len(c.NewRuns) == 0 && len(c.Attempts) == 2 && !lost { // the end of first and the launch of second
				lost = true
				return scheduler.ErrUnavailable
			}
			return err
		}
		d := f.wait(f.trigger("chain", "x", "").ID)
		if got := states(d); !lost || got != "success first=success second=success" || d.Tasks[1].Lost != 0 || d.Tasks[1].Try != 1 {
			t.Errorf("got %s, %+v", got, d.Tasks[1])
		}
	})
}

func TestStoreThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		back := time.Now().Add(time.Minute)
		f.store.Intercept = func(_ *scheduler.Change, commit func() error) error {
			if time.Now().Before(back) {
				return fmt.Errorf("disk: %w", scheduler.ErrUnavailable)
			}
			return commit()
		}
		run := f.trigger("chain", "x", "")
		if time.Now().Before(back) {
			t.Error("the answer came before the commit")
		}
		f.wait(run.ID)
	})
}

// A caller who gives up while the store is away does no harm: the change is committed later.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		back := time.Now().Add(time.Minute)
		f.store.Intercept = func(_ *scheduler.Change, commit func() error) error {
			if time.Now().Before(back) {
				return scheduler.ErrUnavailable
			}
			return commit()
		}
		in := f.intake(testBatch(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.e.Start(ctx, in); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		f.wait(in.Firings[0].RunID())
	})
}

// What the store can not take at all is refused alone; its neighbours of the same round are committed.
func TestPoisonInput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		held, enter := make(chan struct{}), make(chan struct{})
		first := true
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			if first {
				first = false
				close(enter)
				<-held
			}
			for _, a := range c.Arrivals {
				if a.Batch.Source == "poison" {
					return errors.New("value is too large")
				}
			}
			return commit()
		}
		answers := make(chan error, 3)
		go func() { answers <- f.e.Start(t.Context(), f.intake(testBatch(1))) }()
		<-enter // what comes now is one group
		bad := testBatch(2)
		bad.Source = "poison"
		good := f.intake(testBatch(3))
		var badErr error
		done := make(chan struct{})
		go func() { badErr = f.e.Start(t.Context(), f.intake(bad)); close(done) }()
		go func() { answers <- f.e.Start(t.Context(), good) }()
		synctest.Wait()
		close(held)
		<-done
		if badErr == nil || !strings.Contains(badErr.Error(), "too large") {
			t.Errorf("the poison: got %v", badErr)
		}
		for range 2 {
			if err := <-answers; err != nil {
				t.Errorf("a neighbour: got %v", err)
			}
		}
		f.wait(good.Firings[0].RunID())
	})
}

// An executor that does not answer is asked until it does, and an attempt of which nothing is known is never launched again.
func TestExecutorThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		back := time.Now().Add(time.Minute)
		f.world.set(func() {
			f.world.fault = func(call string) (error, bool) {
				if time.Now().Before(back) {
					return scheduler.ErrUnavailable, call == "launch" // taken, and the answer lost
				}
				return nil, true
			}
		})
		d := f.wait(f.trigger("chain", "x", "").ID)
		if got := states(d); got != "success first=success second=success" || d.Tasks[0].Try != 1 || len(f.world.doubled) > 0 {
			t.Errorf("got %s with %d tries, doubled %v", got, d.Tasks[0].Try, f.world.doubled)
		}
	})
}

// An engine that can not read what it finds stops, instead of forgetting runs.
func TestStateThatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
	f.world.play(runs)
	f.trigger("chain", "x", "")
	f.stop()
	e, err := New(f.store, map[string]scheduler.Executor{"other": f.world}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(context.Background()); err == nil || !strings.Contains(err.Error(), `executor "local", which is not configured`) {
		t.Errorf("got %v", err)
	}
}
