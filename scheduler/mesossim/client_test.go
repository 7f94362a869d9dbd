package mesossim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"millrace/scheduler/mesos"
)

// client is a framework that does as it is told, right or wrong.
type client struct {
	t      *testing.T
	c      *Cluster
	info   mesos.FrameworkInfo
	url    string // where calls go
	stream string
	res    *http.Response
	in     *mesos.Reader
	seen   []mesos.Event // that nobody has taken
}

// cluster returns one that lives as long as the test.
func cluster(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Dir = t.TempDir()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func newClient(t *testing.T, c *Cluster) *client {
	t.Helper()
	return &client{t: t, c: c, url: c.URL() + mesos.SchedulerPath, info: mesos.FrameworkInfo{User: "nobody", Name: t.Name(), Roles: []string{"*"}, Checkpoint: true,
		FailoverTimeout: 600, Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}, {Type: mesos.CapTaskKilling}}}}
}

// post sends a call and returns the answer.
func (f *client) post(call *mesos.Call) *http.Response {
	f.t.Helper()
	body, err := json.Marshal(call)
	if err != nil {
		f.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if f.stream != "" && call.Type != mesos.CallSubscribe {
		req.Header.Set(mesos.StreamHeader, f.stream)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatalf("%s: %v", call.Type, err)
	}
	return res
}

// call sends a call and returns the status and the text of the answer.
func (f *client) call(call *mesos.Call) (int, string) {
	f.t.Helper()
	call.FrameworkID = f.info.ID
	res := f.post(call)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// must sends a call that is to be accepted.
func (f *client) must(call *mesos.Call) {
	f.t.Helper()
	if status, text := f.call(call); status != http.StatusAccepted {
		f.t.Fatalf("%s: got %d %s", call.Type, status, text)
	}
}

// subscribe opens the stream and returns the first event.
func (f *client) subscribe() mesos.Event {
	f.t.Helper()
	res := f.post(&mesos.Call{Type: mesos.CallSubscribe, FrameworkID: f.info.ID, Subscribe: &mesos.Subscribe{FrameworkInfo: f.info}})
	if res.StatusCode != http.StatusOK {
		f.t.Fatalf("SUBSCRIBE: got %s", res.Status)
	}
	f.t.Cleanup(func() { res.Body.Close() })
	f.res, f.stream, f.in, f.seen = res, res.Header.Get(mesos.StreamHeader), mesos.NewReader(res.Body), nil
	ev, err := f.read()
	if err != nil {
		f.t.Fatal(err)
	}
	if ev.Subscribed != nil {
		f.info.ID = ev.Subscribed.FrameworkID
	}
	return ev
}

func (f *client) read() (mesos.Event, error) {
	var ev mesos.Event
	record, err := f.in.Next()
	if err != nil {
		return ev, err
	}
	return ev, json.Unmarshal(record, &ev)
}

// next waits for the first event that is wanted, and keeps those that were not for later.
func (f *client) next(what string, want func(mesos.Event) bool) mesos.Event {
	f.t.Helper()
	if i := slices.IndexFunc(f.seen, want); i >= 0 {
		ev := f.seen[i]
		f.seen = slices.Delete(f.seen, i, i+1)
		return ev
	}
	for {
		ev, err := f.read()
		if err != nil {
			f.t.Fatalf("wait for %s: %v, after %v", what, err, f.seen)
		}
		if want(ev) {
			return ev
		}
		f.seen = append(f.seen, ev)
	}
}

// offer waits for an offer.
func (f *client) offer() mesos.Offer {
	f.t.Helper()
	return f.next("offers", func(ev mesos.Event) bool { return ev.Offers != nil }).Offers.Offers[0]
}

// status waits for an update of a task in a state.
func (f *client) status(task string, state mesos.TaskState) mesos.TaskStatus {
	f.t.Helper()
	return f.next(fmt.Sprint(task, " ", state), func(ev mesos.Event) bool {
		return ev.Update != nil && ev.Update.Status.TaskID.Value == task && ev.Update.Status.State == state
	}).Update.Status
}

func (f *client) ack(s mesos.TaskStatus) {
	f.t.Helper()
	f.must(&mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: s.AgentID, TaskID: s.TaskID, UUID: s.UUID}})
}

// until acknowledges what comes of a task until it has a state, and that too.
func (f *client) until(task string, states ...mesos.TaskState) mesos.TaskStatus {
	f.t.Helper()
	var s mesos.TaskStatus
	for _, state := range states {
		s = f.status(task, state)
		f.ack(s)
	}
	return s
}

// shell is a task of little need.
func shell(id, command string, o mesos.Offer) mesos.TaskInfo {
	return mesos.TaskInfo{Name: id, TaskID: mesos.ID{Value: id}, AgentID: o.AgentID, Command: &mesos.CommandInfo{Value: command},
		Resources: []mesos.Resource{Amount(mesos.CPUs, 0.1), Amount(mesos.Mem, 32)}}
}

// launch uses an offer for tasks.
func (f *client) launch(o mesos.Offer, tasks ...mesos.TaskInfo) {
	f.t.Helper()
	f.must(&mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: []mesos.ID{o.ID}, Filters: &mesos.Filters{},
		Operations: []mesos.Operation{{Type: mesos.OperationLaunch, Launch: &mesos.Launch{TaskInfos: tasks}}}}})
}

var (
	started  = []mesos.TaskState{mesos.TaskStarting, mesos.TaskRunning}
	finished = []mesos.TaskState{mesos.TaskStarting, mesos.TaskRunning, mesos.TaskFinished}
)

// sleeper launches a task t that runs until it is ended, and returns the offer that it took.
func (f *client) sleeper() mesos.Offer {
	f.t.Helper()
	o := f.offer()
	f.launch(o, shell("t", "sleep 1000", o))
	f.until("t", started...)
	return o
}

// reconcile asks for one task.
func (f *client) reconcile(task, agent string) {
	f.t.Helper()
	f.must(&mesos.Call{Type: mesos.CallReconcile, Reconcile: &mesos.Reconcile{Tasks: []mesos.ReconcileTask{{TaskID: mesos.ID{Value: task},
		AgentID: mesos.ID{Value: agent}}}}})
}
