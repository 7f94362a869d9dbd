package mesosexec_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesosexec"
)

// patience is how long something may take before a test gives up.
const patience = 2 * time.Minute

// ledger is what the engine is to an executor: it launches attempts, takes reports, makes a new attempt of one that is lost, and after a restart asks
// after all that have not ended. Each command says in a file of its own that it was executed.
type ledger struct {
	*site
	ex   *mesosexec.Executor
	stop func()

	mu      sync.Mutex // guards the rest
	active  map[string]scheduler.Launch
	reports []scheduler.Report
	retry   bool // lost attempts are made anew
	refuse  func([]scheduler.Report) error
}

func newLedger(t *testing.T, s *site) *ledger {
	t.Helper()
	l := &ledger{site: s, active: map[string]scheduler.Launch{}}
	l.start()
	t.Cleanup(func() { l.stop() })
	return l
}

// start opens the executor, and asks after what is active.
func (l *ledger) start() {
	l.t.Helper()
	l.ex = l.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func(ex *mesosexec.Executor) { done <- ex.Run(ctx, l.take) }(l.ex) // stop ends it and waits
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("run: %v", err)
		}
	})
	l.mu.Lock()
	ids := make([]string, 0, len(l.active))
	for id := range l.active {
		ids = append(ids, id)
	}
	l.mu.Unlock()
	if err := l.ex.Reconcile(l.t.Context(), ids); err != nil {
		l.t.Errorf("reconcile: %v", err)
	}
}

// restart is what the end of the process and another are to the executor.
func (l *ledger) restart() {
	l.t.Helper()
	l.stop()
	l.start()
}

func (l *ledger) take(_ context.Context, list []scheduler.Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		if err := l.refuse(list); err != nil {
			return err
		}
	}
	for _, r := range list {
		one, active := l.active[r.Attempt]
		if !active {
			if r.Outcome == scheduler.OutcomeRunning { // as the engine does with what it has given up
				go func() { _ = l.ex.Kill(context.Background(), r.Attempt, time.Second) }()
			}
			continue
		}
		l.reports = append(l.reports, r)
		if r.Outcome == scheduler.OutcomeUnsent { // as the engine does
			go l.send(one)
		}
		if !r.Outcome.Ends() {
			continue
		}
		delete(l.active, r.Attempt)
		if r.Outcome == scheduler.OutcomeLost && l.retry {
			one.ID += "x"
			one.Env = append(slices.Clone(one.Env), "MILLRACE_ATTEMPT="+strings.TrimPrefix(one.ID, attemptID("")))
			l.active[one.ID] = one
			go l.send(one)
		}
	}
	return nil
}

// send launches as the engine's launcher does: if the executor does not take it, it is asked after it.
func (l *ledger) send(list ...scheduler.Launch) {
	l.mu.Lock()
	ex := l.ex
	l.mu.Unlock()
	if err := ex.Launch(context.Background(), list); err == nil {
		return
	}
	var ids []string
	for _, one := range list {
		ids = append(ids, one.ID)
	}
	_ = ex.Reconcile(context.Background(), ids) // else the next start asks
}

// command is an attempt that notes its execution, runs a script and exits with a code.
func (l *ledger) command(id, script string, code int) scheduler.Launch {
	return scheduler.Launch{
		ID: attemptID(id), Run: "r", Task: "t", MapIndex: scheduler.NoMap, Try: 1, Grace: 5 * time.Second, Input: []byte("{}"),
		Argv: []string{"sh", "-c", fmt.Sprintf(`echo >> %q/ran-"$MILLRACE_ATTEMPT"; %s exit %d`, l.dir, script, code)},
		Env:  []string{"PATH=/usr/local/bin:/usr/bin:/bin", "MILLRACE_DAG_ID=d", "MILLRACE_ATTEMPT=" + id},
	}
}

// attemptID is the whole id of an attempt of run r.
func attemptID(id string) string { return "r." + id }

// launch makes attempts active and launches them.
func (l *ledger) launch(list ...scheduler.Launch) {
	l.mu.Lock()
	for _, one := range list {
		l.active[one.ID] = one
	}
	l.mu.Unlock()
	l.send(list...)
}

// executions returns how often each attempt was executed.
func (l *ledger) executions() map[string]int {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, "ran-*"))
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]int{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			l.t.Fatal(err)
		}
		out[strings.TrimPrefix(filepath.Base(name), "ran-")] = strings.Count(string(text), "\n")
	}
	return out
}

// eventually waits for what others do.
func (l *ledger) eventually(what string, ok func() bool) {
	l.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Fatalf("not after %v: %s; the executor is %+v, it reported %+v", patience, what, l.ex.View(), l.reports[max(0, len(l.reports)-20):])
		}
	}
}

// report waits for a report on an attempt.
func (l *ledger) report(id string, outcomes ...scheduler.Outcome) scheduler.Report {
	l.t.Helper()
	var got scheduler.Report
	l.eventually(fmt.Sprintf("%s is reported as one of %v", id, outcomes), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, r := range l.reports {
			if r.Attempt == attemptID(id) && slices.Contains(outcomes, r.Outcome) {
				got = r
				return true
			}
		}
		return false
	})
	return got
}

// exits waits until an attempt, or one that was made anew for it, has exited.
func (l *ledger) exits(id string) {
	l.t.Helper()
	l.eventually(id+" has exited", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.ContainsFunc(l.reports, func(r scheduler.Report) bool {
			return strings.TrimRight(r.Attempt, "x") == attemptID(id) && r.Outcome == scheduler.OutcomeExited
		})
	})
}

func (l *ledger) log(id string) string {
	l.t.Helper()
	r, err := l.ex.Log(l.t.Context(), attemptID(id), 0)
	if err != nil {
		l.t.Fatalf("log of %s: %v", id, err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		l.t.Fatalf("log of %s: %v", id, err)
	}
	return string(text)
}

// idle waits until nothing is active.
func (l *ledger) idle() {
	l.t.Helper()
	l.eventually("everything has ended", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.active) == 0
	})
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
