package dispatch

import (
	"time"

	"millrace/trigger"
	"millrace/trigger/rules"
)

// cronState is what is known of a cron rule: nominal times up to at were dealt with, next is the one after, under the expression text.
type cronState struct {
	at, next time.Time
	text     string
}

// tick fires the cron rules whose nominal time has come. The key of a firing is its nominal time, and at never goes back, so a clock that
// jumps back fires nothing twice; one that jumps ahead is a pause, see Options.CatchUp. The times of a paused rule pass without a run.
func (d *draft) tick(catchUp time.Duration) {
	for _, r := range d.set.Crons() {
		name, text := r.Name(), r.Cron+"\n"+r.Timezone
		s, known := d.b.crons[name]
		switch {
		case !known, s.text != "" && s.text != text:
			// A rule that is new, or says something else, starts now: what it would have done before is nobody's wish.
			at := d.now.UTC().Truncate(time.Second)
			if at.Before(s.at) {
				at = s.at
			}
			s = cronState{at: at, text: text}
			d.in.Ticks = append(d.in.Ticks, trigger.Tick{Rule: name, At: s.at})
		case s.text != "" && d.now.Before(s.next):
			continue
		}
		s.text = text
		var due []time.Time
		if due, s.next = pending(r, s.at, d.now, catchUp); len(due) > 0 {
			s.at = due[len(due)-1]
			d.in.Ticks = append(d.in.Ticks, trigger.Tick{Rule: name, At: s.at})
		}
		d.crons[name] = s
		if r.Paused {
			continue
		}
		for _, at := range due {
			d.fire(r, trigger.Firing{Kind: trigger.KindCron, Key: at.Format(time.RFC3339), Due: at}, "")
		}
	}
}

// pending returns the nominal times to fire, and the first one after now; zero if there is none.
func pending(r *trigger.Rule, at, now time.Time, catchUp time.Duration) (due []time.Time, next time.Time) {
	from := at
	if start := now.Add(-catchUp); start.After(from) {
		from = start
	}
	for t, err := rules.NextTick(*r, from); err == nil; t, err = rules.NextTick(*r, t) {
		if t.After(now) {
			next = t
			break
		}
		due = append(due, t)
	}
	if len(due) > 0 || from.Equal(at) {
		return due, next
	}
	// Nothing within catchUp, so ticks are rare: one after the other until the newest.
	for t, err := rules.NextTick(*r, at); err == nil && !t.After(from); t, err = rules.NextTick(*r, t) {
		due = []time.Time{t}
	}
	return due, next
}

// adoptCrons keeps the rules that are there, and computes when the first is due.
func (d *draft) adoptCrons() {
	if len(d.crons) == 0 && len(d.b.crons) == len(d.set.Crons()) && !d.b.cronDue.IsZero() {
		return
	}
	kept := make(map[string]cronState, len(d.set.Crons()))
	d.b.cronDue = time.Time{}
	for _, r := range d.set.Crons() {
		s, changed := d.crons[r.Name()]
		if !changed {
			s = d.b.crons[r.Name()]
		}
		kept[r.Name()] = s
		d.b.cronDue = earlier(d.b.cronDue, s.next)
	}
	d.b.crons = kept
}
