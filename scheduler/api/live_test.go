package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

func arrivalOf(b batcher.Batch) trigger.Arrival { return trigger.Arrival{Batch: b} }

// running puts a run with one running attempt of "check" into the store, whose log has "hello\n".
func (r *rig) running() string {
	r.Helper()
	n := schedulertest.ExampleRun(schedulertest.ExampleBatch(7))
	n.Run.State = scheduler.StateRunning
	n.Tasks = n.Tasks[:1]
	n.Tasks[0].State, n.Tasks[0].Try = scheduler.StateRunning, 1
	err := r.store.Apply(r.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}, Attempts: []scheduler.Attempt{tryOf(n.Tasks[0], scheduler.StateRunning)}})
	if err != nil {
		r.Fatal(err)
	}
	r.exec.set(n.Tasks[0].AttemptID(1), "hello\n")
	return n.Run.ID
}

func tryOf(t scheduler.TaskRun, state scheduler.State) scheduler.Attempt {
	return scheduler.Attempt{
		ID: t.AttemptID(t.Try), Run: t.Run, Task: t.Task, MapIndex: t.MapIndex, Try: t.Try, Executor: "local", State: state, CreatedAt: schedulertest.Epoch,
	}
}

// move changes the task of a run, and the attempt that it had.
func (r *rig) move(run string, try int, attempt, task scheduler.State) {
	r.Helper()
	d, err := r.store.Run(r.Context(), run)
	if err != nil {
		r.Fatal(err)
	}
	t := d.Tasks[0]
	t.Try = try
	a := tryOf(t, attempt)
	t.State = task
	c := &scheduler.Change{Tasks: []scheduler.TaskRun{t}, Attempts: []scheduler.Attempt{a}}
	if task.Terminal() {
		d.Run.State = task
		c.Runs = []scheduler.Run{d.Run}
	}
	if err := r.store.Apply(r.Context(), c); err != nil {
		r.Fatal(err)
	}
}

// follow opens a stream over a socket.
func (r *rig) follow(path, accept string) *bufio.Reader {
	r.Helper()
	srv := httptest.NewServer(r)
	r.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(r.Context())
	r.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		r.Fatalf("%s: got %d: %s", path, resp.StatusCode, b)
	}
	return bufio.NewReader(resp.Body)
}

func (r *rig) line(from *bufio.Reader, want string) {
	r.Helper()
	got, err := from.ReadString('\n')
	if err != nil || got != want+"\n" {
		r.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

// TestFollowLog follows through growth and a retry to the end of the task, and ends by itself.
func TestFollowLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := r.running()
	out := r.follow("/api/v1/runs/"+run+"/logs?follow=1", "")
	r.line(out, "hello")
	first := scheduler.TaskRun{Run: run, Task: "check", MapIndex: scheduler.NoMap}
	r.exec.set(first.AttemptID(1), "hello\nmore\ndying")
	r.line(out, "more")
	r.move(run, 1, scheduler.StateFailed, scheduler.StateUpForRetry)
	r.exec.set(first.AttemptID(2), "second\n")
	r.move(run, 2, scheduler.StateRunning, scheduler.StateRunning)
	r.line(out, "dying")
	r.line(out, "==> check (try 2) <==")
	r.line(out, "second")
	// What is written before the end is known must come, however late it is read.
	r.exec.set(first.AttemptID(2), "second\nlast words\n")
	r.move(run, 2, scheduler.StateSuccess, scheduler.StateSuccess)
	r.line(out, "last words")
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v after the end, want nothing", rest, err)
	}
}

func TestFollowLogEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := r.running()
	first := scheduler.TaskRun{Run: run, Task: "check", MapIndex: scheduler.NoMap}
	r.exec.set(first.AttemptID(1), "hello\nevent: forged\rid: 99\npart")
	r.move(run, 1, scheduler.StateSuccess, scheduler.StateSuccess)
	path := "/api/v1/runs/" + run + "/logs?follow=1&task=check&try=1"
	got, err := io.ReadAll(r.follow(path, "text/event-stream"))
	want := "id: 6\ndata: hello\n\nid: 27\ndata: event: forged\ndata: id: 99\n\nid: 31\ndata: part\n\nevent: end\ndata: end\n\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	got, err = io.ReadAll(r.follow(path+"&offset=6", ""))
	if want := "event: forged\rid: 99\npart"; err != nil || string(got) != want {
		t.Errorf("from 6: got %q, %v, want %q", got, err, want)
	}
}

func TestLogsOfAllTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, run := r.fill()
	got := r.page("/api/v1/runs/" + run.ID + "/logs")
	if want := "==> check (try 1) <==\nline 1\n" + evil + "\nlast"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w := r.get("/api/v1/runs/" + run.ID + "/logs?task=check")
	if want := "line 1\n" + evil + "\nlast"; w.Body.String() != want || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("got %q as %s, want %q as text", w.Body, w.Header().Get("Content-Type"), want)
	}
	for path, want := range map[string]int{"?task=check&try=2": 404, "?task=check&map_index=3": 404, "?offset=3": 422, "?follow=maybe": 422, "?task=load": 200} {
		if w := r.get("/api/v1/runs/" + run.ID + "/logs" + path); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}

// cutsOf makes entry n with cuts of the given first offsets, each of ten records of the lane, and the facts of the batches that it closes.
func cutsOf(s ingest.Stream, done int64, closes []string, firsts ...int64) batcher.Entry {
	e := batcher.Entry{Done: done}
	for _, first := range firsts {
		lane := ingest.EventLane("default", "web")
		id := fmt.Sprintf("%s-%d", s.Incarnation, first)
		e.Cuts = append(e.Cuts, batcher.Cut{Lane: lane, First: first, Last: first + 9, Count: 10, Batch: id, Object: "events/" + id + ".ndjson.gz"})
		e.Low = first + 10
	}
	for _, id := range closes {
		e.Facts = append(e.Facts, batcher.Facts{Batch: id, Rows: 10})
	}
	return e
}

// TestTail reads two incarnations of a log in their order, resumes from every cursor, and sees what comes later.
func TestTail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// The second one sorts before the first: only the chain knows their order.
	s1, s2 := ingest.Stream{Log: "log", Incarnation: "bbb"}, ingest.Stream{Log: "log", Incarnation: "aaa"}
	r.chain.add(s1, cutsOf(s1, 0, nil, 0, 10))
	r.chain.add(s1, cutsOf(s1, 1, []string{"bbb-0", "bbb-10"}, 20))
	r.chain.add(s1, cutsOf(s1, 2, []string{"bbb-20"}))
	begin := cutsOf(s2, 0, nil, 30, 40)
	begin.Prev = &s1
	r.chain.add(s2, begin)
	r.chain.add(s2, cutsOf(s2, 1, []string{"aaa-30", "aaa-40"}, 50))
	want := []string{"bbb-0", "bbb-10", "bbb-20", "aaa-30", "aaa-40"}
	read := func(from string, want []string) (cursors []string) {
		t.Helper()
		out := r.follow("/api/v1/batches/tail?from="+from, "")
		for _, id := range want {
			var line tailLine
			text, err := out.ReadString('\n')
			if err == nil {
				err = json.Unmarshal([]byte(text), &line)
			}
			if err != nil || line.ID != id || line.URI == "" || line.Events != 10 {
				t.Fatalf("from %s: got %q, %v, want %s", from, text, err, id)
			}
			cursors = append(cursors, line.Cursor)
		}
		return cursors
	}
	cursors := read("start", want)
	for i := range cursors[:len(cursors)-1] {
		read(cursors[i], want[i+1:])
	}
	if last, err := parseCursor(cursors[4]); err != nil || len(last) != 1 {
		t.Errorf("got cursor %v, %v, want the newest stream alone", last, err)
	}
	now := r.follow("/api/v1/batches/tail", "text/event-stream")
	resumed := r.follow("/api/v1/batches/tail?from="+cursors[4], "")
	r.chain.add(s2, cutsOf(s2, 2, []string{"aaa-50"}))
	event, err := now.ReadString('\n')
	if id, ok := strings.CutPrefix(event, "id: "); err != nil || !ok {
		t.Fatalf("got %q, %v, want an event with its cursor", event, err)
	} else if c, err := parseCursor(strings.TrimSpace(id)); err != nil || c[s2] != (position{2, 0}) {
		t.Errorf("got cursor %v, %v, want entry 2, cut 0", c, err)
	}
	if line, err := resumed.ReadString('\n'); err != nil || !strings.Contains(line, `"id":"aaa-50"`) {
		t.Errorf("got %q, %v, want the new batch", line, err)
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	c := cursor{{Log: "a.b_c-1", Incarnation: "x", Partition: 3}: {7, 2}, {Log: "z", Incarnation: "y"}: {0, allCuts}}
	got, err := parseCursor(c.String())
	if err != nil || len(got) != 2 || got.String() != c.String() {
		t.Errorf("got %v, %v, want %v", got, err, c)
	}
	for _, bad := range []string{"!", "YQ", "YS9iLzA6MQ", "YS9iLzA6LTEuMA"} {
		if got, err := parseCursor(bad); err == nil {
			t.Errorf("%s: got %v, want an error", bad, got)
		}
	}
}

// TestWaitRun: who waits for a run is answered by its end, which the engine tells of; or by the end of the wait, or of the server.
func TestWaitRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := r.running()
	r.control.watched = make(chan string, 100)
	wait := func(seconds int) <-chan scheduler.Run {
		answer := make(chan scheduler.Run, 1)
		go func() { // ends with the request
			var got scheduler.Run
			w := r.get(fmt.Sprintf("/api/v1/runs/%s/wait?seconds=%d", run, seconds))
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			answer <- got
		}()
		return answer
	}
	if got := <-wait(0); got.ID != run || got.State.Terminal() {
		t.Errorf("a wait of no time: got %+v", got)
	}
	<-r.control.watched
	<-r.control.watched // it looked before and after
	answer := wait(60)
	if got := <-r.control.watched; got != run {
		t.Errorf("watched %q", got)
	}
	r.control.change() // a change that is not the end
	<-r.control.watched
	select {
	case got := <-answer:
		t.Errorf("answered before the end: %+v", got)
	default:
	}
	r.move(run, 1, scheduler.StateSuccess, scheduler.StateSuccess)
	r.control.change()
	if got := <-answer; got.State != scheduler.StateSuccess {
		t.Errorf("got %+v", got)
	}
}

// TestMend: what people say of a run reaches the engine as they said it.
func TestMend(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := r.running()
	for path, body := range map[string]string{
		"/clear": `{"tasks":["a","b"],"groups":["g"],"failed":true,"downstream":true,"dry_run":true,"by":"ann"}`, "/mark": `{"state":"skipped","task":"a","by":"ann"}`,
	} {
		if w := r.ask("POST", "/api/v1/runs/"+run+path, body); w.Code != http.StatusOK {
			t.Fatalf("%s: got %d: %s", path, w.Code, w.Body)
		}
	}
	slices.Sort(r.control.asked)
	want := []string{
		"clear " + run + " {Tasks:[a b] Groups:[g] Failed:true Downstream:true DryRun:true By:ann}", "mark " + run + " {Task:a State:skipped By:ann}",
	}
	if !slices.Equal(r.control.asked, want) {
		t.Errorf("got %q, want %q", r.control.asked, want)
	}
}
