package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
)

// counted is up to how many runs of a DAG a list's total is exact. Beyond, it is one more than what was looked at: there is at least one more.
const counted = 1000

// newestFirst are the orders in which runs can be listed: the one that the store has. A run is created, queued and due at one time.
var newestFirst = []string{"-id", "-run_after", "-queued_at", "-logical_date", "-start_date"}

func (s *Server) airflowRuns(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	w, err := windowOf(c, "state", "order_by", "cursor")
	if err != nil {
		return err
	}
	for _, order := range c.QueryParams()["order_by"] {
		if !slices.Contains(newestFirst, order) {
			return invalid("order_by is %q, and runs are listed newest first: leave it out, or write one of %s", order, strings.Join(newestFirst, ", "))
		}
	}
	q := scheduler.RunQuery{DAG: param(c, "dag")}
	if q.DAG == every {
		q.DAG = ""
	} else if _, _, err := s.dagOf(c); err != nil {
		return err
	}
	streams, err := runStreams(q, c.QueryParams()["state"])
	if err != nil {
		return err
	}
	if c.QueryParams().Has("cursor") {
		return s.runsAfter(c, streams, w)
	}
	runs, total, err := s.takeRuns(c.Request().Context(), streams, w)
	if err != nil {
		return err
	}
	out := airflow.Runs{Runs: airflow.NewRuns(runs), Total: &total}
	if total > max(w.offset+w.limit, counted) {
		exact, known, err := s.countAll(c.Request().Context(), streams)
		if err != nil {
			return err
		}
		if total = max(total, exact); !known {
			out.TotalLimit = &total
		}
	}
	return c.JSON(http.StatusOK, out)
}

// countAll returns how many runs there are in streams of all DAGs, if the store keeps count; it does so for all DAGs together only.
func (s *Server) countAll(ctx context.Context, streams []*runStream) (total int, known bool, err error) {
	counter, ok := s.d.Store.(RunCounter)
	if !ok || streams[0].query.DAG != "" {
		return 0, false, nil
	}
	counts, err := counter.CountRuns(ctx)
	for state, n := range counts {
		if slices.ContainsFunc(streams, func(r *runStream) bool { return r.query.State == "" || r.query.State == state }) {
			total += int(n)
		}
	}
	return total, err == nil, err
}

// runsAfter answers with the page after a cursor, which is the store's own; "" is before the first. So nothing is passed over, and no row is
// doubled or left out by what is new.
func (s *Server) runsAfter(c echo.Context, streams []*runStream, w window) error {
	if len(streams) != 1 {
		return invalid("a cursor goes with one state of millrace's at most, and failed is two, failed and cancelled: page by offset")
	}
	if w.limit == 0 {
		return invalid("limit is 0: a page by cursor has at least one run")
	}
	q := streams[0].query
	q.Before, q.Limit = c.QueryParam("cursor"), w.limit
	runs, next, err := s.d.Store.Runs(c.Request().Context(), q)
	if err != nil {
		return err
	}
	out := airflow.Runs{Runs: airflow.NewRuns(runs)}
	if next != "" {
		out.Next = &next
	}
	return c.JSON(http.StatusOK, out)
}

// runStream is a list of runs that is read page by page, newest first.
type runStream struct {
	query scheduler.RunQuery
	page  []scheduler.Run
	ended bool
}

// runStreams returns a stream for each state that the words stand for, or one for all.
func runStreams(q scheduler.RunQuery, words []string) ([]*runStream, error) {
	var states []scheduler.State
	for _, word := range words {
		more := airflow.RunStates(word)
		if more == nil {
			return nil, invalid("state is %q, want queued, running, success or failed", word)
		}
		states = append(states, more...)
	}
	slices.Sort(states)
	states = slices.Compact(states)
	if len(states) == 0 {
		return []*runStream{{query: q}}, nil
	}
	var out []*runStream
	for _, state := range states {
		q.State = state
		out = append(out, &runStream{query: q})
	}
	return out, nil
}

// head returns the newest run that was not taken yet, nil at the end.
func (r *runStream) head(ctx context.Context, store scheduler.Store) (*scheduler.Run, error) {
	if len(r.page) == 0 && !r.ended {
		var err error
		if r.page, r.query.Before, err = store.Runs(ctx, r.query); err != nil {
			return nil, err
		}
		r.ended = r.query.Before == ""
	}
	if len(r.page) == 0 {
		return nil, nil
	}
	return &r.page[0], nil
}

// takeRuns merges streams and returns the runs in the window, with the total as far as it is counted. It looks at no more than
// maxOffset+maxWindow runs, however many there are.
func (s *Server) takeRuns(ctx context.Context, streams []*runStream, w window) (runs []scheduler.Run, total int, err error) {
	horizon := max(w.offset+w.limit, counted)
	for _, r := range streams {
		r.query.Limit = min(horizon+1, maxWindow)
	}
	for ; total <= horizon; total++ {
		next, err := newest(ctx, s.d.Store, streams)
		if err != nil || next == nil {
			return runs, total, err
		}
		if total >= w.offset && len(runs) < w.limit {
			runs = append(runs, next.page[0])
		}
		next.page = next.page[1:]
	}
	return runs, total, nil
}

// newest returns the stream whose next run is the newest, nil if all are at their ends.
func newest(ctx context.Context, store scheduler.Store, streams []*runStream) (*runStream, error) {
	var best *runStream
	for _, r := range streams {
		head, err := r.head(ctx, store)
		if err != nil {
			return nil, err
		}
		if head != nil && (best == nil || newer(head, &best.page[0])) {
			best = r
		}
	}
	return best, nil
}

// newer is the store's order.
func newer(a, b *scheduler.Run) bool {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) > 0
}

// airflowRunOf finds the run that the path names, which must be one of the path's DAG.
func (s *Server) airflowRunOf(c echo.Context) (*scheduler.RunDetail, error) {
	if param(c, "run") == every {
		return nil, invalid("tasks are listed for one run at a time: name it instead of ~")
	}
	if s.d.Store == nil {
		return nil, errNoSchedule
	}
	d, err := s.d.Store.Run(c.Request().Context(), param(c, "run"))
	if err != nil {
		return nil, err
	}
	asInstances(d)
	return d, ofDAG(c, d)
}

// ofDAG checks that a run is one of the path's DAG.
func ofDAG(c echo.Context, d *scheduler.RunDetail) error {
	if dag := param(c, "dag"); dag != every && dag != d.Run.DAG {
		return fmt.Errorf("find run %s of dag %q: it is one of %q: %w", d.Run.ID, dag, d.Run.DAG, scheduler.ErrNotFound)
	}
	return nil
}

// asInstances puts mapped tasks into the place of the one that they are of: Airflow has no task with the index -1 once its list was made.
func asInstances(d *scheduler.RunDetail) {
	places := map[string]int{}
	for i := range d.Tasks {
		if t := &d.Tasks[i]; t.MapIndex == scheduler.NoMap {
			places[t.Task] = i
		}
	}
	d.Tasks = slices.DeleteFunc(d.Tasks, func(t scheduler.TaskRun) bool { return t.Map != nil && t.Map.Made > 0 })
	slices.SortStableFunc(d.Tasks, func(a, b scheduler.TaskRun) int {
		return cmp.Or(cmp.Compare(places[a.Task], places[b.Task]), cmp.Compare(a.MapIndex, b.MapIndex))
	})
}

func (s *Server) airflowRun(c echo.Context) error {
	d, err := s.airflowRunOf(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.NewRun(d.Run))
}
