package mesossim

import (
	"fmt"
	"strings"

	"millrace/scheduler/mesos"
)

// accept uses offers for operations.
func (l *leader) accept(f *framework, a *mesos.Accept) {
	var avail bundle
	var m *member
	role, why := "", ""
	seen := map[string]bool{}
	for _, id := range a.OfferIDs {
		o := l.offers[id.Value]
		if o == nil && l.c.opt.Easy.Offers {
			o = l.again(id.Value)
		}
		switch {
		case o == nil || o.f != f:
			why = fmt.Sprintf("Offer %s is no longer valid", id.Value)
		case seen[id.Value]:
			why = fmt.Sprintf("Duplicate offer %s in offer list", id.Value)
		case m != nil && o.m != m:
			why = fmt.Sprintf("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s", id.Value, o.m.a.id, m.a.id)
		case m != nil && o.role != role:
			why = fmt.Sprintf("Aggregated offers must be allocated to the same role. Offer %s uses role %s and role %s", id.Value, o.role, role)
		default:
			m, role = o.m, o.role
			avail = avail.add(o.what)
		}
		seen[id.Value] = true
	}
	if len(a.OfferIDs) == 0 {
		why = "No offers specified"
	}
	for id := range seen {
		if o := l.offers[id]; o != nil && o.f == f {
			l.recover(id)
		}
	}
	if why != "" {
		for _, t := range tasksOf(a.Operations) {
			l.say(f, made(t.TaskID.Value, t.AgentID.Value, f.aware(mesos.TaskDropped), mesos.ReasonInvalidOffers, "Task launched with invalid offers: "+why))
		}
		return
	}
	m.free = m.free.sub(avail)
	for _, op := range a.Operations {
		switch {
		case op.Launch != nil:
			for _, t := range op.Launch.TaskInfos {
				avail = l.launch(f, m, role, avail, t)
			}
		case op.LaunchGroup != nil:
			avail = l.launchGroup(f, m, role, avail, op.LaunchGroup)
		}
	}
	m.free = m.free.add(avail)
	l.refuse(f, m, role, avail, a.Filters)
}

// again makes an offer out of one that was used.
func (l *leader) again(id string) *offer {
	o := l.used[id]
	if o == nil || !o.m.connected {
		return nil
	}
	o.what = o.m.free.of(o.role)
	o.m.free = o.m.free.sub(o.what)
	l.offers[id] = o
	return o
}

func tasksOf(ops []mesos.Operation) (out []mesos.TaskInfo) {
	for _, op := range ops {
		if op.Launch != nil {
			out = append(out, op.Launch.TaskInfos...)
		}
		if op.LaunchGroup != nil {
			out = append(out, op.LaunchGroup.TaskGroup.Tasks...)
		}
	}
	return out
}

// launch starts one task and returns what is left.
func (l *leader) launch(f *framework, m *member, role string, avail bundle, t mesos.TaskInfo) bundle {
	want := bundleOf(t.Resources)
	why := l.checkTask(f, m, t)
	switch {
	case why != "":
	case (t.Command == nil) == (t.Executor == nil):
		why = "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
	case t.Executor != nil:
		why = "This is a double of Mesos: it has no executors of a framework's own"
	case !avail.has(want):
		why = fmt.Sprintf("Total resources %s required by task and its executor is more than available %s", want.text(role), avail.text(role))
	}
	if why != "" {
		l.say(f, made(t.TaskID.Value, m.a.id, mesos.TaskError, mesos.ReasonTaskInvalid, why))
		return avail
	}
	l.know(f, m, role, t, "")
	m.a.launch(f.info, role, []mesos.TaskInfo{t}, nil)
	return avail.sub(want)
}

// launchGroup starts a group, or none of it, and returns what is left.
func (l *leader) launchGroup(f *framework, m *member, role string, avail bundle, g *mesos.LaunchGroup) bundle {
	ex := g.Executor
	own := bundleOf(ex.Resources)
	key := f.id + "/" + ex.ExecutorID.Value
	want := own
	if _, there := m.executors[key]; there {
		want = nil
	}
	why, reason := "", mesos.ReasonTaskGroupInvalid
	for _, need := range []struct{ name, text string }{{mesos.CPUs, "CPUs"}, {mesos.Mem, "memory"}, {mesos.Disk, "disk"}} {
		if own.amount(need.name) == 0 && why == "" {
			why = fmt.Sprintf("Executor '%s' uses no %s", ex.ExecutorID.Value, need.text)
		}
	}
	for _, t := range g.TaskGroup.Tasks {
		want = want.add(bundleOf(t.Resources))
		if bad := l.checkTask(f, m, t); bad != "" && why == "" {
			why = fmt.Sprintf("Task '%s' is invalid: %s", t.TaskID.Value, bad)
		}
	}
	if why == "" && !avail.has(want) {
		why = fmt.Sprintf("Total resources %s required by task group and its executor are more than available %s", want.text(role), avail.text(role))
	}
	if why != "" {
		for _, t := range g.TaskGroup.Tasks {
			l.say(f, made(t.TaskID.Value, m.a.id, mesos.TaskError, reason, why))
		}
		return avail
	}
	m.executors[key] = own
	for _, t := range g.TaskGroup.Tasks {
		l.know(f, m, role, t, ex.ExecutorID.Value)
	}
	m.a.launch(f.info, role, g.TaskGroup.Tasks, &ex)
	return avail.sub(want)
}

func (l *leader) know(f *framework, m *member, role string, t mesos.TaskInfo, executor string) {
	f.tasks[t.TaskID.Value] = &known{agent: m.a.id, executor: executor, name: t.Name, labels: t.Labels, role: role, state: mesos.TaskStaging, used: bundleOf(t.Resources),
		resources: t.Resources}
	f.order = append(f.order, t.TaskID.Value)
}

// checkTask returns what is wrong with a task, as Mesos says it.
func (l *leader) checkTask(f *framework, m *member, t mesos.TaskInfo) string {
	id := t.TaskID.Value
	switch {
	case id == "":
		return "ID must not be empty"
	case len(id) > 255:
		return "ID must not be greater than 255 characters"
	case id == "." || id == "..":
		return fmt.Sprintf("'%s' is disallowed", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '/' || r == '\\' }):
		return fmt.Sprintf("'%s' contains invalid characters", id)
	case f.tasks[id] != nil || f.lost[id] != nil:
		return "Task has duplicate ID: " + id
	case t.AgentID.Value != m.a.id:
		return fmt.Sprintf("Task uses invalid agent %s while agent %s is expected", t.AgentID.Value, m.a.id)
	case len(bundleOf(t.Resources)) == 0:
		return "Task uses no resources"
	}
	return ""
}

// aware returns the state for a framework that knows of partitions; others are told that the task is lost.
func (f *framework) aware(s mesos.TaskState) mesos.TaskState {
	if f.can(mesos.CapPartitionAware) {
		return s
	}
	return mesos.TaskLost
}
