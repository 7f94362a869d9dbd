//go:build linux

package dockerexec

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/mask"
)

// record is what has to be known of an attempt after a restart. There is no secret in it.
type record struct {
	Run       string               `json:"run,omitempty"`
	Task      string               `json:"task,omitempty"`
	MapIndex  int                  `json:"map_index,omitempty"`
	Timeout   time.Duration        `json:"timeout,omitempty"`
	Grace     time.Duration        `json:"grace,omitempty"`
	Heartbeat time.Duration        `json:"heartbeat,omitempty"`
	Secrets   []runner.SecretPlace `json:"secrets,omitempty"`
	// Unplaced says that not all secrets are in the environment, so that a restart forgets some.
	Unplaced bool              `json:"unplaced,omitempty"`
	Stop     *stop             `json:"stop,omitempty"`
	End      *scheduler.Report `json:"end,omitempty"`
}

// stop says that an attempt is being ended, why, and when SIGKILL is due.
type stop struct {
	Why    stopReason `json:"why"`
	HardAt time.Time  `json:"hard_at"`
}

type stopReason string

const (
	stopAsked     stopReason = "killed on request"
	stopTimeout   stopReason = "timeout"
	stopHeartbeat stopReason = "heartbeat"
	stopLog       stopReason = scheduler.ReasonLog
)

// attempt is what this process knows of one. rec and what is below it are guarded by [Executor].mu.
type attempt struct {
	id string
	// launch is nil after a restart, and as soon as the start was asked for.
	launch *scheduler.Launch
	masker *mask.Masker
	// wake tells its goroutine to look again; it has room for one.
	wake chan struct{}
	// taken is closed when the report of its end was.
	taken chan struct{}

	rec      record
	claimed  bool              // its record is in the store
	over     time.Time         // since when nothing of it is left but the record; zero before
	running  *scheduler.Report // the newest, nil before the start
	termSent bool
}

func newAttempt(id string) *attempt {
	return &attempt{id: id, wake: make(chan struct{}, 1), taken: make(chan struct{})}
}

func (a *attempt) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// hides reports whether the attempt has secrets, known or not.
func (a *attempt) hides() bool { return len(a.rec.Secrets) > 0 || a.rec.Unplaced }

// load reads what the process before knew.
func (e *Executor) load(ctx context.Context) error {
	list, err := e.records.Records(ctx, e.opt.Name)
	if err != nil {
		return fmt.Errorf("load records: %w", err)
	}
	for _, r := range list {
		a := newAttempt(r.Key)
		if err := json.Unmarshal(r.Body, &a.rec); err != nil {
			return fmt.Errorf("load record of attempt %s: %w", r.Key, err)
		}
		a.over, a.claimed = r.Over, true
		e.attempts[r.Key] = a
	}
	return nil
}

// put writes the records of attempts. The caller holds no lock.
func (e *Executor) put(ctx context.Context, all ...*attempt) error {
	list := make([]scheduler.Record, 0, len(all))
	e.mu.Lock()
	for _, a := range all {
		body, err := json.Marshal(a.rec)
		if err != nil {
			e.mu.Unlock()
			return fmt.Errorf("encode record of attempt %s: %w", a.id, err)
		}
		list = append(list, scheduler.Record{Executor: e.opt.Name, Key: a.id, Body: body, Over: a.over})
	}
	e.mu.Unlock()
	return e.records.PutRecords(ctx, list)
}

// save writes a record as soon as it can be. The error is that of ctx.
func (e *Executor) save(ctx context.Context, a *attempt) error {
	return e.insist(ctx, "write record", a, func(ctx context.Context) error { return e.put(ctx, a) })
}

// insist repeats a call until it works, or fails in a way that no repetition mends. It logs the first failure.
func (e *Executor) insist(ctx context.Context, what string, a *attempt, call func(ctx context.Context) error) error {
	for n := 0; ; n++ {
		short, cancel := context.WithTimeout(ctx, callTime)
		err := call(short)
		cancel()
		if err == nil || answered(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if n == 0 {
			e.opt.Logger.Warn("docker executor waits", "call", what, "attempt", a.id, "err", err)
		}
		if !pause(ctx, n) {
			return ctx.Err()
		}
	}
}

// read is insist for what is lost with the container: what the engine answers may be another answer next time.
func (e *Executor) read(ctx context.Context, what string, a *attempt, call func(ctx context.Context) error) error {
	for n := 0; ; n++ {
		err := e.insist(ctx, what, a, call)
		if err == nil || errdefs.IsNotFound(err) || n == readTries || !pause(ctx, n) {
			return err
		}
	}
}

// readTries is how often a log or an output is asked for that the engine does not give.
const readTries = 8

// callTime is how long one request may take that is not a stream.
const callTime = time.Minute

// pause waits a little before the next try, and reports whether ctx goes on: from 50 ms up to 5 s.
func pause(ctx context.Context, n int) bool {
	select {
	case <-time.After(min(50*time.Millisecond<<min(n, 8), 5*time.Second)):
		return true
	case <-ctx.Done():
		return false
	}
}
