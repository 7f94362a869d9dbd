// Package whatif says what a change of a DAG's rules would have meant for the batches that came: which runs they would have started, when, and
// with what delay. It decides by [dispatch.Simulate], as the server does, on the batches that arrived at the times at which they did, once with
// the rules in force and once with those that are meant.
//
// With the rules in force it must come to the runs that happened, and says how many of them it did. It does not where the past had something
// that a DAG file does not say: other rules at that time, a pause, a server that was down when a cron rule was due.
package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/trigger"
	"millrace/trigger/dispatch"
)

// MaxListed bounds the runs that a report lists of each rule, and the ids that it gives as examples.
const (
	MaxListed   = 1000
	MaxExamples = 20
)

// Happened is a run that a rule has started.
type Happened struct {
	ID   string
	Rule string // the id within the DAG
	Key  string // the trigger key
	At   time.Time
	// Batches are the inputs, oldest first.
	Batches []string
}

// Question asks about one DAG.
type Question struct {
	DAG string
	// Before are the rules in force, After those that are meant; nil if the DAG is new, or is to be removed.
	Before, After []trigger.Rule
	// From is when the time begins that is looked at, To when it ends. The rules in force are so since Since, as far as is known.
	From, To, Since time.Time
	// Past are the batches that arrived then, in their order; Happened the DAG's runs of then, without replays, in any order.
	Past     []trigger.Past
	Happened []Happened
}

// Report is the answer, for one DAG.
type Report struct {
	DAG  string    `json:"dag"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Since is when the rules in force came into force, zero if that is not known or there are none.
	Since time.Time `json:"since,omitzero"`
	// Batches arrived between the two.
	Batches int `json:"batches"`
	// Rules are the rules of either side that start runs by themselves, in the order of the new DAG, then those that it does not have.
	Rules []Rule `json:"rules"`
}

// Rule is what there is to say of one rule.
type Rule struct {
	Rule string       `json:"rule"`
	Kind trigger.Kind `json:"kind"`
	// Happened is what the rule did. Before and After are what the two rules would have done; nil for a rule that the side does not have.
	Happened Runs  `json:"happened"`
	Before   *Runs `json:"before"`
	After    *Runs `json:"after"`
	// Reproduced of the Checked runs that happened since the rules are in force follow from these, with the same batches. Unlike has the ids of
	// those that are in one of the two only, or have other batches, at most [MaxExamples].
	Checked    int      `json:"checked"`
	Reproduced int      `json:"reproduced"`
	Unlike     []string `json:"unlike"`
	// Gained and Lost are batches that would start a run, or be part of one, after the change and not before it, or the other way round.
	Gained Examples `json:"gained"`
	Lost   Examples `json:"lost"`
}

// Examples are a number of things, and the first of them.
type Examples struct {
	Count int      `json:"count"`
	First []string `json:"first"`
}

// Runs sums up what a rule started.
type Runs struct {
	Runs    int   `json:"runs"`
	Batches int   `json:"batches"`
	Events  int64 `json:"events"`
	// Delay is from the commit of each batch to the decision on its run.
	Delay *Delay `json:"delay,omitempty"`
	// Fates are what became of the batches: the disposition, with its reason after a colon.
	Fates map[string]int `json:"fates,omitempty"`
	// Closed says why groups were closed.
	Closed map[string]int `json:"closed,omitempty"`
	// List has the runs, oldest first, the first [MaxListed] of them.
	List []Run `json:"list"`
}

// Run is one run that was started, or would have been.
type Run struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Key     string    `json:"key"`
	Closed  string    `json:"closed,omitempty"`
	Batches []string  `json:"batches"`
	Events  int64     `json:"events"`
}

// Delay are quantiles over batches, in seconds.
type Delay struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Compare answers q. The error says which rule is faulty.
func Compare(q *Question) (*Report, error) {
	out := &Report{DAG: q.DAG, From: q.From, To: q.To, Since: q.Since, Batches: len(q.Past), Rules: []Rule{}}
	facts := make(map[string]*trigger.Past, len(q.Past))
	for i := range q.Past {
		facts[q.Past[i].Batch.ID] = &q.Past[i]
	}
	for _, group := range together(q.Before, q.After) {
		c := &comparison{q: q, facts: facts, rules: group}
		if err := c.run(); err != nil {
			return nil, err
		}
		for _, id := range group {
			out.Rules = append(out.Rules, c.rule(id))
		}
	}
	place := map[string]int{}
	for i, id := range ids(slices.Concat(q.After, q.Before)) {
		place[id] = i
	}
	slices.SortFunc(out.Rules, func(a, b Rule) int { return cmp.Compare(place[a.Rule], place[b.Rule]) })
	return out, nil
}

// comparison is of rules that are decided on together.
type comparison struct {
	q     *Question
	facts map[string]*trigger.Past
	rules []string
	// all is the time that is looked at. checked is the part of it in which the rules in force were so, and redone what they yield for that.
	all, checked  window
	before, after *course
	redone        *course
}

// window is what happened from some time on.
type window struct {
	from     time.Time
	happened map[string][]Happened // by rule
	past     []trigger.Past
}

// course is what was decided for some rules.
type course struct {
	*dispatch.Course
	rules map[string]trigger.Rule
	runs  map[string][]trigger.Firing // by rule
}

func (c *comparison) run() error {
	c.all = c.window(c.q.From)
	c.checked = c.all
	var err error
	if c.before, err = c.simulate(c.q.Before, &c.all); err != nil {
		return fmt.Errorf("the rules in force: %w", err)
	}
	if c.after, err = c.simulate(c.q.After, &c.all); err != nil {
		return fmt.Errorf("the new rules: %w", err)
	}
	if c.redone = c.before; c.q.Since.After(c.q.From) {
		c.checked = c.window(c.q.Since)
		c.redone, err = c.simulate(c.q.Before, &c.checked)
	}
	return err
}

// window leaves out what was begun before it: a group that is astride its start is nobody's, neither the run counts nor its batches.
func (c *comparison) window(from time.Time) window {
	w := window{from: from, happened: map[string][]Happened{}}
	astride := map[string]bool{}
	for _, r := range c.q.Happened {
		switch {
		case !slices.Contains(c.rules, r.Rule):
		case c.begins(&r, from):
			w.happened[r.Rule] = append(w.happened[r.Rule], r)
		default:
			for _, b := range r.Batches {
				astride[b] = true
			}
		}
	}
	for _, p := range c.q.Past {
		if !p.At.Before(from) && !astride[p.Batch.ID] {
			w.past = append(w.past, p)
		}
	}
	return w
}

// begins reports whether all of a run is from some time on: its batches came then, or the time that it is for is after it.
func (c *comparison) begins(r *Happened, from time.Time) bool {
	for _, id := range r.Batches {
		if p := c.facts[id]; p == nil || p.At.Before(from) {
			return false
		}
	}
	if len(r.Batches) > 0 {
		return true
	}
	nominal, err := time.Parse(time.RFC3339, r.Key)
	return err == nil && nominal.After(from)
}

func (c *comparison) simulate(list []trigger.Rule, w *window) (*course, error) {
	out := &course{rules: map[string]trigger.Rule{}, runs: map[string][]trigger.Firing{}}
	var chosen []trigger.Rule
	for _, r := range list {
		if slices.Contains(c.rules, r.ID) {
			chosen = append(chosen, r)
			out.rules[r.ID] = r
		}
	}
	var err error
	if out.Course, err = dispatch.Simulate(chosen, w.past, w.from, c.q.To, dispatch.Options{}); err != nil {
		return nil, err
	}
	for _, f := range out.Firings {
		out.runs[f.Rule] = append(out.runs[f.Rule], f)
	}
	return out, nil
}

// rule sums up for one rule.
func (c *comparison) rule(id string) Rule {
	out := Rule{Rule: id, Unlike: []string{}}
	for _, side := range []struct {
		c  *course
		to **Runs
	}{{c.before, &out.Before}, {c.after, &out.After}} {
		if r, ok := side.c.rules[id]; ok {
			runs := c.sum(side.c.runs[id])
			runs.Fates = fates(side.c.Dispositions[r.Name()])
			*side.to, out.Kind = &runs, r.Kind
		}
	}
	out.Happened = c.sum(firings(c.all.happened[id]))
	c.reproduce(&out, id)
	was, will := inRuns(c.before.runs[id]), inRuns(c.after.runs[id])
	out.Gained, out.Lost = c.without(will, was), c.without(was, will)
	return out
}

// firings has the runs that happened, oldest first, in the form of those that are simulated.
func firings(list []Happened) []trigger.Firing {
	out := make([]trigger.Firing, len(list))
	for i, r := range list {
		f := trigger.Firing{Rule: r.Rule, Key: r.Key, At: r.At}
		for _, id := range r.Batches {
			var b trigger.Past
			b.Batch.ID = id
			f.Batches = append(f.Batches, b.Batch)
		}
		out[i] = f
	}
	slices.SortFunc(out, func(a, b trigger.Firing) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	return out
}

func (c *comparison) sum(list []trigger.Firing) Runs {
	out := Runs{Runs: len(list), List: []Run{}}
	var waits []float64
	for _, f := range list {
		r := Run{ID: c.runID(f), At: f.At, Key: f.Key, Closed: f.Closed, Batches: []string{}}
		for i := range f.Batches {
			p := c.facts[f.Batches[i].ID]
			r.Batches = append(r.Batches, p.Batch.ID)
			r.Events += p.Batch.Events
			waits = append(waits, max(0, f.At.Sub(p.Batch.CommittedAt).Seconds()))
		}
		out.Batches += len(r.Batches)
		out.Events += r.Events
		if f.Closed != "" {
			if out.Closed == nil {
				out.Closed = map[string]int{}
			}
			out.Closed[f.Closed]++
		}
		if len(out.List) < MaxListed {
			out.List = append(out.List, r)
		}
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		at := func(q float64) float64 { return waits[min(len(waits)-1, int(q*float64(len(waits))))] }
		out.Delay = &Delay{P50: at(0.5), P99: at(0.99), Max: waits[len(waits)-1]}
	}
	return out
}

func (c *comparison) runID(f trigger.Firing) string {
	f.DAG = c.q.DAG
	return f.RunID()
}

func fates(of map[string]trigger.Disposition) map[string]int {
	out := map[string]int{}
	for _, d := range of {
		name := string(d.Fate)
		if d.Reason != "" {
			name += ": " + d.Reason
		}
		out[name]++
	}
	return out
}

// reproduce compares what happened with what the rules in force yield.
func (c *comparison) reproduce(out *Rule, id string) {
	simulated := map[string][]string{}
	for _, f := range c.redone.runs[id] {
		list := []string{}
		for i := range f.Batches {
			list = append(list, f.Batches[i].ID)
		}
		simulated[c.runID(f)] = list
	}
	var unlike []string
	for _, r := range c.checked.happened[id] {
		if batches, ok := simulated[r.ID]; ok && slices.Equal(batches, r.Batches) {
			out.Reproduced++
			delete(simulated, r.ID)
			continue
		}
		delete(simulated, r.ID)
		unlike = append(unlike, r.ID)
	}
	unlike = append(unlike, slices.Sorted(maps.Keys(simulated))...)
	out.Checked = len(c.checked.happened[id])
	out.Unlike = append(out.Unlike, unlike[:min(len(unlike), MaxExamples)]...)
}

func inRuns(list []trigger.Firing) map[string]bool {
	out := map[string]bool{}
	for _, f := range list {
		for i := range f.Batches {
			out[f.Batches[i].ID] = true
		}
	}
	return out
}

// without counts what is in one set and not in the other, in the order of arrival.
func (c *comparison) without(in, other map[string]bool) Examples {
	out := Examples{First: []string{}}
	for i := range c.q.Past {
		if id := c.q.Past[i].Batch.ID; in[id] && !other[id] {
			if out.Count++; out.Count <= MaxExamples {
				out.First = append(out.First, id)
			}
		}
	}
	return out
}

// together returns the ids of the rules that start runs by themselves, those in one list that have to be decided on together: a join and its
// sides, on either side of the change.
func together(before, after []trigger.Rule) [][]string {
	var out [][]string
	for _, id := range ids(slices.Concat(after, before)) {
		out = append(out, []string{id})
	}
	for _, r := range slices.Concat(after, before) {
		for _, side := range r.AllOf {
			i := slices.IndexFunc(out, func(list []string) bool { return slices.Contains(list, r.ID) })
			j := slices.IndexFunc(out, func(list []string) bool { return slices.Contains(list, side) })
			if j >= 0 && i != j {
				out[i] = append(out[i], out[j]...)
				out = slices.Delete(out, j, j+1)
			}
		}
	}
	return out
}

// ids returns those of the rules that start runs by themselves, each once.
func ids(list []trigger.Rule) []string {
	var out []string
	for _, r := range list {
		if r.Kind != trigger.KindManual && !slices.Contains(out, r.ID) {
			out = append(out, r.ID)
		}
	}
	return out
}
