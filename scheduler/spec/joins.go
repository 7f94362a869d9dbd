package spec

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"millrace/scheduler"
)

// checkJoins warns of joins that are probably not meant as they stand. It is for DAGs without faults: parents exist, and there is no cycle.
//
// A task with `when` begins a branch: it may be skipped, and with the rule all_success all that follows is skipped with it. A join of tasks
// that are skipped by the same conditions lies within one branch, and is fine; one whose parents are not comes after a branch: it is
// skipped although some of its parents succeeded, and always if the branches exclude each other.
func (b *builder) checkJoins() {
	branches := b.branches()
	for i := range b.dag.Tasks {
		t := &b.dag.Tasks[i]
		if t.Rule != "" && len(t.Needs) == 0 {
			b.warnf(b.tasks[i].at, WarnRuleWithoutNeeds, "remove it, or add needs", "task %q starts at once: its rule %s has no parents to join", t.ID, t.Rule)
		}
		if t.Rule != "" || len(t.Needs) < 2 {
			continue
		}
		some, all := new(big.Int), new(big.Int).Set(branches[t.Needs[0]])
		for _, need := range t.Needs {
			some.Or(some, branches[need])
			all.And(all, branches[need])
		}
		if some.Cmp(all) == 0 {
			continue
		}
		branch := int(some.AndNot(some, all).TrailingZeroBits())
		in := slices.IndexFunc(t.Needs, func(need string) bool { return branches[need].Bit(branch) == 1 })
		out := slices.IndexFunc(t.Needs, func(need string) bool { return branches[need].Bit(branch) == 0 })
		b.warnf(b.tasks[i].needs[in], WarnJoinAfterBranch, `write "rule: none_failed_min_one_success" to run it if any of its parents did and none failed`,
			"task %q joins after a branch: with the rule %s it is skipped whenever %q is, also if %q succeeded",
			t.ID, scheduler.JoinAllSuccess, t.Needs[in], t.Needs[out])
	}
	b.checkHidden()
}

// heedless are the rules under which a task runs whether its parents failed or not, without having asked.
var heedless = map[string]bool{
	scheduler.JoinAllDone: true, scheduler.JoinOneDone: true, scheduler.JoinAllSkipped: true, scheduler.JoinNoneSkipped: true, scheduler.JoinAlways: true,
}

// checkHidden warns of tasks whose failure no task after them sees. The leaves decide how a run ends, so it would succeed: nearly always somebody
// has added a task that cleans up, and with it has switched off all alarms.
func (b *builder) checkHidden() {
	seen := map[string]bool{} // tasks whose failure another sees
	for _, t := range b.dag.Tasks {
		for _, need := range t.Needs {
			seen[need] = seen[need] || !heedless[t.Rule] && t.Part != scheduler.PartTeardown
		}
	}
	for i, t := range b.dag.Tasks {
		if t.Part == scheduler.PartTeardown {
			continue // it plays no part in how the run ends, unless it is to
		}
		var hidden []string
		for _, need := range t.Needs {
			if !seen[need] {
				hidden = append(hidden, need)
				seen[need] = true // once is enough
			}
		}
		if len(hidden) > 0 {
			list := strings.Join(hidden, ", ")
			b.warnf(b.tasks[i].at, WarnFailureHidden, fmt.Sprintf(`if it must, add a task such as "outcome: {needs: [%s], run: ["true"]}", which fails with them`, list),
				"the run does not fail if %s does: task %q comes after it with the rule %s, and nothing else that would fail", list, t.ID, t.Rule)
		}
	}
}

// passesSkips are the rules that skip a task as soon as one of its parents was.
var passesSkips = map[string]bool{
	"": true, scheduler.JoinAllFailed: true, scheduler.JoinAllDoneMinOneSuccess: true, scheduler.JoinNoneSkipped: true,
}

// branches returns, for each task, the set of tasks, by index, whose `when` may skip it.
func (b *builder) branches() map[string]*big.Int {
	index := map[string]int{}
	for i := range b.dag.Tasks {
		index[b.dag.Tasks[i].ID] = i
	}
	out := map[string]*big.Int{}
	var visit func(i int) *big.Int
	visit = func(i int) *big.Int {
		t := &b.dag.Tasks[i]
		if set := out[t.ID]; set != nil {
			return set
		}
		set := new(big.Int)
		out[t.ID] = set
		if t.When != "" {
			set.SetBit(set, i, 1)
		}
		for _, setup := range t.Setups {
			set.Or(set, visit(index[setup]))
		}
		for _, need := range t.Needs {
			parent := visit(index[need])
			if passesSkips[t.Rule] {
				set.Or(set, parent)
			}
		}
		return set
	}
	for i := range b.dag.Tasks {
		visit(i)
	}
	return out
}
