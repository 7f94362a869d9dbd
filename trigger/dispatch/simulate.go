package dispatch

import (
	"fmt"
	"math"
	"slices"
	"time"

	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/rules"
)

// Course is what rules would have decided.
type Course struct {
	// Firings in the order in which they were decided; At is that time.
	Firings []trigger.Firing
	// Dispositions are what became of each batch for each rule in the end, by [trigger.Rule.Name] and batch.
	Dispositions map[string]map[string]trigger.Disposition
}

// Simulate decides again, with the rules as they are given and none of them paused, on batches of the past, and on the time that passed
// between them. It is the same decision as [Dispatcher]'s, on an empty ledger, with a clock that stands still while it decides: cron rules
// begin at from, and what is not decided before to stays open. past is in the order of arrival.
//
// A batch whose object was gone when it arrived has no URI.
func Simulate(list []trigger.Rule, past []trigger.Past, from, to time.Time, o Options) (*Course, error) {
	o = o.withDefaults()
	set := trigger.RuleSet{Gen: 1, Rules: slices.Clone(list)}
	for i := range set.Rules {
		set.Rules[i].Paused = false
	}
	compiled, err := new(rules.Compiler).Compile(set)
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	s := &simulation{b: newBook(trigger.Memory{}), set: compiled, o: o, open: entriesOf(past), out: &Course{Dispositions: map[string]map[string]trigger.Disposition{}}}
	s.step(nil, from)
	for len(past) > 0 {
		at := past[0].At
		if due := s.due(); !due.IsZero() && due.Before(at) {
			if !due.Before(to) {
				break
			}
			s.step(nil, due)
			continue
		}
		if !at.Before(to) {
			break
		}
		n := 1
		for n < len(past) && past[n].At.Equal(at) && n < o.MaxBatches {
			n++
		}
		s.step(past[:n], at)
		past = past[n:]
	}
	for due := s.due(); !due.IsZero() && due.Before(to); due = s.due() {
		s.step(nil, due)
	}
	return s.out, nil
}

// simulation is a Dispatcher without chain, starter and clock.
type simulation struct {
	b   *book
	set *rules.Set
	o   Options
	out *Course
	// open are the entries that have batches to come: a cursor would stand before the first of them.
	open map[ingest.Stream]*entries
}

// entries are those of one chain, in order, with how many of their batches have not come.
type entries struct {
	seqs []int64
	left map[int64]int
}

func entriesOf(past []trigger.Past) map[ingest.Stream]*entries {
	out := map[ingest.Stream]*entries{}
	for i := range past {
		b := &past[i].Batch
		e := out[b.Stream]
		if e == nil {
			e = &entries{left: map[int64]int{}}
			out[b.Stream] = e
		}
		if e.left[b.Seq]++; e.left[b.Seq] == 1 {
			e.seqs = append(e.seqs, b.Seq)
		}
	}
	for _, e := range out {
		slices.Sort(e.seqs)
	}
	return out
}

// see notes that batches have come, and returns how far cursors would be by that.
func (s *simulation) see(past []trigger.Past) *found {
	f := &found{caught: true, moves: map[*stream]int64{}, streams: map[ingest.Stream]*stream{}}
	for i := range past {
		b := &past[i].Batch
		f.refs = append(f.refs, &ref{batch: *b, gone: b.URI == ""})
		s.open[b.Stream].left[b.Seq]--
		f.streams[b.Stream] = &stream{cursor: math.MaxInt64}
	}
	for id, st := range f.streams {
		e := s.open[id]
		for len(e.seqs) > 0 && e.left[e.seqs[0]] == 0 {
			e.seqs = e.seqs[1:]
		}
		if len(e.seqs) > 0 {
			st.cursor = e.seqs[0] - 1
		}
	}
	return f
}

// due is when something is decided without a batch; zero for never.
func (s *simulation) due() time.Time { return earlier(earlier(s.b.groupDue, s.b.cronDue), s.b.joinDue) }

func (s *simulation) step(past []trigger.Past, now time.Time) {
	f := s.see(past)
	for {
		d := decide(s.b, s.set, f, now.UTC(), s.o)
		s.note(d)
		d.adopt(s.o)
		if f.refs = nil; !d.more {
			return
		}
	}
}

func (s *simulation) note(d *draft) {
	for _, a := range d.in.Arrivals {
		for _, line := range a.Dispositions {
			s.become(line)
		}
	}
	for _, line := range d.in.Updates {
		s.become(line)
	}
	s.out.Firings = append(s.out.Firings, d.in.Firings...)
}

func (s *simulation) become(line trigger.Disposition) {
	of := s.out.Dispositions[line.Rule]
	if of == nil {
		of = map[string]trigger.Disposition{}
		s.out.Dispositions[line.Rule] = of
	}
	of[line.Batch] = line
}
