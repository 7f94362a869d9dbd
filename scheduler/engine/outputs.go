package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/output"
	"millrace/scheduler/plan"
)

// Outputs are the outputs in the object store.
type Outputs interface {
	// Put stores what belongs to an attempt, durably; it may be repeated. scheduler.ErrUnavailable: not now; another error: never.
	Put(ctx context.Context, attempt string, body []byte, now time.Time) (*scheduler.OutputRef, error)
	// Get returns one, whole. scheduler.ErrNotFound, scheduler.ErrUnavailable.
	Get(ctx context.Context, ref scheduler.OutputRef) ([]byte, error)
	// URI is where programs find it.
	URI(ref scheduler.OutputRef) string
}

// rememberSchema notes what the output of an attempt will be held against, by whoever delivers its end: that takes time, which the loop has not.
// It is forgotten when the end of the run is committed, so a report that comes twice is judged twice.
func (c *core) rememberSchema(l *live, i int, attempt string) {
	if s := l.Schema(i); s != nil {
		c.schemas.Store(attempt, s)
	}
}

func (c *core) forgetSchemas(l *live) {
	for i := range l.Tasks {
		if l.Schema(i) == nil {
			continue
		}
		for try := 1; try <= l.Tasks[i].Try; try++ {
			c.schemas.Delete(l.Tasks[i].AttemptID(try))
		}
	}
}

// judge holds the outputs of reports against their schemas. Reports whose output can not be read now are left out, with an error that makes the
// executor repeat them.
func (e *Engine) judge(ctx context.Context, list []scheduler.Report) ([]scheduler.Report, error) {
	var later []error
	var judged []scheduler.Report // a copy, since the list is the executor's
	for i := range list {
		schema, ok := e.schemaOf(&list[i])
		if !ok {
			continue
		}
		if judged == nil {
			judged = slices.Clone(list)
		}
		bad, err := e.fault(ctx, schema, &list[i])
		if err != nil {
			later = append(later, err)
			judged[i].Attempt = ""
			continue
		}
		if bad != "" {
			judged[i].OutputError = bad
		}
	}
	if judged == nil {
		return list, nil
	}
	if len(later) > 0 {
		judged = slices.DeleteFunc(judged, func(rep scheduler.Report) bool { return rep.Attempt == "" })
	}
	return judged, errors.Join(later...)
}

// schemaOf returns what the output of a report is to be held against, if that matters.
func (e *Engine) schemaOf(rep *scheduler.Report) (*output.Schema, bool) {
	if rep.Outcome != scheduler.OutcomeExited || rep.Exit != 0 || rep.Signal != "" || rep.OutputError != "" {
		return nil, false
	}
	v, ok := e.schemas.Load(rep.Attempt)
	if !ok {
		return nil, false
	}
	return v.(*output.Schema), true
}

// fault says what is wrong with an output, or "".
func (e *Engine) fault(ctx context.Context, schema *output.Schema, rep *scheduler.Report) (string, error) {
	body := rep.Output
	if ref := rep.OutputRef; ref != nil {
		if ref.Bytes > scheduler.MaxChecked {
			return fmt.Sprintf("it has %d bytes, and an output that has a schema may have %d", ref.Bytes, scheduler.MaxChecked), nil
		}
		if e.opts.Outputs == nil {
			return "it is in an object store that this process does not have", nil
		}
		var err error
		if body, err = e.opts.Outputs.Get(ctx, *ref); errors.Is(err, scheduler.ErrUnavailable) {
			return "", err
		} else if err != nil {
			return err.Error(), nil
		}
	}
	if bad := schema.Check(body); bad != "" {
		return "it does not fit output.schema: " + bad, nil
	}
	return "", nil
}

// place returns where a task of a run finds an output.
func (e *Engine) place(ctx context.Context, ex scheduler.Executor, run string, ref scheduler.OutputRef) (uri, path string, err error) {
	if e.opts.Outputs != nil {
		uri = e.opts.Outputs.URI(ref)
	}
	if placer, ok := ex.(scheduler.OutputPlacer); ok {
		path, err = placer.PlaceOutput(ctx, run, ref)
	}
	return uri, path, err
}

// fetchTime is how long the outputs that one attempt reads may take to be fetched.
const fetchTime = time.Minute

// fetch puts what an attempt reads where its task finds it, and reports whether that is so. If it is not, the attempt was never executed: it
// counts as lost, and is tried again as infra_retry says.
func (l *launcher) fetch(ctx context.Context, one *launch) bool {
	short, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	err := l.spill(short, one)
	if err == nil {
		err = one.input.Place(l.placer(short, one))
	}
	if err == nil || ctx.Err() != nil {
		return err == nil
	}
	outcome := scheduler.OutcomeLost
	if errors.Is(err, scheduler.ErrNotFound) {
		outcome = scheduler.OutcomeRefused
	}
	l.giveUp(ctx, one.launch.ID, outcome, err)
	return false
}

// placer says where the task of a launch finds an output.
func (l *launcher) placer(ctx context.Context, one *launch) func(ref scheduler.OutputRef) (string, string, error) {
	return func(ref scheduler.OutputRef) (string, string, error) { return l.place(ctx, l.ex, one.launch.Run, ref) }
}

// spill puts the lists that are too large for the input of an attempt into the object store. They belong to the attempt, and no row names them: after
// store.retention they are swept. An attempt that is handed on again after a stop puts the same object once more.
func (l *launcher) spill(ctx context.Context, one *launch) error {
	return one.input.Spill(func(body []byte) (*scheduler.OutputRef, error) {
		if l.outputs == nil {
			return nil, nil
		}
		return l.outputs.Put(ctx, one.launch.ID, body, time.Now())
	})
}

// takeCached lets ready tasks take the outputs of earlier ones, and has the others wait for their slots. An entry that can not be read now is as
// good as none.
func (c *core) takeCached(ctx context.Context) {
	for len(c.lookups) > 0 {
		r := c.lookups[0]
		c.lookups = c.lookups[1:]
		if !r.ready() {
			continue
		}
		id, err := r.run.CacheID(r.task)
		if err != nil {
			c.step(r.run, plan.Refuse{Task: r.task, Reason: err.Error()})
			continue
		}
		if e, err := c.cache.Cached(ctx, id); err == nil && e.ExpiresAt.After(c.tx.now) {
			c.step(r.run, plan.Cached{Task: r.task, Entry: *e})
			continue
		}
		c.enqueue(r)
	}
}
