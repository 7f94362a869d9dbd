package engine

import (
	"time"

	"millrace/scheduler"
)

// unheard is how long after a load no wait ends, however long ago it began: while nobody listened, attempts may have started, and others may have
// ended and given up their slots.
const unheard = 10 * time.Second

// endOfWait returns when a task has waited for its slot, or for its start, for too long. A task of a version that did not store since when it
// waits begins anew.
func (c *core) endOfWait(t *scheduler.TaskRun, wait time.Duration) time.Time {
	if t.Since.IsZero() {
		return c.tx.now.Add(wait)
	}
	at := t.Since.Add(wait)
	if heard := c.loaded.Add(min(wait, unheard)); at.Before(heard) {
		return heard
	}
	return at
}

// changed notes that the row of a task is to be written.
func (r *rows) changed(i int) {
	if !r.tasks[i] {
		r.tasks[i] = true
		r.order = append(r.order, i)
	}
}
