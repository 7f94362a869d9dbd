package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// actors are the loops of a process. Those in front face senders and end first.
type actors struct {
	front, back []actor
}

type actor struct {
	name string
	run  func(ctx context.Context) error
}

// run runs all actors until ctx ends or one of them returns, and returns when all have: the errors of those that failed. The ones behind are
// told to end only when those in front have.
func (a *actors) run(ctx context.Context) error {
	frontCtx, stopFront := context.WithCancel(ctx)
	defer stopFront()
	backCtx, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	var front, back sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	start := func(ctx context.Context, wg *sync.WaitGroup, list []actor) {
		for _, act := range list {
			wg.Add(1)
			go func() { // ends with its ctx; run waits for the group
				defer wg.Done()
				if err := act.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: %w", act.name, err))
					mu.Unlock()
				}
				stopFront() // whoever returns, for whatever reason, ends the process
			}()
		}
	}
	start(backCtx, &back, a.back)
	start(frontCtx, &front, a.front)
	<-frontCtx.Done()
	front.Wait()
	stopBack()
	back.Wait()
	return errors.Join(errs...)
}
