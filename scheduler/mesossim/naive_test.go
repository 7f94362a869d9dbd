package mesossim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// These tests are naive clients, in the order of what a double must emulate: each shows that a client that is wrong in one way works as long as the
// cluster is easy, and fails as soon as it is as a real one is.

// TestNaiveStream: one that does not send the stream's id.
func TestNaiveStream(t *testing.T) {
	t.Parallel()
	for _, easy := range []bool{true, false} {
		f := newClient(t, cluster(t, Options{Easy: Easy{StreamIDs: easy}}))
		f.subscribe()
		f.stream = ""
		status, _ := f.call(&mesos.Call{Type: mesos.CallReconcile, Reconcile: &mesos.Reconcile{}})
		if want := map[bool]int{true: http.StatusAccepted, false: http.StatusBadRequest}[easy]; status != want {
			t.Errorf("without a stream id on an easy cluster %v: got %d, want %d", easy, status, want)
		}
	}
}

// TestNaiveAcks: one that acknowledges nothing sees STARTING only, again and again.
func TestNaiveAcks(t *testing.T) {
	t.Parallel()
	for _, easy := range []bool{true, false} {
		c := cluster(t, Options{Retry: 2 * time.Millisecond, MaxRetry: 2 * time.Millisecond, Easy: Easy{Acks: easy}})
		f := newClient(t, c)
		f.subscribe()
		f.launch(f.offer(), shell("t", "exit 3", mesos.Offer{AgentID: mesos.ID{Value: c.Agent(0)}}))
		if easy {
			if s := f.status("t", mesos.TaskFailed); s.Message != "Command exited with status 3" {
				t.Errorf("got %q", s.Message)
			}
			continue
		}
		waitFor(t, "end of the task", func() bool { return c.Tasks()[0].State == mesos.TaskFailed })
		first := f.status("t", mesos.TaskStarting)
		for range 3 {
			ev := f.next("another update", func(ev mesos.Event) bool { return ev.Update != nil })
			if got := ev.Update.Status; got.State != mesos.TaskStarting || string(got.UUID) != string(first.UUID) {
				t.Errorf("got %s with uuid %x, want the first again", got.State, got.UUID)
			}
		}
	}
}

// TestNaiveAckOfMaster: one that acknowledges what the master made up, which has no uuid.
func TestNaiveAckOfMaster(t *testing.T) {
	t.Parallel()
	f := newClient(t, cluster(t, Options{}))
	f.subscribe()
	f.reconcile("no-such", "")
	s := f.status("no-such", mesos.TaskUnknown)
	status, text := f.call(&mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: mesos.ID{Value: f.c.Agent(0)}, TaskID: s.TaskID,
		UUID: []byte{}}})
	if status != http.StatusBadRequest || !strings.Contains(text, "Not a valid UUID") {
		t.Errorf("got %d %s, want a refusal", status, text)
	}
}

// TestNaiveOffers: one that uses an offer twice.
func TestNaiveOffers(t *testing.T) {
	t.Parallel()
	for _, easy := range []bool{true, false} {
		f := newClient(t, cluster(t, Options{Easy: Easy{Offers: easy}}))
		f.subscribe()
		o := f.offer()
		f.launch(o, shell("one", "true", o))
		f.launch(o, shell("two", "true", o))
		if easy {
			f.until("two", finished...)
			continue
		}
		if s := f.status("two", mesos.TaskDropped); s.Reason != mesos.ReasonInvalidOffers || len(s.UUID) > 0 {
			t.Errorf("got %+v, want invalid offers without a uuid", s)
		}
	}
}

// TestNaiveReconcile: one that takes silence for the loss of a task, after a master has started again.
func TestNaiveReconcile(t *testing.T) {
	t.Parallel()
	for _, easy := range []bool{true, false} {
		back := map[bool]time.Duration{true: time.Nanosecond, false: time.Hour}[easy]
		c := cluster(t, Options{AgentReturn: back})
		f := newClient(t, c)
		f.subscribe()
		o := f.sleeper()
		must(t, c.RestartMaster())
		if easy {
			waitFor(t, "return of the agent", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.lead.members) == 1 })
		}
		f.subscribe()
		f.reconcile("t", o.AgentID.Value)
		f.reconcile("other", "of-no-agent") // Answered in any case, and in order: a mark.
		ev := f.next("an answer", func(ev mesos.Event) bool { return ev.Update != nil })
		if got := ev.Update.Status.TaskID.Value == "t"; got != easy {
			t.Errorf("agents back %v: got an answer first for %s", easy, ev.Update.Status.TaskID.Value)
		}
		c.ReturnAgents()
		f.reconcile("t", o.AgentID.Value)
		f.status("t", mesos.TaskRunning)
	}
}

// TestNaiveSubscribe: one that believes in 200.
func TestNaiveSubscribe(t *testing.T) {
	t.Parallel()
	for _, removed := range []bool{false, true} {
		f := newClient(t, cluster(t, Options{}))
		f.subscribe()
		if removed {
			f.must(&mesos.Call{Type: mesos.CallTeardown})
		}
		if ev := f.subscribe(); (ev.Error != nil) != removed { // Fails itself if the answer is not 200.
			t.Errorf("removed %v: got %+v", removed, ev)
		}
	}
}

// TestNaiveUnreachable: one that starts a task again as soon as it is unreachable has it twice.
func TestNaiveUnreachable(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{Agents: make([]AgentOptions, 2), AgentTimeout: time.Hour})
	f := newClient(t, c)
	f.subscribe()
	offers := f.next("offers", func(ev mesos.Event) bool { return ev.Offers != nil }).Offers.Offers
	o, other := offers[0], offers[1]
	f.launch(o, shell("t", "sleep 1000", o))
	f.until("t", started...)
	lost := 0
	if c.Agent(1) == o.AgentID.Value {
		lost = 1
	}
	must(t, c.CutAgent(lost))
	must(t, c.LoseAgent(lost))
	s := f.status("t", mesos.TaskUnreachable)
	if s.Reason != mesos.ReasonAgentRemoved || s.UnreachableTime == nil || len(s.UUID) > 0 || s.State.Terminal() {
		t.Errorf("got %+v", s)
	}
	f.launch(other, shell("t-again", "sleep 1000", other))
	f.until("t-again", started...)
	must(t, c.StartAgent(lost))
	if s := f.status("t", mesos.TaskRunning); s.Reason != mesos.ReasonAgentReregistered {
		t.Errorf("got %+v, want it back", s)
	}
	running := 0
	for _, task := range c.Tasks() {
		if task.State == mesos.TaskRunning {
			running++
		}
	}
	if running != 2 {
		t.Errorf("got %d tasks running, want the naive client's two", running)
	}
}

// TestNaiveCount: one that counts updates counts a task twice.
func TestNaiveCount(t *testing.T) {
	t.Parallel()
	for _, doubled := range []bool{false, true} {
		c := cluster(t, Options{})
		if doubled {
			c.OnEvent(func(ev mesos.Event) Fault {
				if ev.Update != nil && ev.Update.Status.State == mesos.TaskFinished {
					return Double
				}
				return Pass
			})
		}
		f := newClient(t, c)
		f.subscribe()
		o := f.offer()
		f.launch(o, shell("t", "true", o))
		f.until("t", finished...)
		f.reconcile("mark", "")
		n := 1
		for {
			ev := f.next("the mark", func(ev mesos.Event) bool { return ev.Update != nil })
			if ev.Update.Status.TaskID.Value == "mark" {
				break
			}
			n++
		}
		if want := map[bool]int{false: 1, true: 2}[doubled]; n != want {
			t.Errorf("doubled %v: got %d updates that say FINISHED, want %d", doubled, n, want)
		}
	}
}

// chunkIsRecord reads n records as if each chunk of HTTP were one.
func chunkIsRecord(t *testing.T, c *Cluster, n int) error {
	t.Helper()
	u, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"naive"}}}`
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", mesos.SchedulerPath, u.Host, len(body), body)
	in := bufio.NewReader(conn)
	for line := "x"; line != "\r\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		size, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		length, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil {
			return err
		}
		chunk := make([]byte, length+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return err
		}
		_, record, _ := strings.Cut(string(chunk), "\n")
		var ev mesos.Event
		if err := json.Unmarshal([]byte(record), &ev); err != nil {
			return err
		}
		if ev.Type == "" {
			return fmt.Errorf("no type in %s", record)
		}
		switch ev.Type {
		case mesos.EventSubscribed, mesos.EventHeartbeat, mesos.EventOffers:
		default:
			return fmt.Errorf("unknown event %s", ev.Type)
		}
	}
	return nil
}

// TestNaiveFraming: one that takes chunks for records, and one that stops at what it does not know.
func TestNaiveFraming(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		framing Framing
		noise   bool
		ok      bool
	}{"as seen": {OneChunk, false, true}, "split": {Split, false, false}, "joined": {Joined, false, false}, "noise": {OneChunk, true, false}} {
		c := cluster(t, Options{})
		c.Frame(s.framing)
		c.Noise(s.noise)
		if err := chunkIsRecord(t, c, 3); (err == nil) != s.ok {
			t.Errorf("%s: got %v", name, err)
		}
		f := newClient(t, c) // It reads RecordIO.
		f.info.ID.Value = "right"
		record, err := f.again()
		for err == nil && record.Type != mesos.EventSubscribed {
			record, err = f.read()
		}
		if err != nil {
			t.Errorf("%s: a right client got %v", name, err)
		}
	}
}

// TestNaiveEnd: one that takes each end of a stream for an orderly one.
func TestNaiveEnd(t *testing.T) {
	t.Parallel()
	for fault, want := range map[Fault]error{EndAfter: io.EOF, CutAfter: io.ErrUnexpectedEOF} {
		c := cluster(t, Options{})
		c.OnEvent(func(ev mesos.Event) Fault {
			if ev.Offers != nil {
				return fault
			}
			return Pass
		})
		f := newClient(t, c)
		f.subscribe()
		f.offer()
		// The heartbeat may have come before.
		if _, err := f.read(); err != want {
			t.Errorf("fault %d: got %v, want %v", fault, err, want)
		}
	}
}

// TestNaiveLogs: one that reads a log after it has acknowledged the end, and one that believes that agents are always at port 5051.
func TestNaiveLogs(t *testing.T) {
	t.Parallel()
	for _, wipe := range []bool{false, true} {
		c := cluster(t, Options{})
		c.WipeSandboxes(wipe)
		f := newClient(t, c)
		f.subscribe()
		o := f.offer()
		f.launch(o, shell("t", "echo hello", o))
		f.until("t", started...)
		s := f.status("t", mesos.TaskFinished)
		path := "/files/read?offset=0&length=100&path=" + url.QueryEscape("/frameworks/"+f.info.ID.Value+"/executors/t/runs/latest/stdout")
		agent := fmt.Sprintf("http://%s:%d%s", o.URL.Address.IP, o.URL.Address.Port, o.URL.Path)
		if status, text := get(t, agent+path); status != http.StatusOK || text != `{"data":"hello\n","offset":0}` {
			t.Errorf("before the acknowledgement: got %d %s", status, text)
		}
		f.ack(s)
		status, _ := get(t, agent+path)
		if want := map[bool]int{false: http.StatusOK, true: http.StatusNotFound}[wipe]; status != want {
			t.Errorf("wiped %v, after the acknowledgement: got %d, want %d", wipe, status, want)
		}
		if status, _ := get(t, c.URL()+path); status != http.StatusNotFound {
			t.Errorf("at the master: got %d", status)
		}
		if o.URL.Address.Port == 5051 {
			t.Error("the agent is at port 5051, as a naive client believes")
		}
	}
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
