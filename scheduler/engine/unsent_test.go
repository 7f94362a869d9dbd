package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// An attempt that its executor had and never handed on is launched again as it was: it is no further try, and costs no infra_retry. One that was to end
// meanwhile is not, nor is one that has started after all.
func TestUnsent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, infra_retry: 0}}"})
		silent := func(scheduler.Launch) []scheduler.Report { return nil }
		forget := func(on bool) {
			f.world.set(func() { f.world.forget = on })
		}
		unsent := func(run string) {
			f.world.tell(scheduler.Report{Attempt: run + ".one.-1.1", Outcome: scheduler.OutcomeUnsent, Exit: -1, Reason: "it waited"})
		}
		f.world.play(silent)
		forget(true)
		first, second := f.trigger("a", "1", "").ID, f.trigger("a", "2", "").ID
		time.Sleep(time.Second)
		if n := len(f.world.launched()); n != 0 {
			t.Fatalf("%d attempts are known, want none", n)
		}
		forget(false)
		f.world.play(runs)
		for range 2 { // the second finds that it runs
			unsent(first)
			time.Sleep(2 * time.Second)
		}
		f.world.tell(scheduler.Report{Attempt: first + ".one.-1.1", Outcome: scheduler.OutcomeExited})
		if d := f.wait(first); states(d) != "success one=success" || d.Tasks[0].Try != 1 || len(d.Attempts) != 1 {
			t.Errorf("got %s, try %d, %d attempts", states(d), d.Tasks[0].Try, len(d.Attempts))
		}
		if _, err := f.e.Cancel(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		unsent(second)
		if d := f.wait(second); states(d) != "cancelled one=cancelled" {
			t.Errorf("cancelled: got %s", states(d))
		}
		if got := f.world.launched(); len(got) != 1 {
			t.Errorf("launched %v, want the first only", got)
		}
	})
}
