package plan

import (
	"fmt"

	"millrace/scheduler"
)

// ends counts what became of the parents of a task.
type ends struct {
	parents                                  int
	success, failed, upstreamFailed, skipped int
	// bad and skip name a parent that did not succeed, and one that was skipped.
	bad, skip string
}

// ends looks at the parents of task i.
func (s *step) ends(i int) ends {
	e := ends{parents: len(s.DAG.nodes[i].parents)}
	for _, p := range s.DAG.nodes[i].parents {
		switch t := &s.Tasks[p]; {
		case !t.State.Terminal():
		case t.State == scheduler.StateSuccess:
			e.success++
		case t.State == scheduler.StateSkipped:
			e.skipped++
			e.skip = t.Task
		case t.State == scheduler.StateUpstreamFailed:
			e.upstreamFailed++
			e.bad = t.Task
		default:
			e.failed++
			e.bad = t.Task
		}
	}
	return e
}

// join returns what a task with the rule becomes, with the reason unless it may run: scheduled, skipped or upstream_failed; or none while it
// has to wait.
//
// A rule that waits decides on all ends together, so that their order plays no part. Those of one_* and always do not wait, and once true
// they stay true: what a task becomes does not depend on the order there either, only when.
func join(rule string, e ends) (scheduler.State, string) {
	failed := e.failed + e.upstreamFailed
	if e.parents == 0 || rule == scheduler.JoinAlways || rule == scheduler.JoinOneFailed && failed > 0 ||
		rule == scheduler.JoinOneSuccess && e.success > 0 || rule == scheduler.JoinOneDone && e.success+e.failed > 0 {
		return scheduler.StateScheduled, ""
	}
	if e.success+failed+e.skipped < e.parents {
		return scheduler.StateNone, ""
	}
	return e.judge(rule, failed)
}

// judge is join for parents that have all ended, without having met a rule that does not wait.
func (e ends) judge(rule string, failed int) (scheduler.State, string) {
	upstreamFailed := func() (scheduler.State, string) {
		return scheduler.StateUpstreamFailed, fmt.Sprintf("task %s did not succeed", e.bad)
	}
	skipped := func(why string) (scheduler.State, string) {
		return scheduler.StateSkipped, fmt.Sprintf("%s, and its rule is %s", why, rule)
	}
	switch rule {
	case scheduler.JoinAllFailed:
		if failed < e.parents {
			return skipped("not every parent failed")
		}
	case scheduler.JoinAllDone:
	case scheduler.JoinAllDoneMinOneSuccess:
		switch {
		case e.skipped > 0:
			return skipped(fmt.Sprintf("task %s was skipped", e.skip))
		case e.success == 0:
			return upstreamFailed()
		}
	case scheduler.JoinAllSkipped:
		if e.skipped < e.parents {
			return skipped("not every parent was skipped")
		}
	case scheduler.JoinOneFailed:
		return skipped("no parent failed")
	case scheduler.JoinOneDone:
		return skipped("no parent ran")
	case scheduler.JoinOneSuccess:
		if e.skipped < e.parents {
			return upstreamFailed()
		}
		return skipped("every parent was skipped")
	case scheduler.JoinNoneFailed, scheduler.JoinNoneFailedMinOneSuccess:
		switch {
		case failed > 0:
			return upstreamFailed()
		case e.skipped == e.parents && rule == scheduler.JoinNoneFailedMinOneSuccess:
			return skipped("every parent was skipped")
		}
	case scheduler.JoinNoneSkipped:
		if e.skipped > 0 {
			return skipped(fmt.Sprintf("task %s was skipped", e.skip))
		}
	default: // all_success
		switch {
		case failed > 0:
			return upstreamFailed()
		case e.skipped > 0:
			return scheduler.StateSkipped, fmt.Sprintf("task %s was skipped", e.skip)
		}
	}
	return scheduler.StateScheduled, ""
}
