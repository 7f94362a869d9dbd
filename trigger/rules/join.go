package rules

import (
	"errors"
	"fmt"
	"slices"

	"millrace/batcher"
	"millrace/trigger"
)

// checkJoin reports what is wrong with a join by itself.
func checkJoin(r *trigger.Rule) []error {
	var errs []error
	if len(r.AllOf) < 2 || len(r.AllOf) > trigger.MaxSides {
		errs = append(errs, fmt.Errorf("it names %d rules, want 2 to %d", len(r.AllOf), trigger.MaxSides))
	}
	for i, side := range r.AllOf {
		if slices.Contains(r.AllOf[:i], side) || side == r.ID {
			errs = append(errs, fmt.Errorf("rule %q is named twice, or is the join itself", side))
		}
	}
	if r.If != "" || r.Key != "" || r.Coalesce != nil || r.Order != "" || r.OnlyJoined {
		errs = append(errs, errors.New("if, key, coalesce, order and only_joined belong to the rules that it names"))
	}
	return errs
}

// wire finds the sides of all joins, which stand somewhere in the set.
func (s *Set) wire() []error {
	var errs []error
	for i := range s.batch {
		c := &s.batch[i]
		for _, id := range c.rule.AllOf {
			j := slices.IndexFunc(s.batch, func(o compiled) bool { return o.rule.DAG == c.rule.DAG && o.rule.ID == id && !o.rule.Joins() })
			if j < 0 && c.problem == nil {
				c.problem = &Fault{Field: "all_of", Msg: fmt.Sprintf("the DAG has no batch rule %q", id)}
				errs = append(errs, fmt.Errorf("rule %q: %w", c.rule.Name(), c.problem))
			}
			c.sides = append(c.sides, j)
		}
	}
	return errs
}

// join is the verdict of a join: the batch is of every side that wants it, and whose key is that of the first of them.
func (s *Set) join(c *compiled, b *batcher.Batch, out []Verdict, wants []bool) Verdict {
	v := Verdict{Rule: c.rule, Fate: trigger.FateFiltered, Reason: ReasonSides}
	if c.problem != nil {
		v.Reason = reason(ReasonRuleError, c.problem)
		return v
	}
	for _, i := range c.sides {
		if !wants[i] {
			continue
		}
		if len(v.Sides) == 0 {
			v.Key = out[i].Key
		}
		if out[i].Key == v.Key {
			v.Sides = append(v.Sides, s.batch[i].rule.ID)
		}
	}
	switch {
	case len(v.Sides) == 0:
	case c.rule.Paused && c.rule.WhenPaused == trigger.PausedDrop:
		v.Fate, v.Reason = trigger.FateDropped, ReasonPaused
	case c.rule.Paused:
		v.Fate, v.Reason = trigger.FateHeld, trigger.HeldPaused
	default:
		v.Fate, v.Reason = trigger.FateHeld, trigger.HeldJoin
	}
	return v
}
