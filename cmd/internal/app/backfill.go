package app

import (
	"errors"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
	"millrace/trigger/rules"
)

// judge says what rules want, by the dispatcher's own code.
type judge struct{}

var _ scheduler.Judge = judge{}

// Rule implements scheduler.Judge.
func (judge) Rule(r trigger.Rule) (scheduler.RuleJudge, error) {
	r.Paused = false
	set, err := new(rules.Compiler).Compile(trigger.RuleSet{Rules: []trigger.Rule{r}})
	if err != nil {
		return nil, err
	}
	return &ruleJudge{set, r.Name()}, nil
}

// ruleJudge is a set of one rule.
type ruleJudge struct {
	set  *rules.Set
	name string
}

// Judge implements scheduler.RuleJudge.
func (j *ruleJudge) Judge(b *batcher.Batch) (fate trigger.Fate, reason, key string) {
	for _, v := range j.set.Match(b) {
		fate, reason, key = v.Fate, v.Reason, v.Key
	}
	return fate, reason, key
}

// Key implements scheduler.RuleJudge.
func (j *ruleJudge) Key(b *batcher.Batch) (string, error) { return j.set.Key(j.name, b) }

// Ticks implements scheduler.Judge.
func (judge) Ticks(r trigger.Rule, s scheduler.Span, limit int) ([]time.Time, error) {
	var out []time.Time
	for t, err := rules.NextTick(r, s.From.Add(-time.Second)); len(out) < limit; t, err = rules.NextTick(r, t) {
		if errors.Is(err, rules.ErrNoTick) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !t.Before(s.To) {
			break
		}
		if !t.Before(s.From) {
			out = append(out, t)
		}
	}
	return out, nil
}
