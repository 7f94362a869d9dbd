package mesossim

import (
	"fmt"
	"time"

	"millrace/scheduler/mesos"
)

// inverse is an inverse offer that is not answered.
type inverse struct {
	f *framework
	m *member
}

// Maintain announces that an agent will not be available from start on, for so long; 0 is for ever. Its offers are rescinded, new ones say it, and frameworks
// with tasks there are asked by an inverse offer. Unobserved: after Mesos's protocol files.
func (c *Cluster) Maintain(i int, start time.Time, d time.Duration) error {
	return c.onAgent(i, func(a *agent, m *member) {
		if m == nil {
			return
		}
		m.window = &mesos.Unavailability{Start: mesos.TimeInfo{Nanoseconds: start.UnixNano()}}
		if d > 0 {
			m.window.Duration = &mesos.DurationInfo{Nanoseconds: d}
		}
		m.asked = map[string]bool{}
		l := c.lead
		l.rescindAll(m)
		for _, f := range l.order {
			if f.stream != nil && f.on(a.id) {
				l.ask(f, m)
			}
		}
		c.allocate()
	})
}

// Maintained takes back what Maintain announced.
func (c *Cluster) Maintained(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		if m == nil {
			return
		}
		m.window = nil
		for id, o := range c.lead.inverse {
			if o.m != m {
				continue
			}
			delete(c.lead.inverse, id)
			if o.f.stream != nil {
				o.f.stream.send(&mesos.Event{Type: mesos.EventRescindInverse, RescindInverse: &mesos.RescindInverse{InverseOfferID: mesos.ID{Value: id}}})
			}
		}
	})
}

// InverseAnswers returns what frameworks, by their ids, last said to the inverse offers of an agent: whether they accept.
func (c *Cluster) InverseAnswers(i int) map[string]bool {
	out := map[string]bool{}
	_ = c.onAgent(i, func(_ *agent, m *member) {
		if m != nil {
			for id, ok := range m.asked {
				out[id] = ok
			}
		}
	})
	return out
}

func (f *framework) on(agent string) bool {
	for _, t := range f.tasks {
		if t.agent == agent && !t.freed {
			return true
		}
	}
	return false
}

func (l *leader) ask(f *framework, m *member) {
	id := fmt.Sprintf("%s-O%d", l.id, l.nextOffer)
	l.nextOffer++
	l.inverse[id] = &inverse{f, m}
	f.stream.send(&mesos.Event{Type: mesos.EventInverseOffers, InverseOffers: &mesos.InverseOffers{InverseOffers: []mesos.InverseOffer{{
		ID: mesos.ID{Value: id}, URL: m.a.url(), FrameworkID: mesos.ID{Value: f.id}, AgentID: mesos.ID{Value: m.a.id}, Unavailability: *m.window}}}})
}

// answerInverse takes what a framework says to inverse offers. One that is declined comes again after its filter.
func (l *leader) answerInverse(f *framework, a *mesos.AnswerInverse, yes bool) {
	for _, id := range a.InverseOfferIDs {
		o := l.inverse[id.Value]
		if o == nil || o.f != f {
			continue
		}
		delete(l.inverse, id.Value)
		o.m.asked[f.id] = yes
		if yes {
			continue
		}
		seconds := 5.0
		if a.Filters != nil {
			seconds = a.Filters.RefuseSeconds
		}
		l.c.after(l.c.opt.seconds(seconds), func() {
			if !l.dead && f.stream != nil && o.m.window != nil && f.on(o.m.a.id) {
				l.ask(f, o.m)
			}
		})
	}
}
