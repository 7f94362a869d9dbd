//go:build linux

package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
	"millrace/scheduler/mask"
)

// The output of an attempt that was given secrets does not go to its log by itself: it goes to a named pipe in the directory of the attempt, and from
// there, masked, to the log.
//
//	task ─▶ attempts/<id>/output.pipe ─▶ filter (a goroutine here) ─▶ logs/<run>/<task>.<map>.<try>.log
//
// The task has the pipe open for reading, too, although it never reads: so a write neither fails nor is lost while there is no runner, it waits when
// the pipe is full, and the next runner goes on from the name. No secret is written to any file: the journal notes where in the environment of the
// attempt each one stands, and the next runner reads them from the environment of the process, in /proc. If it can not find one any more, it
// drops what the task writes from then on, and the log says so. A runner that dies takes with it what it held back as the possible beginning
// of a secret.

const (
	pipeName = "output.pipe"
	// pipeBytes is what a task can write while nobody reads; more is not permitted to users.
	pipeBytes = 1 << 20
	// readBytes is how much is masked at once.
	readBytes = 64 << 10
)

// SecretPlace says where a secret stands in the environment of an attempt: so many bytes from an offset of the value of a variable.
type SecretPlace struct {
	Var string `json:"var"`
	Off int    `json:"off"`
	Len int    `json:"len"`
}

// PlacesOf finds secrets in an environment; one that stands there only in another form is found in that. known says that all were found.
func PlacesOf(secrets, env []string) (places []SecretPlace, known bool) {
	known = true
	for _, secret := range secrets {
		if len(secret) < mask.MinLength {
			continue
		}
		p, ok := placeOf(secret, env)
		if !ok {
			known = false
			continue
		}
		places = append(places, p)
	}
	return places, known
}

func placeOf(secret string, env []string) (SecretPlace, bool) {
	for _, form := range mask.Forms(secret) {
		for _, kv := range env {
			name, val, _ := strings.Cut(kv, "=")
			if off := strings.Index(val, form); off >= 0 && len(form) >= mask.MinLength {
				return SecretPlace{name, off, len(form)}, true
			}
		}
	}
	return SecretPlace{}, false
}

// SecretsIn reads the secrets back from an environment; false if it is not the one that the places are of.
func SecretsIn(places []SecretPlace, env []byte) ([]string, bool) {
	vals := map[string]string{}
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if name, val, ok := strings.Cut(string(kv), "="); ok {
			if _, twice := vals[name]; !twice {
				vals[name] = val
			}
		}
	}
	var out []string
	for _, p := range places {
		val, ok := vals[p.Var]
		if !ok || p.Off < 0 || p.Len < 0 || p.Off+p.Len > len(val) {
			return nil, false
		}
		out = append(out, val[p.Off:p.Off+p.Len])
	}
	return out, true
}

// filter copies the output of one attempt.
type filter struct {
	pipe *os.File
	log  *os.File
	// m is nil if the secrets are not known any more: then nothing is copied.
	m *mask.Masker
	// drained is closed when all that the attempt wrote before [filter.finish] is in the log; another process may still have the pipe. ended is
	// closed when nothing more is read.
	drained, ended chan struct{}
	// stop ends it early: closed by halt, once.
	stop chan struct{}
	once sync.Once
	// finishing is the loop's own.
	finishing bool
}

func newFilter(pipe, log *os.File, m *mask.Masker) *filter {
	return &filter{pipe: pipe, log: log, m: m, drained: make(chan struct{}), ended: make(chan struct{}), stop: make(chan struct{})}
}

// halt ends the filter when it has copied what is in the pipe now.
func (f *filter) halt() {
	f.once.Do(func() { close(f.stop) })
	_ = f.pipe.SetReadDeadline(time.Unix(1, 0))
}

// makePipe makes the pipe of an attempt, and returns its two ends: the one for the task is to be closed after the fork.
func (p *place) makePipe(id string) (pipe *os.File, task int, err error) {
	path := p.pipePath(id)
	if err := unix.Mkfifo(path, uint32(fileMode.Perm())); err != nil {
		return nil, -1, fmt.Errorf("make output pipe: %w", err)
	}
	if pipe, err = openPipe(path); err != nil {
		return nil, -1, err
	}
	// Package os would make it non-blocking, for the task as well.
	if task, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, -1, errors.Join(fmt.Errorf("open output pipe: %w", err), pipe.Close())
	}
	_, _ = unix.FcntlInt(uintptr(task), unix.F_SETPIPE_SZ, pipeBytes) // if it may be larger: it works as it is
	return pipe, task, nil
}

func (p *place) pipePath(id string) string { return filepath.Join(p.dir, attemptName(id), pipeName) }

// openPipe opens the runner's end. The task could have put anything in its place.
func openPipe(path string) (*os.File, error) {
	pipe, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open output pipe: %w", err)
	}
	info, err := pipe.Stat()
	if err == nil && info.Mode()&os.ModeNamedPipe == 0 {
		err = errors.New("is no pipe")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open output pipe: %w", err), pipe.Close())
	}
	return pipe, nil
}

// copyMasked starts the filter of an attempt, whose files are its own from here on.
func (r *runner) copyMasked(a *attempt, f *filter) {
	a.filter = f
	r.spawn(func() { // ends with the pipe, or by halt
		f.copy()
		_ = f.pipe.Close()
		_ = f.log.Close()
		close(f.ended)
	})
	r.spawn(func() { // ends with f, or with the loop
		select {
		case <-f.drained:
			r.post(func() {
				if a.exit != nil {
					r.finishIfGone(a)
				}
			})
		case <-r.done:
		}
		select {
		case <-f.ended:
		case <-r.done:
			f.halt()
		}
	})
}

// haltFilters has everything that was read written, and reads no more: this process is about to be another.
func (r *runner) haltFilters() {
	for _, a := range r.running {
		if a.filter != nil {
			a.filter.halt()
			<-a.filter.ended
		}
	}
}

// restartFilters goes on after haltFilters.
func (r *runner) restartFilters() {
	for _, a := range r.running {
		if a.filter == nil {
			continue
		}
		pipe, log, err := r.reopen(a)
		if err != nil {
			r.log.Warn("output of a task is not kept", "attempt", a.id, "err", err)
			continue
		}
		r.copyMasked(a, newFilter(pipe, log, a.mask))
	}
}

// LostSecrets is what the log says when the secrets of a running task can not be found again.
const LostSecrets = "\nmillrace: the runner was replaced, and the secrets of this task can not be found again: what it writes from here on is not kept\n"

// copy goes on until nobody has the pipe open, or stop is closed. After [filter.finish], all that is there is copied before drained is closed, and
// what comes later is of processes that have left the attempt.
func (f *filter) copy() {
	stream := mask.NewStream(f.m)
	buf, out := make([]byte, readBytes), make([]byte, 0, readBytes)
	drained, told := false, false
	defer func() {
		if !drained {
			close(f.drained)
		}
	}()
	for {
		n, err := f.pipe.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && !drained {
			n, err = readNow(f.pipe, buf) // the deadline keeps Read from looking at all
		}
		switch {
		case n > 0 && f.m != nil:
			out = stream.Next(out[:0], buf[:n])
			f.write(out)
		case n > 0 && !told:
			told = true
			f.write([]byte(LostSecrets))
		}
		if err == nil {
			continue
		}
		if f.m != nil {
			f.write(stream.End(out[:0]))
			stream = mask.NewStream(f.m)
		}
		if !errors.Is(err, syscall.EAGAIN) || drained {
			return
		}
		select {
		case <-f.stop:
			return
		default:
		}
		drained = true
		close(f.drained)
		_ = f.pipe.SetReadDeadline(time.Time{})
	}
}

// write appends to the log. A disk that is full must not stop the task: what does not fit is lost, as for a task that ignores its errors.
func (f *filter) write(b []byte) {
	if len(b) > 0 {
		_, _ = f.log.Write(b)
	}
}

// readNow reads what is there: EAGAIN if there is nothing, io.EOF if nobody can write any more.
func readNow(pipe *os.File, buf []byte) (n int, err error) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := conn.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) })
	switch {
	case failed != nil:
		return 0, failed
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// finish asks for all that an attempt has written, of which nothing runs any more, and reports whether it is in the log.
func (f *filter) finish() bool {
	if f == nil {
		return true
	}
	if !f.finishing {
		f.finishing = true
		_ = f.pipe.SetReadDeadline(time.Unix(1, 0))
	}
	select {
	case <-f.drained:
		return true
	default:
		return false
	}
}

// resumeMasked goes on with the output of an attempt that an earlier runner has started. pids are its processes, any of which may have the environment.
func (r *runner) resumeMasked(a *attempt, pids []int) {
	if !a.claim.masked() || a.filter != nil {
		return
	}
	pipe, log, err := r.reopen(a)
	if err != nil {
		r.log.Warn("output of a task is not kept", "attempt", a.id, "err", err)
		return
	}
	for _, p := range pids {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(p) + "/environ")
		if err != nil || a.claim.Unplaced {
			continue
		}
		if secrets, ok := SecretsIn(a.claim.Secrets, env); ok && bytes.Contains(env, []byte(r.place.outputVar(a.id))) {
			a.mask = mask.New(secrets)
			break
		}
	}
	r.copyMasked(a, newFilter(pipe, log, a.mask))
}

// reopen opens pipe and log of an attempt that runs.
func (r *runner) reopen(a *attempt) (pipe, log *os.File, err error) {
	if pipe, err = openPipe(r.place.pipePath(a.id)); err != nil {
		return nil, nil, err
	}
	log, err = os.OpenFile(a.log, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open log: %w", err), pipe.Close())
	}
	return pipe, log, nil
}

// masked reports whether the attempt's output goes through a filter.
func (c *claim) masked() bool { return len(c.Secrets) > 0 || c.Unplaced }

// hide takes the secrets of an attempt out of a report, and out of an output that is too large for one.
func (r *runner) hide(a *attempt, rep *scheduler.Report) {
	if !a.claim.masked() {
		return
	}
	rep.Reason, rep.OutputError = a.mask.String(rep.Reason), a.mask.String(rep.OutputError)
	rep.Output = a.mask.JSON(rep.Output)
	if len(rep.Output) == 0 && rep.OutputRef == nil {
		return
	}
	problem := ""
	if a.mask == nil {
		problem = "the runner was replaced, and the secrets of this task can not be found again: it might have one in it"
	} else if rep.OutputRef != nil {
		size, err := r.place.maskFile(rep.OutputRef.Ref, a.mask)
		if rep.OutputRef.Bytes = size; err != nil {
			problem = "secrets could not be taken out of it: " + explain(err).Error()
		}
	}
	if problem != "" {
		rep.Output, rep.OutputRef, rep.OutputError = nil, nil, problem
	}
}

// maskFile replaces a file by one without secrets, and returns its size.
func (p *place) maskFile(name string, m *mask.Masker) (int64, error) {
	in, _, problem := openOutput(p.open, name)
	if in == nil {
		return 0, errors.New(problem)
	}
	defer in.Close()
	out, err := p.root.OpenFile(name+".masked", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return 0, err
	}
	stream, buf, masked, size := mask.NewStream(m), make([]byte, readBytes), []byte(nil), int64(0)
	for err == nil {
		var n int
		n, err = in.Read(buf)
		masked = stream.Next(masked[:0], buf[:n])
		if err != nil {
			masked = stream.End(masked)
		}
		size += int64(len(masked))
		if _, failed := out.Write(masked); failed != nil {
			err = failed
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return 0, err
	}
	return size, p.root.Rename(name+".masked", name)
}
