package mesosexec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
	"millrace/scheduler/mesossim"
)

// small is the least that a framework is: client, matching and verdicts, with all that it knows in memory.
type small struct {
	t *testing.T
	c *Client

	mu     sync.Mutex // guards the rest
	offers map[string]mesos.Offer
	tries  map[string]*try // by attempt
	open   int             // commands without an end
	leader string          // the id of the master that leads, and since when we know it
	since  time.Time
	ends   []string // attempts, with what became of them
}

// try is an attempt of a command, which is to exit with code.
type try struct {
	Known
	id    string
	code  int
	agent mesos.ID
	sent  time.Time
}

// settled is how long agents of the double may take to come back, a hundred times what they do.
const settled = 2 * time.Second

// add makes an attempt; mu is held.
func (f *small) add(id string, code int) {
	f.tries[id] = &try{id: id, code: code, Known: Known{Attempt: id}}
}

// handle is the Handler.
func (f *small) handle(ctx context.Context, e *mesos.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Type {
	case mesos.EventSubscribed:
		if id := e.Subscribed.MasterInfo.ID; id != f.leader {
			f.leader, f.since = id, time.Now()
		}
		clear(f.offers)
		f.ask(ctx)
	case mesos.EventRescind:
		delete(f.offers, e.Rescind.OfferID.Value)
	case mesos.EventOffers:
		for _, o := range e.Offers.Offers {
			f.offers[o.ID.Value] = o
		}
		f.launch(ctx)
	case mesos.EventUpdate:
		f.update(ctx, &e.Update.Status)
	}
	return nil
}

// launch places what was never sent; mu is held.
func (f *small) launch(ctx context.Context) {
	in := match.Input{Now: time.Now()}
	for _, o := range f.offers {
		in.Offers = append(in.Offers, o)
	}
	for id, a := range f.tries {
		if a.Accepts == 0 && !a.Ended {
			in.Asks = append(in.Asks, match.Ask{ID: id, Needs: match.Needs(&scheduler.Resources{CPU: 0.5, Mem: 64 << 20}, 1)})
		}
	}
	for _, accept := range match.Place(&in).Accepts {
		call := &mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: accept.OfferIDs, Filters: &mesos.Filters{}}}
		op := mesos.Operation{Type: mesos.OperationLaunch, Launch: &mesos.Launch{}}
		for _, p := range accept.Tasks {
			a := f.tries[p.Ask]
			a.Accepts, a.agent, a.sent = a.Accepts+1, accept.AgentID, time.Now()
			op.Launch.TaskInfos = append(op.Launch.TaskInfos, mesos.TaskInfo{
				Name: "t", TaskID: mesos.ID{Value: p.Ask}, AgentID: accept.AgentID, Resources: p.Resources,
				Command: &mesos.CommandInfo{Value: fmt.Sprintf("test $PPID && exit %d", a.code)},
			})
		}
		for _, id := range accept.OfferIDs {
			delete(f.offers, id.Value)
		}
		call.Accept.Operations = []mesos.Operation{op}
		_ = f.c.Call(ctx, call) // Whether it was read is found out by asking.
	}
}

// ask reconciles all that is open; mu is held.
func (f *small) ask(ctx context.Context) {
	call := &mesos.Call{Type: mesos.CallReconcile, Reconcile: &mesos.Reconcile{}}
	for id, a := range f.tries {
		if !a.Ended && a.Accepts > 0 {
			call.Reconcile.Tasks = append(call.Reconcile.Tasks, mesos.ReconcileTask{TaskID: mesos.ID{Value: id}, AgentID: a.agent})
		}
	}
	if len(call.Reconcile.Tasks) > 0 {
		_ = f.c.Call(ctx, call) // It is asked again.
	}
}

// update does what the verdict says, and acknowledges afterwards; mu is held.
func (f *small) update(ctx context.Context, st *mesos.TaskStatus) {
	a := f.tries[st.TaskID.Value]
	if a == nil {
		f.t.Errorf("an update for the task %s, which was never launched", st.TaskID.Value)
		return
	}
	a.Settled = time.Since(a.sent) > settled && time.Since(f.since) > settled
	v := Judge(st, a.Known)
	a.Started = a.Started || v.Acknowledge
	switch v.Do {
	case DoKill:
		f.t.Errorf("%s is to be killed: %s", a.id, v.Why)
	case DoReport:
		if a.Unreachable = v.Report.Outcome == scheduler.OutcomeUnreachable; v.Report.Outcome != scheduler.OutcomeRunning && !a.Unreachable {
			f.end(a, &v.Report)
		}
	}
	if v.Acknowledge {
		_ = f.c.Call(ctx, &mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: st.AgentID, TaskID: st.TaskID, UUID: st.UUID}})
	}
}

func (f *small) end(a *try, rep *scheduler.Report) {
	a.Ended = true
	f.ends = append(f.ends, fmt.Sprintf("%s %s %d", a.id, rep.Outcome, rep.Exit))
	switch {
	case rep.Outcome == scheduler.OutcomeLost:
		f.add(a.id+"x", a.code)
	case rep.Outcome != scheduler.OutcomeExited || rep.Exit != a.code:
		f.t.Errorf("%s ended as %+v, want exit code %d", a.id, rep, a.code)
		fallthrough
	default:
		f.open--
	}
}

// TestOnTheDouble runs commands on a cluster that does all that a cluster may do to a framework: each ends once, as it should, and nothing runs that was
// given up.
func TestOnTheDouble(t *testing.T) {
	t.Parallel()
	for range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			onTheDouble(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func onTheDouble(t *testing.T, rng *rand.Rand) {
	const commands = 40
	sim, err := mesossim.New(mesossim.Options{
		Masters: 3, Agents: make([]mesossim.AgentOptions, 3), Dir: t.TempDir(), Credentials: map[string]string{"millrace": "s"}, Heartbeat: 100 * time.Millisecond,
		Allocation: 10 * time.Millisecond, Retry: 5 * time.Millisecond, OfferTimeout: 500 * time.Millisecond, AgentReturn: 20 * time.Millisecond, Election: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	var dice sync.Mutex
	one := func(in int) bool { dice.Lock(); defer dice.Unlock(); return rng.IntN(in) == 0 }
	sim.Noise(true)
	sim.Frame([]mesossim.Framing{mesossim.OneChunk, mesossim.Split, mesossim.Joined}[rng.IntN(3)])
	sim.OnEvent(func(e mesos.Event) mesossim.Fault {
		switch {
		case one(150):
			return mesossim.CutBefore
		case one(150):
			return mesossim.CutAfter
		case e.Type == mesos.EventUpdate && one(10):
			return mesossim.Lose
		case e.Type == mesos.EventUpdate && one(10):
			return mesossim.Double
		}
		return mesossim.Pass
	})
	sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		if c.Type == mesos.CallSubscribe {
			return mesossim.CallFault{}
		}
		switch {
		case one(15):
			return mesossim.CallFault{Cut: true}
		case one(15):
			return mesossim.CallFault{Lose: true}
		case one(15):
			return mesossim.CallFault{Status: 503, Body: "not now"}
		}
		return mesossim.CallFault{}
	})
	f := &small{t: t, offers: map[string]mesos.Offer{}, tries: map[string]*try{}, open: commands}
	for i := range commands {
		f.add(fmt.Sprint("a", i), i%3)
	}
	list, err := NewList(sim.Masters()...)
	if err != nil {
		t.Fatal(err)
	}
	info := func() mesos.Subscribe {
		return mesos.Subscribe{FrameworkInfo: mesos.FrameworkInfo{
			User: "root", Name: "millrace", Roles: []string{"*"}, FailoverTimeout: 600, Checkpoint: true,
			Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}, {Type: mesos.CapTaskKilling}},
		}}
	}
	f.c, err = New(list, &memory{}, info, Options{
		Credentials: Basic("millrace", func() (string, error) { return "s", nil }), MinPause: time.Millisecond, MaxPause: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.c.Run(ctx, f.handle) }() // It ends with stop, below.
	f.toEnd(t, sim)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	f.check(sim)
}

// toEnd asks every 20 ms, changes the leader a few times, and waits until all commands have ended.
func (f *small) toEnd(t *testing.T, sim *mesossim.Cluster) {
	t.Helper()
	ticks := 0
	waitFor(t, "all commands", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if ticks++; ticks%10 == 0 {
			f.ask(t.Context())
			f.launch(t.Context())
		}
		if leader := sim.Leader(); (ticks == 50 || ticks == 150) && leader >= 0 {
			if err := sim.KillMaster(leader); err != nil {
				t.Error(err)
			}
			defer func() { _ = sim.StartMaster(leader) }()
		}
		return f.open == 0
	})
}

// check compares what was reported with what the agents have run.
func (f *small) check(sim *mesossim.Cluster) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reported, ran := map[string]string{}, map[string]bool{}
	for _, e := range f.ends {
		id, what, _ := strings.Cut(e, " ")
		if reported[id] != "" {
			f.t.Errorf("%s ended twice: %s and %s", id, reported[id], what)
		}
		reported[id] = what
	}
	for _, task := range sim.Tasks() {
		if ran[task.ID] {
			f.t.Errorf("%s ran twice", task.ID)
		}
		ran[task.ID] = true
		if strings.HasPrefix(reported[task.ID], string(scheduler.OutcomeLost)) {
			f.t.Errorf("%s was given up, and is %s", task.ID, task.State)
		}
	}
	f.t.Logf("%d attempts, %d of them ran", len(f.ends), len(ran))
}
