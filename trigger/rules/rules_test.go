package rules

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

func sample() *batcher.Batch {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &batcher.Batch{
		ID: "b1", Tenant: "default", Source: "web", Lane: ingest.EventLane("default", "web", ingest.KeyValue{Key: "country", Value: "de"}),
		Stream: ingest.Stream{Log: "l", Incarnation: "i", Partition: 3}, Seq: 5, Partition: 3, Events: 10, Bytes: 1000,
		Types: map[string]int64{"page": 4, "track": 6}, ReceivedMin: at, ReceivedMax: at.Add(5 * time.Second), EventMin: at.Add(-time.Hour),
		EventMax: at, CreatedAt: at.Add(6 * time.Second),
	}
}

func compile(t *testing.T, rules ...trigger.Rule) *Set {
	t.Helper()
	var c Compiler
	set, err := c.Compile(trigger.RuleSet{Gen: 1, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestMatch(t *testing.T) {
	t.Parallel()
	quarantined, void, many, acme := sample(), sample(), sample(), sample()
	quarantined.Lane = ingest.QuarantineLane("default", "web", "bad_json")
	void.Void, void.Source = "refused", "other"
	many.Types = map[string]int64{"page": 1, "other": 3}
	acme.Tenant = "acme"
	rule := func(change func(*trigger.Rule)) trigger.Rule {
		r := trigger.Rule{DAG: "d", ID: "r", Kind: trigger.KindBatch}
		if change != nil {
			change(&r)
		}
		return r
	}
	expr := func(cond, key string) trigger.Rule {
		return rule(func(r *trigger.Rule) { r.If, r.Key = cond, key })
	}
	const (
		run, filtered, held = trigger.FateRun, trigger.FateFiltered, trigger.FateHeld
		coalesced, dropped  = trigger.FateCoalesced, trigger.FateDropped
	)
	tests := []struct {
		name  string
		rule  trigger.Rule
		batch *batcher.Batch
		want  Verdict
	}{
		{"everything", rule(nil), nil, Verdict{Fate: run}},
		{"source", rule(func(r *trigger.Rule) { r.Source = "web" }), nil, Verdict{Fate: run}},
		{"any source", rule(func(r *trigger.Rule) { r.Source = "*" }), nil, Verdict{Fate: run}},
		{"other source", rule(func(r *trigger.Rule) { r.Source = "app" }), nil, Verdict{Fate: filtered, Reason: "source"}},
		{"no tenant is the default one", rule(nil), acme, Verdict{Fate: filtered, Reason: "source"}},
		{"any tenant", rule(func(r *trigger.Rule) { r.Tenant = "*" }), acme, Verdict{Fate: run}},
		{"quarantine is not wanted", rule(nil), quarantined, Verdict{Fate: filtered, Reason: "quarantine"}},
		{"quarantine is wanted", rule(func(r *trigger.Rule) { r.Quarantine = true }), quarantined, Verdict{Fate: run}},
		{"a type", rule(func(r *trigger.Rule) { r.Types = []string{"x", "page"} }), nil, Verdict{Fate: run}},
		{"no such type", rule(func(r *trigger.Rule) { r.Types = []string{"x"} }), nil, Verdict{Fate: filtered, Reason: "types"}},
		{"perhaps among the others", rule(func(r *trigger.Rule) { r.Types = []string{"x"} }), many, Verdict{Fate: run}},
		{"void", rule(nil), void, Verdict{Fate: dropped, Reason: "void"}},
		{"void, of another source", rule(func(r *trigger.Rule) { r.Source = "web" }), void, Verdict{Fate: dropped, Reason: "void"}},
		{"if", expr(`batch.events >= 1 && batch.source.startsWith("web") && batch.types.page == 4`, ""), nil, Verdict{Fate: run}},
		{"if says no", expr(`batch.events > 10`, ""), nil, Verdict{Fate: filtered, Reason: "if"}},
		{"if fails", expr(`batch.types.login > 0`, ""), nil, Verdict{Fate: filtered, Reason: "if_error: no such key: login"}},
		{"if asks first", expr(`has(batch.types.login) && batch.types.login > 0`, ""), nil, Verdict{Fate: filtered, Reason: "if"}},
		{"times", expr(`batch.created_at - batch.received_max == duration("1s") && batch.event_min < batch.event_max`, ""), nil, Verdict{Fate: run}},
		{"lane and its keys", expr(`batch.lane_keys.country == "de" && batch.lane.endsWith("country=de")`, ""), nil, Verdict{Fate: run}},
		{"only the sender's keys", expr(`size(batch.lane_keys) == 1`, ""), nil, Verdict{Fate: run}},
		{"string key", expr("", `batch.lane_keys["country"]`), nil, Verdict{Fate: run, Key: "de"}},
		{"number key", expr("", `batch.partition`), nil, Verdict{Fate: run, Key: "3"}},
		{"time key", expr("", `batch.received_min`), nil, Verdict{Fate: run, Key: "2026-03-01T12:00:00Z"}},
		{"key fails", expr("", `batch.lane_keys.city`), nil, Verdict{Fate: filtered, Reason: "key_error: no such key: city"}},
		{"too dear", expr(`"`+strings.Repeat("ab", 900)+`".split("").map(a, "`+strings.Repeat("ab", 900)+`".split("").map(b, a + b)).size() == 0`, ""), nil,
			Verdict{Fate: filtered, Reason: "if_error: operation cancelled: actual cost limit exceeded"}},
		{"paused", rule(func(r *trigger.Rule) { r.Paused, r.Key = true, "batch.id" }), nil, Verdict{Fate: held, Reason: "paused", Key: "b1"}},
		{"paused, not wanted", rule(func(r *trigger.Rule) { r.Paused, r.Source = true, "app" }), nil, Verdict{Fate: filtered, Reason: "source"}},
		{"coalesced", rule(func(r *trigger.Rule) { r.Coalesce = &trigger.Coalesce{MaxBatches: 2} }), nil, Verdict{Fate: coalesced}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := test.batch
			if b == nil {
				b = sample()
			}
			got := compile(t, test.rule).Match(b)
			if len(got) != 1 {
				t.Fatalf("got %d verdicts, want 1", len(got))
			}
			got[0].Rule = nil
			if diff := cmp.Diff(test.want, got[0]); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBadRule: one faulty rule takes nothing from its neighbours (a DAG file with such a rule is refused before it comes here).
func TestBadRule(t *testing.T) {
	t.Parallel()
	var c Compiler
	set, err := c.Compile(trigger.RuleSet{Gen: 7, Rules: []trigger.Rule{
		{DAG: "d", ID: "bad", Kind: trigger.KindBatch, If: "batch.evnts > 1"},
		{DAG: "d", ID: "good", Kind: trigger.KindBatch},
		{DAG: "d", ID: "never", Kind: trigger.KindCron, Cron: "0 0 31 2 *"},
		{DAG: "d", ID: "daily", Kind: trigger.KindCron, Cron: "0 0 * * *"},
		{DAG: "d", ID: "hand", Kind: trigger.KindManual},
	}})
	var fault *Fault
	if !errors.As(err, &fault) {
		t.Fatalf("got %v, want a Fault", err)
	}
	var got []string
	for _, v := range set.Match(sample()) {
		got = append(got, v.Rule.ID+" "+string(v.Fate)+" "+v.Reason)
	}
	want := []string{"bad filtered rule_error: if: 1:6: undefined field 'evnts'", "good run "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if crons := set.Crons(); len(crons) != 1 || crons[0].ID != "daily" || set.Gen != 7 || set.Rules() != 2 {
		t.Errorf("got %d crons, gen %d, %d rules", len(crons), set.Gen, set.Rules())
	}
}

func TestCompilerKeepsPrograms(t *testing.T) {
	t.Parallel()
	var c Compiler
	rule := func(text string) trigger.RuleSet {
		return trigger.RuleSet{Rules: []trigger.Rule{{DAG: "d", ID: "r", Kind: trigger.KindBatch, If: text}}}
	}
	one, err1 := c.Compile(rule("batch.events > 1"))
	two, err2 := c.Compile(rule("batch.events > 1"))
	if err := errors.Join(err1, err2); err != nil || one.batch[0].cond != two.batch[0].cond {
		t.Errorf("compiled again (%v)", err)
	}
	if _, err := c.Compile(rule("batch.events > 2")); err != nil || len(c.programs) != 1 {
		t.Errorf("got %d programs (%v), want 1: those of old rules go", len(c.programs), err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		rule trigger.Rule
		want []Fault
	}{
		{"good", trigger.Rule{Kind: trigger.KindBatch, If: "true", Key: "batch.id", Coalesce: &trigger.Coalesce{MaxBatches: 1}}, nil},
		{"several", trigger.Rule{Kind: trigger.KindBatch, If: "batch.events", Key: "batch.events >"}, []Fault{
			{"if", 1, 1, "expression yields int, want a bool"}, {"key", 1, 15, "Syntax error: mismatched input"}}},
		{"second line", trigger.Rule{Kind: trigger.KindBatch, If: "batch.events > 1 &&\n  batch.source > 2"}, []Fault{{"if", 2, 16, "found no matching overload"}}},
		{"too long", trigger.Rule{Kind: trigger.KindBatch, If: strings.Repeat("true||", 1000) + "true"}, []Fault{{"if", 1, 1, "longer than 4096"}}},
		{"list key", trigger.Rule{Kind: trigger.KindBatch, Key: "[1]"}, []Fault{{"key", 1, 1, "expression yields list(int)"}}},
		{"coalesce", trigger.Rule{Kind: trigger.KindBatch, Coalesce: &trigger.Coalesce{}}, []Fault{{"coalesce", 0, 0, "set at least one"}}},
		{"cron", trigger.Rule{Kind: trigger.KindCron, Cron: "15 2 * * MON-FRI", Timezone: "Europe/Berlin"}, nil},
		{"cron word", trigger.Rule{Kind: trigger.KindCron, Cron: "@daily"}, nil},
		{"six fields", trigger.Rule{Kind: trigger.KindCron, Cron: "0 15 2 * * *"}, []Fault{{"cron", 0, 0, "want five fields"}}},
		{"no cron, no zone", trigger.Rule{Kind: trigger.KindCron, Timezone: "Europe/Bonn"}, []Fault{{"timezone", 0, 0, "not known"}, {"cron", 0, 0, "got 0"}}},
		{"out of range", trigger.Rule{Kind: trigger.KindCron, Cron: "61 * * * *"}, []Fault{{"cron", 0, 0, "not valid"}}},
		{"never", trigger.Rule{Kind: trigger.KindCron, Cron: "0 0 31 2 *"}, []Fault{{"cron", 0, 0, "never fires"}}},
		{"local", trigger.Rule{Kind: trigger.KindCron, Cron: "0 0 * * *", Timezone: "Local"}, []Fault{{"timezone", 0, 0, "differs"}}},
		{"manual", trigger.Rule{Kind: trigger.KindManual}, nil},
		{"kind", trigger.Rule{Kind: "x"}, []Fault{{"kind", 0, 0, "not a kind"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			errs := split(Check(test.rule))
			if len(errs) != len(test.want) {
				t.Fatalf("got %v, want %d faults", errs, len(test.want))
			}
			for i, want := range test.want {
				var got *Fault
				if !errors.As(errs[i], &got) {
					t.Fatalf("got %v, want a Fault", errs[i])
				}
				if got.Field != want.Field || got.Line != want.Line || got.Column != want.Column || !strings.Contains(got.Msg, want.Msg) {
					t.Errorf("got %v, want %v", got, &want)
				}
			}
		})
	}
}

func TestKeyAgain(t *testing.T) {
	t.Parallel()
	set := compile(t, trigger.Rule{DAG: "d", ID: "r", Kind: trigger.KindBatch, Key: "batch.source", Paused: true})
	if got, err := set.Key("d/r", sample()); err != nil || got != "web" {
		t.Errorf("got %q, %v, want web", got, err)
	}
	if got, err := set.Key("d/gone", sample()); err != nil || got != "" {
		t.Errorf("rule without key: got %q, %v, want none", got, err)
	}
}

func FuzzIf(f *testing.F) {
	for _, text := range []string{`batch.events > 1`, `batch.types.all(t, batch.types[t] > 0)`, `has(batch.types.x)`, `batch.id.split("")[9] == "a"`, `1/0 > 1`, `((`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c Compiler
		set, _ := c.Compile(trigger.RuleSet{Rules: []trigger.Rule{{DAG: "d", ID: "r", Kind: trigger.KindBatch, If: text, Key: text}}})
		v := set.Match(sample())
		if len(v) != 1 || len(v[0].Reason) > maxReason || len(v[0].Key) > MaxKey {
			t.Errorf("got %v", v)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	var c Compiler
	set, err := c.Compile(trigger.RuleSet{Rules: []trigger.Rule{
		{DAG: "d", ID: "a", Kind: trigger.KindBatch, Source: "web", If: `batch.events >= 1 && batch.source.startsWith("web")`, Key: "batch.partition"},
		{DAG: "d", ID: "b", Kind: trigger.KindBatch, Source: "other"},
	}})
	if err != nil {
		b.Fatal(err)
	}
	batch := sample()
	b.ReportAllocs()
	for b.Loop() {
		set.Match(batch)
	}
}
