package app

import (
	"context"
	"errors"

	"millrace/scheduler"
)

// runReader is what of a store runEnded needs.
type runReader interface {
	Run(ctx context.Context, id string) (*scheduler.RunDetail, error)
}

// runEnded returns a function that reports whether a run has ended, or was forgotten after its end.
func runEnded(store runReader) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, id string) (bool, error) {
		d, err := store.Run(ctx, id)
		if errors.Is(err, scheduler.ErrNotFound) {
			return true, nil
		}
		return err == nil && d.Run.State.Terminal(), err
	}
}
