//go:build linux

package dockerexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"millrace/scheduler"
)

// answered reports whether an error is the engine's own, which has carried nothing out. After any other the outcome is not known.
func answered(err error) bool {
	for _, is := range []func(error) bool{
		errdefs.IsNotFound, errdefs.IsInvalidArgument, errdefs.IsConflict, errdefs.IsPermissionDenied, errdefs.IsUnauthorized, errdefs.IsInternal,
		errdefs.IsNotImplemented,
	} {
		if is(err) {
			return true
		}
	}
	return false
}

// lead brings an attempt from where it is to its end, and its container away when that was reported. It stops anywhere when ctx ends.
func (e *Executor) lead(ctx context.Context, a *attempt) {
	e.mu.Lock()
	end, fresh := a.rec.End, a.launch != nil
	e.mu.Unlock()
	if end == nil && fresh {
		end = e.start(ctx, a)
	}
	if end == nil {
		end = e.watch(ctx, a)
	}
	if end == nil {
		return // ctx has ended
	}
	e.mu.Lock()
	a.rec.End, a.launch = end, nil
	e.mu.Unlock()
	if e.save(ctx, a) != nil {
		return
	}
	e.tell(*end)
	select {
	case <-a.taken:
	case <-ctx.Done():
		return
	}
	for n := 0; !e.remove(ctx, a, true, n == 0); n++ {
		if !pause(ctx, n) {
			return
		}
	}
	e.mu.Lock()
	slim := *end
	if len(slim.Output) > 0 {
		slim.Output, slim.OutputError = nil, "was taken before and is no longer kept"
	}
	a.rec.End, a.over, a.running = &slim, time.Now().UTC(), nil
	e.mu.Unlock()
	_ = e.save(ctx, a) // that of ctx: the report is repeated then
}

// remove removes the container of an attempt, and reports whether there is none any more. One that runs is only removed by force. say has
// it log a failure.
func (e *Executor) remove(ctx context.Context, a *attempt, force, say bool) bool {
	err := e.insist(ctx, "remove container", a, func(ctx context.Context) error {
		_, err := e.api.ContainerRemove(ctx, nameOf(e.id, a.id), client.ContainerRemoveOptions{Force: force, RemoveVolumes: true})
		return err
	})
	if err != nil && !errdefs.IsNotFound(err) && ctx.Err() == nil && say {
		e.opt.Logger.Warn("container was not removed", "attempt", a.id, "err", err)
	}
	return err == nil || errdefs.IsNotFound(err)
}

// start makes the container of a claimed attempt and starts it: steps 2 and 3 of the package comment. It returns the report of one that was not started; nil:
// it was, or nobody knows, or ctx has ended.
func (e *Executor) start(ctx context.Context, a *attempt) *scheduler.Report {
	select {
	case e.starts <- struct{}{}:
		defer func() { <-e.starts }()
	case <-ctx.Done():
		return nil
	}
	end, err := e.make(ctx, a)
	if errors.Is(err, errStopped) {
		end = e.stopped(a)
	}
	if end != nil || ctx.Err() != nil {
		return end
	}
	if err == nil {
		end, err = e.startOnce(ctx, a)
		if end != nil || err == nil {
			return end
		}
	}
	outcome := scheduler.OutcomeLost
	if errors.Is(err, errNever) {
		outcome = scheduler.OutcomeRefused
	}
	if !e.remove(ctx, a, false, true) {
		return nil // it runs after all, or ctx has ended
	}
	return e.ended(a, outcome, "the container was not started: "+err.Error())
}

// errNever: trying again is of no use.
var errNever = errors.New("the engine refuses it")

// make creates the container, with its files.
func (e *Executor) make(ctx context.Context, a *attempt) (*scheduler.Report, error) {
	e.mu.Lock()
	l, rec := a.launch, a.rec
	e.mu.Unlock()
	plan, err := e.plan(l, &rec)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNever, err)
	}
	if l.Container.Pull == scheduler.PullAlways {
		if err := e.pull(ctx, a, l.Container.Image); err != nil {
			return nil, err
		}
	}
	err = e.create(ctx, a, plan)
	if errdefs.IsNotFound(err) && l.Container.Pull != scheduler.PullAlways {
		if err := e.pull(ctx, a, l.Container.Image); err != nil {
			return nil, err
		}
		err = e.create(ctx, a, plan)
	}
	switch {
	case errdefs.IsInvalidArgument(err), errdefs.IsNotFound(err):
		return nil, fmt.Errorf("%w: create container: %w", errNever, err)
	case err != nil:
		return nil, fmt.Errorf("create container: %w", err)
	}
	body, err := files(l)
	if err != nil {
		return nil, fmt.Errorf("pack the input: %w", err)
	}
	err = e.insist(ctx, "put the input", a, func(ctx context.Context) error {
		_, err := e.api.CopyToContainer(ctx, plan.Name, client.CopyToContainerOptions{DestinationPath: "/", Content: bytes.NewReader(body)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("put the input: %w", err)
	}
	return e.stopped(a), nil
}

// stopped is the report of an attempt that was killed before its start.
func (e *Executor) stopped(a *attempt) *scheduler.Report {
	e.mu.Lock()
	s := a.rec.Stop
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	rep := e.ended(a, scheduler.OutcomeExited, string(s.Why)+" before it was started")
	rep.Signal = "SIGTERM"
	return rep
}

// create creates the container. That it exists already is the answer to a request before, if it is of this attempt.
func (e *Executor) create(ctx context.Context, a *attempt, plan client.ContainerCreateOptions) error {
	return e.insist(ctx, "create container", a, func(ctx context.Context) error {
		_, err := e.api.ContainerCreate(ctx, plan)
		if !errdefs.IsConflict(err) {
			return err
		}
		c, found := e.api.ContainerInspect(ctx, plan.Name, client.ContainerInspectOptions{})
		if found == nil && c.Container.Config != nil && c.Container.Config.Labels[labelAttempt] == a.id && c.Container.Config.Labels[labelExecutor] == e.id {
			return nil
		}
		return errors.Join(err, found)
	})
}

// errStopped: the attempt was killed meanwhile.
var errStopped = errors.New("it was killed before it was started")

// untilStopped returns a context that ends when the attempt is killed.
func (e *Executor) untilStopped(ctx context.Context, a *attempt) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx, at the latest when the caller stops it
		for ctx.Err() == nil {
			if e.stopped(a) != nil {
				cancel(errStopped)
			}
			select {
			case <-a.wake:
			case <-ctx.Done():
			}
		}
	})
	return ctx, func() { cancel(nil); wg.Wait() }
}

// pull fetches an image, for which the attempt may be killed before it is there.
func (e *Executor) pull(ctx context.Context, a *attempt, image string) error {
	opt := client.ImagePullOptions{}
	if e.opt.Auth != nil {
		auth, err := e.opt.Auth(ctx, image)
		if err != nil {
			return fmt.Errorf("pull %s: find credentials: %w", image, err)
		}
		opt.RegistryAuth = auth
	}
	ctx, stop := e.untilStopped(ctx, a)
	defer stop()
	resp, err := e.api.ImagePull(ctx, image, opt)
	if err == nil {
		err = resp.Wait(ctx)
	}
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), errStopped) {
		return errStopped
	}
	// The stream of a pull has no codes, only texts.
	text := err.Error()
	gone := errdefs.IsNotFound(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err) || errdefs.IsInvalidArgument(err)
	for _, s := range []string{"manifest unknown", "not found", "access denied", "pull access"} {
		gone = gone || strings.Contains(text, s)
	}
	if gone {
		return fmt.Errorf("%w: pull %s: %w", errNever, image, err)
	}
	e.opt.Logger.Warn("image was not pulled", "attempt", a.id, "err", err)
	return fmt.Errorf("pull %s: %w", image, err)
}

// startOnce makes the one request that starts the container. An error is that of an engine that has not started it; nil: it has, or nobody knows.
func (e *Executor) startOnce(ctx context.Context, a *attempt) (*scheduler.Report, error) {
	short, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := e.api.ContainerStart(short, nameOf(e.id, a.id), client.ContainerStartOptions{})
	switch {
	case err == nil, !answered(err):
		return nil, nil
	case errdefs.IsInvalidArgument(err):
		return nil, fmt.Errorf("%w: %w", errNever, err)
	}
	return nil, err
}

// watch goes with the container to its end. nil: ctx has ended.
func (e *Executor) watch(ctx context.Context, a *attempt) *scheduler.Report {
	tail := &tail{e: e, a: a}
	defer tail.stop()
	for n := 0; ; {
		c, err := e.inspect(ctx, a)
		switch {
		case ctx.Err() != nil:
			return nil
		case errdefs.IsNotFound(err):
			return e.vanished(a)
		case err != nil:
			pause(ctx, n)
			n++
			continue
		}
		n = 0
		var next time.Duration
		switch s := c.State; {
		case s.Status == container.StateCreated:
			// Nobody starts it any more; see step 3.
			if e.remove(ctx, a, false, true) {
				return e.ended(a, scheduler.OutcomeLost, "its container was created, and millrace was replaced or lost sight of it before it was started")
			}
			next = time.Second
		case s.Running || s.Paused || s.Restarting:
			next = e.tendRunning(ctx, a, c, tail)
		default:
			return e.finish(ctx, a, c, tail)
		}
		late := time.NewTimer(next)
		select {
		case <-a.wake:
		case <-late.C:
		case <-ctx.Done():
		}
		late.Stop()
	}
}

func (e *Executor) inspect(ctx context.Context, a *attempt) (*container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	c, err := e.api.ContainerInspect(ctx, nameOf(e.id, a.id), client.ContainerInspectOptions{})
	if err == nil && (c.Container.State == nil || c.Container.Config == nil) {
		err = errors.New("the engine says nothing of its state")
	}
	return &c.Container, err
}

// vanished is the report of an attempt whose container is not there. Without one there is nothing that runs.
func (e *Executor) vanished(a *attempt) *scheduler.Report {
	e.mu.Lock()
	was := a.running
	e.mu.Unlock()
	if was == nil {
		return e.ended(a, scheduler.OutcomeLost, "it has no container: millrace was replaced before it was created, or somebody has removed it")
	}
	rep := e.ended(a, scheduler.OutcomeLost, "somebody has removed its container")
	rep.StartedAt, rep.External, rep.Log = was.StartedAt, was.External, was.Log
	return rep
}
