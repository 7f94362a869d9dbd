package schedulertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
	"millrace/scheduler/mask"
	"millrace/scheduler/schedulertest"
)

// TestExecutor proves that the suite can be passed, by the shortest executor that does.
func TestExecutor(t *testing.T) {
	t.Parallel()
	var worlds sync.Map
	schedulertest.TestExecutor(t, func(_ *testing.T, dir string) scheduler.Executor {
		w, _ := worlds.LoadOrStore(dir, &world{dir: dir, procs: map[string]*proc{}, news: make(chan struct{}, 1)})
		return w.(*world)
	})
}

// world executes in the test's own process; a "restart" is the same world again.
type world struct {
	dir string

	mu      sync.Mutex
	procs   map[string]*proc
	pending []scheduler.Report
	news    chan struct{}
}

type proc struct {
	cmd     *exec.Cmd
	report  scheduler.Report
	timeout bool
	mask    *mask.Masker
	out     *locked
}

// locked is the log of an attempt, masked if mask is not nil.
type locked struct {
	mu   sync.Mutex
	mask *mask.Stream
	buf  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mask != nil {
		l.buf.Write(l.mask.Next(nil, p))
		return len(p), nil
	}
	return l.buf.Write(p)
}

// end writes what was held back.
func (l *locked) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mask != nil {
		l.buf.Write(l.mask.End(nil))
	}
}

func (w *world) tell(r scheduler.Report) {
	w.pending = append(w.pending, r)
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *world) Slots() int { return 8 }

func (w *world) Launch(_ context.Context, attempts []scheduler.Launch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range attempts {
		if w.procs[l.ID] != nil {
			continue
		}
		p := &proc{out: &locked{}, report: scheduler.Report{Attempt: l.ID, Outcome: scheduler.OutcomeRunning, StartedAt: time.Now()}}
		w.procs[l.ID] = p
		if err := w.begin(p, l); err != nil {
			p.report.Outcome, p.report.Reason = scheduler.OutcomeRefused, err.Error()
			w.tell(p.report)
		}
	}
	return nil
}

func (w *world) begin(p *proc, l scheduler.Launch) error {
	program := l.Argv[0]
	if !filepath.IsAbs(program) {
		program = filepath.Join("/usr/bin", program)
	}
	in, out := filepath.Join(w.dir, l.ID+".in"), filepath.Join(w.dir, l.ID+".out")
	if err := os.WriteFile(in, l.Input, 0o600); err != nil {
		return err
	}
	p.cmd = exec.Command(program, l.Argv[1:]...)
	p.cmd.Env = append(l.Env, "MILLRACE_INPUT="+in, "MILLRACE_OUTPUT="+out)
	if m := mask.New(l.Secrets); m != nil {
		p.mask, p.out.mask = m, mask.NewStream(m)
	}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	if l.Timeout > 0 {
		time.AfterFunc(l.Timeout, func() {
			w.mu.Lock()
			p.timeout = true
			w.mu.Unlock()
			_ = w.Kill(context.Background(), l.ID, l.Grace)
		})
	}
	go w.reap(p, out) // Ends with the command.
	return nil
}

func (w *world) reap(p *proc, out string) {
	_ = p.cmd.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &p.report
	r.Outcome, r.EndedAt, r.Exit = scheduler.OutcomeExited, time.Now(), p.cmd.ProcessState.ExitCode()
	if ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		r.Signal = unix.SignalName(ws.Signal())
	}
	if p.timeout {
		r.Outcome = scheduler.OutcomeTimeout
	}
	if b, err := os.ReadFile(out); err == nil && len(b) > 64<<10 {
		r.OutputError = fmt.Sprintf("output has %d bytes", len(b))
	} else if err == nil {
		r.Output = p.mask.JSON(b)
	}
	p.out.end()
	w.tell(*r)
}

func (w *world) Kill(_ context.Context, attempt string, grace time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.procs[attempt]; p != nil && p.report.Outcome == scheduler.OutcomeRunning && p.cmd != nil {
		pid := p.cmd.Process.Pid
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		time.AfterFunc(grace, func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
	}
	return nil
}

func (w *world) Reconcile(_ context.Context, attempts []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range attempts {
		if w.procs[id] == nil {
			w.procs[id] = &proc{report: scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeLost, Exit: -1}}
		}
		w.tell(w.procs[id].report)
	}
	return nil
}

func (w *world) Run(ctx context.Context, report func(context.Context, []scheduler.Report) error) error {
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.news:
		case <-retry.C:
		}
		w.mu.Lock()
		batch := append([]scheduler.Report(nil), w.pending...)
		w.mu.Unlock()
		if len(batch) == 0 || report(ctx, batch) != nil {
			continue
		}
		w.mu.Lock()
		w.pending = w.pending[len(batch):]
		w.mu.Unlock()
	}
}

func (w *world) Log(_ context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	w.mu.Lock()
	p := w.procs[attempt]
	w.mu.Unlock()
	if p == nil || p.out == nil {
		return nil, errors.Join(scheduler.ErrNotFound)
	}
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	b := bytes.Clone(p.out.buf.Bytes())
	return io.NopCloser(bytes.NewReader(b[min(offset, int64(len(b))):])), nil
}
