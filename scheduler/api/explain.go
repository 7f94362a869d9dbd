package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

func (s *Server) explainRun(c echo.Context) error {
	why, err := s.whyRun(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, why)
}

func (s *Server) whyRun(c echo.Context) (*scheduler.RunWhy, error) {
	if s.d.Explain == nil {
		return nil, errNoSchedule
	}
	why, err := s.d.Explain.Explain(c.Request().Context(), param(c, "run"))
	if err != nil {
		return nil, err
	}
	why.Tasks = list(why.Tasks)
	return why, nil
}

func (s *Server) explainTask(c echo.Context) error {
	index, err := number(c, "map_index", scheduler.NoMap, 1<<31, scheduler.NoMap)
	if err != nil {
		return err
	}
	if s.d.Explain == nil {
		return errNoSchedule
	}
	why, err := s.d.Explain.ExplainTask(c.Request().Context(), param(c, "run"), scheduler.TaskName(param(c, "task"), int(index)))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, why)
}

func (s *Server) listPools(c echo.Context) error {
	if s.d.Explain == nil {
		return errNoSchedule
	}
	slots, err := s.d.Explain.Slots(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.Slots]{Items: list(slots)})
}

// noBatch says what is known of a batch that the ledger does not have: what became of it goes with its row, and its id has a time.
func (s *Server) noBatch(id string, err error) error {
	at, ok := batcher.IDTime(id)
	if !ok || !errors.Is(err, scheduler.ErrNotFound) {
		return err
	}
	return fmt.Errorf("find batch %q: it is not in the ledger. By its id, its first record was received on %s; store.retention after its cut the row of a batch is "+
		"removed with its dispositions, unless a run that is kept has it. Its object stays, and 'millrace backfill' finds it by the range of its entries (stream, "+
		"from-seq, to-seq): %w", id, at.Format(time.DateTime+" UTC"), scheduler.ErrNotFound)
}

// explainBatch puts the ledger's lines into sentences: what dispatch decided on is in them.
func (s *Server) explainBatch(c echo.Context) error {
	d, err := s.batch(c)
	if err != nil {
		return s.noBatch(param(c, "batch"), err)
	}
	x := &ledger{ctx: c.Request().Context(), s: s}
	var deadlines map[string][]scheduler.Deadline
	if s.d.Explain != nil {
		if deadlines, err = s.d.Explain.BatchDeadlines(x.ctx, d.Batch.ID); err != nil {
			return err
		}
	}
	out := scheduler.BatchWhy{Batch: d.Batch.ID, Rules: []scheduler.RuleWhy{}}
	count := map[trigger.Fate]int{}
	for _, line := range d.Dispositions {
		why, err := x.why(&line)
		if err != nil {
			return err
		}
		count[line.Fate]++
		out.Rules = append(out.Rules, scheduler.RuleWhy{Rule: line.Rule, Disposition: line.Fate, Why: why, Deadlines: deadlines[line.Rule]})
	}
	out.Text = "no rule was active when it came: it can be replayed only"
	var parts []string
	for _, fate := range []trigger.Fate{trigger.FateRun, trigger.FateCoalesced, trigger.FateHeld, trigger.FateFiltered, trigger.FateDropped, trigger.FateExpired} {
		if n := count[fate]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s for %d", fate, n))
		}
	}
	if len(parts) > 0 {
		out.Text = fmt.Sprintf("of %d rules that were active when it came: %s", len(d.Dispositions), strings.Join(parts, ", "))
	}
	return c.JSON(http.StatusOK, out)
}

// ledger explains lines of the trigger ledger; it looks up what they name once.
type ledger struct {
	ctx context.Context
	s   *Server
	mem *trigger.Memory
}

func (x *ledger) why(d *trigger.Disposition) (scheduler.Why, error) {
	switch d.Fate {
	case trigger.FateRun:
		return scheduler.Why{Code: scheduler.CodeRun, On: []string{d.Run}, Text: "is an input of run " + d.Run}, nil
	case trigger.FateCoalesced:
		return x.coalescing(d)
	case trigger.FateHeld:
		return x.held(d)
	case trigger.FateFiltered:
		return scheduler.Why{Code: scheduler.CodeFiltered, Name: d.Reason, Text: x.filtered(d)}, nil
	case trigger.FateExpired:
		return scheduler.Why{Code: scheduler.CodeExpired, Name: d.Reason, Text: x.expired(d)}, nil
	}
	text := map[string]string{
		"void": "has no rows", "gone": "its object was deleted", "rule_removed": "the rule was removed while the batch waited",
		"paused":       "the DAG was paused when it came, and the rule's when_paused does not keep it",
		"superseded":   "a newer one came, and the rule takes the latest of its key alone",
		"rule_changed": "the rule was changed while the batch waited, and is not for it any more",
		"restored":     "it was cut before the time from which the restored state went on",
	}[d.Reason]
	if text == "" {
		text = x.filtered(d)
	}
	return scheduler.Why{Code: scheduler.CodeDropped, Name: d.Reason, Text: "starts nothing: " + text}, nil
}

// filtered says what of the rule the batch does not meet.
func (x *ledger) filtered(d *trigger.Disposition) string {
	rule := x.rule(d.Rule)
	switch code, detail, _ := strings.Cut(d.Reason, ": "); code {
	case "sides":
		if rule != nil && rule.Joins() {
			return "none of the rules that it joins wants it: " + strings.Join(rule.AllOf, ", ")
		}
		return "none of the rules that it joins wants it"
	case "only_joined":
		return "the rule wants it, but starts no runs of its own (only_joined): see what became of it for the joins"
	case "source":
		return "the rule is for another source or tenant"
	case "quarantine":
		return "was set aside, and the rule does not want such batches"
	case "types":
		if rule != nil {
			return "has no event of the types that the rule wants: " + strings.Join(rule.Types, ", ")
		}
		return "has no event of the types that the rule wants"
	case "if":
		if rule != nil {
			return "if was false: " + rule.If
		}
		return "if was false"
	case "if_error":
		return "if has no value for it: " + detail
	case "key_error":
		return "key has no value for it: " + detail
	case "rule_error":
		return "the rule is faulty: " + detail
	}
	return d.Reason
}

// rule returns the rule as it is now, or nil.
func (x *ledger) rule(name string) *trigger.Rule {
	dag, id, _ := strings.Cut(name, "/")
	if x.s.d.Control == nil {
		return nil
	}
	_, spec, err := x.s.d.Control.DAG(x.ctx, dag)
	if err != nil || spec == nil {
		return nil
	}
	i := slices.IndexFunc(spec.On, func(r trigger.Rule) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &spec.On[i]
}

// coalescing says of what group the batch is, and when that closes.
func (x *ledger) coalescing(d *trigger.Disposition) (scheduler.Why, error) {
	why := scheduler.Why{Code: scheduler.CodeCoalescing, Name: d.Group, Text: "waits in an open group for its run"}
	m, err := x.memory()
	if err != nil {
		return why, err
	}
	i := slices.IndexFunc(m.Groups, func(g trigger.Group) bool { return g.ID == d.Group && g.Rule == d.Rule })
	rule := x.rule(d.Rule)
	if i < 0 || rule == nil {
		return why, nil // it was closed between the two looks, or is about to be
	}
	g, c := &m.Groups[i], rule.Coalesce
	if c == nil {
		why.Text = inGroup(g)
		return why, x.full(&why, rule, g.Key)
	}
	why.Text = inGroup(g)
	var ends []string
	if c.MaxBatches > 0 {
		ends = append(ends, fmt.Sprintf("%d batches", c.MaxBatches))
	}
	if c.MaxEvents > 0 {
		ends = append(ends, fmt.Sprintf("%d events", c.MaxEvents))
	}
	if c.MaxBytes > 0 {
		ends = append(ends, fmt.Sprintf("%d bytes", c.MaxBytes))
	}
	if c.Quiet > 0 {
		why.Until = g.LastAt.Add(c.Quiet)
		ends = append(ends, fmt.Sprintf("%v without another batch, which is at %s", c.Quiet, stamp(why.Until)))
	}
	if c.MaxWait > 0 {
		end := g.OpenedAt.Add(c.MaxWait)
		if why.Until.IsZero() || end.Before(why.Until) {
			why.Until = end
		}
		ends = append(ends, fmt.Sprintf("%v after its first batch, which is at %s", c.MaxWait, stamp(end)))
	}
	why.Text += "; it closes at " + strings.Join(ends, ", or ")
	if !why.Until.IsZero() && !time.Now().Before(why.Until) {
		if err := x.full(&why, rule, g.Key); err != nil {
			return why, err
		}
	}
	if c.Mode == trigger.CoalesceLatest {
		why.Text += "; then the newest of them starts a run, and the others do not"
	}
	return why, nil
}

// inGroup says of what group a batch is.
func inGroup(g *trigger.Group) string {
	if len(g.Batches) == 1 {
		return "waits alone in a group that is open since " + stamp(g.OpenedAt)
	}
	return fmt.Sprintf("waits with %d others, %d events in all, in a group that is open since %s", len(g.Batches)-1, g.Events, stamp(g.OpenedAt))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
