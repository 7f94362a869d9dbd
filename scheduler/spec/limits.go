package spec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// maxSlots bounds runs of a group and slots of a task.
const maxSlots = 100_000

// dagLimits is what a DAG says of all its runs and tasks, and what is to be checked of that at the end.
type dagLimits struct {
	priority int
	// group is where the text of the concurrency group stands, and loneKeys where keys of rules do that do not coalesce.
	group    ast.Node
	loneKeys []placed
}

// taskLimits is what a task, or `defaults`, says of what it waits for.
type taskLimits struct {
	pool     string
	slots    int
	slotsAt  ast.Node
	priority *int
}

// with adds fields to others.
func with(known, more fields) fields {
	maps.Copy(known, more)
	return known
}

func (b *builder) dagLimitFields() fields {
	return fields{
		"concurrency": func(v ast.Node) { b.concurrency(v) },
		"priority":    func(v ast.Node) { b.limits.priority = b.priority(v) },
	}
}

func (b *builder) taskLimitFields(l *taskLimits) fields {
	return fields{
		"pool": func(v ast.Node) { l.pool = b.id(v, "pool") },
		"pool_slots": func(v ast.Node) {
			l.slotsAt, l.slots = v, int(b.integer(v, "pool_slots", maxSlots))
			if l.slots == 0 {
				b.errorf(v, "leave pool out for a task that needs none", "pool_slots must be at least 1")
			}
		},
		"priority": func(v ast.Node) { n := b.priority(v); l.priority = &n },
	}
}

// setLimits gives a task what it said, or else what the DAG did.
func (b *builder) setLimits(t *scheduler.Task, l taskLimits) {
	t.Pool, t.Priority = l.pool, b.limits.priority
	if l.priority != nil {
		t.Priority = *l.priority
	}
	switch {
	case l.pool != "" && l.slots > 1: // one is the default, and has one spelling in the compiled form
		t.PoolSlots = l.slots
	case l.pool == "" && l.slotsAt != nil:
		b.errorf(l.slotsAt, "add pool: <name>", "task %q has pool_slots and no pool", t.ID)
	}
}

// priority reads a number that may be negative.
func (b *builder) priority(n ast.Node) int {
	if v, ok := b.resolve(n).(*ast.IntegerNode); ok {
		num, err := strconv.Atoi(fmt.Sprint(v.Value))
		if err == nil && num >= -scheduler.MaxPriority && num <= scheduler.MaxPriority {
			return num
		}
	}
	b.errorf(n, "the default is 0, and higher goes first", "priority must be a whole number from %d to %d", -scheduler.MaxPriority, scheduler.MaxPriority)
	return 0
}

// concurrency reads a number of runs, or {group, max_runs, when_full}.
func (b *builder) concurrency(n ast.Node) {
	c := &scheduler.Concurrency{MaxRuns: 1}
	b.dag.Concurrency = c
	runs := func(v ast.Node, what string) {
		if c.MaxRuns = int(b.integer(v, what, maxSlots)); c.MaxRuns == 0 {
			b.errorf(v, "leave concurrency out for no limit, or pause the DAG", "%s must be at least 1", what)
		}
	}
	if _, ok := b.resolve(n).(*ast.IntegerNode); ok {
		runs(n, "concurrency")
		return
	}
	b.mapping(n, "concurrency", fields{
		"group":     func(v ast.Node) { b.limits.group = v; c.Group = b.group(v) },
		"max_runs":  func(v ast.Node) { runs(v, "max_runs") },
		"when_full": func(v ast.Node) { c.WhenFull = b.whenFull(v) },
	})
}

// taskConcurrency reads how many attempts of a task may be active in all runs.
func (b *builder) taskConcurrency(n ast.Node) int {
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		b.errorf(n, "write concurrency: 2 here, or {max_runs: …} beside tasks for runs", "concurrency of a task is a number of attempts")
		return 0
	}
	num := int(b.integer(n, "concurrency", maxSlots))
	if num == 0 && !b.faultAt(n) {
		b.errorf(n, "leave it out for no limit", "concurrency must be at least 1")
	}
	return num
}

var whenFull = []string{scheduler.WhenFullQueue, scheduler.WhenFullSkip, scheduler.WhenFullCancelRunning, scheduler.WhenFullFail,
	scheduler.WhenFullCoalesce}

func (b *builder) whenFull(n ast.Node) string {
	word := b.str(n, "when_full")
	switch {
	case word == scheduler.WhenFullQueue:
		return "" // is the default, and has one spelling in the compiled form
	case slices.Contains(whenFull, word):
		return word
	case word != "":
		b.errorf(n, suggest(word, slices.Clone(whenFull)), "when_full is %q, want one of %s", word, strings.Join(whenFull, ", "))
	}
	return ""
}

// group reads the text of a concurrency group, which is evaluated when a run is made.
func (b *builder) group(n ast.Node) string {
	src := strings.TrimSpace(b.scalar(n, "group"))
	text, err := expr.CompileText(src)
	if err != nil {
		b.exprErrors(n, "group", err)
		return src
	}
	if strings.ReplaceAll(src, " ", "") == "${{trigger.key}}" {
		b.errorf(n, "write ${{ trigger.lane_key }} for the value of the rule's key", "group: trigger.key names one batch, tick or request, so each run "+
			"would be in a group of its own")
	}
	u := usedExpr{at: n, what: "group"}
	for _, ref := range text.Refs() {
		if ref.Root == "tasks" {
			b.errorf(n, "", "group: no task has run when a run gets its group, so it can not depend on task %q", ref.Name)
			continue
		}
		u.refs = append(u.refs, ref)
	}
	b.exprs = append(b.exprs, u)
	return src
}

// checkLimits finds keys that nothing uses.
func (b *builder) checkLimits() {
	if c := b.dag.Concurrency; c != nil && strings.Contains(c.Group, "lane_key") {
		return
	}
	for _, key := range b.limits.loneKeys {
		if usesKey(b.dag, key.id) {
			continue
		}
		b.errorf(key.at, "add coalesce, or concurrency with the group ${{ trigger.lane_key }}, or remove key", "key without coalesce has no effect")
	}
}
