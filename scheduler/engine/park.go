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
	// postponed are those of which the store could not be read: the next round tries again.
	postponed postponed
}

type postponed struct{ parking, look []ref }

// park begins the waits of tasks that need no slot, and ends those that are over, until there is nothing more to do. It reports whether there
// was something.
func (c *core) park(ctx context.Context) bool {
	took := false
	for ; len(c.parking)+len(c.look) > 0; took = true {
		if len(c.parking) > 0 {
			r := c.parking[0]
			c.parking = c.parking[1:]
			c.parkOne(ctx, r)
			continue
		}
		r := c.look[0]
		c.look = c.look[1:]
		if r.spec().Kind == scheduler.KindDAG && !r.run.Whole(r.task) {
			c.followSub(ctx, r)
		}
	}
	return took
}

// parkOne begins the wait of a ready task.
func (c *core) parkOne(ctx context.Context, r ref) {
	if !r.ready() {
		return
	}
	switch r.spec().Kind {
	case scheduler.KindApproval:
		c.ask(r)
	case scheduler.KindDAG:
		c.startSub(ctx, r)
	}
}

// resume takes up what could not be done in the round before.
func (c *core) resume() {
	c.parking, c.look = append(c.parking, c.postponed.parking...), append(c.look, c.postponed.look...)
	c.postponed = postponed{}
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
	return c.whySub(t)
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
