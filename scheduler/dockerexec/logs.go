//go:build linux

package dockerexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/mask"
)

func (e *Executor) logPath(id string) string { return filepath.Join(e.dir, runner.LogName(id)) }

// tail copies the output of a container to our file while it runs. It belongs to the goroutine of its attempt.
type tail struct {
	e *Executor
	a *attempt

	cancel context.CancelFunc
	done   chan error // of the copy that is under way; nil: none
	// whole says that the newest copy came to the end of the output, and held nothing back.
	whole   bool
	failed  bool
	tooMuch atomic.Bool

	// The heartbeat, as it was seen last.
	beatTime time.Time
	beatSize int64
	beatAt   time.Time
	quiet    time.Duration
}

// start begins to copy, if nothing does.
func (t *tail) start(ctx context.Context, c *container.InspectResponse) {
	if t.done != nil {
		select {
		case err := <-t.done:
			t.note(err)
		default:
			return
		}
	}
	if t.tooMuch.Load() {
		return
	}
	ctx, t.cancel = context.WithCancel(ctx)
	done := make(chan error, 1)
	t.done = done
	go func() { done <- t.copy(ctx, c, true) }() // ends with the output or with ctx; stop waits for it
}

func (t *tail) note(err error) {
	t.cancel()
	t.done, t.whole, t.failed = nil, err == nil, err != nil
}

// stop ends the copy.
func (t *tail) stop() {
	if t.done != nil {
		t.cancel()
		t.note(<-t.done)
	}
}

func (t *tail) full() bool { return t.tooMuch.Load() }

// complete has all output of a container that has ended in the file. What is there already is compared by its length alone: an engine keeps what was written.
func (t *tail) complete(ctx context.Context, c *container.InspectResponse) error {
	if t.done != nil {
		select {
		case err := <-t.done:
			t.note(err)
		case <-time.After(drainTime):
			t.stop()
		}
	}
	if t.whole || t.tooMuch.Load() {
		return nil
	}
	return t.e.read(ctx, "read log", t.a, func(context.Context) error { return t.copy(ctx, c, false) }) // as long as it takes
}

// apologize says in the log why there is not more of it.
func (t *tail) apologize(err error) {
	f, failed := os.OpenFile(t.e.logPath(t.a.id), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if failed == nil {
		_, _ = fmt.Fprintf(f, "\nmillrace: the engine did not give the rest of this log: %s\n", t.a.masker.String(err.Error()))
		_ = f.Close()
	}
}

// drainTime is how long the stream of a container's output may take to end after the container has.
const drainTime = 5 * time.Second

// errHeld: what was read ends in what may be the beginning of a secret, and may go on.
var errHeld = errors.New("something is held back")

// lostSecrets is what the log says when the secrets of a running task can not be found again.
const lostSecrets = "\nmillrace: it was replaced, and the secrets of this task can not be found again: what it writes is not kept from here on\n"

// copy reads the output from its beginning and appends what is not in the file yet. Masking has no choice, so that what is there already is what would be
// written again. With follow it goes on while the container runs.
func (t *tail) copy(ctx context.Context, c *container.InspectResponse, follow bool) error {
	name := t.e.logPath(t.a.id)
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return fmt.Errorf("make directory of log: %w", err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	w := &logWriter{f: f, skip: info.Size(), left: t.e.opt.MaxLog, tooMuch: &t.tooMuch}
	if t.a.blind() {
		if info.Size() == 0 || !endsIn(name, lostSecrets) {
			_, err = f.WriteString(lostSecrets)
		}
		return err
	}
	if t.a.masker != nil {
		w.stream = mask.NewStream(t.a.masker)
	}
	body, err := t.e.api.ContainerLogs(ctx, c.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow})
	if err != nil {
		return err
	}
	defer body.Close()
	if c.Config.Tty {
		_, err = io.Copy(w, body)
	} else {
		_, err = stdcopy.StdCopy(w, w, body)
	}
	switch {
	case w.failed != nil:
		t.e.opt.Logger.Warn("log can not be written", "attempt", t.a.id, "err", w.failed)
		return nil // a disk that is full does not stop the task
	case err != nil:
		return err
	case follow && w.stream != nil && w.stream.Held() > 0:
		return errHeld
	}
	return w.end()
}

// logWriter writes to a log, masked, what is not in it yet.
type logWriter struct {
	f       *os.File
	stream  *mask.Stream
	buf     []byte
	skip    int64 // bytes that are in the file already
	left    int64
	tooMuch *atomic.Bool
	failed  error
}

var errFull = errors.New("log is as large as it may be")

func (w *logWriter) Write(p []byte) (int, error) {
	out := p
	if w.stream != nil {
		w.buf = w.stream.Next(w.buf[:0], p)
		out = w.buf
	}
	if err := w.put(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *logWriter) put(b []byte) error {
	if w.left -= int64(len(b)); w.left < 0 {
		w.tooMuch.Store(true)
		return errFull
	}
	n := min(w.skip, int64(len(b)))
	w.skip -= n
	if len(b) == int(n) {
		return nil
	}
	_, w.failed = w.f.Write(b[n:])
	return w.failed
}

func (w *logWriter) end() error {
	if w.stream == nil {
		return nil
	}
	return w.put(w.stream.End(w.buf[:0]))
}

// endsIn reports whether a file ends in a text.
func endsIn(name, text string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	buf := make([]byte, len(text))
	info, err := f.Stat()
	if err != nil || info.Size() < int64(len(buf)) {
		return false
	}
	_, err = f.ReadAt(buf, info.Size()-int64(len(buf)))
	return err == nil && string(buf) == text
}

// silent reports whether the heartbeat file has not changed for as long. Time in which nobody looked counts only as far as the pause between looks.
func (t *tail) silent(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	st, err := t.e.api.ContainerStatPath(ctx, nameOf(t.e.id, t.a.id), client.ContainerStatPathOptions{Path: heartbeatPath})
	if err != nil && !answered(err) {
		t.beatAt = time.Time{} // nobody looked
		return false
	}
	now := time.Now()
	if t.beatAt.IsZero() || !st.Stat.Mtime.Equal(t.beatTime) || st.Stat.Size != t.beatSize {
		t.beatTime, t.beatSize, t.quiet = st.Stat.Mtime, st.Stat.Size, 0
	} else {
		t.quiet += min(now.Sub(t.beatAt), 2*beatPoll)
	}
	t.beatAt = now
	return t.quiet >= limit
}
