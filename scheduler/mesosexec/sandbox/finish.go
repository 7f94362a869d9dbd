package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/output"
)

// gone is what is said of a sandbox that an agent does not have.
const gone = "the agent does not have the sandbox any more, and what was not read before is missing"

// Finish collects what an attempt that has ended has left, archives its log, and returns what there was; the sandbox may go then. It may be repeated, also
// after a restart and elsewhere: the log is archived once. scheduler.ErrUnavailable: it is to be called again; any other error wraps scheduler.ErrInvalid, and is
// for good.
//
// A sandbox that the agent does not have any more is no error: the result says what is missing.
func (k *Keeper) Finish(ctx context.Context, t Task) (Result, error) {
	return k.finish(ctx, t, (*collector).collect)
}

// GiveUp is Finish without the agent, which does not come back: what was collected before is archived, with a last line that says why there is no more. What
// Finish had read in calls that were not successful stays. After an archive was made, it returns that one.
func (k *Keeper) GiveUp(ctx context.Context, t Task, why string) (Result, error) {
	return k.finish(ctx, t, func(c *collector, _ context.Context) error {
		s := c.spool
		if !s.Ended {
			if err := c.end("the log ends here, since its agent can not be read: " + why); err != nil {
				return err
			}
		}
		if !s.Read {
			s.Read, s.Result.OutputError = true, c.mask.String("could not be read: "+why)
		}
		return nil
	})
}

// finish takes an attempt to its end.
//
//  1. Its log is collected, and ended.
//  2. What else the sandbox has is read.
//  3. The log is archived.
//
// The state on the disk says that all are done, or, after an error, which of them.
func (k *Keeper) finish(ctx context.Context, t Task, read func(*collector, context.Context) error) (Result, error) {
	f, err := k.hold(ctx, t)
	if err != nil {
		return Result{}, fmt.Errorf("finish attempt %s: %w", t.Attempt, err)
	}
	defer f.release()
	c := &f.collector
	err = c.open()
	if err == nil && !c.spool.Done.IsZero() {
		k.forget(f)
		return c.spool.Result, nil
	}
	if err == nil {
		err = read(c, ctx) // 1, 2
	}
	if err == nil {
		err = c.archive(ctx) // 3
	}
	if err != nil {
		err = errors.Join(err, c.save(true))
		if !errors.Is(err, scheduler.ErrUnavailable) && !errors.Is(err, scheduler.ErrInvalid) {
			err = fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err) // this machine's disk
		}
		return Result{}, fmt.Errorf("finish attempt %s: %w", t.Attempt, err)
	}
	k.forget(f)
	k.done(c.spool.path, c.spool.Bytes, c.spool.Done)
	return c.spool.Result, nil
}

// collect is steps 1 and 2 of Finish.
func (c *collector) collect(ctx context.Context) error {
	if c.spool.Read {
		return nil
	}
	files, err := c.k.agents.list(ctx, &c.task)
	missing := ""
	if errors.Is(err, errNoFile) {
		missing, err = gone, nil
	}
	if err != nil {
		return err
	}
	if !c.spool.Ended {
		if err := c.rest(ctx, files, missing); err != nil {
			return err
		}
	}
	if err := c.readOutput(ctx, files); err != nil {
		return err
	}
	if missing != "" {
		c.spool.Result.OutputError = "could not be read: " + missing
	}
	if info, ok := files[RefusedName]; ok && info.regular() {
		text, _, err := c.whole(ctx, RefusedName, min(info.Size, pieceBytes))
		if err != nil {
			return err
		}
		c.spool.Result.Refused = strings.TrimSpace(strings.ToValidUTF8(c.mask.String(string(text)), "\uFFFD"))
	}
	c.spool.Read = true
	return nil
}

// readOutput reads the file of the task's output, and puts a large one into the object store.
func (c *collector) readOutput(ctx context.Context, files map[string]fileInfo) error {
	res := &c.spool.Result
	info, ok := files[OutputName]
	switch {
	case !ok:
		return nil
	case !info.regular():
		res.OutputError = "is not a plain file"
		return nil
	case info.Size > scheduler.MaxSpilled:
		res.OutputError = scheduler.OutputTooLarge(info.Size)
		return nil
	}
	body, found, err := c.whole(ctx, OutputName, info.Size)
	if err != nil || !found || len(body) == 0 {
		return err
	}
	if body = c.mask.JSON(body); len(body) <= scheduler.MaxOutput {
		res.Output = body
		return nil
	}
	res.OutputRef, res.OutputError, err = output.Spill(ctx, c.k.outputs, c.task.Attempt, body)
	return err
}

// whole reads a file up to size.
func (c *collector) whole(ctx context.Context, name string, size int64) (body []byte, found bool, err error) {
	body = make([]byte, 0, size)
	for int64(len(body)) < size {
		data, _, err := c.k.agents.read(ctx, &c.task, name, int64(len(body)), min(pieceBytes, size-int64(len(body))))
		if errors.Is(err, errNoFile) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		if len(data) == 0 {
			break // It has become shorter.
		}
		body = append(body, data...)
	}
	return body, true, nil
}

// archive is step 3 of finish.
func (c *collector) archive(ctx context.Context) error {
	s, begun := c.spool, time.Now()
	if err := s.check(s.path); err != nil {
		c.spool = nil // It is begun anew the next time: an archive is for ever.
		return fmt.Errorf("look through spool: %w", err)
	}
	f, err := os.Open(s.path + spoolSuffix)
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	defer f.Close() // only read
	done, err := c.k.logs.Put(ctx, c.task.Attempt, f, s.Bytes, s.Missing)
	result := "whole"
	switch {
	case errors.Is(err, scheduler.ErrUnavailable):
		return err
	case err != nil:
		result, done.Missing = "refused", "it could not be archived: "+err.Error()
		c.k.opt.Logger.Error("a log can not be archived, and stays on this machine", "attempt", c.task.Attempt, "err", err)
	case done.Missing != "":
		result = "part"
	}
	c.k.metrics.archive.Observe(time.Since(begun).Seconds())
	c.k.metrics.archived.WithLabelValues(result).Inc()
	s.Result.Log, s.Result.Missing, s.Done = done.URI, done.Missing, time.Now().UTC()
	return c.save(true)
}
