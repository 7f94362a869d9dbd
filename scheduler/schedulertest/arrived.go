package schedulertest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"millrace/trigger"
)

// coming is when a batch came, and how many had come before.
type coming struct {
	at time.Time
	n  int
}

// Arrived implements scheduler.Store.
func (s *Store) Arrived(_ context.Context, from, to time.Time, limit int) ([]trigger.Past, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []trigger.Past
	for id, a := range s.arrived {
		if !a.at.Before(from) && a.at.Before(to) {
			out = append(out, trigger.Past{Batch: clone(s.batches[id]), At: a.at})
		}
	}
	slices.SortFunc(out, func(a, b trigger.Past) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(s.arrived[a.Batch.ID].n, s.arrived[b.Batch.ID].n))
	})
	return out[:min(len(out), limit)], nil
}
