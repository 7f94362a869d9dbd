package api

import (
	"errors"
	"html"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// TestPagesEscape puts what a sender or a task may write onto every page: nothing of it may become markup.
func TestPagesEscape(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, run := r.fill()
	inline := regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>[^<\s]|\son\w+\s*=|javascript:|style=`)
	for _, path := range []string{"/", "/runs/" + run.ID, "/batches/" + b.ID, "/dags/load"} {
		page := r.page(path)
		if !strings.Contains(html.UnescapeString(page), "<script>alert(1)</script>") {
			t.Errorf("%s: the text is not shown, so nothing is tested", path)
		}
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img") {
			t.Errorf("%s: the text became markup", path)
		}
		for _, m := range inline.FindAllString(stripText(page), -1) {
			t.Errorf("%s: %q would need an inline permission", path, m)
		}
		if strings.Count(page, "<h1") > 1 || !strings.Contains(page, "</html>") {
			t.Errorf("%s: the page is not whole", path)
		}
	}
}

// stripText leaves the tags.
func stripText(page string) string {
	return strings.Join(regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1), "\n")
}

func TestPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	empty := r.page("/")
	for _, want := range []string{"No runs yet.", "No batches yet.", "No DAGs yet.", "web", "10.0 GiB"} {
		if !strings.Contains(empty, want) {
			t.Errorf("empty: no %q on the page", want)
		}
	}
	b, run := r.fill()
	again := schedulertest.ExampleRun(b)
	again.Run.ID, again.Run.Replay, again.Run.ReplayOf = "again", 2, run.ID
	due := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	again.Run.Deadlines = []scheduler.Deadline{{Rule: "5m after batch_sealed", At: due, MissedAt: due}, {N: 1, Rule: "1h after run_created", At: due}}
	for i := range again.Tasks {
		again.Tasks[i].Run = again.Run.ID
	}
	if err := r.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{again}}); err != nil {
		t.Fatal(err)
	}
	home, page, batch := r.page("/"), r.page("/runs/"+run.ID), r.page("/batches/"+b.ID)
	for name, tt := range map[string]struct{ page, want string }{
		"run on home":     {home, `href="/runs/` + run.ID + `"`},
		"batch on home":   {home, `href="/batches/` + b.ID + `"`},
		"broken dag":      {home, "broken file"},
		"state in words":  {home, `<span class="icon" aria-hidden="true">✕</span>failed</span>`},
		"log on run":      {page, "line 1\n"},
		"batch on run":    {page, `href="/batches/` + b.ID + `"`},
		"run on batch":    {batch, `href="/runs/` + run.ID + `"`},
		"rows on batch":   {batch, "m0"},
		"upstream failed": {page, "upstream_failed"},
		"missed":          {r.page("/runs/again"), `2026-11-23 12:00:00 UTC <span class="dim">5m after batch_sealed:</span> missed`},
		"to come":         {r.page("/runs/again"), "1h after run_created:</span> to come"},
		"replay":          {r.page("/runs/again"), `2 of <a class="id" href="/runs/` + run.ID + `"`},
	} {
		if !strings.Contains(tt.page, tt.want) {
			t.Errorf("%s: no %q", name, tt.want)
		}
	}
	if strings.Contains(page, "refresh.js") || !strings.Contains(home, "refresh.js") {
		t.Error("a run that has ended looks again, or home does not")
	}
	w := r.get("/runs/none")
	if w.Code != 404 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Errorf("unknown run: got %d as %s, want a page with 404", w.Code, w.Header().Get("Content-Type"))
	}
	for _, name := range []string{"style.css", "refresh.js", "icon.svg"} {
		if w := r.get("/static/" + name); w.Code != 200 || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %d", name, w.Code)
		}
	}
	if w := r.get("/static/..%2fapi.go"); w.Code != 404 {
		t.Errorf("outside: got %d, want 404", w.Code)
	}
}

func TestBasePath(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Deps, o *Options) { o.BasePath = "/mill/race" })
	b, _ := r.fill()
	for _, prefix := range []string{"", "/mill/race"} {
		page := r.page(prefix + "/batches/" + b.ID)
		if !strings.Contains(page, `href="/mill/race/static/style.css"`) || strings.Contains(page, `href="/static`) {
			t.Errorf("%q: links do not begin with the base path", prefix)
		}
		if got := r.page(prefix + "/api/v1/version"); !strings.Contains(got, "v0") {
			t.Errorf("%q: got %s", prefix, got)
		}
	}
	if w := r.get("/mill/raceway"); w.Code != 404 {
		t.Errorf("a longer word: got %d, want 404", w.Code)
	}
}

func TestTailOfLog(t *testing.T) {
	t.Parallel()
	lines := strings.Repeat("0123456789\n", 1000)
	for _, tt := range []struct {
		text string
		n    int
		want string
		cut  bool
	}{
		{"", 10, "", false}, {"short", 10, "short", false}, {"exactly10!", 10, "exactly10!", false},
		{"abc\ndef\nghi\n", 6, "ghi\n", true}, {lines, 25, "0123456789\n0123456789\n", true}, {"no line end at all", 5, "t all", true},
	} {
		got, cut, err := tail(strings.NewReader(tt.text), tt.n)
		if err != nil || string(got) != tt.want || cut != tt.cut {
			t.Errorf("%d of %d bytes: got %q, %v, %v, want %q, %v", tt.n, len(tt.text), got, cut, err, tt.want, tt.cut)
		}
	}
}

// TestLastPart counts what is read of a long log to show its end.
func TestLastPart(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, shown - 1, shown, shown + 1, 3 * shown, 100*shown + 17} {
		e := &fakeExecutor{logs: map[string]string{"a": strings.Repeat("0123456789abcde\n", size/16+1)[:size]}}
		text, cut, err := lastPart(t.Context(), e, "a")
		whole := e.logs["a"]
		if err != nil || !strings.HasSuffix(whole, string(text)) || cut != (size > shown) || len(text) < min(size, shown-16) || len(text) > shown {
			t.Errorf("%d bytes: got %d, cut %v, %v", size, len(text), cut, err)
		}
		if e.opened > 30 {
			t.Errorf("%d bytes: opened %d times, want a few", size, e.opened)
		}
	}
	if _, _, err := lastPart(t.Context(), &fakeExecutor{}, "none"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("no log: got %v, want ErrNotFound", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fill()
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_ingest_events_total"}, []string{"source", "type"})
	lag := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_log_lag_seconds"}, []string{"log", "partition"})
	slots := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_executor_slots"}, []string{"executor", "state"})
	r.reg.MustRegister(events, lag, slots)
	lag.WithLabelValues("wal", "0").Set(1.5)
	lag.WithLabelValues("wal", "1").Set(2.5)
	slots.WithLabelValues("local", "used").Set(3)
	slots.WithLabelValues("local", "free").Set(5)
	start := time.Now()
	events.WithLabelValues("web", "track").Add(100)
	r.status.take(start)
	events.WithLabelValues("web", "page").Add(40)
	r.status.take(start.Add(5 * time.Second))
	events.WithLabelValues("web", "page").Add(60)
	st := &status{}
	r.sourceStatus(st, r.status.read(), start.Add(10*time.Second))
	if got := st.Sources[0]; got.Events != 200 || got.PerSecond != 10 {
		t.Errorf("got %+v, want 200 events at 10 a second", got)
	}
	now, err := r.statusNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if now.Log.LagSeconds != 2.5 || now.Log.LimitBytes != 10<<30 || now.Executors[0] != (statusExecutor{"local", 8, 3, ""}) {
		t.Errorf("got %+v %+v, want the worst lag, the limit, and 3 of 8 slots", now.Log, now.Executors)
	}
	if now.Runs["failed"] != 1 || now.DAGs != (statusDAGs{Total: 1, Broken: 1}) {
		t.Errorf("got %+v %+v, want one failed run and one broken DAG", now.Runs, now.DAGs)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, request("GET", "/metrics", ""))
	if !strings.Contains(w.Body.String(), "millrace_executor_slots") {
		t.Error("no metrics at /metrics")
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1\u202f000", count(-1234567): "-1\u202f234\u202f567",
		size(1023): "1023 B", size(10 << 30): "10.0 GiB", rate(3.25): "3.2", rate(12345): "12\u202f345",
		ago(now.Add(-90*time.Second), now): "90 s ago", ago(time.Time{}, now): "–", took(now, now.Add(1500*time.Millisecond)): "1.5s",
		short("ärger", 2): "ä…",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
