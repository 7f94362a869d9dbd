package api

import (
	"fmt"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/trigger"
)

// memory is the ledger's, loaded once.
func (x *ledger) memory() (*trigger.Memory, error) {
	if x.mem == nil {
		m, err := x.s.d.Store.Remember(x.ctx)
		if err != nil {
			return nil, err
		}
		x.mem = &m
	}
	return x.mem, nil
}

// held says for what a batch is held.
func (x *ledger) held(d *trigger.Disposition) (scheduler.Why, error) {
	dag, _, _ := strings.Cut(d.Rule, "/")
	switch d.Reason {
	case trigger.HeldPaused:
		return scheduler.Why{Code: scheduler.CodePaused, Name: dag, Text: fmt.Sprintf("is held, since DAG %s was paused at %s: "+
			"'millrace dags unpause %s' lets it go", dag, stamp(d.At), dag)}, nil
	case trigger.HeldJoin:
		return x.joining(d, dag)
	case trigger.HeldOrder:
		return x.inOrder(d)
	}
	return scheduler.Why{Code: scheduler.CodeHeld, Name: d.Reason, Text: "is held at " + stamp(d.At) + ": " + d.Reason}, nil
}

// joining says which sides of a join a batch waits for, and until when.
func (x *ledger) joining(d *trigger.Disposition, dag string) (scheduler.Why, error) {
	why := scheduler.Why{Code: scheduler.CodeJoining, Name: d.Key}
	m, err := x.memory()
	if err != nil {
		return why, err
	}
	var others []trigger.Held
	var own *trigger.Held
	for i := range m.Held[d.Rule] {
		switch h := &m.Held[d.Rule][i]; {
		case h.Batch.ID == d.Batch:
			own = h
		case h.Reason == trigger.HeldJoin && h.Key == d.Key:
			others = append(others, *h)
		}
	}
	rule := x.rule(d.Rule)
	if own == nil || rule == nil || !rule.Joins() {
		why.Text = "waits for a batch of another side of its join" // it is fired, or dropped, at this moment
		return why, nil
	}
	there := slices.Clone(own.Sides)
	for i := range others {
		if rule.Expire == 0 || others[i].Batch.CreatedAt.Sub(own.Batch.CreatedAt).Abs() <= rule.Expire {
			there = append(there, others[i].Sides...)
		}
	}
	var missing []string
	for _, side := range rule.AllOf {
		if !slices.Contains(there, side) {
			missing = append(missing, "rule "+side)
			why.On = append(why.On, dag+"/"+side)
		}
	}
	if len(missing) == 0 {
		why.Text = fmt.Sprintf("waits with %d more of its key, and no side lacks", len(others))
		return why, x.full(&why, rule, d.Key)
	}
	why.Text = fmt.Sprintf("waits as a batch of rule %s for one of %s%s", strings.Join(own.Sides, " and "), strings.Join(missing, " and one of "), ofKey(d.Key))
	if n := len(others); n > 0 {
		why.Text += fmt.Sprintf(", with %d more of its key", n)
	}
	if rule.Expire > 0 {
		why.Until = own.Since().Add(rule.Expire)
		why.Text += fmt.Sprintf("; it expires at %s, %v after it was cut", stamp(why.Until), rule.Expire)
	}
	if x.paused(dag) {
		why.Text += fmt.Sprintf(", but not while DAG %s is paused", dag)
	}
	return why, nil
}

func ofKey(key string) string {
	if key == "" {
		return ""
	}
	return fmt.Sprintf(" with the key %q", key)
}

// full adds to why for which place in a concurrency group a batch waits that lacks nothing else.
func (x *ledger) full(why *scheduler.Why, rule *trigger.Rule, key string) error {
	if x.s.d.Explain == nil {
		return nil
	}
	full, err := x.s.d.Explain.WhyFull(x.ctx, rule, key)
	if err != nil || full == nil {
		return err
	}
	why.Name, why.Used, why.Slots, why.Want, why.Ahead, why.On = full.Name, full.Used, full.Slots, full.Want, full.Ahead, full.On
	why.Text += "; it " + full.Text
	return nil
}

// inOrder says how far the chain of a batch is dealt with.
func (x *ledger) inOrder(d *trigger.Disposition) (scheduler.Why, error) {
	why := scheduler.Why{Code: scheduler.CodeOrder}
	m, err := x.memory()
	if err != nil {
		return why, err
	}
	order := "an order"
	if rule := x.rule(d.Rule); rule != nil && rule.Order != "" {
		order = "order: " + string(rule.Order)
	}
	i := slices.IndexFunc(m.Held[d.Rule], func(h trigger.Held) bool { return h.Batch.ID == d.Batch })
	if i < 0 {
		why.Text = "waits for its turn: the rule has " + order
		return why, nil
	}
	b := &m.Held[d.Rule][i].Batch
	var seq int64
	for _, c := range m.Cursors {
		if c.Stream == b.Stream {
			seq = c.Seq
		}
	}
	why.Name, why.Ahead = b.Stream.String(), int(max(0, b.Seq-seq))
	why.Text = fmt.Sprintf("waits for its turn: the rule has %s, and of chain %s everything up to entry %d is known, while this is of entry %d", order, b.Stream, seq, b.Seq)
	return why, nil
}

// expired says what did not come in time.
func (x *ledger) expired(d *trigger.Disposition) string {
	text := "expired at " + stamp(d.At) + ": what it was to be joined with did not come in time"
	if sides, ok := strings.CutPrefix(d.Reason, "missing: "); ok {
		text = fmt.Sprintf("expired at %s: no batch of rule %s%s came in time", stamp(d.At), strings.ReplaceAll(sides, ", ", " and none of rule "), ofKey(d.Key))
	}
	return text
}

// paused reports whether a DAG is.
func (x *ledger) paused(dag string) bool {
	if x.s.d.Control == nil {
		return false
	}
	head, _, err := x.s.d.Control.DAG(x.ctx, dag)
	return err == nil && head.Paused
}
