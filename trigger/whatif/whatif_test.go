package whatif

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/dispatch"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

func past(n int, seconds float64) trigger.Past {
	return trigger.Past{At: at(seconds), Batch: batcher.Batch{
		ID: fmt.Sprintf("b%03d", n), Tenant: "default", Source: "web", Stream: ingest.Stream{Log: "a", Incarnation: "i"}, Seq: int64(n),
		Events: int64(n), URI: "file:///o", CreatedAt: at(seconds - 2), CommittedAt: at(seconds - 1),
	}}
}

func rule(change func(r *trigger.Rule)) []trigger.Rule {
	r := trigger.Rule{DAG: "load", ID: "clicks", Kind: trigger.KindBatch}
	if change != nil {
		change(&r)
	}
	return []trigger.Rule{r, {DAG: "load", ID: "hand", Kind: trigger.KindManual}}
}

// happened has the runs that a course would have left in the ledger.
func happened(t *testing.T, rules []trigger.Rule, list []trigger.Past, from, to time.Time) []Happened {
	t.Helper()
	c, err := dispatch.Simulate(rules, list, from, to, dispatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var out []Happened
	for _, f := range c.Firings {
		h := Happened{ID: f.RunID(), Rule: f.Rule, Key: f.Key, At: f.At}
		for i := range f.Batches {
			h.Batches = append(h.Batches, f.Batches[i].ID)
		}
		out = append(out, h)
	}
	return out
}

func compare(t *testing.T, q *Question) *Report {
	t.Helper()
	out, err := Compare(q)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFilter(t *testing.T) {
	t.Parallel()
	list := []trigger.Past{past(1, 0), past(2, 1), past(3, 2), past(4, 3)}
	old := rule(nil)
	got := compare(t, &Question{
		DAG: "load", Before: old, After: rule(func(r *trigger.Rule) { r.If = "batch.events >= 3" }), From: t0, To: at(60),
		Past: list, Happened: happened(t, old, list, t0, at(60)),
	})
	if len(got.Rules) != 1 {
		t.Fatalf("got %d rules, want the one that starts runs by itself: %+v", len(got.Rules), got.Rules)
	}
	r := got.Rules[0]
	if r.Happened.Runs != 4 || r.Checked != 4 || r.Reproduced != 4 || len(r.Unlike) != 0 || r.Before.Runs != 4 || r.After.Runs != 2 || r.After.Events != 7 {
		t.Errorf("got %+v", r)
	}
	if diff := cmp.Diff(Examples{2, []string{"b001", "b002"}}, r.Lost); diff != "" || r.Gained.Count != 0 {
		t.Errorf("lost (-want +got):\n%s, gained %+v", diff, r.Gained)
	}
	if diff := cmp.Diff(map[string]int{"run": 2, "filtered: if": 2}, r.After.Fates); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
	if d := r.After.Delay; d == nil || d.P50 != 1 || d.Max != 1 {
		t.Errorf("delay is %+v, want 1 s from the commit to the arrival", d)
	}
}

func TestCoalesce(t *testing.T) {
	t.Parallel()
	list := []trigger.Past{past(1, 0), past(2, 1), past(3, 2), past(4, 30), past(5, 58)}
	got := compare(t, &Question{
		DAG: "load", Before: rule(nil), From: t0, To: at(60), Past: list,
		After: rule(func(r *trigger.Rule) { r.Coalesce = &trigger.Coalesce{Quiet: 5 * time.Second} }),
	}).Rules[0]
	if got.After.Runs != 2 || got.After.Batches != 4 || got.After.Delay.Max != 8 || got.After.Closed["quiet"] != 2 || got.After.Fates["coalesced"] != 1 {
		t.Errorf("got %+v, delay %+v; want two runs, of three batches and of one, and a group that is open", got.After, got.After.Delay)
	}
	if want := at(7); !got.After.List[0].At.Equal(want) || !slices.Equal(got.After.List[0].Batches, []string{"b001", "b002", "b003"}) {
		t.Errorf("first run: got %+v, want it at %v", got.After.List[0], want)
	}
	if got.Lost.Count != 1 || got.Unlike == nil || len(got.Unlike) != 5 {
		t.Errorf("lost %+v, unlike %v: nothing happened, and the rules in force yield five runs", got.Lost, got.Unlike)
	}
}

func TestCron(t *testing.T) {
	t.Parallel()
	cron := func(text string) []trigger.Rule {
		return rule(func(r *trigger.Rule) { r.Kind, r.Cron, r.Jitter = trigger.KindCron, text, 20*time.Second })
	}
	old := cron("*/10 * * * *")
	got := compare(t, &Question{
		DAG: "load", Before: old, After: cron("0 * * * *"), From: t0, To: t0.Add(3 * time.Hour),
		Happened: append(happened(t, old, nil, t0, t0.Add(3*time.Hour)), Happened{ID: "late", Rule: "clicks", Key: t0.Format(time.RFC3339), At: at(1)}),
	}).Rules[0]
	if got.Before.Runs != 17 || got.Reproduced != 17 || got.Checked != 17 || len(got.Unlike) != 0 || got.After.Runs != 2 || got.Kind != trigger.KindCron {
		t.Errorf("got %+v, before %+v, after %+v", got, got.Before, got.After)
	}
}

// TestAddedAndRemoved: a side without the rule has no runs of it.
func TestAddedAndRemoved(t *testing.T) {
	t.Parallel()
	list := []trigger.Past{past(1, 0)}
	added := compare(t, &Question{DAG: "load", After: rule(nil), From: t0, To: at(60), Past: list}).Rules[0]
	if added.Before != nil || added.After.Runs != 1 || added.Gained.Count != 1 {
		t.Errorf("added: got %+v", added)
	}
	removed := compare(t, &Question{DAG: "load", Before: rule(nil), From: t0, To: at(60), Past: list}).Rules[0]
	if removed.After != nil || removed.Before.Runs != 1 || removed.Lost.Count != 1 {
		t.Errorf("removed: got %+v", removed)
	}
}

// TestJoin: a join is decided on with its sides, also where only one side of the change has it.
func TestJoin(t *testing.T) {
	t.Parallel()
	side := func(id string, joined bool) trigger.Rule {
		return trigger.Rule{DAG: "load", ID: id, Kind: trigger.KindBatch, Source: id, OnlyJoined: joined}
	}
	both := trigger.Rule{DAG: "load", ID: "both", Kind: trigger.KindBatch, AllOf: []string{"clicks", "orders"}}
	list := []trigger.Past{past(1, 0), past(2, 1), past(3, 2)}
	for i, source := range []string{"clicks", "clicks", "orders"} {
		list[i].Batch.Source = source
	}
	before := []trigger.Rule{side("clicks", false), side("orders", false)}
	after := []trigger.Rule{both, side("clicks", true), side("orders", true)}
	got := compare(t, &Question{DAG: "load", Before: before, After: after, From: t0, To: at(60), Past: list, Happened: happened(t, before, list, t0, at(60))})
	if len(got.Rules) != 3 || got.Rules[0].Rule != "both" {
		t.Fatalf("got %+v, want the rules in the order of the new DAG", got.Rules)
	}
	join, clicks := got.Rules[0], got.Rules[1]
	if join.Before != nil || join.After.Runs != 1 || join.After.Batches != 3 || join.Gained.Count != 3 {
		t.Errorf("the join: %+v, after %+v", join, join.After)
	}
	if clicks.Reproduced != 2 || clicks.After.Runs != 0 || clicks.Lost.Count != 2 {
		t.Errorf("a side: %+v, after %+v", clicks, clicks.After)
	}
}

func TestFaulty(t *testing.T) {
	t.Parallel()
	_, err := Compare(&Question{DAG: "load", After: rule(func(r *trigger.Rule) { r.If = "batch.event > 1" }), From: t0, To: at(1)})
	if err == nil || !strings.Contains(err.Error(), "load/clicks") {
		t.Errorf("got %v, want an error about the rule", err)
	}
}

// TestReproduces: whatever came when, and wherever the time that is looked at begins, the rules in force yield the runs that happened.
func TestReproduces(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rules := rule(func(r *trigger.Rule) {
			r.Coalesce = []*trigger.Coalesce{nil, {MaxBatches: 3}, {Quiet: 5 * time.Second, MaxWait: 20 * time.Second}, {MaxEvents: 100, MaxWait: 9 * time.Second}}[rng.IntN(4)]
			r.Key = []string{"", `batch.events % 2 == 0 ? "even" : "odd"`}[rng.IntN(2)]
			r.If = []string{"", "batch.events % 5 != 0"}[rng.IntN(2)]
		})
		var list []trigger.Past
		seconds := 0.0
		for n := range 100 {
			seconds += rng.Float64() * 6 * float64(rng.IntN(3))
			list = append(list, past(n, seconds))
		}
		all := happened(t, rules, list, t0, at(seconds+1))
		from := at(rng.Float64() * seconds)
		q := Question{DAG: "load", Before: rules, After: rules, From: from, To: at(seconds + 1), Happened: all, Since: at(rng.Float64() * seconds)}
		for _, p := range list {
			if !p.At.Before(from) {
				q.Past = append(q.Past, p)
			}
		}
		for _, r := range compare(t, &q).Rules {
			if r.Reproduced != r.Checked || len(r.Unlike) != 0 || r.Gained.Count+r.Lost.Count != 0 {
				t.Fatalf("seed %d: %d of %d reproduced, unlike %v, gained %+v, lost %+v", seed, r.Reproduced, r.Checked, r.Unlike, r.Gained, r.Lost)
			}
		}
	}
}
