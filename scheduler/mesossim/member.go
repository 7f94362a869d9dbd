package mesossim

import (
	"fmt"
	"slices"

	"millrace/scheduler/mesos"
)

// register brings an agent to the leader: a new one, one that restarted, one that was unreachable, or one that the leader's predecessor knew.
func (a *agent) register() {
	c := a.c
	l := c.lead
	if l == nil || !a.up || !a.linked {
		return
	}
	if r := c.registry[a.id]; r != nil && r.gone {
		a.forget()
		a.id = ""
	}
	if a.id == "" {
		a.id = fmt.Sprintf("%s-S%d", l.id, l.nextAgent)
		l.nextAgent++
		c.registry[a.id] = &record{}
	}
	m, rec := l.members[a.id], c.registry[a.id]
	if m == nil {
		m = &member{a: a, total: bundleOf(a.opt.Resources), executors: map[string]bundle{}}
		l.members[a.id] = m
		l.ranks = append(l.ranks, m)
		m.free = m.total
		l.relearn(m, rec.unreachable)
	}
	m.timeout.stop()
	m.connected, rec.unreachable = true, false
	delete(l.recovered, a.id)
	c.allocate()
	for _, f := range slices.Clone(l.order) {
		a.resend(f.id, a.came != l && a.came != nil)
	}
	a.came = l
}

// relearn takes from an agent what it runs.
func (l *leader) relearn(m *member, unreachable bool) {
	a := m.a
	for _, t := range slices.Clone(a.order) {
		if t.over {
			continue
		}
		if l.completed[t.framework] {
			a.drop(t.framework)
			continue
		}
		f := l.frameworks[t.framework]
		if f == nil {
			f = l.addFramework(t.owner) // A leader's successor gives it all the time in the world to come back (MESOS-4659).
		}
		id := t.info.TaskID.Value
		delete(f.lost, id)
		k := &known{agent: a.id, name: t.info.Name, labels: t.info.Labels, role: t.role, state: t.told(), status: t.container(true), used: bundleOf(t.info.Resources),
			resources: t.info.Resources, freed: t.state.Terminal()}
		f.tasks[id] = k
		f.order = append(f.order, id)
		if !k.freed {
			m.free = m.free.sub(k.used)
		}
		if t.group != nil && !t.group.ended {
			key := f.id + "/" + t.group.id
			if _, there := m.executors[key]; !there {
				m.executors[key] = bundleOf(t.group.info.Resources)
				m.free = m.free.sub(m.executors[key])
			}
			k.executor = t.group.id
		}
		if unreachable && !k.freed {
			l.say(f, mesos.TaskStatus{TaskID: t.info.TaskID, AgentID: mesos.ID{Value: a.id}, State: mesos.TaskRunning, Reason: mesos.ReasonAgentReregistered,
				Message: "Unreachable agent re-reregistered", ContainerStatus: k.status})
		}
	}
}

// lost is when the link to an agent breaks: its offers go at once, and after Options.AgentTimeout its tasks are unreachable.
func (l *leader) lost(m *member) {
	if !m.connected {
		return
	}
	m.connected = false
	l.rescindAll(m)
	for _, f := range slices.Clone(l.order) {
		if !f.info.Checkpoint {
			l.losing(f, m, mesos.TaskLost, mesos.ReasonAgentDisconnected, "Agent "+m.a.opt.Hostname+" disconnected") // Unobserved.
			m.a.drop(f.id)
		}
	}
	m.timeout = l.c.after(l.c.opt.AgentTimeout, func() { l.unreachable(m) })
}

func (l *leader) rescindAll(m *member) {
	for _, id := range l.heldOf(m) {
		l.rescind(id)
	}
}

// heldOf returns the offers of an agent in order.
func (l *leader) heldOf(m *member) []string {
	var ids []string
	for id, o := range l.offers {
		if o.m == m {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// unreachable gives an agent up that has been silent for too long. It may come back.
func (l *leader) unreachable(m *member) {
	if l.dead || m.connected || l.members[m.a.id] != m {
		return
	}
	rec := l.c.registry[m.a.id]
	rec.unreachable, rec.since = true, l.c.now().UnixNano()
	l.leave(m)
	for _, f := range l.order {
		for _, id := range slices.Clone(f.order) {
			t := f.tasks[id]
			if t == nil || t.agent != m.a.id {
				continue
			}
			t.since = rec.since
			f.forget(id)
			if t.freed {
				continue
			}
			if f.lost == nil {
				f.lost = map[string]*known{}
			}
			f.lost[id] = t
			l.say(f, mesos.TaskStatus{TaskID: mesos.ID{Value: id}, AgentID: mesos.ID{Value: m.a.id}, State: f.aware(mesos.TaskUnreachable),
				Reason: mesos.ReasonAgentRemoved, Message: "health check timed out", UnreachableTime: &mesos.TimeInfo{Nanoseconds: rec.since}})
		}
		l.failure(f, m.a.id, "", nil)
	}
}

// leave takes an agent off the list.
func (l *leader) leave(m *member) {
	delete(l.members, m.a.id)
	l.ranks = slices.DeleteFunc(l.ranks, func(o *member) bool { return o == m })
}

// losing tells a framework that all its tasks on an agent have a state, which is the last.
func (l *leader) losing(f *framework, m *member, state mesos.TaskState, reason mesos.Reason, message string) {
	for _, id := range slices.Clone(f.order) {
		if t := f.tasks[id]; t != nil && t.agent == m.a.id {
			f.forget(id)
			if !t.freed {
				l.free(f, t)
				l.say(f, made(id, m.a.id, state, reason, message))
			}
		}
	}
}

// removed is when an agent leaves for good.
func (l *leader) removed(m *member, state mesos.TaskState, reason mesos.Reason, message string) {
	m.connected = false
	m.timeout.stop()
	for _, f := range l.order {
		l.losing(f, m, state, reason, message)
	}
	l.rescindAll(m)
	l.leave(m)
	for _, f := range l.order {
		l.failure(f, m.a.id, "", nil)
	}
}

// agentAt returns an agent by its number.
func (c *Cluster) agentAt(i int) (*agent, error) {
	if i < 0 || i >= len(c.agents) {
		return nil, fmt.Errorf("agent %d: %w", i, ErrUnknown)
	}
	return c.agents[i], nil
}

// onAgent does something to an agent, with the leader's idea of it, which may be nil.
func (c *Cluster) onAgent(i int, do func(a *agent, m *member)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.agentAt(i)
	if err != nil {
		return err
	}
	var m *member
	if c.lead != nil {
		m = c.lead.members[a.id]
	}
	do(a, m)
	return nil
}

// KillAgent kills an agent as SIGKILL does: its tasks run on, its files are not served. StartAgent starts it again.
func (c *Cluster) KillAgent(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		a.up = false
		if m != nil {
			c.lead.lost(m)
		}
	})
}

// StartAgent starts an agent that was killed or removed, and mends its link.
func (c *Cluster) StartAgent(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		a.up, a.linked = true, true
		a.register()
	})
}

// CutAgent breaks the network between an agent and the master: the agent and its tasks run on, its files are served. StartAgent mends it.
func (c *Cluster) CutAgent(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		a.linked = false
		if m != nil {
			c.lead.lost(m)
		}
	})
}

// LoseAgent gives an agent up whose link is broken, without waiting for Options.AgentTimeout.
func (c *Cluster) LoseAgent(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		if m != nil && m.connected {
			a.linked = false
			c.lead.lost(m)
		}
		if m != nil {
			m.timeout.stop()
			c.lead.unreachable(m)
		}
	})
}

// RemoveAgent makes an agent leave as SIGUSR1 does: its tasks die. Started again, it has another id.
func (c *Cluster) RemoveAgent(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		if m != nil {
			c.lead.removed(m, mesos.TaskLost, mesos.ReasonAgentRemoved, "Agent "+a.opt.Hostname+" removed: the agent unregistered")
		}
		delete(c.registry, a.id)
		a.forget()
		a.up, a.id = false, ""
	})
}

// GoneAgent declares an agent gone, as an operator may (unobserved). Its tasks die when it is back, and it gets another id.
func (c *Cluster) GoneAgent(i int) error {
	return c.onAgent(i, func(a *agent, m *member) {
		if r := c.registry[a.id]; r != nil {
			r.gone = true
		}
		a.linked = false
		if m == nil {
			return
		}
		for _, f := range c.lead.order {
			c.lead.losing(f, m, f.aware(mesos.TaskGoneByOperator), mesos.ReasonAgentRemovedByOperator, "Agent has been marked gone")
		}
		c.lead.removed(m, mesos.TaskGoneByOperator, mesos.ReasonAgentRemovedByOperator, "Agent has been marked gone")
	})
}
