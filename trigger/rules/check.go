package rules

import (
	"errors"
	"fmt"
	"time"

	"millrace/trigger"
)

// Fault is one thing that is wrong with a rule, at a place of one of its fields.
type Fault struct {
	// Field is the key in the DAG file: "kind", "if", "key", "coalesce", "order", "all_of", "expire", "when_paused", "cron", "timezone", "jitter" or "catchup".
	Field string
	// Line and Column are the place within the value of the field, from 1; 0 if the whole is meant.
	Line, Column int
	Msg          string
}

func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.Field + ": " + f.Msg
	}
	return fmt.Sprintf("%s: %d:%d: %s", f.Field, f.Line, f.Column, f.Msg)
}

// Check reports all that is wrong with r: every error of the joined result is a [*Fault].
func Check(r trigger.Rule) error {
	var faults []error
	add := func(field string, err error) {
		for _, err := range split(err) {
			fault := &Fault{Msg: err.Error()}
			_ = errors.As(err, &fault)
			fault.Field = field
			faults = append(faults, fault)
		}
	}
	expression := func(field string, what want, text string) {
		if text != "" {
			_, err := program(what, text)
			add(field, err)
		}
	}
	switch r.Kind {
	case trigger.KindBatch:
		expression("if", wantBool, r.If)
		expression("key", wantKey, r.Key)
		if r.Coalesce != nil {
			add("coalesce", r.Coalesce.Validate())
		}
		if r.Joins() {
			add("all_of", errors.Join(checkJoin(&r)...))
		}
		if r.Expire < 0 || r.Expire > 0 && !r.Joins() {
			add("expire", fmt.Errorf("%v is negative, or the rule is no join", r.Expire))
		}
		switch r.Order {
		case "", trigger.OrderFIFO, trigger.OrderLIFO, trigger.OrderLatestOnly:
		default:
			add("order", fmt.Errorf("%q is not known", r.Order))
		}
		switch r.WhenPaused {
		case "", trigger.PausedHold, trigger.PausedDrop, trigger.PausedLatest:
		default:
			add("when_paused", fmt.Errorf("%q is not known", r.WhenPaused))
		}
	case trigger.KindCron:
		if c := r.Catchup; c != nil && (c.Window < 0 || c.Policy != trigger.CatchupAll && c.Policy != trigger.CatchupLatest && c.Policy != trigger.CatchupSkip) {
			add("catchup", fmt.Errorf("policy %q is not known, or the window %v is negative", c.Policy, c.Window))
		}
		if r.Jitter < 0 {
			add("jitter", fmt.Errorf("%v is negative", r.Jitter))
		}
		_, zoneErr := location(r.Timezone)
		add("timezone", zoneErr)
		_, err := parseCron(r.Cron)
		add("cron", err)
		if err == nil && zoneErr == nil {
			_, err := NextTick(r, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
			add("cron", err)
		}
	case trigger.KindManual:
	default:
		add("kind", fmt.Errorf("%q is not a kind of rule", r.Kind))
	}
	return errors.Join(faults...)
}

// split takes apart what errors.Join made.
func split(err error) []error {
	var many interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &many):
		return many.Unwrap()
	}
	return []error{err}
}
