// Package rules judges batches by rules, and computes the ticks of cron rules. It is pure: values in, values out, no clock.
//
// It guarantees one verdict for each batch rule and batch, whatever the rule's expressions do: an expression that fails at run time, or that
// costs more than [MaxCost], filters the batch with the failure as the reason, where people see it. It does not guarantee that a rule that
// [Check] refuses does anything useful; its batches are filtered, with the fault as the reason.
package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"millrace/batcher"
	"millrace/trigger"
)

// Reasons of verdicts. Those with a colon are followed by what happened.
const (
	ReasonSource     = "source"
	ReasonQuarantine = "quarantine"
	ReasonTypes      = "types"
	ReasonIf         = "if"
	ReasonIfError    = "if_error: "
	ReasonKeyError   = "key_error: "
	ReasonRuleError  = "rule_error: "
	ReasonPaused     = "paused"
	ReasonVoid       = "void"
	ReasonSides      = "sides"       // no side of the join wants it
	ReasonOnlyJoined = "only_joined" // the rule wants it, for joins alone
)

// maxReason bounds what is stored of a failure, in bytes.
const maxReason = 256

// Verdict is what a rule says of a batch: Run or Coalesced (it wants it), Held (it would, but is paused, or is a join), Filtered, or Dropped (void).
type Verdict struct {
	Rule   *trigger.Rule
	Fate   trigger.Fate
	Reason string
	// Key is the value of the rule's key expression, for Run, Coalesced and Held. Sides are the rules that want it for a join, in its order.
	Key   string
	Sides []string
}

// Set is a compiled rule set. It is immutable and safe for concurrent use.
type Set struct {
	Gen    int64
	batch  []compiled
	crons  []*trigger.Rule
	byName map[string]*compiled
}

type compiled struct {
	rule    *trigger.Rule
	cond    cel.Program // nil is true
	key     cel.Program // nil is ""
	sides   []int       // of a join: their places in Set.batch
	problem error
}

// Compiler compiles rule sets and keeps compiled expressions from one set to the next. Not safe for concurrent use.
type Compiler struct {
	programs map[string]cel.Program
}

// Compile compiles all rules of set. Faulty rules are in the Set too; their faults are returned, joined, beside it, each an error of [Check].
func (c *Compiler) Compile(set trigger.RuleSet) (*Set, error) {
	out := &Set{Gen: set.Gen, byName: make(map[string]*compiled, len(set.Rules))}
	used := map[string]cel.Program{}
	var errs []error
	for i := range set.Rules {
		r := &set.Rules[i]
		switch r.Kind {
		case trigger.KindCron:
			if err := Check(*r); err != nil {
				errs = append(errs, fmt.Errorf("rule %q: %w", r.Name(), err))
				continue
			}
			out.crons = append(out.crons, r)
		case trigger.KindBatch:
			comp := c.rule(r, used)
			if comp.problem != nil {
				errs = append(errs, fmt.Errorf("rule %q: %w", r.Name(), comp.problem))
			}
			out.batch = append(out.batch, comp)
		}
	}
	errs = append(errs, out.wire()...)
	for i := range out.batch {
		out.byName[out.batch[i].rule.Name()] = &out.batch[i]
	}
	c.programs = used
	return out, errors.Join(errs...)
}

func (c *Compiler) rule(r *trigger.Rule, used map[string]cel.Program) compiled {
	comp := compiled{rule: r}
	if comp.problem = Check(*r); comp.problem != nil {
		return comp
	}
	get := func(what want, text string) cel.Program {
		id := string(what) + "\x00" + text
		prg := c.programs[id]
		if prg == nil {
			var err error
			if prg, err = program(what, text); err != nil {
				comp.problem = err
			}
		}
		used[id] = prg
		return prg
	}
	if r.If != "" {
		comp.cond = get(wantBool, r.If)
	}
	if r.Key != "" {
		comp.key = get(wantKey, r.Key)
	}
	return comp
}

// Rules returns the number of batch rules: each batch gets as many verdicts.
func (s *Set) Rules() int { return len(s.batch) }

// Rule returns the batch rule of that name ([trigger.Rule.Name]), or nil.
func (s *Set) Rule(name string) *trigger.Rule {
	if c := s.byName[name]; c != nil {
		return c.rule
	}
	return nil
}

// Crons returns the cron rules; not to be changed.
func (s *Set) Crons() []*trigger.Rule { return s.crons }

// Match returns one verdict for each batch rule, in the order of the set.
func (s *Set) Match(b *batcher.Batch) []Verdict {
	out := make([]Verdict, len(s.batch))
	if b.Void != "" {
		for i := range s.batch {
			out[i] = Verdict{Rule: s.batch[i].rule, Fate: trigger.FateDropped, Reason: ReasonVoid}
		}
		return out
	}
	wants := make([]bool, len(s.batch))
	var vars *activation // made by the first rule that needs it
	for i := range s.batch {
		c := &s.batch[i]
		v := Verdict{Rule: c.rule, Fate: trigger.FateFiltered, Reason: c.selects(b)}
		if v.Reason == "" && !c.rule.Joins() {
			if vars == nil && (c.cond != nil || c.key != nil) {
				vars = activate(b)
			}
			wants[i] = c.judge(vars, &v)
		}
		out[i] = v
	}
	for i := range s.batch {
		switch c := &s.batch[i]; {
		case c.rule.Joins():
			out[i] = s.join(c, b, out, wants)
		case c.rule.OnlyJoined && wants[i]:
			out[i].Fate, out[i].Reason = trigger.FateFiltered, ReasonOnlyJoined
		}
	}
	return out
}

// Key returns the value of a rule's key expression for a batch that the rule has wanted already.
func (s *Set) Key(rule string, b *batcher.Batch) (string, error) {
	c := s.byName[rule]
	switch {
	case c == nil, c.key == nil:
		return "", nil
	case c.problem != nil:
		return "", c.problem
	}
	return evalKey(c.key, activate(b))
}

// selects applies everything that needs no expression; "" means that the rule may want b.
func (c *compiled) selects(b *batcher.Batch) string {
	r := c.rule
	tenant := r.Tenant
	if tenant == "" {
		tenant = "default"
	}
	switch {
	case tenant != "*" && tenant != b.Tenant, r.Source != "" && r.Source != "*" && r.Source != b.Source:
		return ReasonSource
	case b.Lane.Quarantine() && !r.Quarantine:
		return ReasonQuarantine
	case !holdsType(b, r.Types):
		return ReasonTypes
	case c.problem != nil:
		return reason(ReasonRuleError, c.problem)
	}
	return ""
}

// holdsType reports whether b may hold an event of one of the types. A batch of many types counts the rarer ones as "other"
// ([batcher.MaxTypes]); then nobody can say that it does not.
func holdsType(b *batcher.Batch, types []string) bool {
	if len(types) == 0 || b.Types["other"] > 0 {
		return true
	}
	return slices.ContainsFunc(types, func(t string) bool { return b.Types[t] > 0 })
}

// judge evaluates the expressions, and reports whether the rule wants the batch, paused or not.
func (c *compiled) judge(vars *activation, v *Verdict) bool {
	if c.cond != nil {
		switch ok, err := evalBool(c.cond, vars); {
		case err != nil:
			v.Reason = reason(ReasonIfError, err)
			return false
		case !ok:
			v.Reason = ReasonIf
			return false
		}
	}
	if c.key != nil {
		var err error
		if v.Key, err = evalKey(c.key, vars); err != nil {
			v.Reason = reason(ReasonKeyError, err)
			return false
		}
	}
	switch {
	case c.rule.Paused && c.rule.WhenPaused == trigger.PausedDrop:
		v.Fate, v.Reason = trigger.FateDropped, ReasonPaused
	case c.rule.Paused:
		v.Fate, v.Reason = trigger.FateHeld, ReasonPaused
	case c.rule.Coalesce != nil:
		v.Fate = trigger.FateCoalesced
	default:
		v.Fate = trigger.FateRun
	}
	return true
}

func reason(code string, err error) string {
	text := strings.ToValidUTF8(code+err.Error(), "?")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason-3], "") + "..."
	}
	return text
}

// KeyReason is the reason for a batch whose key can not be computed.
func KeyReason(err error) string { return reason(ReasonKeyError, err) }
