// Package backfill plans backfills: it says which runs a person's request makes of which batches or nominal times, and what it leaves out and
// why. It reads the ledger and, where that is asked for, the chain, and changes nothing; what is done with a plan is the engine's.
//
//	BackfillSpec ─▶ candidates (ledger, chain) ─▶ what the rule wants ─▶ what the DAG has had ─▶ items, in groups and in order
//
// A plan is what is so when it is made. What happens until a run's turn comes is judged again then, by the same [scheduler.Reprocess.Refuse].
package backfill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// DAGs tells what is in force.
type DAGs interface {
	DAG(ctx context.Context, id string) (*scheduler.DAGHead, *scheduler.DAG, error)
}

// Planner makes plans. Safe for concurrent use.
type Planner struct {
	store scheduler.Store
	dags  DAGs
	judge scheduler.Judge
	chain batcher.Catalogue
}

// New returns a planner. chain is for ranges of entries.
func New(store scheduler.Store, dags DAGs, judge scheduler.Judge, chain batcher.Catalogue) *Planner {
	return &Planner{store: store, dags: dags, judge: judge, chain: chain}
}

// DefaultActive is how many runs of a backfill are under way at once, if nobody says otherwise.
const DefaultActive = 4

// Plan fills in what the request leaves open, and plans it. Errors: scheduler.ErrNotFound (the DAG, or a batch that was named),
// scheduler.ErrInvalid, scheduler.ErrUnavailable.
func (p *Planner) Plan(ctx context.Context, s scheduler.BackfillSpec) (*scheduler.BackfillPlan, error) {
	head, dag, err := p.dags.DAG(ctx, s.DAG)
	switch {
	case err != nil:
		return nil, err
	case dag == nil || head.Removed:
		return nil, fmt.Errorf("backfill dag %q: it has no good file: %w", s.DAG, scheduler.ErrNotFound)
	}
	rule, err := pick(dag, s.Rule, s.Selection)
	if err == nil {
		err = complete(&s, rule)
	}
	if err == nil {
		_, err = spec.Params(dag.Params, s.Params)
	}
	if err != nil {
		return nil, fmt.Errorf("backfill dag %s: %w: %w", s.DAG, scheduler.ErrInvalid, err)
	}
	d := &draft{Planner: p, rule: rule, plan: &scheduler.BackfillPlan{
		Backfill: scheduler.Backfill{BackfillSpec: s, Version: head.Version, State: scheduler.BackfillRunning},
		Items:    []scheduler.BackfillItem{}, Left: []scheduler.LeftOut{},
	}}
	if rule.Kind == trigger.KindCron {
		err = d.ticks(ctx, time.Now())
	} else {
		err = d.batches(ctx)
	}
	if err != nil {
		return nil, err
	}
	if n := len(d.plan.Items); n > scheduler.MaxBackfillRuns {
		return nil, fmt.Errorf("%w: it would be %d runs, and a backfill has at most %d: select less, or put more batches into one run",
			scheduler.ErrInvalid, n, scheduler.MaxBackfillRuns)
	}
	d.plan.Backfill.Counts = scheduler.BackfillCounts{Total: len(d.plan.Items), Waiting: len(d.plan.Items)}
	return d.plan, nil
}

// pick finds the rule as whose runs they count.
func pick(dag *scheduler.DAG, id string, sel scheduler.Selection) (*trigger.Rule, error) {
	want := trigger.KindBatch
	fits := func(r *trigger.Rule) bool { return r.Kind == want && !r.Joins() }
	if !slices.ContainsFunc(dag.On, func(r trigger.Rule) bool { return fits(&r) }) && !sel.Events.IsZero() {
		want = trigger.KindCron
	}
	var names, all []string
	var found *trigger.Rule
	for i := range dag.On {
		r := &dag.On[i]
		if r.Kind == trigger.KindCron || r.Kind == trigger.KindBatch && !r.Joins() {
			all = append(all, r.ID)
			if r.ID == id {
				return r, nil
			}
		}
		if fits(r) {
			names, found = append(names, r.ID), r
		}
	}
	switch {
	case id != "" && slices.ContainsFunc(dag.On, func(r trigger.Rule) bool { return r.ID == id }):
		return nil, fmt.Errorf("rule %q is neither for batches nor a cron rule", id)
	case id != "":
		return nil, fmt.Errorf("it has no rule %q (it has %s) %s", id, strings.Join(all, ", "), spec.Suggest(id, all))
	case len(names) == 0:
		return nil, errors.New("it has no rule for batches; of a cron rule, select the nominal times (event-time)")
	case len(names) > 1:
		return nil, fmt.Errorf("it has the rules %s: name the one as whose runs they are to count (rule)", strings.Join(names, ", "))
	}
	return found, nil
}

// complete fills in what the request leaves open, and reports all that is wrong with it.
func complete(s *scheduler.BackfillSpec, rule *trigger.Rule) error {
	if s.ID == "" {
		s.ID = "b" + strings.ToLower(rand.Text()[:12])
	}
	s.Rule = rule.ID
	if s.Group == 0 {
		s.Group = 1
		if c := rule.Coalesce; c != nil && c.MaxBatches > 0 {
			s.Group = min(c.MaxBatches, scheduler.MaxBackfillGroup)
		}
	}
	if s.MaxActive == 0 {
		s.MaxActive = DefaultActive
	}
	if s.Reprocess == "" {
		s.Reprocess = scheduler.ReprocessNone
	}
	if s.Order == "" {
		s.Order = scheduler.OrderOldest
	}
	return errors.Join(check(s, rule)...)
}

var (
	reprocesses = []scheduler.Reprocess{scheduler.ReprocessNone, scheduler.ReprocessFailed, scheduler.ReprocessAll}
	orders      = []string{scheduler.OrderOldest, scheduler.OrderNewest}
	// fates are the dispositions that can be selected. What is held or in an open group runs by itself.
	fates = []string{
		string(trigger.FateRun), string(trigger.FateFiltered), string(trigger.FateDropped), string(trigger.FateExpired), scheduler.SelectFailed,
	}
)

func check(s *scheduler.BackfillSpec, rule *trigger.Rule) []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := spec.CheckID(s.ID); err != nil {
		fault("id: %v", err)
	}
	if !slices.Contains(reprocesses, s.Reprocess) {
		fault("reprocess is %q, want none, failed or all", s.Reprocess)
	}
	if !slices.Contains(orders, s.Order) {
		fault("order is %q, want oldest or newest", s.Order)
	}
	if s.Group < 1 || s.Group > scheduler.MaxBackfillGroup {
		fault("group is %d, want 1 to %d batches", s.Group, scheduler.MaxBackfillGroup)
	}
	if s.MaxActive < 1 || s.MaxActive > scheduler.MaxBackfillActive {
		fault("max_active_runs is %d, want 1 to %d", s.MaxActive, scheduler.MaxBackfillActive)
	}
	sel := &s.Selection
	for name, span := range map[string]scheduler.Span{"event-time": sel.Events, "received": sel.Received} {
		if !span.IsZero() && !span.From.Before(span.To) {
			fault("%s: from (%s) is not before to (%s)", name, stamp(span.From), stamp(span.To))
		}
	}
	for _, f := range sel.Dispositions {
		if !slices.Contains(fates, f) {
			fault("disposition is %q, want one of %s", f, strings.Join(fates, ", "))
		}
	}
	byBatch := len(sel.Batches)+len(sel.Dispositions) > 0 || !sel.Stream.IsZero() || !sel.Received.IsZero()
	switch {
	case rule.Kind == trigger.KindCron && (byBatch || sel.Events.IsZero()):
		fault("rule %s is a cron rule: select the nominal times, and nothing else (event-time)", rule.ID)
	case !byBatch && sel.Events.IsZero():
		fault("say which batches: by id, by a range of the chain, by event time, by time of receipt or by disposition")
	case !sel.Stream.IsZero() && (sel.FromSeq < 1 || sel.ToSeq < sel.FromSeq):
		fault("entries %d to %d of a chain: want from-seq at least 1, and to-seq not below it", sel.FromSeq, sel.ToSeq)
	case sel.Stream.IsZero() && (sel.FromSeq != 0 || sel.ToSeq != 0):
		fault("from-seq and to-seq need a stream")
	}
	return errs
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// draft is a plan in the making.
type draft struct {
	*Planner
	rule  *trigger.Rule
	wants scheduler.RuleJudge
	plan  *scheduler.BackfillPlan
}

// leave notes what is not run.
func (d *draft) leave(l scheduler.LeftOut) {
	if d.plan.LeftTotal++; d.plan.LeftTotal <= scheduler.MaxLeftOut {
		d.plan.Left = append(d.plan.Left, l)
	}
}

// item appends a run.
func (d *draft) item(it scheduler.BackfillItem) {
	it.Backfill, it.N, it.State, it.Rule = d.plan.Backfill.ID, len(d.plan.Items), scheduler.StateQueued, d.rule.ID
	if it.Batches == nil {
		it.Batches = []string{}
	}
	d.plan.Items = append(d.plan.Items, it)
}

// ticks makes an item of each nominal time that has come.
func (d *draft) ticks(ctx context.Context, now time.Time) error {
	span := d.plan.Backfill.Selection.Events
	if span.To.After(now) {
		span.To = now
	}
	times, err := d.judge.Ticks(*d.rule, span, scheduler.MaxBackfillRuns+1)
	if err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	if len(times) > scheduler.MaxBackfillRuns {
		return fmt.Errorf("%w: there are more than %d nominal times between %s and %s: select less", scheduler.ErrInvalid, scheduler.MaxBackfillRuns,
			stamp(span.From), stamp(span.To))
	}
	if d.plan.Backfill.Order == scheduler.OrderNewest {
		slices.Reverse(times)
	}
	items := make([]scheduler.BackfillItem, len(times))
	ids := make([]string, len(times))
	for i, t := range times {
		items[i] = scheduler.BackfillItem{Kind: trigger.KindCron, Rule: d.rule.ID, Key: t.Format(time.RFC3339), Due: t}
		ids[i] = items[i].Firing(d.plan.Backfill.DAG, d.plan.Backfill.Version).RunID()
	}
	past, err := d.store.PastRuns(ctx, d.plan.Backfill.DAG, ids)
	if err != nil {
		return err
	}
	for i := range items {
		if reason := d.plan.Backfill.Reprocess.Refuse(past[ids[i]]); reason != "" {
			d.leave(scheduler.LeftOut{Due: items[i].Due, Reason: reason})
			continue
		}
		d.item(items[i])
	}
	return nil
}
