//go:build linux

package dockerexec

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"millrace/scheduler"
	"millrace/scheduler/output"
)

// Exit codes of shells and of inits for what could not be executed.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// finish reads log and output of a container that has ended, and returns the report. nil: ctx has ended.
func (e *Executor) finish(ctx context.Context, a *attempt, c *container.InspectResponse, tail *tail) *scheduler.Report {
	e.noteRunning(a, c)
	if err := tail.complete(ctx, c); err != nil && ctx.Err() == nil {
		e.opt.Logger.Warn("log is not complete", "attempt", a.id, "err", err)
		tail.apologize(err)
	}
	e.mu.Lock()
	rep, rec := *a.running, a.rec
	e.mu.Unlock()
	rep.Outcome, rep.EndedAt = scheduler.OutcomeExited, timeOf(c.State.FinishedAt)
	if rep.EndedAt.IsZero() {
		rep.EndedAt = time.Now().UTC()
	}
	rep.Exit, rep.Signal = exitOf(c.State.ExitCode)
	rep.Reason = reasonOf(c)
	switch {
	case rec.Stop == nil:
		if why := e.refused(ctx, a, c); why != "" {
			rep.Outcome, rep.Reason = scheduler.OutcomeRefused, why
		}
	case rec.Stop.Why == stopTimeout:
		rep.Outcome, rep.Reason = scheduler.OutcomeTimeout, scheduler.ReasonTimeout(rec.Timeout)
	case rec.Stop.Why == stopHeartbeat:
		rep.Outcome, rep.Reason = scheduler.OutcomeTimeout, scheduler.ReasonHeartbeat(rec.Heartbeat)
	default:
		rep.Reason = string(rec.Stop.Why)
	}
	if !e.output(ctx, a, &rep) {
		return nil
	}
	rep.Reason, rep.OutputError = a.masker.String(rep.Reason), a.masker.String(rep.OutputError)
	return &rep
}

// exitOf tells an exit code from a signal as inits and shells do.
func exitOf(code int) (int, string) {
	if name := unix.SignalName(unix.Signal(code - 128)); code > 128 && name != "" {
		return -1, name
	}
	return code, ""
}

func reasonOf(c *container.InspectResponse) string {
	if c.State.OOMKilled {
		if c.HostConfig != nil && c.HostConfig.Memory > 0 {
			return fmt.Sprintf("killed because it used more than its %d bytes of memory (resources.mem)", c.HostConfig.Memory)
		}
		return "killed because the machine had no memory left"
	}
	return c.State.Error
}

// refused says why the program could never be started, or "". The engine's init starts it, so that the container has been started all the same.
func (e *Executor) refused(ctx context.Context, a *attempt, c *container.InspectResponse) string {
	if c.State.ExitCode != codeNotFound && c.State.ExitCode != codeNotExecutable {
		return ""
	}
	if text, problem, err := e.fileOf(ctx, a, refusedPath, 4096); err == nil && problem == "" && len(text) > 0 {
		return strings.TrimSpace(string(text)) // of millrace-task
	}
	names := programs(c.Config)
	for _, name := range names {
		st, err := e.api.ContainerStatPath(ctx, c.ID, client.ContainerStatPathOptions{Path: name})
		if err == nil && (st.Stat.LinkTarget != "" || st.Stat.Mode.IsRegular() && st.Stat.Mode&0o111 != 0) || err != nil && !errdefs.IsNotFound(err) {
			return ""
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("command %q is not in the image, or may not be executed there (looked for %s)", c.Config.Entrypoint[0], strings.Join(names, ", "))
}

// output reads what the task has put out. It reports whether it came to an end: not if ctx has ended.
func (e *Executor) output(ctx context.Context, a *attempt, rep *scheduler.Report) bool {
	body, problem, err := e.fileOf(ctx, a, outputPath, scheduler.MaxSpilled)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		problem = "could not be read: " + err.Error()
	case problem == "" && len(body) > 0 && a.blind():
		problem = "millrace was replaced, and the secrets of this task can not be found again: it might have one in it"
	}
	if problem != "" || len(body) == 0 {
		rep.OutputError = problem
		return true
	}
	body = a.masker.JSON(body)
	if len(body) <= scheduler.MaxOutput {
		rep.Output = body
		return true
	}
	return e.spill(ctx, a, rep, body)
}

// spill puts a large output into the store, for which it waits.
func (e *Executor) spill(ctx context.Context, a *attempt, rep *scheduler.Report, body []byte) bool {
	switch {
	case rep.Outcome != scheduler.OutcomeExited || rep.Exit != 0:
		return true // nobody asks for it
	case e.opt.Outputs == nil:
		rep.OutputError = fmt.Sprintf("has %d bytes, more than %d, and there is no object store for it", len(body), scheduler.MaxOutput)
		return true
	}
	for n := 0; ; n++ {
		ref, problem, err := output.Spill(ctx, e.opt.Outputs, a.id, body)
		if err == nil {
			rep.OutputRef, rep.OutputError = ref, problem
			return true
		}
		if !pause(ctx, n) {
			return false
		}
	}
}

// fileOf reads a file of a container. problem says why it can not be taken at all; no file, and no container, is an empty one.
func (e *Executor) fileOf(ctx context.Context, a *attempt, name string, most int64) (body []byte, problem string, err error) {
	err = e.read(ctx, "read "+name, a, func(ctx context.Context) error {
		resp, err := e.api.CopyFromContainer(ctx, nameOf(e.id, a.id), client.CopyFromContainerOptions{SourcePath: name})
		if err != nil {
			return err
		}
		defer resp.Content.Close()
		body, problem, err = unpack(resp.Content, most)
		return err
	})
	if errdefs.IsNotFound(err) {
		return nil, "", nil
	}
	return body, problem, err
}

// unpack returns the one file in an archive.
func unpack(r io.Reader, most int64) (body []byte, problem string, err error) {
	archive := tar.NewReader(r)
	h, err := archive.Next()
	switch {
	case err != nil:
		return nil, "", err
	case h.Typeflag != tar.TypeReg:
		return nil, "is not a plain file", nil
	case h.Size > most:
		return nil, scheduler.OutputTooLarge(h.Size), nil
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, archive)
	return b.Bytes(), "", err
}
