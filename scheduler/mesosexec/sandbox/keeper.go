package sandbox

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/mask"
	"millrace/scheduler/output"
	"millrace/scheduler/tasklog"
)

// Keeper reads sandboxes. Make it with [New]. Safe for concurrent use.
type Keeper struct {
	dir     string
	opt     Options
	agents  *agents
	logs    *tasklog.Store
	outputs *output.Store
	metrics *metrics
	wake    chan struct{} // has room for one, so that Run looks again

	mu      sync.Mutex // guards the rest, and what follow says
	follows map[string]*follow
	queue   queue // those that are to be looked at, the next one first
	looking int   // those that are looked at now
	lines   map[string]*line
	spools  []kept
	bytes   int64 // of spools
}

// line is what is looked at of one agent, and what waits for a place. Without it, one that does not answer would take all places.
type line struct {
	looking int
	waiting []*follow
}

// kept is the spool of a log that is archived.
type kept struct {
	path  string
	bytes int64
	at    time.Time
}

// follow is an attempt whose sandbox is read.
type follow struct {
	held      chan struct{} // has an element while somebody uses collector
	collector collector
	agent     string // that Run looks at

	// The Keeper's mutex guards these.
	index  int // in the queue, -1 if it is not there
	due    time.Time
	looked time.Time
	pause  time.Duration
	reader time.Time // somebody reads it, up to then
	over   bool      // it is not looked at any more
}

// New returns a keeper that spools logs below dir, which is made, and archives them in objects. It reads nothing before Run, but Finish and Log work.
func New(dir string, objects batcher.ObjectStore, opt Options) (*Keeper, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("check options of sandboxes: %w", err)
	}
	opt = opt.withDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	m, err := newMetrics(opt.Registerer)
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		dir: dir, opt: opt, agents: newAgents(opt, m), logs: tasklog.New(objects), outputs: output.NewStore(objects), metrics: m,
		wake: make(chan struct{}, 1), follows: map[string]*follow{}, lines: map[string]*line{},
	}
	if err := k.scan(); err != nil {
		return nil, err
	}
	return k, nil
}

// scan finds the spools of logs that are archived.
func (k *Keeper) scan() error {
	names, err := filepath.Glob(filepath.Join(k.dir, "*", "*"+stateSuffix))
	if err != nil {
		return fmt.Errorf("look through spool: %w", err)
	}
	for _, name := range names {
		path := strings.TrimSuffix(name, stateSuffix)
		st, err := readState(path)
		if err == nil && !st.Done.IsZero() && st.Result.Log != "" {
			k.spools = append(k.spools, kept{path, st.Bytes, st.Done})
			k.bytes += st.Bytes
		}
	}
	slices.SortFunc(k.spools, func(a, b kept) int { return a.at.Compare(b.at) })
	k.metrics.spools.Set(float64(k.bytes))
	return nil
}

// Follow begins to collect the log of an attempt that runs. It may be repeated, and has to be after a restart: it goes on where that was.
func (k *Keeper) Follow(t Task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.of(t)
	if f.over || f.index >= 0 || !f.due.IsZero() {
		return
	}
	f.due = time.Now()
	k.push(f)
}

// of returns what is known of an attempt; mu is held.
func (k *Keeper) of(t Task) *follow {
	f := k.follows[t.Attempt]
	if f == nil {
		f = &follow{held: make(chan struct{}, 1), index: -1, pause: k.opt.MinPause, agent: t.Agent, collector: collector{k: k, task: t, mask: mask.New(t.Secrets)}}
		k.follows[t.Attempt] = f
		k.metrics.following.Set(float64(len(k.follows)))
	}
	return f
}

func (k *Keeper) push(f *follow) {
	heap.Push(&k.queue, f)
	if f.index == 0 {
		k.nudge()
	}
}

// nudge has Run look at the queue.
func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// hold returns an attempt when nobody else uses its collector, and takes it out of the queue.
func (k *Keeper) hold(ctx context.Context, t Task) (*follow, error) {
	k.mu.Lock()
	f := k.of(t)
	f.over = true
	if f.index >= 0 {
		heap.Remove(&k.queue, f.index)
	}
	k.mu.Unlock()
	select {
	case f.held <- struct{}{}:
		f.collector.task.Agent, f.collector.task.Dir = t.Agent, t.Dir // It may be elsewhere by now.
		return f, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", scheduler.ErrUnavailable, ctx.Err())
	}
}

func (f *follow) release() { <-f.held }

// forget ends the reading of an attempt.
func (k *Keeper) forget(f *follow) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id := f.collector.task.Attempt; k.follows[id] == f {
		delete(k.follows, id)
	}
	k.metrics.following.Set(float64(len(k.follows)))
}

// done notes a spool whose log is archived.
func (k *Keeper) done(path string, bytes int64, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spools = append(k.spools, kept{path, bytes, at})
	k.bytes += bytes
	k.metrics.spools.Set(float64(k.bytes))
}

// tidy removes the spools of logs that were archived long ago, or are too many.
func (k *Keeper) tidy(now time.Time) {
	k.mu.Lock()
	n, bytes := 0, k.bytes
	for n < len(k.spools) && (now.Sub(k.spools[n].at) > k.opt.Keep || bytes > k.opt.KeepBytes) {
		bytes -= k.spools[n].bytes
		n++
	}
	old := slices.Clone(k.spools[:n])
	k.spools = slices.Delete(k.spools, 0, n)
	k.bytes = bytes
	k.metrics.spools.Set(float64(bytes))
	k.mu.Unlock()
	for _, s := range old {
		if err := removeSpool(s.path); err != nil {
			k.opt.Logger.Warn("spool of an archived log is not removed", "path", s.path, "err", err)
		}
	}
}

// Log opens the log of an attempt at a byte offset, up to its present end, from this disk or from the archive. What it returns is an io.Seeker, too. While an
// attempt runs, Run looks after it sooner. scheduler.ErrNotFound while there is none; scheduler.ErrUnavailable.
func (k *Keeper) Log(ctx context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	path, err := spoolPath(k.dir, attempt)
	if err != nil {
		return nil, fmt.Errorf("open log of attempt %s: %w: %w", attempt, scheduler.ErrNotFound, err)
	}
	followed := k.wanted(attempt)
	f, err := os.Open(path + spoolSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist) && followed:
		return nil, fmt.Errorf("open log of attempt %s: %w", attempt, scheduler.ErrNotFound)
	case errors.Is(err, fs.ErrNotExist):
		return k.logs.Open(ctx, attempt, offset)
	case err != nil:
		return nil, fmt.Errorf("open log of attempt %s: %w", attempt, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log of attempt %s: %w", attempt, err), f.Close())
	}
	part := io.NewSectionReader(f, 0, info.Size())
	if _, err := part.Seek(max(0, offset), io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("open log of attempt %s: %w", attempt, err), f.Close())
	}
	return struct {
		*io.SectionReader
		io.Closer
	}{part, f}, nil
}

// wanted has an attempt looked at soon, as somebody reads its log, and reports whether it is followed.
func (k *Keeper) wanted(attempt string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.follows[attempt]
	if f == nil {
		return false
	}
	now := time.Now()
	f.reader = now.Add(readerFor)
	if soon := now.Add(k.opt.ReadPause); f.index >= 0 && f.due.After(soon) {
		f.due = later(now, f.looked.Add(k.opt.ReadPause))
		heap.Fix(&k.queue, f.index)
		if f.index == 0 {
			k.nudge()
		}
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ForgetRun implements scheduler.RunForgetter for what is on this disk. The archived logs go by tasklog.Store.Sweep.
func (k *Keeper) ForgetRun(_ context.Context, run string) error {
	if strings.ContainsAny(run, "./") || run == "" {
		return nil // There is no such run.
	}
	dir := filepath.Join(k.dir, run)
	k.mu.Lock()
	k.spools = slices.DeleteFunc(k.spools, func(s kept) bool {
		own := filepath.Dir(s.path) == dir
		if own {
			k.bytes -= s.bytes
		}
		return own
	})
	k.metrics.spools.Set(float64(k.bytes))
	for id, f := range k.follows {
		if strings.HasPrefix(id, run+".") {
			f.over = true
			delete(k.follows, id)
		}
	}
	k.metrics.following.Set(float64(len(k.follows)))
	k.mu.Unlock()
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("forget run %s: %w", run, err)
	}
	return nil
}

// queue is a heap of follows by when they are due.
type queue []*follow

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	f := x.(*follow)
	f.index = len(*q)
	*q = append(*q, f)
}

func (q *queue) Pop() any {
	old := *q
	f := old[len(old)-1]
	old[len(old)-1] = nil
	f.index = -1
	*q = old[:len(old)-1]
	return f
}
