package mesossim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// traceLine is one of a trace: ../mesos/testdata/traces/README.md says what they are.
type traceLine struct {
	TS         float64         `json:"ts"`
	T          float64         `json:"t"`
	Kind       string          `json:"kind"`
	Conn       int             `json:"conn"`
	Method     string          `json:"method"`
	Path       string          `json:"path"`
	Headers    [][2]string     `json:"headers"`
	JSON       json.RawMessage `json:"json"`
	Raw        *string         `json:"raw"`
	StatusLine string          `json:"status_line"`
	Status     int             `json:"status"`
	Body       *string         `json:"body"`
	Reason     json.RawMessage `json:"reason"`
	Msg        string          `json:"msg"`

	trace string
	n     int // from 1
}

func (l traceLine) header(name string) string {
	for _, h := range l.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

func (l traceLine) at() string { return fmt.Sprintf("%s line %d", l.trace, l.n) }

func readTrace(t *testing.T, name string) []traceLine {
	t.Helper()
	found, err := filepath.Glob("../mesos/testdata/traces/" + name + "-*.jsonl")
	if err != nil || len(found) != 1 {
		t.Fatalf("trace %s: %v, %v", name, found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	var out []traceLine
	for text := range bytes.Lines(data) {
		l := traceLine{trace: strings.TrimSuffix(filepath.Base(found[0]), ".jsonl"), n: len(out) + 1}
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatalf("%s: %v", l.at(), err)
		}
		out = append(out, l)
	}
	return out
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// waitFor waits until something holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// replay is one cluster that gets the requests of traces.
type replay struct {
	t       *testing.T
	c       *Cluster
	gates   string
	pairs   map[string]string // of the trace → of the double
	back    map[string]string
	conns   map[string]*replayConn
	answers map[string]*replayAnswer
	ports   map[string]int // Host of the trace → master
	now     float64
	records int
	replies int
}

// replayConn is a stream of the double.
type replayConn struct {
	stop    func()
	records chan []byte
	queue   []map[string]any
	err     error // why it ended
	ended   bool
	closed  bool // by the trace
	stream  string
}

type replayAnswer struct {
	res  *http.Response
	body []byte
}

func (l traceLine) conn() string { return l.trace + "/" + strconv.Itoa(l.Conn) }

var (
	tokens    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(-[SO]\d+|-\d{4})?|127\.0\.0\.1:\d+`)
	sleeps    = regexp.MustCompile(`sleep [1-9]\d*`)
	traceWork = "/var/lib/mesos/run/agent"
)

// ours puts the double's ids in the place of the trace's.
func (r *replay) ours(text string) string {
	text = tokens.ReplaceAllStringFunc(text, func(s string) string {
		if our, ok := r.pairs[s]; ok {
			return our
		}
		return s
	})
	text = strings.ReplaceAll(text, traceWork+"/", r.c.agents[0].work+"/")
	return strings.ReplaceAll(text, "/var/lib/mesos/run/hello.txt", filepath.Join(r.gates, "hello.txt"))
}

// bind notes that two ids are the same, and reports if they cannot be.
func (r *replay) bind(theirs, our string) bool {
	if was, ok := r.pairs[theirs]; ok {
		return was == our
	}
	if was, ok := r.back[our]; ok {
		return was == theirs
	}
	r.pairs[theirs], r.back[our] = our, theirs
	return true
}

// gated lets commands sleep until the trace says that they have ended: a slow machine would have them end too early.
func (r *replay) gated(body []byte) []byte {
	var call mesos.Call
	if json.Unmarshal(body, &call) != nil || call.Accept == nil {
		return body
	}
	text := string(body)
	for _, task := range tasksOf(call.Accept.Operations) {
		if task.Command != nil && sleeps.MatchString(task.Command.Value) {
			wait := fmt.Sprintf("while ! test -e %s/%s; do sleep 0.02; done", r.gates, task.TaskID.Value)
			// The part of the text from the task's id on has its command.
			i := strings.LastIndex(text, `"task_id": {"value": "`+task.TaskID.Value+`"}`)
			text = text[:i] + strings.Replace(text[i:], task.Command.Value, sleeps.ReplaceAllLiteralString(task.Command.Value, wait), 1)
		}
	}
	return []byte(text)
}

func (r *replay) open(task string) {
	if err := os.WriteFile(filepath.Join(r.gates, task), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// end lets a task end and waits until its agent knows.
func (r *replay) end(prefix string) {
	var id string
	for _, task := range r.c.Tasks() {
		if strings.HasPrefix(task.ID, prefix+"-") {
			id = task.ID
		}
	}
	r.open(id)
	waitFor(r.t, "end of "+id, func() bool {
		return slices.ContainsFunc(r.c.Tasks(), func(task Task) bool { return task.ID == id && task.State.Terminal() })
	})
}

// target is where a request of the trace went to.
func (r *replay) target(l traceLine, next int) string {
	path := strings.SplitN(l.Path, "?", 2)[0]
	if strings.HasPrefix(path, "/files") || path == "/api/v1" && strings.Contains(string(l.JSON), "_FILE") || path == "/state" && len(r.c.masters) == 1 &&
		l.trace == "01-basic" {
		return r.c.agents[0].server.URL
	}
	if i, ok := r.ports[l.header("Host")]; ok {
		return r.c.masters[i].server.URL
	}
	if next == http.StatusTemporaryRedirect || path == "/health" {
		return r.c.masters[len(r.c.masters)-1].server.URL
	}
	return r.c.URL()
}

// send sends a request of the trace.
func (r *replay) send(l traceLine, next int) {
	body := []byte(l.JSON)
	if len(l.JSON) == 0 || string(l.JSON) == "null" {
		body = nil
	}
	if l.Raw != nil {
		body = []byte(*l.Raw)
	}
	body = r.gated([]byte(r.ours(string(body))))
	for theirs, our := range r.pairs {
		if strings.HasSuffix(theirs, "==") {
			body = bytes.ReplaceAll(body, []byte(theirs), []byte(our))
		}
	}
	r.settle(body)
	req, err := http.NewRequestWithContext(r.t.Context(), l.Method, r.target(l, next)+r.ours(l.Path), bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range l.Headers {
		switch h[0] {
		case "Host", "Content-Length", "Connection":
		default:
			req.Header.Set(h[0], r.ours(h[1]))
		}
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("%s: %v", l.at(), err)
	}
	if res.StatusCode == http.StatusOK && res.Header.Get(mesos.StreamHeader) != "" {
		r.conns[l.conn()] = follow(res)
		r.answers[l.conn()] = &replayAnswer{res: res}
		return
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s: %v", l.at(), err)
	}
	r.answers[l.conn()] = &replayAnswer{res, text}
}

// settle waits, before a KILL, until the shell has set its trap: the trace's probe waited half a second for that.
func (r *replay) settle(body []byte) {
	var call mesos.Call
	if json.Unmarshal(body, &call) != nil || call.Kill == nil {
		return
	}
	for _, task := range r.c.Tasks() {
		if task.ID != call.Kill.TaskID.Value || !(strings.HasPrefix(task.ID, "kill") || strings.HasPrefix(task.ID, "ht-")) {
			continue
		}
		waitFor(r.t, "trap of "+task.ID, func() bool {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", task.PID))
			for _, set := range []string{"SigCgt:", "SigIgn:"} {
				_, rest, _ := strings.Cut(string(status), set)
				mask, _ := strconv.ParseUint(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), 16, 64)
				if mask&(1<<14) != 0 {
					return true
				}
			}
			return len(status) == 0
		})
	}
}

// follow reads the records of a stream until it ends.
func follow(res *http.Response) *replayConn {
	conn := &replayConn{stop: func() { res.Body.Close() }, records: make(chan []byte, 1024), stream: res.Header.Get(mesos.StreamHeader)}
	go func() { // It ends with the stream, at the latest when the cluster is closed.
		defer close(conn.records)
		for in := mesos.NewReader(res.Body); ; {
			record, err := in.Next()
			if err != nil {
				conn.err = err
				return
			}
			conn.records <- record
		}
	}()
	return conn
}

// kindOf is what decides which records are compared: a master sends those of different kinds, or of different tasks, in whatever order they happen.
func kindOf(ev map[string]any) string {
	kind, _ := ev["type"].(string)
	if update, ok := ev["update"].(map[string]any); ok {
		status := update["status"].(map[string]any)
		source := status["source"]
		kind += fmt.Sprint(status["task_id"], source)
	}
	return kind
}

// expect waits for the next record of its kind and compares it.
func (r *replay) expect(l traceLine) {
	var want map[string]any
	if err := json.Unmarshal(l.JSON, &want); err != nil {
		r.t.Fatal(err)
	}
	conn := r.conns[l.conn()]
	if conn == nil {
		r.t.Fatalf("%s: no stream", l.at())
	}
	if status, ok := dig(want, "update", "status").(map[string]any); ok && status["source"] == "SOURCE_EXECUTOR" {
		if message, _ := status["message"].(string); strings.HasPrefix(message, "Command exited") && status["state"] != "TASK_KILLED" {
			r.open(dig(status, "task_id", "value").(string))
		}
	}
	find := func() int {
		return slices.IndexFunc(conn.queue, func(ev map[string]any) bool { return kindOf(ev) == kindOf(want) })
	}
	if conn.drain(); find() < 0 && want["type"] == "OFFERS" {
		r.c.Allocate()
	}
	waitFor(r.t, l.at()+": "+short(l.JSON), func() bool {
		conn.drain()
		return find() >= 0 || conn.ended
	})
	i := find()
	if i < 0 {
		r.t.Fatalf("%s: stream ended (%v) before %s", l.at(), conn.err, l.JSON)
	}
	got := conn.queue[i]
	conn.queue = slices.Delete(conn.queue, i, i+1)
	r.records++
	for _, d := range r.compare("", want, got, l.trace) {
		r.t.Errorf("%s: %s in %s", l.at(), d, short(l.JSON))
	}
}

func short(b []byte) string { return string(b[:min(len(b), 200)]) }

func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// drain takes what has come.
func (c *replayConn) drain() {
	for !c.ended {
		select {
		case record, ok := <-c.records:
			if !ok {
				c.ended = true
				return
			}
			var ev map[string]any
			if err := json.Unmarshal(record, &ev); err != nil {
				panic(err)
			}
			c.queue = append(c.queue, ev)
		default:
			return
		}
	}
}
