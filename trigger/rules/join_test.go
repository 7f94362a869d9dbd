package rules

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/trigger"
)

// TestMatchJoin: a join wants what its sides want, with the key of the first of them; a rule that is only joined wants nothing for itself.
func TestMatchJoin(t *testing.T) {
	t.Parallel()
	const held, filtered, dropped = trigger.FateHeld, trigger.FateFiltered, trigger.FateDropped
	set := func(change func(rules []trigger.Rule)) []trigger.Rule {
		rules := []trigger.Rule{
			{DAG: "d", ID: "web", Kind: trigger.KindBatch, Source: "web", Key: "batch.source", OnlyJoined: true},
			{DAG: "d", ID: "two", Kind: trigger.KindBatch, Source: "app", Key: "batch.source"},
			{DAG: "d", ID: "j", Kind: trigger.KindBatch, AllOf: []string{"two", "web"}},
			{DAG: "e", ID: "two", Kind: trigger.KindBatch, Source: "web"},
		}
		if change != nil {
			change(rules)
		}
		return rules
	}
	join := func(change func(r *trigger.Rule)) func([]trigger.Rule) {
		return func(rules []trigger.Rule) { change(&rules[2]) }
	}
	for name, test := range map[string]struct {
		change func([]trigger.Rule)
		side   string // fate and reason of web
		want   Verdict
	}{
		"one side": {nil, "filtered only_joined", Verdict{Fate: held, Reason: "join", Key: "web", Sides: []string{"web"}}},
		"both sides": {func(r []trigger.Rule) { r[1].Source = "*" }, "filtered only_joined",
			Verdict{Fate: held, Reason: "join", Key: "web", Sides: []string{"two", "web"}}},
		"another key": {func(r []trigger.Rule) { r[1].Source, r[1].Key = "*", "batch.partition" }, "filtered only_joined",
			Verdict{Fate: held, Reason: "join", Key: "3", Sides: []string{"two"}}},
		"no side":         {func(r []trigger.Rule) { r[0].If = "batch.events > 1000" }, "filtered if", Verdict{Fate: filtered, Reason: "sides"}},
		"paused":          {join(func(r *trigger.Rule) { r.Paused = true }), "filtered only_joined", Verdict{Fate: held, Reason: "paused", Key: "web", Sides: []string{"web"}}},
		"paused and drop": {join(func(r *trigger.Rule) { r.Paused, r.WhenPaused = true, trigger.PausedDrop }), "filtered only_joined", Verdict{Fate: dropped, Reason: "paused", Key: "web", Sides: []string{"web"}}},
		"not only joined": {func(r []trigger.Rule) { r[0].OnlyJoined = false }, "run ", Verdict{Fate: held, Reason: "join", Key: "web", Sides: []string{"web"}}},
		"side is missing": {join(func(r *trigger.Rule) { r.AllOf = []string{"web", "x"} }), "filtered only_joined",
			Verdict{Fate: filtered, Reason: `rule_error: all_of: the DAG has no batch rule "x"`}},
		"side of itself": {join(func(r *trigger.Rule) { r.AllOf = []string{"web", "j"} }), "filtered only_joined",
			Verdict{Fate: filtered, Reason: `rule_error: all_of: rule "j" is named twice, or is the join itself`}},
		"with a key": {join(func(r *trigger.Rule) { r.Key = "batch.id" }), "filtered only_joined",
			Verdict{Fate: filtered, Reason: "rule_error: all_of: if, key, coalesce, order and only_joined belong to the rules that it names"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c Compiler
			rules := set(test.change)
			compiled, err := c.Compile(trigger.RuleSet{Rules: rules})
			if faulty := strings.HasPrefix(test.want.Reason, "rule_error"); faulty != (err != nil) {
				t.Errorf("compile: got %v", err)
			}
			got := compiled.Match(sample())
			if web := string(got[0].Fate) + " " + got[0].Reason; web != test.side {
				t.Errorf("the side: got %s, want %s", web, test.side)
			}
			got[2].Rule = nil
			if diff := cmp.Diff(test.want, got[2]); diff != "" {
				t.Errorf("the join (-want +got):\n%s", diff)
			}
		})
	}
}
