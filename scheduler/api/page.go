package api

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/scheduler"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed static/*
var staticFiles embed.FS

// pages renders what people see. Everything that others wrote (events, logs, errors, names) goes through html/template's escaping.
type pages struct {
	base string
	all  map[string]*template.Template
}

func newPages(base string) (*pages, error) {
	p := &pages{base: base, all: map[string]*template.Template{}}
	funcs := template.FuncMap{
		"clock": clock, "ago": ago, "took": took, "size": size, "count": count, "icon": icon, "short": short, "rate": rate, "percent": percent,
		"now": time.Now, "number": func(n int) string { return count(int64(n)) },
		"runOf": func(task string) string { run, _, _ := strings.Cut(task, "/"); return run },
		"runs":  func(base string, runs []scheduler.Run) runTable { return runTable{base, runs} },
	}
	for _, name := range []string{"home", "run", "batch", "dag", "fault"} {
		t, err := template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "pages/layout.html", "pages/parts.html", "pages/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("parse page %s: %w", name, err)
		}
		p.all[name] = t
	}
	return p, nil
}

// runTable is what the part "runs" gets.
type runTable struct {
	Base string
	Runs []scheduler.Run
}

// view is what the layout gets.
type view struct {
	Base, Title string
	// Refresh says that the page looks again by itself.
	Refresh bool
	Data    any
}

func (p *pages) show(c echo.Context, name string, status int, v view) error {
	v.Base = p.base
	var b bytes.Buffer
	if err := p.all[name].Execute(&b, v); err != nil {
		return fmt.Errorf("render page %s: %w", name, err)
	}
	return c.HTMLBlob(status, b.Bytes())
}

// fault shows an error, and where to put the token if that is what is missing.
func (p *pages) fault(c echo.Context, pr problem) {
	err := p.show(c, "fault", pr.Status, view{Title: pr.Title, Data: pr})
	if err != nil && !c.Response().Committed {
		c.Response().WriteHeader(pr.Status)
	}
}

var staticTypes = map[string]string{"style.css": "text/css; charset=utf-8", "refresh.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}

func (p *pages) static(c echo.Context) error {
	name := c.Param("name")
	kind := staticTypes[name]
	if kind == "" {
		return echo.ErrNotFound
	}
	b, err := staticFiles.ReadFile("static/" + name)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "max-age=300")
	return c.Blob(http.StatusOK, kind, b)
}

type homeData struct {
	Status  *status
	States  []scheduler.State
	Batches []batcher.Batch
	Runs    []scheduler.Run
	DAGs    []scheduler.DAGHead
	// Questions are the decisions that are waited for, at most [questionsShown] of them.
	Questions []scheduler.Question
}

const questionsShown = 20

func (s *Server) homePage(c echo.Context) error {
	ctx := c.Request().Context()
	st, err := s.statusNow(ctx)
	if err != nil {
		return err
	}
	d := homeData{Status: st, States: runStates}
	if d.Questions, err = s.questions(c, ""); err != nil {
		return err
	}
	d.Questions = d.Questions[:min(len(d.Questions), questionsShown)]
	if s.d.Store != nil {
		if d.Batches, _, err = s.d.Store.Batches(ctx, scheduler.BatchQuery{Limit: 12}); err != nil {
			return err
		}
		if d.Runs, _, err = s.d.Store.Runs(ctx, scheduler.RunQuery{Limit: 15}); err != nil {
			return err
		}
	}
	if s.d.Control != nil {
		if d.DAGs, err = s.d.Control.DAGs(ctx); err != nil {
			return err
		}
	}
	return s.pages.show(c, "home", http.StatusOK, view{Title: "Status", Refresh: true, Data: d})
}

type runData struct {
	*scheduler.RunDetail
	// Questions are the decisions that the run waits for.
	Questions []scheduler.Question
	Logs      []taskLog
}

// taskLog is a task with the end of what its newest attempt wrote.
type taskLog struct {
	scheduler.TaskRun
	Text string
	// Cut says that there is more before Text.
	Cut  bool
	Note string
}

// shown is how much of a log a page has.
const shown = 64 << 10

func (s *Server) runPage(c echo.Context) error {
	d, err := s.run(c)
	if err != nil {
		return err
	}
	data := runData{RunDetail: d}
	if !d.Run.State.Terminal() {
		if data.Questions, err = s.questions(c, d.Run.ID); err != nil {
			return err
		}
	}
	for i := range d.Tasks {
		if d.Tasks[i].Executor == "" {
			continue // it writes no log
		}
		data.Logs = append(data.Logs, s.taskLog(c.Request().Context(), d, &d.Tasks[i]))
	}
	return s.pages.show(c, "run", http.StatusOK, view{Title: "Run " + d.Run.ID, Refresh: !d.Run.State.Terminal(), Data: data})
}

func (s *Server) taskLog(ctx context.Context, d *scheduler.RunDetail, t *scheduler.TaskRun) taskLog {
	l := taskLog{TaskRun: *t}
	a := attempt(d, key{t.Task, t.MapIndex}, 0)
	if a == nil {
		return l
	}
	exec := s.d.Executors[a.Executor]
	if exec == nil {
		l.Note = "The executor " + a.Executor + " is not in this process."
		return l
	}
	text, cut, err := lastPart(ctx, exec, a.ID)
	if err != nil && !errors.Is(err, scheduler.ErrNotFound) {
		l.Note = "The log can not be read to its end now."
	}
	l.Text, l.Cut = strings.ToValidUTF8(string(text), "\uFFFD"), cut
	return l
}

// lastPart returns the end of a log. An executor does not say how long one is, but an offset beyond the end is empty: so the end is found
// with a few small reads, and a page that looks again and again does not read gigabytes each time.
func lastPart(ctx context.Context, exec scheduler.Executor, attempt string) (text []byte, cut bool, err error) {
	beyond := func(offset int64) bool {
		r, openErr := exec.Log(ctx, attempt, offset)
		if openErr != nil {
			err = openErr
			return true
		}
		defer r.Close()
		n, _ := io.ReadFull(r, make([]byte, 1)) // What can not be read is as good as the end.
		return n == 0
	}
	least, most := int64(0), int64(shown)
	for !beyond(most) {
		least, most = most, 2*most
	}
	for most-least > shown {
		if mid := (least + most) / 2; beyond(mid) {
			most = mid
		} else {
			least = mid
		}
	}
	if err != nil {
		return nil, false, err
	}
	start := max(0, least-shown)
	r, err := exec.Log(ctx, attempt, start)
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	text, cut, err = tail(r, shown)
	return text, cut || start > 0, err
}

// tail returns the last n bytes of r, from the beginning of a line if it is cut.
func tail(r io.Reader, n int) (text []byte, cut bool, err error) {
	buf := make([]byte, 0, 2*n)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf[:0], buf[len(buf)-n:]...)
			cut = true
		}
		var m int
		m, err = r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err != nil {
			break
		}
	}
	if len(buf) > n {
		buf, cut = buf[len(buf)-n:], true
	}
	if _, rest, ok := bytes.Cut(buf, []byte{'\n'}); cut && ok {
		buf = rest
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return buf, cut, err
}

type batchData struct {
	*scheduler.BatchDetail
	Rows []string
	Note string
}

// rowsShown and rowShown bound what of a batch's rows a page has.
const (
	rowsShown = 5
	rowShown  = 2000
)

func (s *Server) batchPage(c echo.Context) error {
	d, err := s.batch(c)
	if err != nil {
		return err
	}
	data := batchData{BatchDetail: d}
	rows, err := s.openRows(c)
	if err != nil {
		data.Note = "The rows can not be read: " + faultOf(err).title + "."
	} else {
		defer rows.Close()
		var b bytes.Buffer
		err = copyRows(&b, newLineReader(rows), 0, rowsShown)
		for line := range strings.Lines(b.String()) {
			data.Rows = append(data.Rows, short(strings.TrimSuffix(line, "\n"), rowShown))
		}
		if err != nil {
			data.Note = "The rows could not be read to their end."
		}
	}
	return s.pages.show(c, "batch", http.StatusOK, view{Title: "Batch " + d.Batch.ID, Data: data})
}

type dagData struct {
	*scheduler.DAGHead
	Spec *scheduler.DAG
	Runs []scheduler.Run
}

func (s *Server) dagPage(c echo.Context) error {
	if s.d.Control == nil || s.d.Store == nil {
		return errNoSchedule
	}
	ctx := c.Request().Context()
	head, spec, err := s.d.Control.DAG(ctx, param(c, "dag"))
	if err != nil {
		return err
	}
	runs, _, err := s.d.Store.Runs(ctx, scheduler.RunQuery{DAG: head.ID, Limit: 25})
	if err != nil {
		return err
	}
	return s.pages.show(c, "dag", http.StatusOK, view{Title: head.ID, Refresh: true, Data: dagData{head, spec, runs}})
}

// clock shows a time so that it sorts and says its zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := now.Sub(t)
	switch {
	case d < 2*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s ago"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min ago"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h ago"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days ago"
}

func took(from, to time.Time) string {
	if from.IsZero() {
		return "–"
	}
	if to.IsZero() {
		return "running"
	}
	d := to.Sub(from)
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func size(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/unit, 0
	for ; v >= unit && i < 4; i++ {
		v /= unit
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + "KMGTP"[i:i+1] + "iB"
}

// count groups digits by narrow spaces.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

func rate(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(int64(v))
}

func percent(part, whole int64) int64 { return 100 * part / cmp.Or(whole, 1) }

func short(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// icon is a sign for a state, beside its word and its colour.
func icon(s scheduler.State) string {
	switch s {
	case scheduler.StateSuccess:
		return "✓"
	case scheduler.StateFailed, scheduler.StateUpstreamFailed:
		return "✕"
	case scheduler.StateRunning, scheduler.StateLaunching:
		return "▶"
	case scheduler.StateSkipped:
		return "⤼"
	case scheduler.StateCancelled, scheduler.StateRemoved:
		return "■"
	case scheduler.StateUpForRetry:
		return "↻"
	case scheduler.StateUnreachable:
		return "?"
	case scheduler.StateDeferred:
		return "…"
	case scheduler.StateAwaitingInput:
		return "!"
	}
	return "○"
}
