package mesossim

import (
	"container/heap"
	"time"
)

// clock runs functions later, under Cluster.mu: in real time, or when Advance says so.
type clock struct {
	manual bool
	at     time.Time // the time of a manual clock
	seq    int
	due    timers
}

// timer is a function that is to run; stop keeps it from running.
type timer struct {
	at   time.Time
	seq  int
	fn   func()
	dead bool
	real *time.Timer
}

func (t *timer) stop() {
	if t == nil {
		return
	}
	t.dead = true
	if t.real != nil {
		t.real.Stop()
	}
}

func (c *Cluster) now() time.Time {
	if c.clock.manual {
		return c.clock.at
	}
	return time.Now()
}

// after runs fn in d, under c.mu, unless it is stopped or the cluster closed before.
func (c *Cluster) after(d time.Duration, fn func()) *timer {
	c.clock.seq++
	t := &timer{seq: c.clock.seq, fn: fn}
	if c.clock.manual {
		t.at = c.clock.at.Add(d)
		heap.Push(&c.clock.due, t)
		return t
	}
	t.real = time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !t.dead && !c.closed {
			fn()
		}
	})
	return t
}

// Advance moves the clock of a cluster with Options.Manual, and does what is due until then, in order. On others it does nothing.
func (c *Cluster) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.clock.manual || c.closed {
		return
	}
	until := c.clock.at.Add(d)
	for len(c.clock.due) > 0 && !c.clock.due[0].at.After(until) {
		t := heap.Pop(&c.clock.due).(*timer)
		if t.dead {
			continue
		}
		c.clock.at = t.at
		t.fn()
	}
	c.clock.at = until
}

type timers []*timer

func (t timers) Len() int      { return len(t) }
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t timers) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}
func (t *timers) Push(x any) { *t = append(*t, x.(*timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
