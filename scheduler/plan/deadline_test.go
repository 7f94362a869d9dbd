package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

func TestSetDeadlines(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	rules := []scheduler.DeadlineRule{
		{From: scheduler.FromRunCreated, Within: time.Minute}, {From: scheduler.FromBatchSealed, Within: time.Minute},
		{From: scheduler.FromCronTime, Within: time.Minute}, {From: scheduler.FromAverage, Last: 2, MinRuns: 1, Within: time.Second},
	}
	dag, _, err := Of(&scheduler.DAG{V: 1, ID: "d", Deadlines: rules, Tasks: []scheduler.Task{{ID: "a", Kind: "command", Run: []string{"x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	batches := []batcher.Batch{{ID: "b2", CreatedAt: now.Add(-5 * time.Second)}, {ID: "b1", CreatedAt: now.Add(-10 * time.Minute)}}
	at := func(n int, rule string, after time.Duration) scheduler.Deadline {
		return scheduler.Deadline{N: n, Rule: rule, At: now.Add(after)}
	}
	created := at(0, "1m after run_created", time.Minute)
	sealed, told := at(1, "1m after batch_sealed", -9*time.Minute), at(1, "1m after batch_sealed", -9*time.Minute)
	told.MissedAt = now
	for name, tt := range map[string]struct {
		f    trigger.Firing
		t    Terms
		want []scheduler.Deadline
	}{
		"by hand":                     {want: []scheduler.Deadline{created}},
		"of batches":                  {f: trigger.Firing{Batches: batches}, want: []scheduler.Deadline{created, sealed}},
		"of batches that were late":   {f: trigger.Firing{Batches: batches}, t: Terms{Told: []int{0, 1}}, want: []scheduler.Deadline{created, told}},
		"of a tick":                   {f: trigger.Firing{Kind: trigger.KindCron, Due: now.Add(-time.Hour)}, want: []scheduler.Deadline{created, at(2, "1m after cron_time", -59*time.Minute)}},
		"with an average of the last": {t: Terms{Past: []time.Duration{10 * time.Second, 20 * time.Second, time.Hour}}, want: []scheduler.Deadline{created, at(3, "1s after average(2)", 16*time.Second)}},
		"a replay":                    {f: trigger.Firing{Batches: batches, Replay: 1}, t: Terms{Past: []time.Duration{time.Second}}},
	} {
		tt.f.DAG, tt.f.Key = "d", "k"
		r, _ := NewRunOn(dag, &tt.f, tt.t, now)
		if diff := cmp.Diff(tt.want, r.Row.Deadlines); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A deadline ends once: as met by a success that is no later, or as missed.
func TestDeadlineEnds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	row := func() *scheduler.Run {
		return &scheduler.Run{Deadlines: []scheduler.Deadline{{N: 0, At: now.Add(-time.Second)}, {N: 1, At: now}, {N: 2, At: now.Add(time.Second)}}}
	}
	met := row()
	before := met.Deadlines
	meet(met, now)
	if !met.Deadlines[0].Open() || !met.Deadlines[1].MetAt.Equal(now) || !met.Deadlines[2].MetAt.Equal(now) || !met.NextDeadline().Equal(now.Add(-time.Second)) {
		t.Errorf("after a success: got %+v", met.Deadlines)
	}
	if !before[1].Open() {
		t.Error("the list that others may be reading was changed")
	}
	if missed := Overdue(met, now); len(missed) != 1 || missed[0].N != 0 || !met.NextDeadline().IsZero() {
		t.Errorf("missed after a success: got %+v", missed)
	}
	late := row()
	for i, want := range []int{2, 0} {
		if missed := Overdue(late, now); len(missed) != want {
			t.Errorf("look %d: got %d missed, want %d", i, len(missed), want)
		}
	}
	meet(late, now.Add(time.Hour))
	if d := late.Deadlines; !d[0].MetAt.IsZero() || d[2].Open() != true {
		t.Errorf("after a late success: got %+v", d)
	}
}
