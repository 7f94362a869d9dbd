package engine

import (
	"context"
	"fmt"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// parked is what is to be done about tasks that wait without a slot. Both lists are worked off in each round, after its inputs: what was stored
// as scheduled parks in the first round after a restart, and what was deferred is looked at there.
type parked struct {
	// parking are ready tasks that need no slot.
	parking []ref
	// look are deferred tasks of which something may have changed: what they wait for has ended, or is to be ended.
	look []ref
}

// park begins the waits of tasks that need no slot, and ends those that are over. It reports whether there was one.
func (c *core) park(ctx context.Context) bool {
	took := false
	for ; len(c.parking) > 0; took = true {
		r := c.parking[0]
		c.parking = c.parking[1:]
		if !r.ready() {
			continue
		}
		if r.spec().Kind == scheduler.KindApproval {
			c.ask(r)
		}
	}
	c.look = nil
	return took
}

// ask puts a task's question to people.
func (c *core) ask(r ref) {
	text, err := r.run.Message(r.task)
	if err != nil {
		c.step(r.run, plan.Refuse{Task: r.task, Reason: err.Error()})
		return
	}
	c.step(r.run, plan.Park{Task: r.task, Reason: text})
}

// whyParked is why a parked task waits.
func (c *core) whyParked(r ref) scheduler.Why {
	t := &r.run.Tasks[r.task]
	switch {
	case t.State == scheduler.StateAwaitingInput:
		return c.whyInput(r, t)
	case t.Kill != "":
		return scheduler.Why{Code: scheduler.CodeEnding, Text: fmt.Sprintf("was asked to end (%s), and waits for the end of what it started", t.Kill)}
	}
	return scheduler.Why{Code: scheduler.CodeSubDAG, On: []string{t.External}, Text: "waits for the end of run " + t.External}
}

// whyInput says who is to decide, on what, and until when.
func (c *core) whyInput(r ref, t *scheduler.TaskRun) scheduler.Why {
	ask := r.spec().Approval
	why := scheduler.Why{Code: scheduler.CodeInput, Until: r.run.ParkedUntil(r.task)}
	why.Name = strings.Join(ask.By, ", ")
	who := "a person"
	if why.Name != "" {
		who = why.Name
	}
	why.Text = fmt.Sprintf("waits since %s for %s to decide: %s", clock(t.StartedAt), who, t.Reason)
	if !why.Until.IsZero() {
		word := map[string]string{scheduler.DecisionApprove: "is approved", scheduler.DecisionSkip: "is skipped"}[ask.OnExpire]
		if word == "" {
			word = "is rejected"
		}
		why.Text += fmt.Sprintf("; it %s at %s otherwise", word, clock(why.Until))
	}
	return why
}
