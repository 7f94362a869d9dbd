//go:build linux

package dockerexec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/mask"
)

// Executor is a scheduler.Executor whose attempts are containers of one engine. Safe for concurrent use.
type Executor struct {
	dir     string
	id      string // of this installation, in labels
	records scheduler.Records
	api     *client.Client
	opt     Options
	metrics *metrics
	starts  chan struct{} // bounds how many containers are made at once

	mu       sync.Mutex // guards the rest, and what attempts say
	attempts map[string]*attempt
	tend     func(a *attempt) // starts the goroutine of an attempt; nil while Run does not
	out      []scheduler.Report
	told     chan struct{} // closed when out gets something
}

var _ scheduler.Executor = (*Executor)(nil)

// startWidth is how many containers are made at once.
const startWidth = 8

// Open returns an executor that keeps logs in dir, which is made, and what it has to know in records. It reads those, and does not connect to the engine.
func Open(ctx context.Context, dir string, records scheduler.Records, opt Options) (*Executor, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("check options of docker executor: %w", err)
	}
	opt = opt.withDefaults()
	e := &Executor{
		dir: dir, records: records, opt: opt, starts: make(chan struct{}, startWidth), attempts: map[string]*attempt{}, told: make(chan struct{}),
	}
	var err error
	if e.api, err = opt.open(); err != nil {
		return nil, fmt.Errorf("open docker executor: %w", err)
	}
	if e.id, err = identity(dir); err != nil {
		return nil, fmt.Errorf("open docker executor: %w", err)
	}
	if err := e.load(ctx); err != nil {
		return nil, fmt.Errorf("open docker executor: %w", err)
	}
	e.metrics, err = newMetrics(e, opt.Registerer)
	return e, err
}

// identity returns the name by which containers are known as ours: made once, and kept in dir.
func identity(dir string) (string, error) {
	if err := vfs.MkdirAllSync(vfs.OS, dir); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "id")
	text, err := os.ReadFile(name)
	if err == nil && len(text) > 0 {
		return string(text), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := rand.Text()
	f, err := os.Create(name + ".new")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(id)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return id, errors.Join(os.Rename(name+".new", name), vfs.OS.SyncDir(dir))
}

// Slots implements scheduler.Executor.
func (e *Executor) Slots() int { return e.opt.Slots }

// Launch implements scheduler.Executor. All attempts are claimed by one write of records.
func (e *Executor) Launch(ctx context.Context, attempts []scheduler.Launch) error {
	fresh := e.claim(attempts)
	if len(fresh) == 0 {
		return nil
	}
	if err := e.put(ctx, fresh...); err != nil {
		e.forget(fresh)
		return fmt.Errorf("launch %d attempts: %w: %w", len(attempts), scheduler.ErrUnavailable, err)
	}
	e.begin(fresh...)
	return nil
}

// claim returns those that nobody knows, known from here on.
func (e *Executor) claim(attempts []scheduler.Launch) []*attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	var fresh []*attempt
	for _, one := range attempts {
		l := &one // the slice is the caller's
		if e.attempts[l.ID] != nil {
			continue // Claimed before: it is never started again.
		}
		a := newAttempt(l.ID)
		a.launch, a.masker = l, mask.New(l.Secrets)
		a.rec = record{Run: l.Run, Task: l.Task, MapIndex: l.MapIndex, Timeout: l.Timeout, Grace: l.Grace, Heartbeat: l.Heartbeat}
		if a.masker != nil {
			places, all := runner.PlacesOf(l.Secrets, l.Env)
			a.rec.Secrets, a.rec.Unplaced = places, !all
		}
		if why := e.opt.refusal(l); why != "" {
			a.rec.End = e.ended(a, scheduler.OutcomeRefused, why)
		}
		e.attempts[l.ID] = a
		fresh = append(fresh, a)
	}
	return fresh
}

// forget takes claims back that nobody was told of.
func (e *Executor) forget(all []*attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range all {
		delete(e.attempts, a.id)
	}
}

// begin has attempts tended whose records are in the store, now or when Run begins.
func (e *Executor) begin(all ...*attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range all {
		a.claimed = true
		if e.tend != nil {
			e.tend(a)
		}
	}
}

// ended is the report of an attempt that was not started.
func (e *Executor) ended(a *attempt, outcome scheduler.Outcome, reason string) *scheduler.Report {
	return &scheduler.Report{Attempt: a.id, Outcome: outcome, Exit: -1, Reason: a.masker.String(reason), EndedAt: time.Now().UTC(), Node: e.opt.Host}
}

// Kill implements scheduler.Executor. A kill that was accepted is carried out after a restart, too.
func (e *Executor) Kill(ctx context.Context, id string, grace time.Duration) error {
	e.mu.Lock()
	a := e.attempts[id]
	e.mu.Unlock()
	if a == nil || !e.stop(a, stopAsked, grace) {
		return nil
	}
	if err := e.put(ctx, a); err != nil {
		return fmt.Errorf("kill attempt %s: %w: %w", id, scheduler.ErrUnavailable, err)
	}
	a.nudge()
	return nil
}

// stop notes that an attempt is to end, and reports whether that is news. The first reason stands; a later one can only shorten the grace.
func (e *Executor) stop(a *attempt, why stopReason, grace time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	hardAt := time.Now().Add(max(0, grace)).UTC()
	switch s := a.rec.Stop; {
	case a.rec.End != nil, s != nil && !hardAt.Before(s.HardAt):
		return false
	case s != nil:
		a.rec.Stop = &stop{s.Why, hardAt}
	default:
		a.rec.Stop = &stop{why, hardAt}
	}
	return true
}

// Reconcile implements scheduler.Executor. An attempt without a record may have a container, after a restore: the engine is asked. One that
// nobody knows is claimed as never to be started, durably, before it is reported.
func (e *Executor) Reconcile(ctx context.Context, attempts []string) error {
	var unknown []string
	e.mu.Lock()
	for _, id := range attempts {
		switch a := e.attempts[id]; {
		case a == nil:
			unknown = append(unknown, id)
		case a.rec.End != nil:
			e.tellLocked(*a.rec.End)
		case a.running != nil:
			e.tellLocked(*a.running)
		}
	}
	e.mu.Unlock()
	if len(unknown) == 0 {
		return nil
	}
	if err := e.adopt(ctx); err != nil {
		return fmt.Errorf("reconcile %d attempts: %w: %w", len(attempts), scheduler.ErrUnavailable, err)
	}
	var lost []*attempt
	e.mu.Lock()
	for _, id := range unknown {
		if e.attempts[id] == nil {
			a := newAttempt(id)
			a.rec.End = e.ended(a, scheduler.OutcomeLost, "the docker executor does not know it, and will never start it")
			e.attempts[id] = a
			lost = append(lost, a)
		}
	}
	e.mu.Unlock()
	if err := e.put(ctx, lost...); err != nil {
		e.forget(lost)
		return fmt.Errorf("reconcile %d attempts: %w: %w", len(attempts), scheduler.ErrUnavailable, err)
	}
	e.begin(lost...)
	return nil
}

// Log implements scheduler.Executor. It reads our file, so that it works while the engine does not.
func (e *Executor) Log(_ context.Context, id string, offset int64) (io.ReadCloser, error) {
	f, err := os.OpenInRoot(e.dir, runner.LogName(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open log of attempt %s: %w", id, scheduler.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open log of attempt %s: %w", id, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log of attempt %s: %w", id, err), f.Close())
	}
	offset = max(0, offset)
	part := io.NewSectionReader(f, offset, max(0, info.Size()-offset))
	return struct {
		*io.SectionReader // whose Seek lets a reader begin near the end
		io.Closer
	}{part, f}, nil
}

// Close gives up the connections to the engine, after Run.
func (e *Executor) Close() error { return e.api.Close() }
