package engine

import (
	"context"
	"errors"
	"fmt"

	"millrace/scheduler"
	"millrace/trigger"
)

// forgotten reports whether there was a run that is in the store no more, and where it is archived: the firing that started it was dealt with for
// good, whatever brings it back.
func (c *core) forgotten(ctx context.Context, id string) (object string, past bool, err error) {
	h, ok := c.read.(scheduler.History)
	if !ok {
		return "", false, nil
	}
	object, err = h.Archived(ctx, id)
	if errors.Is(err, scheduler.ErrNotFound) {
		return "", false, nil
	}
	return object, err == nil, err
}

// refuseForgotten returns why a request can not start a run that was started by it before, and is forgotten; nil: it was not.
func (c *core) refuseForgotten(ctx context.Context, run, id string) error {
	object, past, err := c.forgotten(ctx, run)
	if err != nil || !past {
		return err
	}
	where := "is not kept any more (store.retention)"
	if object != "" {
		where = "is archived in " + object
	}
	return fmt.Errorf("a request with the id %q started run %s before, which %s; take another id: %w", id, run, where, scheduler.ErrInvalid)
}

// unused raises the number of a replay until no run ever had its id.
func (c *core) unused(ctx context.Context, f *trigger.Firing) error {
	for {
		_, past, err := c.forgotten(ctx, f.RunID())
		if err != nil || !past {
			return err
		}
		f.Replay++
	}
}
