package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
)

// every is what Airflow's clients write where they mean all DAGs, or all runs.
const every = "~"

// slots is how many tasks may run at once.
func (s *Server) slots() int {
	n := 0
	for _, e := range s.d.Executors {
		n += e.Slots()
	}
	return n
}

// dagFilter is what a list of DAGs can be narrowed by.
type dagFilter struct {
	paused       *bool
	stale        bool
	id           *regexp.Regexp
	prefix       string
	owners, tags []string
}

func dagFilterOf(c echo.Context) (f dagFilter, err error) {
	if f.paused, err = truth(c, "paused"); err != nil {
		return f, err
	}
	for _, name := range []string{"exclude_stale", "only_active"} {
		only, err := truth(c, name)
		if err != nil {
			return f, err
		}
		f.stale = f.stale || only != nil && !*only
	}
	f.id, f.prefix = like(c.QueryParam("dag_id_pattern")), c.QueryParam("dag_id_prefix_pattern")
	f.owners, f.tags = c.QueryParams()["owners"], c.QueryParams()["tags"]
	return f, nil
}

// like reads a pattern as Airflow does: a part of the id, of any case, in which % stands for anything and _ for one character; | stands between
// alternatives.
func like(pattern string) *regexp.Regexp {
	alternatives := strings.Split(pattern, "|")
	for i, text := range alternatives {
		if text == "~" {
			text = ""
		}
		alternatives[i] = strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(text))
	}
	return regexp.MustCompile("(?is)" + strings.Join(alternatives, "|"))
}

func (f dagFilter) keeps(d airflow.DAG) bool {
	tagged := len(f.tags) == 0 || slices.ContainsFunc(d.Tags, func(t airflow.Tag) bool { return slices.Contains(f.tags, t.Name) })
	owned := len(f.owners) == 0 || slices.ContainsFunc(d.Owners, func(o string) bool { return slices.Contains(f.owners, o) })
	return (f.paused == nil || *f.paused == d.Paused) && (f.stale || !d.Stale) && f.id.MatchString(d.ID) &&
		strings.HasPrefix(d.ID, f.prefix) && tagged && owned
}

func (s *Server) airflowDAGs(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	w, err := windowOf(c, "order_by", "dag_id_pattern", "dag_id_prefix_pattern", "paused", "exclude_stale", "only_active", "owners", "tags")
	if err != nil {
		return err
	}
	f, err := dagFilterOf(c)
	if err != nil {
		return err
	}
	heads, err := s.d.Control.DAGs(c.Request().Context())
	if err != nil {
		return err
	}
	var dags []airflow.DAG
	for _, h := range heads {
		d, err := s.airflowDAGOf(c.Request().Context(), h)
		if err != nil {
			return err
		}
		if d != nil && f.keeps(*d) {
			dags = append(dags, *d)
		}
	}
	switch order := c.QueryParam("order_by"); order {
	case "", "dag_id", "dag_display_name":
	case "-dag_id", "-dag_display_name":
		slices.Reverse(dags)
	default:
		return invalid("order_by is %q, want dag_id or -dag_id", order)
	}
	return c.JSON(http.StatusOK, airflow.DAGs{DAGs: cutTo(dags, w), Total: len(dags)})
}

// airflowDAGOf returns a DAG as Airflow has it, or nil for a file that never had a good version: that is an import error.
func (s *Server) airflowDAGOf(ctx context.Context, h scheduler.DAGHead) (*airflow.DAG, error) {
	if h.Version == "" {
		return nil, nil
	}
	_, spec, err := s.d.Control.DAG(ctx, h.ID)
	if err != nil && !errors.Is(err, scheduler.ErrNotFound) { // it may be gone by now
		return nil, err
	}
	d := airflow.NewDAG(h, spec, s.slots())
	return &d, nil
}

// dagOf finds the DAG that the path names.
func (s *Server) dagOf(c echo.Context) (airflow.DAG, *scheduler.DAG, error) {
	if s.d.Control == nil {
		return airflow.DAG{}, nil, errNoSchedule
	}
	ctx, id := c.Request().Context(), param(c, "dag")
	head, spec, err := s.d.Control.DAG(ctx, id)
	if err == nil && head.Version == "" {
		err = scheduler.ErrNotFound
	}
	if errors.Is(err, scheduler.ErrNotFound) {
		err = s.noDAG(ctx, id, err)
	}
	if err != nil {
		return airflow.DAG{}, nil, err
	}
	return airflow.NewDAG(*head, spec, s.slots()), spec, nil
}

func (s *Server) airflowDAG(c echo.Context) error {
	d, _, err := s.dagOf(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, d)
}

func (s *Server) airflowDAGDetails(c echo.Context) error {
	d, spec, err := s.dagOf(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.NewDAGDetails(d, spec))
}

func (s *Server) airflowImportErrors(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	w, err := windowOf(c)
	if err != nil {
		return err
	}
	heads, err := s.d.Control.DAGs(c.Request().Context())
	if err != nil {
		return err
	}
	all := airflow.NewImportErrors(heads)
	return c.JSON(http.StatusOK, airflow.ImportErrors{Errors: cutTo(all, w), Total: len(all)})
}
