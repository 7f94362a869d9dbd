//go:build linux

package localexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
)

// ErrReplaced is returned by Run when another process has taken over the runner of the directory; two would take each other's reports.
var ErrReplaced = errors.New("another process has taken over the local executor")

// Executor is a scheduler.Executor whose attempts are processes of this machine, children of one runner process. Safe for concurrent use.
type Executor struct {
	dir     string
	opt     Options
	metrics *metrics
	active  atomic.Int64 // as the runner last said

	mu      sync.Mutex // guards the rest
	link    *link      // nil while there is no connection
	over    error      // why there will be none, or nil
	changed chan struct{}

	placing sync.Mutex // guards what is below outputs/ against the sweep
}

var _ scheduler.Executor = (*Executor)(nil)

// New returns an executor that keeps all that it has in dir, which is made. No process is started before Run.
func New(dir string, opt Options) (*Executor, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("check options of local executor: %w", err)
	}
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(dir, fetchingDir)); err != nil { // of a process that was killed
		return nil, err
	}
	e := &Executor{dir: dir, opt: opt, changed: make(chan struct{})}
	e.metrics, err = newMetrics(e, opt.Name, opt.Registerer)
	return e, err
}

// Slots implements scheduler.Executor.
func (e *Executor) Slots() int { return e.opt.Slots }

// Bounds of what is put into one message. Inputs grow by a third in it.
const (
	launchBytes = 16 << 20
	launchCount = 256
)

// Launch implements scheduler.Executor. All attempts are claimed by one round trip and, unless there are very many, one fdatasync.
func (e *Executor) Launch(ctx context.Context, attempts []scheduler.Launch) error {
	if len(attempts) == 0 {
		return nil
	}
	begin := time.Now()
	if err := e.ask(ctx, launchMessages(attempts)...); err != nil {
		return fmt.Errorf("launch %d attempts: %w", len(attempts), err)
	}
	e.metrics.launch.Observe(time.Since(begin).Seconds())
	return nil
}

// launchMessages packs attempts into few messages. One that fits into none is refused for good, by the runner, like all that it refuses.
func launchMessages(attempts []scheduler.Launch) []*runner.Message {
	var out []*runner.Message
	var m *runner.Message
	bytes := 0
	for _, l := range attempts {
		if why := refusal(&l); why != "" {
			out = append(out, &runner.Message{Kind: runner.KindRefuse, IDs: []string{l.ID}, Error: why})
			continue
		}
		n := len(l.Input)
		for _, s := range l.Argv {
			n += len(s)
		}
		for _, s := range l.Env {
			n += len(s)
		}
		if n > launchBytes {
			out = append(out, &runner.Message{Kind: runner.KindRefuse, IDs: []string{l.ID},
				Error: fmt.Sprintf("input, environment and arguments have %d bytes, more than %d", n, launchBytes)})
			continue
		}
		if m == nil || bytes+n > launchBytes || len(m.Launch) == launchCount {
			m, bytes = &runner.Message{Kind: runner.KindLaunch}, 0
			out = append(out, m)
		}
		m.Launch = append(m.Launch, l)
		bytes += n
	}
	return out
}

// refusal says what an attempt asks for that there is no way to give it here, or "".
func refusal(l *scheduler.Launch) string {
	switch {
	case l.Container != nil:
		return fmt.Sprintf("the local executor starts programs of this machine, and runs no images (%s); name an executor that does", l.Container.Image)
	case len(l.Constraints) > 0:
		return fmt.Sprintf("the local executor has this machine alone, and can not choose by constraints (%s); name an executor that does, or remove them", l.Constraints[0])
	case l.Resources != nil && l.Resources.GPU > 0:
		return fmt.Sprintf("the local executor hands out no GPUs, and %d are asked for; name an executor that does, or take gpu out of resources", l.Resources.GPU)
	case l.Machine != nil:
		asked := strings.Join(l.Machine.Wishes(), ", ")
		return fmt.Sprintf("the local executor starts programs as its own user and with nothing but what it has itself, and does not see to what is asked for (%s); name an executor that does, or remove it", asked)
	}
	return ""
}

// Kill implements scheduler.Executor. A kill that was accepted is carried out even if the runner dies, grace included.
func (e *Executor) Kill(ctx context.Context, attempt string, grace time.Duration) error {
	err := e.ask(ctx, &runner.Message{Kind: runner.KindKill, Kill: &runner.Kill{ID: attempt, Grace: grace}})
	if err != nil {
		return fmt.Errorf("kill attempt %s: %w", attempt, err)
	}
	return nil
}

// Reconcile implements scheduler.Executor.
func (e *Executor) Reconcile(ctx context.Context, attempts []string) error {
	if len(attempts) == 0 {
		return nil
	}
	if err := e.ask(ctx, &runner.Message{Kind: runner.KindReconcile, IDs: attempts}); err != nil {
		return fmt.Errorf("reconcile %d attempts: %w", len(attempts), err)
	}
	return nil
}

// Log implements scheduler.Executor. It reads the file, so that it works while the runner does not.
func (e *Executor) Log(_ context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	f, err := os.OpenInRoot(e.dir, runner.LogName(attempt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open log of attempt %s: %w", attempt, scheduler.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open log of attempt %s: %w", attempt, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log of attempt %s: %w", attempt, err), f.Close())
	}
	offset = max(0, offset)
	part := io.NewSectionReader(f, offset, max(0, info.Size()-offset))
	return struct {
		*io.SectionReader // whose Seek lets a reader begin near the end
		io.Closer
	}{part, f}, nil
}

// Run implements scheduler.Executor. It keeps the connection to the runner, and starts one if there is none. When ctx ends, the runner is
// told, also one that was just being started; it stays as long as a task runs or a report was not taken.
func (e *Executor) Run(ctx context.Context, report func(context.Context, []scheduler.Report) error) error {
	var started []int
	defer func() { reapRunners(started) }()
	sweeping, stop := context.WithCancel(ctx)
	var swept sync.WaitGroup
	swept.Go(func() { e.sweepStates(sweeping) }) // ends with stop
	defer swept.Wait()
	defer stop()
	for failures := 0; ctx.Err() == nil; {
		started = reapRunners(started)
		conn, pid, err := e.connect()
		if pid != 0 {
			started = append(started, pid)
			e.metrics.starts.Inc()
		}
		if err == nil {
			failures = 0
			err = e.use(ctx, newLink(conn), report)
		} else {
			failures++
		}
		if errors.Is(err, ErrReplaced) {
			e.setLink(nil, err)
			return err
		}
		if ctx.Err() == nil {
			e.opt.Logger.Warn("local runner is not connected", "err", err)
			pause(ctx, failures)
		}
	}
	return nil
}

// use serves one connection to its end.
func (e *Executor) use(ctx context.Context, l *link, report func(context.Context, []scheduler.Report) error) error {
	e.setLink(l, nil)
	defer e.setLink(nil, nil)
	return l.serve(ctx, func(ctx context.Context, m *runner.Message) error {
		if err := e.deliver(ctx, m.Reports, report); err != nil {
			e.opt.Logger.Warn("reports were not taken", "reports", len(m.Reports), "err", err)
			return err
		}
		for _, r := range m.Reports {
			e.metrics.reports.WithLabelValues(string(r.Outcome)).Inc()
		}
		return nil
	}, func(active int) { e.active.Store(int64(active)) })
}

// pause waits a little before the next try: from 10 ms up to 2 s, half of it random.
func pause(ctx context.Context, failures int) {
	d := min(10*time.Millisecond<<min(failures, 8), 2*time.Second)
	select {
	case <-time.After(d/2 + rand.N(d/2)):
	case <-ctx.Done():
	}
}

func (e *Executor) setLink(l *link, over error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link, e.over = l, over
	close(e.changed)
	e.changed = make(chan struct{})
}

// ask sends requests and waits for all answers.
func (e *Executor) ask(ctx context.Context, requests ...*runner.Message) error {
	l, err := e.await(ctx)
	if err != nil {
		return err
	}
	if err := l.ask(ctx, requests); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err)
	}
	return nil
}

// await returns the connection, when there is one.
func (e *Executor) await(ctx context.Context) (*link, error) {
	late := time.NewTimer(e.opt.Wait)
	defer late.Stop()
	for {
		e.mu.Lock()
		l, over, changed := e.link, e.over, e.changed
		e.mu.Unlock()
		if over != nil {
			return nil, fmt.Errorf("%w: %w", scheduler.ErrUnavailable, over)
		}
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-late.C:
			return nil, fmt.Errorf("%w: the runner is not connected", scheduler.ErrUnavailable)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", scheduler.ErrUnavailable, ctx.Err())
		}
	}
}
