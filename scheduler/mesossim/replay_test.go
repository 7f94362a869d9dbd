package mesossim

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// scenario is traces that one cluster is to answer as the real one did.
type scenario struct {
	traces []string
	opt    Options
	ports  map[string]int // Host → master
	before map[int]func(*replay)
	notes  map[string]func(*replay)
}

func killAgent(r *replay)  { must(r.t, r.c.KillAgent(0)) }
func startAgent(r *replay) { must(r.t, r.c.StartAgent(0)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// small are the agents of the traces with other masters.
func small() []AgentOptions { return []AgentOptions{{Resources: Resources(4, 4096, 4096)}} }

var pings = Options{AgentTimeout: 5 * time.Second}

// scenarios are all traces: none is left out. 22 and 26 were taken at the same time on one master.
var scenarios = []scenario{
	{traces: []string{"01"}}, {traces: []string{"02"}}, {traces: []string{"03"}}, {traces: []string{"04"}}, {traces: []string{"05"}},
	{traces: []string{"06"}, before: map[int]func(*replay){37: func(r *replay) { r.end("fo") }}},
	{traces: []string{"07"}}, {traces: []string{"08"}},
	{traces: []string{"09"}, opt: pings, notes: map[string]func(*replay){
		"master SIGKILL": func(r *replay) { must(r.t, r.c.KillMaster(0)) },
		"master start":   func(r *replay) { r.end("mrx"); must(r.t, r.c.StartMaster(0)) }},
		before: map[int]func(*replay){43: func(r *replay) { r.c.ReturnAgents() }}},
	{traces: []string{"10"}, opt: pings, notes: map[string]func(*replay){"agent SIGKILL": killAgent, "agent start": startAgent}},
	{traces: []string{"11"}, opt: pings, notes: map[string]func(*replay){
		"agent SIGUSR1": func(r *replay) { must(r.t, r.c.RemoveAgent(0)) }, "agent start": startAgent}},
	{traces: []string{"13"}}, {traces: []string{"14"}}, {traces: []string{"15"}}, {traces: []string{"17"}}, {traces: []string{"18"}},
	{traces: []string{"19"}},
	{traces: []string{"20"}, opt: pings, notes: map[string]func(*replay){"agent SIGKILL": killAgent, "agent start": startAgent}},
	{traces: []string{"21"}, opt: pings, notes: map[string]func(*replay){"agent SIGKILL": killAgent}, before: map[int]func(*replay){57: startAgent}},
	{traces: []string{"22", "26"}, opt: Options{Agents: small(), OfferTimeout: 2 * time.Second, HTTPCommandExecutor: true,
		Credentials: map[string]string{"fw": "s3cret", "other": "x"}}},
	{traces: []string{"23"}},
	{traces: []string{"25"}, opt: Options{Masters: 3, Agents: small(), Election: time.Hour, AgentReturn: time.Hour},
		ports: map[string]int{"127.0.0.1:5062": 0, "127.0.0.1:5061": 1, "127.0.0.1:5063": 2},
		notes: map[string]func(*replay){"leader SIGKILL": func(r *replay) { must(r.t, r.c.KillMaster(0)) },
			"second leader SIGKILL": func(r *replay) { must(r.t, r.c.KillMaster(1)) }},
		before: map[int]func(*replay){251: func(r *replay) { r.c.Elect() }, 261: func(r *replay) { r.c.ReturnAgents() },
			323: func(r *replay) { r.c.Elect() }}},
	{traces: []string{"27"}},
}

// TestTraces: the double answers every request of every trace as the real one did. compare_test.go has the list of what may differ.
func TestTraces(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	records, replies, traces := 0, 0, 0
	t.Cleanup(func() { t.Logf("compared %d records and %d other answers of %d traces", records, replies, traces) })
	for _, s := range scenarios {
		t.Run(strings.Join(s.traces, "+"), func(t *testing.T) {
			t.Parallel()
			r := newReplay(t, s)
			if want := r.run(s); r.records != want {
				t.Errorf("compared %d records, want all %d", r.records, want)
			}
			mu.Lock()
			defer mu.Unlock()
			records, replies, traces = records+r.records, replies+r.replies, traces+len(s.traces)
		})
	}
}

// TestTracesAll: no trace is left out.
func TestTracesAll(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("../mesos/testdata/traces/*.jsonl")
	if err != nil || len(names) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return slices.Contains(s.traces, filepath.Base(name)[:2]) }) {
			t.Errorf("trace %s is not replayed", name)
		}
	}
}

func newReplay(t *testing.T, s scenario) *replay {
	t.Helper()
	s.opt.Manual, s.opt.Dir = true, t.TempDir()
	c, err := New(s.opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, c.Close()) })
	r := &replay{t: t, c: c, gates: t.TempDir(), pairs: map[string]string{}, back: map[string]string{}, conns: map[string]*replayConn{},
		answers: map[string]*replayAnswer{}, ports: s.ports}
	must(t, os.WriteFile(filepath.Join(r.gates, "hello.txt"), []byte("hello-file"), 0o600))
	for host, i := range s.ports {
		r.bind(host, hostPort(c.masters[i].port))
	}
	return r
}

// run replays a scenario and returns how many records its traces have.
func (r *replay) run(s scenario) (events int) {
	var lines []traceLine
	for _, name := range s.traces {
		lines = append(lines, readTrace(r.t, name)...)
	}
	slices.SortStableFunc(lines, func(a, b traceLine) int { return cmp.Compare(a.TS, b.TS) })
	r.now = lines[0].TS
	for i, l := range lines {
		if do := s.before[l.n]; do != nil {
			do(r)
		}
		r.c.Advance(time.Duration((l.TS - r.now) * float64(time.Second)))
		r.now = l.TS
		r.line(s, l, lines[i+1:])
		if l.Kind == "event" {
			events++
		}
		if r.t.Failed() {
			return events
		}
	}
	for name, conn := range r.conns {
		conn.drain()
		if !conn.closed && len(conn.queue) > 0 {
			r.t.Errorf("connection %s: got %v, which the trace does not have", name, conn.queue)
		}
	}
	return events
}

func (r *replay) line(s scenario, l traceLine, rest []traceLine) {
	switch l.Kind {
	case "request":
		r.send(l, statusOf(l, rest))
	case "response-head":
		status, _ := strconv.Atoi(strings.Fields(l.StatusLine)[1])
		r.head(l, status, r.answers[l.conn()].res)
	case "response-body":
		r.replies++
		r.body(l, "", r.answers[l.conn()].body)
	case "response":
		r.answer(l, pathOf(l, s.traces))
	case "event":
		r.expect(l)
	case "closed":
		r.closed(l)
	case "note":
		for prefix, do := range s.notes {
			if strings.HasPrefix(l.Msg, prefix) {
				do(r)
			}
		}
	}
}

// statusOf is the status with which a request will be answered.
func statusOf(l traceLine, rest []traceLine) int {
	for _, n := range rest {
		if n.conn() == l.conn() && n.Status != 0 {
			return n.Status
		}
	}
	return 0
}

// pathOf names the answers of which a double says less.
func pathOf(l traceLine, traces []string) string {
	switch {
	case traces[0] == "01" && l.n == 26:
		return "/state"
	case traces[0] == "17" && l.n == 28:
		return "/frameworks"
	}
	return ""
}
