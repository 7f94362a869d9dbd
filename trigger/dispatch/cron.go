package dispatch

import (
	"fmt"
	"hash/fnv"
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
// jumps back fires nothing twice; one that jumps ahead is a pause, see [trigger.Catchup]. The times of a paused rule pass without a run.
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
		p := pending(r, s.at, d.now, catchUp)
		if s.next = p.next; p.passed.After(s.at) {
			s.at = p.passed
			d.in.Ticks = append(d.in.Ticks, trigger.Tick{Rule: name, At: s.at})
		}
		d.crons[name] = s
		if r.Paused {
			continue
		}
		for _, at := range p.due {
			d.fire(r, trigger.Firing{Kind: trigger.KindCron, Key: at.Format(time.RFC3339), Due: at}, "")
		}
	}
}

// late is how late a nominal time may be noticed without having been missed.
const late = time.Minute

// ticks are the nominal times of a rule at some moment.
type ticks struct {
	// due are to be fired; passed is the newest that was dealt with, fired or not, zero if there is none.
	due    []time.Time
	passed time.Time
	// next is when the first that is to come fires; zero if there is none.
	next time.Time
}

// pending deals with the nominal times after at, up to now.
func pending(r *trigger.Rule, at, now time.Time, catchUp time.Duration) (p ticks) {
	window, policy := catchUp, trigger.CatchupAll
	if c := r.Catchup; c != nil {
		policy = c.Policy
		if c.Window > 0 {
			window = c.Window
		}
		if policy == trigger.CatchupSkip {
			window = late
		}
	}
	from := at
	if start := now.Add(-window - r.Jitter); start.After(from) {
		from = start
	}
	for t, err := rules.NextTick(*r, from); err == nil; t, err = rules.NextTick(*r, t) {
		if fires := t.Add(jitter(r, t)); fires.After(now) {
			p.next = fires
			break
		} else if fires.Before(now.Add(-window)) {
			continue // it would have fired before the window
		}
		p.due, p.passed = append(p.due, t), t
	}
	if r.Catchup == nil && len(p.due) == 0 && !from.Equal(at) {
		// Nothing within catchUp, so ticks are rare: one after the other until the newest.
		for t, err := rules.NextTick(*r, at); err == nil && !t.After(from); t, err = rules.NextTick(*r, t) {
			p.due, p.passed = []time.Time{t}, t
		}
	}
	if n := len(p.due); policy == trigger.CatchupLatest && n > 1 {
		p.due = p.due[n-1:]
	}
	return p
}

// jitter is how much later than its nominal time a tick fires. It is the same for all that ask.
func jitter(r *trigger.Rule, nominal time.Time) time.Duration {
	if r.Jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, r.Name(), "\x00", nominal.Unix())
	return time.Duration(h.Sum64() % uint64(r.Jitter))
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
