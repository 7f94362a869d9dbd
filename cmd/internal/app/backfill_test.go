package app

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
	"millrace/trigger/rules"
)

// A rule is judged as dispatch does, but as one that is not paused.
func TestJudge(t *testing.T) {
	t.Parallel()
	b := batcher.Batch{ID: "b", Tenant: "default", Source: "web", Lane: ingest.EventLane("default", "web"), Events: 5}
	rule := func(change func(r *trigger.Rule)) trigger.Rule {
		r := trigger.Rule{DAG: "d", ID: "r", Kind: trigger.KindBatch, Source: "web", If: "batch.events > 3", Key: "batch.source", Coalesce: &trigger.Coalesce{MaxBatches: 2}}
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name   string
		rule   trigger.Rule
		fate   trigger.Fate
		reason string
		key    string
	}{
		{"wanted", rule(func(*trigger.Rule) {}), trigger.FateCoalesced, "", "web"},
		{"paused", rule(func(r *trigger.Rule) { r.Paused, r.WhenPaused = true, trigger.PausedDrop }), trigger.FateCoalesced, "", "web"},
		{"if is false", rule(func(r *trigger.Rule) { r.If = "batch.events > 5" }), trigger.FateFiltered, "if", "web"},
		{"another source", rule(func(r *trigger.Rule) { r.Source = "app" }), trigger.FateFiltered, "source", "web"},
	} {
		j, err := judge{}.Rule(tt.rule)
		if err != nil {
			t.Fatal(err)
		}
		fate, reason, _ := j.Judge(&b)
		key, err := j.Key(&b)
		if fate != tt.fate || reason != tt.reason || key != tt.key || err != nil {
			t.Errorf("%s: got %s, %q, key %q, %v, want %s, %q, %q", tt.name, fate, reason, key, err, tt.fate, tt.reason, tt.key)
		}
	}
	if _, err := (judge{}).Rule(rule(func(r *trigger.Rule) { r.If = "batch." })); err == nil {
		t.Error("a faulty rule is taken")
	}
}

func TestJudgeTicks(t *testing.T) {
	t.Parallel()
	r := trigger.Rule{DAG: "d", ID: "r", Kind: trigger.KindCron, Cron: "0 3 * * *", Timezone: "Europe/Berlin"}
	day := func(d, h int) time.Time { return time.Date(2026, 3, d, h, 0, 0, 0, time.UTC) }
	for _, tt := range []struct {
		name  string
		span  scheduler.Span
		limit int
		want  []time.Time
	}{
		{"over the change of clocks", scheduler.Span{From: day(27, 0), To: day(31, 0)}, 10, []time.Time{day(27, 2), day(28, 2), day(29, 1), day(30, 1)}},
		{"from is in it, to is not", scheduler.Span{From: day(27, 2), To: day(28, 2)}, 10, []time.Time{day(27, 2)}},
		{"from within a second", scheduler.Span{From: day(27, 2).Add(time.Millisecond), To: day(28, 3)}, 10, []time.Time{day(28, 2)}},
		{"at most", scheduler.Span{From: day(1, 0), To: day(31, 0)}, 2, []time.Time{day(1, 2), day(2, 2)}},
	} {
		got, err := judge{}.Ticks(r, tt.span, tt.limit)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	r.Cron = "0 0 31 2 *"
	if got, err := (judge{}).Ticks(r, scheduler.Span{From: day(1, 0), To: day(31, 0)}, 9); len(got) > 0 || err != nil && !errors.Is(err, rules.ErrNoTick) {
		t.Errorf("a rule that never fires: got %v, %v", got, err)
	}
	r.Cron = "nonsense"
	if _, err := (judge{}).Ticks(r, scheduler.Span{From: day(1, 0), To: day(31, 0)}, 9); err == nil {
		t.Error("a faulty rule is taken")
	}
}
