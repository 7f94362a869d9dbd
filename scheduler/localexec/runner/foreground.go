//go:build linux

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
	"millrace/scheduler/mask"
)

// ErrRefused says that a command can never be started; the error around it says why.
var ErrRefused = errors.New("command can not be started")

// Foreground is one attempt that is executed by the process that calls [Foreground.Run], such as the first process of a container. There is no journal and
// no successor: whoever started this process knows what becomes of it, and the command does not outlive it.
type Foreground struct {
	// Argv[0] is looked up in PATH of Env, which is all that the command gets.
	Argv, Env []string
	// Dir is the working directory, an absolute path.
	Dir string
	// Out takes standard output and error, in the order in which they are written. It is not closed.
	Out *os.File
	// Secrets are masked in it. With none that is long enough to be masked the command has Out itself, and nothing is copied.
	Secrets []string
	// Grace is from the first signal that asks for the end (SIGTERM, SIGINT, SIGHUP, SIGQUIT) to SIGKILL, which also what the command has left behind gets.
	Grace time.Duration
	// HeartbeatFile must change within Heartbeat, if that is not 0; else the command is ended like that.
	HeartbeatFile string
	Heartbeat     time.Duration
	// Signals are passed on to the command's process group as they come. The caller closes it never, and has SIGCHLD in it.
	Signals <-chan os.Signal
}

// foreground is the state of one [Foreground.Run].
type foreground struct {
	*Foreground
	pid    int
	filter *filter
	exit   *exitStatus // nil while the leader runs
	asked  bool        // it was asked to end
	killed bool
	report scheduler.Report
	pulse  pulse
	hard   <-chan time.Time
}

// Run starts the command and returns when nothing of its process group can run any more. Orphans of it are reaped. The report has outcome, exit or signal,
// reason and times. ErrRefused: it was not started, and never will be; any other error is about the machine. When ctx ends, the command is asked to end.
//
// It is for a process that has no other children.
func (f *Foreground) Run(ctx context.Context) (*scheduler.Report, error) {
	// The command dies with the thread that started it, so this one must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	r := &foreground{Foreground: f}
	if err := r.start(); err != nil {
		if errors.As(err, new(refusal)) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil, err
	}
	r.wait(ctx)
	r.finish()
	return &r.report, nil
}

func (f *foreground) start() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	out := f.Out
	if m := mask.New(f.Secrets); m != nil {
		pipe, task, err := os.Pipe()
		if err != nil {
			return err
		}
		defer task.Close()
		f.filter, out = newFilter(pipe, f.Out, m), task
	}
	// Fd makes the end of a pipe blocking, as the command expects it.
	fd := out.Fd()
	f.report = scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: -1, StartedAt: time.Now().UTC()}
	f.pid, err = forkExec(f.Argv, &syscall.ProcAttr{
		Dir: f.Dir, Env: f.Env, Files: []uintptr{null.Fd(), fd, fd},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil && f.filter != nil {
		err = errors.Join(err, f.filter.pipe.Close())
		f.filter = nil
	}
	return err
}

// wait returns when the group of the command has ended.
func (f *foreground) wait(ctx context.Context) {
	if f.filter != nil {
		go func() { // ends with the pipe, which finish closes, and waits for it
			f.filter.copy()
			close(f.filter.ended)
		}()
	}
	var linger, beats <-chan time.Time
	ctxDone := ctx.Done()
	for f.reap(); !f.over(); f.reap() {
		arm(&linger, f.exit != nil, lingerPoll)
		arm(&beats, f.Heartbeat > 0 && f.exit == nil && !f.asked, logPoll)
		select {
		case s := <-f.Signals:
			f.pass(s)
		case <-ctxDone:
			ctxDone = nil
			f.end(unix.SIGTERM, stopAsked)
		case <-f.hard:
			f.kill()
		case <-linger:
			linger = nil
		case now := <-beats:
			beats = nil
			f.checkBeat(now)
		}
	}
}

// AsksForEnd reports whether a signal asks a program to end.
func AsksForEnd(sig syscall.Signal) bool {
	return sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGHUP || sig == unix.SIGQUIT
}

func (f *foreground) pass(s os.Signal) {
	sig, ok := s.(syscall.Signal)
	switch {
	case !ok || sig == unix.SIGCHLD || sig == unix.SIGURG: // ours, and the Go runtime's
	case AsksForEnd(sig):
		f.end(sig, stopAsked)
	default:
		f.signal(sig)
	}
}

// end asks the command to end. The first reason stands.
func (f *foreground) end(sig unix.Signal, why stopReason) {
	f.signal(sig)
	if f.asked {
		return
	}
	f.asked = true
	f.hard = time.After(f.Grace)
	f.report.Reason = string(why)
	if why == stopHeartbeat {
		f.report.Outcome = scheduler.OutcomeTimeout
		f.report.Reason = scheduler.ReasonHeartbeat(f.Heartbeat)
	}
}

func (f *foreground) kill() {
	f.killed = true
	f.signal(unix.SIGKILL)
}

// signal sends sig to the group; ESRCH, no such process, is as good.
func (f *foreground) signal(sig unix.Signal) { _ = unix.Kill(-f.pid, sig) }

func (f *foreground) checkBeat(now time.Time) {
	if f.pulse.look(beatOf(f.HeartbeatFile), now) >= f.Heartbeat {
		f.end(unix.SIGTERM, stopHeartbeat)
	}
}

// reap takes every child that has ended. What the leader leaves behind is killed, unless it was asked to end: then it has the rest of the grace.
func (f *foreground) reap() {
	for child := exitedChild(); child != 0; child = exitedChild() {
		if child == f.pid && f.exit == nil {
			if !f.asked || f.killed {
				f.kill()
			}
			st := reap(child)
			f.exit = &st
			continue
		}
		reap(child)
	}
}

func (f *foreground) over() bool {
	return f.exit != nil && (groupEmpty(f.pid) || f.killed && groupDead(f.pid))
}

// finish has all output written, and the report filled in. What a process that has left the group writes later is not kept.
func (f *foreground) finish() {
	if f.filter != nil {
		f.filter.finish()
		<-f.filter.drained
		_ = f.filter.pipe.Close()
		<-f.filter.ended
	}
	f.report.EndedAt = f.exit.at
	f.exit.tell(&f.report)
}
