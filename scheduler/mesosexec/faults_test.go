package mesosexec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesossim"
	"millrace/scheduler/sqlstore"
)

// gate returns a script that waits for a file, and what makes the file.
func (l *ledger) gate(name string) (script string, open func()) {
	path := l.dir + "/" + name
	return fmt.Sprintf("while [ ! -e %q ]; do sleep 0.02; done;", path), func() { touch(l.t, path) }
}

// running launches a command that waits for its gate, and returns when it runs.
func (l *ledger) running(id string) (open func()) {
	l.t.Helper()
	script, open := l.gate("gate-" + id)
	l.launch(l.command(id, script, 0))
	l.report(id, scheduler.OutcomeRunning)
	return open
}

// TestAnotherCluster: a cluster that was made anew takes the framework's id as if it were its own. Nothing is launched and nothing is given up there before a
// person has confirmed it; then what ran is lost, and what waits is launched. A restart in between does not forget it.
func TestAnotherCluster(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.running("a")
	l.running("b")
	l.sim.NewCluster()
	l.eventually("the executor is on hold", func() bool { return l.ex.View().Hold != "" })
	l.launch(l.command("c", "", 0))
	if err := l.ex.Register(t.Context()); !errors.Is(err, mesosexec.ErrNothingToDo) {
		t.Errorf("register while subscribed: %v", err)
	}
	l.eventually("the hold is kept", func() bool {
		list, err := l.store.Records(t.Context(), "mesos")
		return err == nil && len(list) > 0 && strings.Contains(string(list[0].Body), `"hold":`)
	})
	l.restart() // what waited is not known any more, and is launched again
	l.report("c", scheduler.OutcomeUnsent)
	v := l.ex.View()
	if !strings.Contains(v.Hold, "knows none of the 2 tasks") || !strings.Contains(v.Next, "millrace mesos confirm") {
		t.Errorf("after a restart: %+v", v)
	}
	l.launch(l.command("d", "", 0))
	l.eventually("it says why d waits", func() bool {
		v := l.ex.View()
		return len(v.Waiting) == 2 && strings.Contains(v.Waiting[0].Why, "confirmed") && len(v.Offers) == 0
	})
	if ran := l.executions(); ran["c"]+ran["d"] > 0 {
		t.Errorf("executed %v: nothing is to be launched", ran)
	}
	if err := l.ex.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if r := l.report(id, scheduler.OutcomeLost); !strings.Contains(r.Reason, "knows nothing of it") {
			t.Errorf("%s: %+v", id, r)
		}
	}
	l.report("c", scheduler.OutcomeExited)
	l.report("d", scheduler.OutcomeExited)
	if err := l.ex.Confirm(t.Context()); !errors.Is(err, mesosexec.ErrNothingToDo) {
		t.Errorf("confirm of what is not on hold: %v", err)
	}
}

// TestLeaderChange: another master of the same cluster is no other cluster, whether its agents are back at once or later.
func TestLeaderChange(t *testing.T) {
	t.Parallel()
	opt := quick()
	opt.Masters = 3
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, opt)))
	l.retry = true
	open := l.running("a")
	before := l.ex.View().Master
	if err := l.sim.KillMaster(l.sim.Leader()); err != nil {
		t.Fatal(err)
	}
	l.eventually("another master leads", func() bool { v := l.ex.View(); return v.Subscribed && v.Master != before })
	l.launch(l.command("b", "", 0))
	l.exits("b")
	open()
	l.report("a", scheduler.OutcomeExited)
	if hold := l.ex.View().Hold; hold != "" {
		t.Errorf("on hold: %s", hold)
	}
}

// TestMasterRestart: a single master that starts again knows nothing of its tasks before its agents are back, and is silent about them.
func TestMasterRestart(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.retry = true
	open := l.running("a")
	if err := l.sim.RestartMaster(); err != nil {
		t.Fatal(err)
	}
	l.launch(l.command("b", "", 0))
	l.exits("b")
	open()
	l.report("a", scheduler.OutcomeExited)
}

// TestRemoved: a framework that was removed stays so until a person registers another; its tasks are lost.
func TestRemoved(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.running("a")
	id := l.ex.View().FrameworkID
	if err := l.ex.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.eventually("the executor stops", func() bool { return l.ex.View().Stopped != "" })
	l.restart()
	l.eventually("it is stopped after a restart", func() bool { return l.ex.View().Stopped != "" })
	v := l.ex.View()
	if v.FrameworkID != id || !strings.Contains(v.Stopped, "removed") || !strings.Contains(v.Next, "millrace mesos register") {
		t.Errorf("got %+v", v)
	}
	l.launch(l.command("b", "", 0))
	l.eventually("it says why b waits", func() bool {
		v := l.ex.View()
		return len(v.Waiting) == 1 && strings.Contains(v.Waiting[0].Why, "removed")
	})
	if err := l.ex.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.report("a", scheduler.OutcomeLost)
	l.report("b", scheduler.OutcomeExited)
	if v := l.ex.View(); v.FrameworkID == id || v.FrameworkID == "" || v.Stopped != "" {
		t.Errorf("got %+v, want another id than %s", v, id)
	}
}

// TestStop: the end of the executor is not the end of its tasks, and there is no TEARDOWN.
func TestStop(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		if c.Type == mesos.CallTeardown {
			t.Error("TEARDOWN was called")
		}
		return mesossim.CallFault{}
	})
	script, open := l.gate("gate-a")
	l.launch(l.command("a", "echo before;"+script+"echo after;", 0))
	l.report("a", scheduler.OutcomeRunning)
	l.stop()
	open()
	l.start()
	if r := l.report("a", scheduler.OutcomeExited); r.Exit != 0 || r.Node == "" || r.StartedAt.IsZero() && r.EndedAt.IsZero() {
		t.Errorf("got %+v", r)
	}
	if n := l.executions()["a"]; n != 1 {
		t.Errorf("executed %d times", n)
	}
	if text := l.log("a"); text != "before\nafter\n" {
		t.Errorf("got log %q", text)
	}
}

// TestPartition: a task on an agent that the master has lost sight of may come back. If it was not given up it goes on; if it was, it is killed.
func TestPartition(t *testing.T) {
	t.Parallel()
	opt := quick()
	opt.AgentTimeout = 100 * time.Millisecond
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, opt)))
	open := l.running("kept")
	l.running("given-up")
	if err := l.sim.CutAgent(0); err != nil {
		t.Fatal(err)
	}
	l.report("kept", scheduler.OutcomeUnreachable)
	l.report("given-up", scheduler.OutcomeUnreachable)
	l.mu.Lock()
	delete(l.active, attemptID("given-up")) // fenced, as the engine says
	back := len(l.reports)
	l.mu.Unlock()
	if err := l.sim.StartAgent(0); err != nil {
		t.Fatal(err)
	}
	l.eventually("kept runs again", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, r := range l.reports[back:] {
			if r.Attempt == attemptID("kept") && r.Outcome == scheduler.OutcomeRunning {
				return true
			}
		}
		return false
	})
	l.eventually("what was given up is killed", func() bool { return l.stateOf(attemptID("given-up")) == mesos.TaskKilled })
	open()
	l.report("kept", scheduler.OutcomeExited)
}

// stateOf returns the state of a task on its agent.
func (l *ledger) stateOf(task string) mesos.TaskState {
	for _, one := range l.sim.Tasks() {
		if one.ID == task {
			return one.State
		}
	}
	return ""
}

// TestGone: a task on an agent that an operator says is gone is lost.
func TestGone(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.running("a")
	if err := l.sim.GoneAgent(0); err != nil {
		t.Fatal(err)
	}
	if r := l.report("a", scheduler.OutcomeLost); !strings.Contains(r.Reason, "gone") {
		t.Errorf("got %+v", r)
	}
}

// TestOfferVanishes: an ACCEPT of an offer that is gone launches nothing: the attempt is lost, at once, and has not run.
func TestOfferVanishes(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.retry = true
	var once sync.Once
	l.sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		if c.Type == mesos.CallAccept {
			once.Do(func() { l.sim.RescindOffers() })
		}
		return mesossim.CallFault{}
	})
	l.launch(l.command("a", "", 0))
	if r := l.report("a", scheduler.OutcomeLost); !strings.Contains(r.Reason, "not launched") {
		t.Errorf("got %+v", r)
	}
	l.report("ax", scheduler.OutcomeExited)
	if ran := l.executions(); ran["a"] != 0 || ran["ax"] != 1 {
		t.Errorf("executed %v", ran)
	}
}

// TestKillIsRepeated: a KILL that is lost comes again.
func TestKillIsRepeated(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.running("a")
	var kills atomic.Int64
	l.sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		return mesossim.CallFault{Lose: c.Type == mesos.CallKill && kills.Add(1) == 1}
	})
	if err := l.ex.Kill(t.Context(), attemptID("a"), 0); err != nil {
		t.Fatal(err)
	}
	if r := l.report("a", scheduler.OutcomeExited); r.Signal == "" {
		t.Errorf("got %+v, want a signal", r)
	}
	if n := kills.Load(); n < 2 {
		t.Errorf("%d kills, want the one that was lost and another", n)
	}
}

// TestRefusedTogether: a call that a master refuses is split up, so that one task that it can not take harms no other.
func TestRefusedTogether(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		if c.Accept == nil {
			return mesossim.CallFault{}
		}
		for _, op := range c.Accept.Operations {
			for _, task := range op.Launch.TaskInfos {
				if task.TaskID.Value == attemptID("bad") {
					return mesossim.CallFault{Status: 400, Body: "no such thing"}
				}
			}
		}
		return mesossim.CallFault{}
	})
	l.launch(l.command("a", "", 0), l.command("bad", "", 0), l.command("b", "", 0))
	l.report("a", scheduler.OutcomeExited)
	l.report("b", scheduler.OutcomeExited)
	if r := l.report("bad", scheduler.OutcomeRefused); !strings.Contains(r.Reason, "no such thing") {
		t.Errorf("got %+v", r)
	}
}

// brokenRecords can not write while it is broken.
type brokenRecords struct {
	*sqlstore.Store
	broken atomic.Bool
}

func (b *brokenRecords) PutRecords(ctx context.Context, list []scheduler.Record) error {
	if b.broken.Load() {
		return fmt.Errorf("write: %w", scheduler.ErrUnavailable)
	}
	return b.Store.PutRecords(ctx, list)
}

// TestNothingUnrecorded: what can not be recorded is not sent, and is when it can.
func TestNothingUnrecorded(t *testing.T) {
	t.Parallel()
	s := newSite(t, t.TempDir(), cluster(t, quick()))
	records := &brokenRecords{Store: s.store}
	s.records = records
	l := newLedger(t, s)
	l.launch(l.command("first", "", 0))
	l.report("first", scheduler.OutcomeExited)
	var accepts, declines atomic.Int64
	l.sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		switch {
		case c.Type == mesos.CallAccept && records.broken.Load():
			accepts.Add(1)
		case c.Type == mesos.CallDecline:
			declines.Add(1)
		}
		return mesossim.CallFault{}
	})
	records.broken.Store(true)
	l.launch(l.command("a", "", 0))
	l.eventually("the offers are given back", func() bool { return declines.Load() > 0 || l.ex.View().Tasks["waiting"] == 1 })
	if n := accepts.Load(); n > 0 {
		t.Errorf("%d ACCEPTs without a record", n)
	}
	records.broken.Store(false)
	l.report("a", scheduler.OutcomeExited)
}

// TestOrphans: a task that runs under our framework and that no attempt is known of is killed if it carries our labels, and left alone if it does not.
func TestOrphans(t *testing.T) {
	t.Parallel()
	s := newSite(t, t.TempDir(), cluster(t, quick()))
	l := newLedger(t, s)
	l.running("orphan")
	id := l.ex.View().FrameworkID
	l.stop()
	launchBare(t, s, id)
	list, err := s.store.Records(t.Context(), "mesos")
	if err != nil {
		t.Fatal(err)
	}
	list = slices.DeleteFunc(list, func(r scheduler.Record) bool { return !strings.Contains(string(r.Body), `"framework"`) })
	other := newSite(t, t.TempDir(), s.sim)
	if err := other.store.PutRecords(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	heir := newLedger(t, other)
	heir.launch(heir.command("new", "", 0))
	heir.report("new", scheduler.OutcomeExited)
	heir.eventually("the orphan is killed", func() bool { return heir.stateOf(attemptID("orphan")) == mesos.TaskKilled })
	if state := heir.stateOf("bare"); state != mesos.TaskRunning {
		t.Errorf("the task without our labels is %s, want it left alone", state)
	}
}

// launchBare launches a task without labels, as a person might with the framework's id.
func launchBare(t *testing.T, s *site, framework string) {
	t.Helper()
	list, err := mesosexec.NewList(s.sim.Masters()...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c, err := mesosexec.New(list, bareID(framework), func() mesos.Subscribe {
		return mesos.Subscribe{FrameworkInfo: mesos.FrameworkInfo{User: "root", Name: "bare", Roles: []string{"*"}, FailoverTimeout: 600, Checkpoint: true,
			Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}}}}
	}, mesosexec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	var once sync.Once
	err = c.Run(ctx, func(ctx context.Context, e *mesos.Event) error {
		switch {
		case e.Offers != nil:
			o := e.Offers.Offers[0]
			return c.Call(ctx, &mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: []mesos.ID{o.ID}, Operations: []mesos.Operation{{
				Type: mesos.OperationLaunch, Launch: &mesos.Launch{TaskInfos: []mesos.TaskInfo{{
					Name: "bare", TaskID: mesos.ID{Value: "bare"}, AgentID: o.AgentID, Command: &mesos.CommandInfo{Value: "sleep 1000"},
					Resources: []mesos.Resource{mesossim.Amount(mesos.CPUs, 0.1), mesossim.Amount(mesos.Mem, 32)},
				}}},
			}}}})
		case e.Update != nil:
			st := &e.Update.Status
			if len(st.UUID) > 0 {
				_ = c.Call(ctx, &mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: st.AgentID, TaskID: st.TaskID, UUID: st.UUID}})
			}
			if st.TaskID.Value == "bare" && st.State == mesos.TaskRunning {
				once.Do(func() { close(ran); stop() })
			}
		}
		return nil
	})
	select {
	case <-ran:
	default:
		t.Fatalf("the bare task does not run: %v", err)
	}
}

// bareID is a framework id that nobody keeps.
type bareID string

// FrameworkID implements mesosexec.IDs.
func (b bareID) FrameworkID(context.Context) (string, error) { return string(b), nil }

// KeepFrameworkID implements mesosexec.IDs.
func (b bareID) KeepFrameworkID(context.Context, string) error { return nil }

// TestOffersAreGivenBack: while there is nothing to do a framework holds no offer and asks for none; when there is, it asks at once.
func TestOffersAreGivenBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, t.TempDir(), cluster(t, quick()))
	s.opt.Hold = -1
	var calls sync.Map
	s.sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		n, _ := calls.LoadOrStore(c.Type, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		return mesossim.CallFault{}
	})
	count := func(typ string) int64 {
		n, ok := calls.Load(typ)
		if !ok {
			return 0
		}
		return n.(*atomic.Int64).Load()
	}
	l := newLedger(t, s)
	for i := range 3 {
		id := fmt.Sprint("a", i)
		l.launch(l.command(id, "", 0))
		l.report(id, scheduler.OutcomeExited)
		l.eventually("offers are suppressed", func() bool { v := l.ex.View(); return v.Suppressed && len(v.Offers) == 0 })
	}
	// There may be more REVIVEs: one that brings nothing soon is repeated.
	if r, s := count(mesos.CallRevive), count(mesos.CallSuppress); r < 2 || s < 3 || s > 4 {
		t.Errorf("%d REVIVEs and %d SUPPRESSes for three tasks, one after the other", r, s)
	}
}

// TestWarm: offers that are kept warm are there before a task is, and are no more than were asked for.
func TestWarm(t *testing.T) {
	t.Parallel()
	opt := quick()
	opt.Agents = make([]mesossim.AgentOptions, 3)
	s := newSite(t, t.TempDir(), cluster(t, opt))
	s.opt.Hold, s.opt.Warm = -1, 2
	l := newLedger(t, s)
	l.eventually("two offers are held", func() bool { return len(l.ex.View().Offers) == 2 })
	l.launch(l.command("a", "", 0))
	l.report("a", scheduler.OutcomeExited)
	l.eventually("two offers are held again", func() bool { return len(l.ex.View().Offers) == 2 })
}

// TestInverseOffers: an agent is given back if its tasks will have ended by then, and is not if one of them may not.
func TestInverseOffers(t *testing.T) {
	t.Parallel()
	s := newSite(t, t.TempDir(), cluster(t, quick()))
	l := newLedger(t, s)
	script, open := l.gate("gate-short")
	short := l.command("short", script, 0)
	short.Timeout = time.Minute
	l.launch(short)
	l.report("short", scheduler.OutcomeRunning)
	if err := s.sim.Maintain(0, time.Now().Add(time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	answers := func(want bool) func() bool {
		return func() bool {
			for _, yes := range s.sim.InverseAnswers(0) {
				if yes == want {
					return true
				}
			}
			return false
		}
	}
	l.eventually("the agent is given back", answers(true))
	openLong := l.running("long")
	if err := s.sim.Maintained(0); err != nil {
		t.Fatal(err)
	}
	if err := s.sim.Maintain(0, time.Now().Add(time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	l.eventually("it is not given back", answers(false))
	open()
	openLong()
	l.idle()
}

// TestWhyWaiting: what has no place says why, in figures.
func TestWhyWaiting(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	big := l.command("big", "", 0)
	big.Resources = &scheduler.Resources{CPU: 100}
	l.launch(big)
	l.eventually("it says that there are too few CPUs", func() bool {
		v := l.ex.View()
		return len(v.Waiting) == 1 && strings.Contains(v.Waiting[0].Why, "100 wanted, at most 8 left")
	})
	if err := l.ex.Kill(t.Context(), attemptID("big"), time.Second); err != nil {
		t.Fatal(err)
	}
	if r := l.report("big", scheduler.OutcomeExited); !strings.Contains(r.Reason, "before it was started") {
		t.Errorf("got %+v", r)
	}
}

// TestAnotherClusterAfterRestart: the doubt about a cluster that knows none of the running tasks is there, too, if the executor was away when it changed.
func TestAnotherClusterAfterRestart(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	l.running("a")
	l.eventually("that it runs is kept", func() bool {
		list, err := l.store.Records(t.Context(), "mesos")
		return err == nil && slices.ContainsFunc(list, func(r scheduler.Record) bool {
			return r.Key == attemptID("a") && strings.Contains(string(r.Body), `"started":true`)
		})
	})
	l.stop()
	l.sim.NewCluster()
	l.start()
	l.eventually("the executor is on hold", func() bool { return l.ex.View().Hold != "" })
}

// TestTimeoutHasGrace: a task that takes too long is asked to end first, and says so.
func TestTimeoutHasGrace(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	slow := l.command("slow", "trap 'echo cleaned; exit 3' TERM; while :; do sleep 0.02; done;", 0)
	slow.Timeout = 3 * time.Second // until then its trap is set
	l.launch(slow)
	if r := l.report("slow", scheduler.OutcomeTimeout); r.Reason != "timeout: ran longer than 3s" {
		t.Errorf("got %+v", r)
	}
	if text := l.log("slow"); !strings.Contains(text, "cleaned") {
		t.Errorf("got log %q, want that it cleaned up", text)
	}
}

// TestSecretsOverRestart: what an attempt must not show is masked in its log, also when the process that launched it has gone.
func TestSecretsOverRestart(t *testing.T) {
	t.Parallel()
	l := newLedger(t, newSite(t, t.TempDir(), cluster(t, quick())))
	script, open := l.gate("gate-a")
	one := l.command("a", script+`echo "the token is $TOKEN";`, 0)
	one.Env, one.Secrets = append(one.Env, "TOKEN=correct-horse-battery"), []string{"correct-horse-battery"}
	l.launch(one)
	l.report("a", scheduler.OutcomeRunning)
	l.restart()
	open()
	l.report("a", scheduler.OutcomeExited)
	if text := l.log("a"); text != "the token is ***\n" {
		t.Errorf("got log %q", text)
	}
	list, err := l.store.Records(t.Context(), "mesos")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if strings.Contains(string(r.Body), "correct-horse") {
			t.Errorf("record %s has the secret: %s", r.Key, r.Body)
		}
	}
}
