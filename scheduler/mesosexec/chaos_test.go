package mesosexec_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesossim"
)

// TestChaos runs commands on a cluster that does all that a cluster may do to a framework, while the executor is stopped and started at any moment.
// Each attempt is executed at most once; each command ends with its own exit code; what was given up as lost has not succeeded without being told of.
func TestChaos(t *testing.T) {
	t.Parallel()
	for range 2 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func chaos(t *testing.T, rng *rand.Rand) {
	const commands = 60
	opt := quick()
	opt.Masters, opt.Agents = 3, make([]mesossim.AgentOptions, 3)
	opt.OfferTimeout, opt.AgentTimeout = 500*time.Millisecond, 400*time.Millisecond
	sim := cluster(t, opt)
	var dice sync.Mutex
	roll := func(n int) int { dice.Lock(); defer dice.Unlock(); return rng.IntN(n) }
	one := func(in int) bool { return roll(in) == 0 }
	sim.Noise(true)
	sim.Frame([]mesossim.Framing{mesossim.OneChunk, mesossim.Split, mesossim.Joined}[roll(3)])
	sim.OnEvent(func(e mesos.Event) mesossim.Fault {
		switch {
		case one(200):
			return mesossim.CutBefore
		case one(200):
			return mesossim.CutAfter
		case e.Type == mesos.EventUpdate && one(10):
			return mesossim.Lose
		case e.Type == mesos.EventUpdate && one(10):
			return mesossim.Double
		}
		return mesossim.Pass
	})
	sim.OnCall(func(c mesos.Call) mesossim.CallFault {
		switch {
		case c.Type == mesos.CallSubscribe:
		case one(15):
			return mesossim.CallFault{Cut: true}
		case one(15):
			return mesossim.CallFault{Lose: true, Cut: true}
		case one(15):
			return mesossim.CallFault{Status: 503, Body: "not now"}
		}
		return mesossim.CallFault{}
	})
	l := newLedger(t, newSite(t, t.TempDir(), sim))
	l.retry = true
	var list []scheduler.Launch
	for i := range commands {
		list = append(list, l.command(fmt.Sprintf("a%d", i), "sleep 0.0"+fmt.Sprint(roll(10))+";", i%3))
	}
	l.launch(list[:commands/2]...)
	ticks, restarts := 0, 1+roll(3)
	l.eventually("all commands have ended", func() bool {
		ticks++
		switch {
		case ticks == 10:
			l.launch(list[commands/2:]...)
		case ticks%25 == 0 && restarts > 0:
			restarts--
			l.restart()
		case ticks == 40:
			leader := sim.Leader()
			if err := sim.KillMaster(max(leader, 0)); err != nil {
				t.Error(err)
			}
			defer func() { _ = sim.StartMaster(max(leader, 0)) }()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		return ticks > 50 && len(l.active) == 0
	})
	l.check(list)
}

// check compares what was reported with what was executed.
func (l *ledger) check(list []scheduler.Launch) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	codes := map[string]int{}
	for i := range list {
		codes[list[i].ID] = i % 3
	}
	ran, ends, lost := l.executions(), map[string]bool{}, 0
	for _, r := range l.reports {
		id, name := strings.TrimRight(r.Attempt, "x"), strings.TrimPrefix(r.Attempt, attemptID(""))
		switch {
		case !r.Outcome.Ends():
			continue
		case ends[r.Attempt]:
			l.t.Errorf("%s ended twice", r.Attempt)
		case r.Outcome == scheduler.OutcomeLost:
			lost++
			if ran[name] > 0 {
				l.t.Errorf("%s was given up, and was executed: %+v", r.Attempt, r)
			}
		case r.Outcome != scheduler.OutcomeExited || r.Exit != codes[id]:
			l.t.Errorf("%s ended as %+v, want exit code %d", r.Attempt, r, codes[id])
		case ran[name] != 1:
			l.t.Errorf("%s ended as %+v, and was executed %d times", r.Attempt, r, ran[name])
		}
		ends[r.Attempt] = true
	}
	for id, n := range ran {
		if n > 1 {
			l.t.Errorf("%s was executed %d times", id, n)
		}
	}
	l.t.Logf("%d attempts ended, %d of them lost, %d executed", len(ends), lost, len(ran))
}
