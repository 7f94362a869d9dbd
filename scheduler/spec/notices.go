package spec

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/trigger"
)

// What on_event can name, of a DAG and of a task.
var (
	dagEvents  = []string{scheduler.OnSuccess, scheduler.OnFailure, scheduler.OnCancelled, scheduler.OnRetry, scheduler.OnDeadline}
	taskEvents = []string{scheduler.OnSuccess, scheduler.OnFailure, scheduler.OnCancelled, scheduler.OnRetry, scheduler.OnSkipped}
)

var averageRule = regexp.MustCompile(`^average\(([0-9]{1,9})\)$`)

var deadlineFrom = value{"batch_sealed, run_created, cron_time or average(N)", node{
	"type": "string", "pattern": `^(batch_sealed|run_created|cron_time|average\([0-9]+\))$`,
}}

var deadlineKeys = []Key{
	is("from", deadlineFrom, "What it counts from: the cut of the run's oldest batch, its creation, the nominal time of its tick, or its creation plus the average duration of the last N successful runs. Required."),
	is("within", duration, "The run is to be successful so long after that, at most 31d. Required, but with average(N)."),
	is("min_runs", count(scheduler.MaxAverage), "With average(N): there is no deadline before so many runs have been successful. Default: N."),
	is("notify", texts, "Notifiers of the configuration that are told when it is missed."),
}

var noticeKeys = slices.Concat(
	[]Key{is("deadline", value{"mapping, or list of mappings", nil}, "When a run that is not successful is late, which is told once, and changes nothing about the run.")},
	under("deadline", deadlineKeys), under("deadline[]", deadlineKeys),
	[]Key{
		is("on_event", mapping, "Notifiers of the configuration that are told what becomes of a run."),
		is("on_event.success", texts, "When a run succeeds."),
		is("on_event.failure", texts, "When a run fails."),
		is("on_event.cancelled", texts, "When a run is cancelled."),
		is("on_event.retry", texts, "When a task of it has failed and will be tried again."),
		is("on_event.deadline", texts, "When a deadline is missed."),
	})

var taskNoticeKeys = []Key{
	is("on_event", mapping, "Notifiers of the configuration that are told what becomes of the task."),
	is("on_event.success", texts, "When it succeeds."),
	is("on_event.failure", texts, "When it fails and is not tried again."),
	is("on_event.cancelled", texts, "When it is cancelled."),
	is("on_event.retry", texts, "When it has failed and will be tried again."),
	is("on_event.skipped", texts, "When it is skipped."),
}

func (b *builder) noticeFields() fields {
	return fields{
		"on_event": func(v ast.Node) { b.noticeAt, b.dag.OnEvent = v, b.onEvent(v, dagEvents) },
		"deadline": func(v ast.Node) { b.deadlines(v) },
	}
}

// onEvent reads who is told of what. An empty list is as good as none, and leaves nothing in the compiled form.
func (b *builder) onEvent(n ast.Node, events []string) scheduler.OnEvent {
	out := scheduler.OnEvent{}
	known := fields{}
	for _, event := range events {
		known[event] = func(v ast.Node) {
			if names := b.notifiers(v, "on_event."+event); len(names) > 0 {
				out[event] = names
			}
		}
	}
	b.mapping(n, "on_event", known)
	if len(out) == 0 {
		return nil
	}
	return out
}

// notifiers reads names of notifiers, each once. "notify.ops" is the same as "ops": so the configuration has it.
func (b *builder) notifiers(n ast.Node, what string) []string {
	var out []string
	for _, v := range b.list(n, what, true) {
		name := strings.TrimPrefix(b.scalar(v, what), "notify.")
		if name == "" {
			continue
		}
		if err := CheckID(name); err != nil {
			b.errorf(v, "name a notifier of the configuration's notify", "%s: %v", what, err)
			continue
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// deadlines reads one or a list of them.
func (b *builder) deadlines(n ast.Node) {
	list := []ast.Node{n}
	if seq, ok := b.resolve(n).(*ast.SequenceNode); ok {
		list = seq.Values
	}
	for _, v := range list {
		b.dag.Deadlines = append(b.dag.Deadlines, b.deadline(v))
		b.deadlinesAt = append(b.deadlinesAt, v)
	}
}

func (b *builder) deadline(n ast.Node) scheduler.DeadlineRule {
	var r scheduler.DeadlineRule
	var from, within, least ast.Node
	before := len(b.errs)
	b.mapping(n, "deadline", fields{
		"from":     func(v ast.Node) { from = v; b.deadlineFrom(v, &r) },
		"within":   func(v ast.Node) { within, r.Within = v, b.duration(v, "within") },
		"min_runs": func(v ast.Node) { least, r.MinRuns = v, int(b.integer(v, "min_runs", scheduler.MaxAverage)) },
		"notify":   func(v ast.Node) { r.Notify = b.notifiers(v, "deadline.notify") },
	})
	if len(b.errs) > before {
		return r
	}
	average := r.From == scheduler.FromAverage
	switch {
	case from == nil:
		b.errorf(n, "add from: batch_sealed, run_created, cron_time or average(10)", "deadline does not say what it counts from")
	case within == nil && !average:
		b.errorf(n, "add within: 5m", "deadline does not say how long a run may take")
	case r.Within == 0 && !average:
		b.errorf(within, "", "within is 0: every run would be late")
	case r.Within > scheduler.MaxDeadline:
		b.errorf(within, "", "within is %v, the limit is 31d", r.Within)
	case least != nil && !average:
		b.errorf(least, "", "min_runs has a meaning with average(N) only")
	case r.MinRuns > r.Last:
		b.errorf(least, "", "min_runs is %d, and only the last %d runs are looked at", r.MinRuns, r.Last)
	case average && r.MinRuns == 0:
		r.MinRuns = r.Last
	}
	return r
}

func (b *builder) deadlineFrom(n ast.Node, r *scheduler.DeadlineRule) {
	word := strings.ReplaceAll(b.str(n, "from"), " ", "")
	words := []string{scheduler.FromBatchSealed, scheduler.FromRunCreated, scheduler.FromCronTime}
	if m := averageRule.FindStringSubmatch(word); m != nil {
		r.From = scheduler.FromAverage
		if r.Last, _ = strconv.Atoi(m[1]); r.Last < 1 || r.Last > scheduler.MaxAverage {
			b.errorf(n, "", "average(%s): want 1 to %d runs", m[1], scheduler.MaxAverage)
		}
		return
	}
	if r.From = word; !slices.Contains(words, word) {
		hint := suggest(word, append(words, "average(10)"))
		if hint == "" {
			hint = "write one of " + strings.Join(words, ", ") + ", average(10)"
		}
		b.errorf(n, hint, "from is %q, from which no deadline counts", word)
	}
}

// lintNotices finds deadlines that no run can have.
func (b *builder) lintNotices() {
	kinds := map[string]trigger.Kind{scheduler.FromBatchSealed: trigger.KindBatch, scheduler.FromCronTime: trigger.KindCron}
	for i := range b.dag.Deadlines {
		r := &b.dag.Deadlines[i]
		kind, limited := kinds[r.From]
		if limited && !slices.ContainsFunc(b.dag.On, func(o trigger.Rule) bool { return o.Kind == kind }) {
			b.warnf(b.deadlinesAt[i], WarnNoDeadline, fmt.Sprintf("add a %s rule to on, or count from run_created", kind),
				"the deadline counts from %s, and no rule of the DAG is a %s rule: no run has it", r.From, kind)
		}
		if len(r.Notify) == 0 && len(b.dag.OnEvent[scheduler.OnDeadline]) == 0 {
			b.warnf(b.deadlinesAt[i], WarnNoDeadline, "add notify: [NAME], or on_event.deadline", "nobody is told when the deadline is missed: it is only shown and counted")
		}
	}
	if len(b.dag.OnEvent[scheduler.OnDeadline]) > 0 && len(b.dag.Deadlines) == 0 {
		b.warnf(b.noticeAt, WarnNoDeadline, "add deadline: {from: run_created, within: 1h}", "on_event names notifiers for deadline, and the DAG has no deadline")
	}
}
