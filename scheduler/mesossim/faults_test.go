package mesossim

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// TestLostUpdate: an update that is lost on its way comes again, with the same uuid.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{Retry: 5 * time.Millisecond})
	var lost []byte
	c.OnEvent(func(ev mesos.Event) Fault { // Under the mutex of the cluster.
		if ev.Update != nil && ev.Update.Status.State == mesos.TaskFinished && lost == nil {
			lost = ev.Update.Status.UUID
			return Lose
		}
		return Pass
	})
	f := newClient(t, c)
	f.subscribe()
	o := f.offer()
	f.launch(o, shell("t", "true", o))
	if s := f.until("t", finished...); string(s.UUID) != string(lost) {
		t.Errorf("got uuid %x, want the lost one %x", s.UUID, lost)
	}
}

// TestCutAtEveryEvent: whatever the event before or after which a stream is cut, a framework that comes back and acknowledges gets its task to the end.
func TestCutAtEveryEvent(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{CutBefore, CutAfter, EndAfter} {
		for at := range 7 { // SUBSCRIBED, HEARTBEAT, OFFERS, three updates, and none
			c := cluster(t, Options{Retry: 5 * time.Millisecond})
			n := 0
			c.OnEvent(func(mesos.Event) Fault {
				n++
				if n == at+1 {
					return fault
				}
				return Pass
			})
			f := newClient(t, c)
			f.info.ID.Value = "persistent"
			f.toEnd(t)
		}
	}
}

// toEnd runs one task through whatever streams it takes.
func (f *client) toEnd(t *testing.T) {
	t.Helper()
	launched := false
	for {
		ev, err := f.again()
		for ; err == nil; ev, err = f.read() {
			switch {
			case ev.Offers != nil && !launched:
				o := ev.Offers.Offers[0]
				status, _ := f.call(&mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: []mesos.ID{o.ID},
					Operations: []mesos.Operation{{Type: mesos.OperationLaunch, Launch: &mesos.Launch{TaskInfos: []mesos.TaskInfo{shell("t", "true", o)}}}}}})
				launched = status == http.StatusAccepted
			case ev.Update != nil && ev.Update.Status.State == mesos.TaskDropped:
				launched = false // The offer had gone with its stream.
			case ev.Update != nil && len(ev.Update.Status.UUID) > 0:
				s := ev.Update.Status
				status, _ := f.call(&mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: s.AgentID, TaskID: s.TaskID, UUID: s.UUID}})
				if s.State == mesos.TaskFinished && status == http.StatusAccepted {
					return
				}
			}
		}
	}
}

// again opens a stream and returns what comes first on it.
func (f *client) again() (mesos.Event, error) {
	f.t.Helper()
	res := f.post(&mesos.Call{Type: mesos.CallSubscribe, FrameworkID: f.info.ID, Subscribe: &mesos.Subscribe{FrameworkInfo: f.info}})
	f.t.Cleanup(func() { res.Body.Close() })
	f.stream, f.in = res.Header.Get(mesos.StreamHeader), mesos.NewReader(res.Body)
	return f.read()
}

// TestCallFaults: calls are refused, lost, or done without an answer, as a test wants it.
func TestCallFaults(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	f.reconcile("works", "")
	f.status("works", mesos.TaskUnknown)
	for _, fault := range []CallFault{{Status: http.StatusServiceUnavailable, Body: "busy"}, {Status: http.StatusUnauthorized}, {Lose: true}} {
		c.OnCall(func(mesos.Call) CallFault { return fault })
		status, text := f.call(&mesos.Call{Type: mesos.CallReconcile, Reconcile: &mesos.Reconcile{Tasks: []mesos.ReconcileTask{{TaskID: mesos.ID{Value: "lost"}}}}})
		if want := max(fault.Status, 0); want != 0 && (status != want || text != fault.Body) || want == 0 && status != http.StatusAccepted {
			t.Errorf("%+v: got %d %q", fault, status, text)
		}
	}
	c.OnCall(nil)
	f.reconcile("mark", "")
	if ev := f.next("the mark", func(ev mesos.Event) bool { return ev.Update != nil }); ev.Update.Status.TaskID.Value != "mark" {
		t.Errorf("got an answer to a call that was lost: %+v", ev.Update)
	}
}

// TestSlowCall: an acknowledgement may be held up for as long as a test wants.
func TestSlowCall(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	release := make(chan struct{})
	held := make(chan struct{}, 8)
	c.OnCall(func(call mesos.Call) CallFault {
		if call.Acknowledge != nil {
			held <- struct{}{}
			<-release
		}
		return CallFault{}
	})
	f := newClient(t, c)
	f.subscribe()
	o := f.offer()
	f.launch(o, shell("t", "true", o))
	s := f.status("t", mesos.TaskStarting)
	done := make(chan struct{})
	go func() { defer close(done); f.ack(s) }() // It ends with release.
	<-held
	if tasks := c.Tasks(); tasks[0].State == mesos.TaskStaging {
		t.Errorf("got %v", tasks)
	}
	close(release)
	<-done
	f.status("t", mesos.TaskRunning)
}

// TestFailoverOfMasters: a client that follows the 307 finds the next leader, which has silence for it until the agents are there, and then its task.
func TestFailoverOfMasters(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{Masters: 3, Election: 20 * time.Millisecond, AgentReturn: 5 * time.Millisecond})
	f := newClient(t, c)
	f.url = c.Masters()[2] + mesos.SchedulerPath // A follower: net/http follows its 307.
	f.subscribe()
	o := f.sleeper()
	first := c.Leader()
	must(t, c.KillMaster(first))
	for err := error(nil); err == nil; {
		_, err = f.read()
	}
	waitFor(t, "another leader", func() bool { l := c.Leader(); return l >= 0 && l != first })
	f.subscribe()
	waitFor(t, "an answer about the task", func() bool {
		f.reconcile("t", o.AgentID.Value)
		f.reconcile("mark", "of-no-agent")
		return f.next("an answer", func(ev mesos.Event) bool { return ev.Update != nil }).Update.Status.TaskID.Value == "t"
	})
	must(t, c.KillMaster(c.Leader()))
	c.Elect()
	if l := c.Leader(); l >= 0 {
		t.Fatalf("master %d leads, one of three", l)
	}
	res := f.post(&mesos.Call{Type: mesos.CallSubscribe, Subscribe: &mesos.Subscribe{FrameworkInfo: f.info}})
	defer res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %s, want 503 without a quorum", res.Status)
	}
}

// TestNewCluster: another cluster at the same address takes any id, and knows no task.
func TestNewCluster(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	first := f.subscribe()
	o := f.sleeper()
	c.NewCluster()
	again := f.subscribe()
	if again.Subscribed == nil || again.Subscribed.FrameworkID != first.Subscribed.FrameworkID || again.Subscribed.MasterInfo.ID == first.Subscribed.MasterInfo.ID {
		t.Errorf("got %+v after %+v", again.Subscribed, first.Subscribed)
	}
	f.reconcile("t", o.AgentID.Value)
	f.status("t", mesos.TaskUnknown)
	if o := f.offer(); o.AgentID.Value != c.Agent(0) {
		t.Errorf("got an offer of %s, want of %s", o.AgentID.Value, c.Agent(0))
	}
}

// TestRescind: an offer that is taken back cannot be used.
func TestRescind(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	o := f.offer()
	c.RescindOffers()
	f.next("a rescind", func(ev mesos.Event) bool { return ev.Rescind != nil && ev.Rescind.OfferID == o.ID })
	f.launch(o, shell("t", "true", o))
	f.status("t", mesos.TaskDropped)
}

// TestOffersFit: reservations, GPUs, attributes and suppression decide who is offered what (unobserved).
func TestOffersFit(t *testing.T) {
	t.Parallel()
	reserved := mesos.Resource{Name: mesos.CPUs, Type: mesos.TypeScalar, Scalar: &mesos.Scalar{Value: 2}, Role: "batch"}
	c := cluster(t, Options{Manual: true, Agents: []AgentOptions{
		{Resources: append(Resources(1, 1024, 1024), reserved)},
		{Resources: append(Resources(1, 1024, 1024), Amount(mesos.GPUs, 1))},
		{Attributes: []mesos.Attribute{{Name: "rack", Type: mesos.TypeText, Text: &mesos.Text{Value: "r1"}}}},
	}})
	agents := func(f *client) (out []int) {
		for _, o := range f.next("offers", func(ev mesos.Event) bool { return ev.Offers != nil }).Offers.Offers {
			out = append(out, slices.IndexFunc([]string{c.Agent(0), c.Agent(1), c.Agent(2)}, func(id string) bool { return id == o.AgentID.Value }))
		}
		f.must(&mesos.Call{Type: mesos.CallTeardown})
		return out
	}
	plain := newClient(t, c)
	plain.subscribe()
	if got := agents(plain); !slices.Equal(got, []int{0, 2}) {
		t.Errorf("without GPU_RESOURCES: got offers of agents %v, want 0 and 2", got)
	}
	gpu := newClient(t, c)
	gpu.info.Capabilities = append(gpu.info.Capabilities, mesos.Capability{Type: mesos.CapGPU})
	gpu.subscribe()
	if got := agents(gpu); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("with GPU_RESOURCES: got offers of agents %v, want all", got)
	}
	batch := newClient(t, c)
	batch.info.Roles = []string{"batch"}
	batch.subscribe()
	o := batch.offer()
	if got := bundleOf(o.Resources).amount(mesos.CPUs); got != 3 {
		t.Errorf("role batch: got %v CPUs, want the reserved ones too", got)
	}
	task := shell("t", "true", o)
	task.Resources = []mesos.Resource{{Name: mesos.CPUs, Type: mesos.TypeScalar, Scalar: &mesos.Scalar{Value: 2}, Role: "batch"}, Amount(mesos.Mem, 32)}
	batch.launch(o, task)
	batch.until("t", finished...)
}

// TestMaintenance: who has tasks on an agent is asked for it, and says yes or no (unobserved).
func TestMaintenance(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	o := f.sleeper()
	must(t, c.Maintain(0, time.Now().Add(time.Hour), time.Hour))
	ev := f.next("an inverse offer", func(ev mesos.Event) bool { return ev.InverseOffers != nil })
	ask := ev.InverseOffers.InverseOffers[0]
	if ask.AgentID != o.AgentID || ask.Unavailability.Duration.Nanoseconds != time.Hour {
		t.Errorf("got %+v", ask)
	}
	if again := f.next("an offer that says it", func(ev mesos.Event) bool { return ev.Offers != nil && ev.Offers.Offers[0].Unavailability != nil }); again.Offers == nil {
		t.Error("no offer")
	}
	f.must(&mesos.Call{Type: mesos.CallAcceptInverse, AcceptInverse: &mesos.AnswerInverse{InverseOfferIDs: []mesos.ID{ask.ID}}})
	if got := c.InverseAnswers(0); !got[f.info.ID.Value] {
		t.Errorf("got answers %v", got)
	}
}

// TestGone: an agent that an operator declared gone takes its tasks with it (unobserved).
func TestGone(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	o := f.sleeper()
	must(t, c.GoneAgent(0))
	f.status("t", mesos.TaskGoneByOperator)
	must(t, c.StartAgent(0))
	if c.Agent(0) == o.AgentID.Value {
		t.Error("the agent has its old id")
	}
	waitFor(t, "end of what ran there", func() bool { return len(c.Tasks()) == 0 })
}

// TestMany: tasks of 20 agents all come to their end, and to their end only.
func TestMany(t *testing.T) {
	t.Parallel()
	const agents, each = 20, 5
	c := cluster(t, Options{Agents: make([]AgentOptions, agents), Allocation: 10 * time.Millisecond})
	f := newClient(t, c)
	f.subscribe()
	ended, launched := map[string]int{}, 0
	for len(ended) < agents*each {
		ev, err := f.read()
		if err != nil {
			t.Fatal(err)
		}
		if ev.Offers != nil && launched < agents {
			for _, o := range ev.Offers.Offers {
				launched++
				var tasks []mesos.TaskInfo
				for i := range each {
					tasks = append(tasks, shell(strings.Join([]string{o.AgentID.Value, string(rune('a' + i))}, "-"), "true", o))
				}
				f.launch(o, tasks...)
			}
		}
		if ev.Update != nil {
			if ev.Update.Status.State == mesos.TaskFinished {
				ended[ev.Update.Status.TaskID.Value]++
			}
			f.ack(ev.Update.Status)
		}
	}
	for id, n := range ended {
		if n != 1 {
			t.Errorf("task %s: got %d ends", id, n)
		}
	}
}

// TestFetch: URIs of files and of HTTP come into the sandbox, under the names and with the modes that they ask for.
func TestFetch(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	o := f.offer()
	task := shell("t", "test -s version && test -x tool && ./tool", o)
	task.Command.URIs = []mesos.URI{{Value: c.URL() + "/version"}, {Value: "file:///bin/true", Executable: true, OutputFile: "tool"}}
	f.launch(o, task)
	f.until("t", finished...)
	_, text := get(t, c.URL()+"/version")
	if !strings.Contains(text, Version) {
		t.Errorf("got version %s", text)
	}
}
