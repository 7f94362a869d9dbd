package mesossim

import (
	"slices"
	"time"

	"millrace/scheduler/mesos"
)

const milli = time.Millisecond

// stamp is the time as statuses have it.
func (c *Cluster) stamp() float64 { return float64(c.now().UnixNano()) / 1e9 }

// made is a status that the master made up: it has no uuid.
func made(task, agent string, state mesos.TaskState, reason mesos.Reason, message string) mesos.TaskStatus {
	return mesos.TaskStatus{TaskID: mesos.ID{Value: task}, AgentID: mesos.ID{Value: agent}, State: state, Reason: reason, Message: message}
}

// say sends a status of the master's.
func (l *leader) say(f *framework, s mesos.TaskStatus) {
	if f.stream == nil {
		return
	}
	s.Source, s.Timestamp = mesos.SourceMaster, l.c.stamp()
	f.stream.send(&mesos.Event{Type: mesos.EventUpdate, Update: &mesos.Update{Status: s}})
}

// reconcile answers for the tasks that are asked for, or for all; of those whose agents are unreachable it speaks only when asked (unobserved).
func (l *leader) reconcile(f *framework, r *mesos.Reconcile) {
	if len(r.Tasks) == 0 {
		for _, id := range f.order {
			if t := f.tasks[id]; t != nil {
				l.latest(f, id, t)
			}
		}
		return
	}
	for _, t := range r.Tasks {
		l.answer(f, t.TaskID.Value, t.AgentID.Value)
	}
}

func (l *leader) latest(f *framework, id string, t *known) {
	l.say(f, mesos.TaskStatus{TaskID: mesos.ID{Value: id}, AgentID: mesos.ID{Value: t.agent}, State: t.state, Reason: mesos.ReasonReconciliation,
		Message: "Reconciliation: Latest task state", ContainerStatus: t.status})
}

// answer says what the master knows of a task; nothing at all, as long as its agent, or with no agent named any agent, has yet to come to this leader.
func (l *leader) answer(f *framework, id, agent string) {
	rec := l.c.registry[agent]
	lost := f.lost[id]
	if lost != nil {
		agent, rec = lost.agent, l.c.registry[lost.agent]
	}
	const reason = mesos.ReasonReconciliation
	switch t := f.tasks[id]; {
	case t != nil:
		l.latest(f, id, t)
	case lost == nil && agent == "" && len(l.recovered) > 0, l.recovered[agent]:
	case rec != nil && rec.gone:
		l.say(f, made(id, agent, f.aware(mesos.TaskGoneByOperator), reason, "Reconciliation: Task is gone"))
	case rec != nil && rec.unreachable:
		l.say(f, mesos.TaskStatus{TaskID: mesos.ID{Value: id}, AgentID: mesos.ID{Value: agent}, State: f.aware(mesos.TaskUnreachable), Reason: reason,
			Message: "Reconciliation: Task is unreachable", UnreachableTime: &mesos.TimeInfo{Nanoseconds: rec.since}})
	case agent != "" && l.members[agent] != nil:
		l.say(f, made(id, agent, f.aware(mesos.TaskGone), reason, "Reconciliation: Task is unknown to the agent"))
	default:
		l.say(f, made(id, agent, f.aware(mesos.TaskUnknown), reason, "Reconciliation: Task is unknown"))
	}
}

// kill sends a kill on to the agent; of a task that the master does not know, it says what it would to a question.
func (l *leader) kill(f *framework, k *mesos.Kill) {
	t := f.tasks[k.TaskID.Value]
	if t == nil {
		l.answer(f, k.TaskID.Value, k.AgentID.Value)
		return
	}
	if m := l.members[t.agent]; m != nil && m.connected {
		m.a.kill(f.id, k.TaskID.Value, k.KillPolicy)
	}
}

func (l *leader) shutdown(f *framework, s *mesos.Shutdown) {
	if m := l.members[s.AgentID.Value]; m != nil && m.connected {
		m.a.shutdown(f.id, s.ExecutorID.Value)
	}
}

// status takes an update of an agent, and sends it on if the framework is there.
func (l *leader) status(a *agent, framework string, s *mesos.TaskStatus, latest mesos.TaskState) {
	f := l.frameworks[framework]
	if f == nil {
		return
	}
	t := f.tasks[s.TaskID.Value]
	if t != nil && latest.Terminal() {
		l.free(f, t)
	}
	if f.stream == nil {
		return
	}
	if t != nil {
		t.state = s.State
		if s.ContainerStatus != nil {
			t.status = s.ContainerStatus
		}
	}
	f.stream.send(&mesos.Event{Type: mesos.EventUpdate, Update: &mesos.Update{Status: *s}})
}

// acknowledge sends an acknowledgement on to the agent. It is ignored if there is nothing like it to acknowledge.
func (l *leader) acknowledge(f *framework, a *mesos.Acknowledge) {
	m := l.members[a.AgentID.Value]
	if m == nil || !m.connected {
		return
	}
	if done := m.a.acknowledge(f.id, a.TaskID.Value, a.UUID); done {
		f.forget(a.TaskID.Value)
	}
}

func (f *framework) forget(task string) {
	delete(f.tasks, task)
	f.order = slices.DeleteFunc(f.order, func(id string) bool { return id == task })
}

// resend lets agents send what is not acknowledged at once, as they do when a framework is back.
func (l *leader) resend(framework string, twice bool) {
	if l.dead {
		return
	}
	for _, m := range l.ranks {
		if m.connected {
			m.a.resend(framework, twice)
		}
	}
}

// failure says that an executor has ended, or an agent is gone.
func (l *leader) failure(f *framework, agent, executor string, status *int) {
	if f.stream != nil {
		f.stream.send(&mesos.Event{Type: mesos.EventFailure, Failure: &mesos.Failure{AgentID: mesos.ID{Value: agent}, ExecutorID: mesos.ID{Value: executor},
			Status: status}})
	}
}

// executorEnded frees what a group's executor had.
func (l *leader) executorEnded(a *agent, framework, executor string) {
	m, f := l.members[a.id], l.frameworks[framework]
	key := framework + "/" + executor
	if m == nil || f == nil {
		return
	}
	if used, there := m.executors[key]; there {
		delete(m.executors, key)
		m.free = m.free.add(used)
		l.failure(f, a.id, executor, new(int))
	}
}
