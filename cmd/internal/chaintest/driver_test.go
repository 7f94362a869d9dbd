//go:build linux

package chaintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/seal"
)

// deed is what the driver does to a batcher.
type deed string

const (
	killAt    deed = "killed at"    // SIGKILL, and the step is not taken
	killAfter deed = "killed after" // SIGKILL up to 3 ms after the batcher went on
	halt      deed = "halted"       // SIGSTOP, SIGCONT when the others have put two entries
)

var deeds = []deed{killAt, killAfter, halt}

// order is a deed at a step.
type order struct {
	step seal.Step
	deed deed
}

// driver keeps n batchers running, and does to them what is left of its orders when they come to a step.
type driver struct {
	t    *testing.T
	task func(slot int) batcherTask
	// store is the test's own client.
	store batcher.ObjectStore

	mu      sync.Mutex // guards all below
	rng     *rand.Rand
	left    map[order]int
	did     map[order]int
	reached map[seal.Step]int
	lives   map[int]*life
	born    int
	n       int
	// entries were put by anybody; the next order waits until there are nextAt.
	entries, nextAt int
	halted          int
	ending          bool
	announced       map[string]bool
	changed         chan struct{} // closed and replaced when entries, left or lives change
	failed          bool
	over            sync.WaitGroup // the goroutines of lives
}

// life is one batcher process.
type life struct {
	slot   int
	cmd    *exec.Cmd
	stderr bytes.Buffer
	busy   bool          // something is being done to it
	killed bool          // by the driver
	exited chan struct{} // closed when the process has ended
}

// newDriver has each deed done times over at each step.
func newDriver(t *testing.T, n, times int, seed uint64) *driver {
	d := &driver{
		t: t, n: n, rng: rand.New(rand.NewPCG(seed, uint64(n))), left: map[order]int{}, did: map[order]int{}, reached: map[seal.Step]int{},
		lives: map[int]*life{}, announced: map[string]bool{}, changed: make(chan struct{}),
	}
	for _, s := range seal.Steps() {
		for _, do := range deeds {
			d.left[order{s, do}] = times
		}
	}
	return d
}

// wake tells who waits that something changed. Called with mu held.
func (d *driver) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// until waits until ok, which is called with mu held, returns true, and reports whether it did in time.
func (d *driver) until(limit time.Duration, ok func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		d.mu.Lock()
		yes, changed := ok(), d.changed
		d.mu.Unlock()
		if yes {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// start begins a new life in a slot.
func (d *driver) start(slot int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ending {
		return
	}
	d.born++
	id := d.born
	do := d.task(slot)
	do.Life = id
	cmd, err := command(task{Batcher: &do})
	if err != nil {
		d.fault("start batcher %d: %v", id, err)
		return
	}
	l := &life{slot: slot, cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &l.stderr
	if err := cmd.Start(); err != nil {
		d.fault("start batcher %d: %v", id, err)
		return
	}
	d.lives[id] = l
	d.over.Go(func() { // ends with the process, which stop ends; stop waits for it
		err := cmd.Wait()
		d.buried(id, l, err)
	})
}

// buried begins the next life of a slot.
func (d *driver) buried(id int, l *life, err error) {
	d.mu.Lock()
	delete(d.lives, id)
	if !l.killed && (!d.ending || err != nil) {
		d.fault("batcher %d ended by itself: %v\n%s", id, err, l.stderr.String())
	}
	again := l.killed && !d.ending
	d.wake()
	d.mu.Unlock()
	close(l.exited)
	if again {
		d.start(l.slot)
	}
}

// fault fails the test. Called with mu held.
func (d *driver) fault(format string, args ...any) {
	d.failed = true
	d.t.Errorf(format, args...)
	d.wake()
}

// step is called by a batcher that waits for the answer.
func (d *driver) step(id int, s seal.Step) {
	d.mu.Lock()
	d.reached[s]++
	if s == seal.StepEntryPut {
		d.entries++
		d.wake()
	}
	l := d.lives[id]
	if l == nil || l.busy {
		d.mu.Unlock()
		return
	}
	o, ok := d.pick(s)
	if !ok {
		d.mu.Unlock()
		return
	}
	l.busy = true
	d.left[o]--
	d.nextAt = d.entries + 1
	delay := time.Duration(d.rng.Int64N(int64(3 * time.Millisecond)))
	d.mu.Unlock()
	switch o.deed {
	case killAt:
		d.kill(l, o)
		<-l.exited
	case killAfter:
		time.AfterFunc(delay, func() { d.kill(l, o) })
	case halt:
		d.halt(l, o)
	}
}

// pick chooses what is to be done at s now, if anything. One batcher at least is left to go on, and each order lets the chain grow before the
// next one. Not every chance is taken, so that it does not always happen at the first object of an entry; only a step that is rare is not let
// go by. Called with mu held.
func (d *driver) pick(s seal.Step) (order, bool) {
	if d.ending || d.failed || d.entries < d.nextAt || s != seal.StepRecommit && d.rng.IntN(2) == 0 {
		return order{}, false
	}
	for _, i := range d.rng.Perm(len(deeds)) {
		o := order{s, deeds[i]}
		if d.left[o] > 0 && (o.deed != halt || d.halted < d.n-1) {
			if o.deed == halt {
				d.halted++
			}
			return o, true
		}
	}
	return order{}, false
}

// kill is kill -9.
func (d *driver) kill(l *life, o order) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ending { // stop ends it
		return
	}
	l.killed = true
	_ = l.cmd.Process.Kill()
	d.did[o]++
	d.wake()
}

// overtaken is how many entries others put while a batcher is halted.
const overtaken = 2

// halt stops a process, and returns when it has stopped. It goes on when others have gone on without it; if they do not, which they may only
// when there are too few of them alive, the order is not done yet.
func (d *driver) halt(l *life, o order) {
	_ = l.cmd.Process.Signal(syscall.SIGSTOP)
	if err := stopped(l.cmd.Process.Pid); err != nil {
		d.t.Errorf("halt a batcher at %q: %v", o.step, err)
	}
	d.mu.Lock()
	from := d.entries
	d.mu.Unlock()
	d.over.Go(func() { // ends by its time limit; stop waits for it
		ok := d.until(30*time.Second, func() bool { return d.entries >= from+overtaken || d.ending || d.failed })
		d.mu.Lock()
		defer d.mu.Unlock()
		d.halted--
		if ok && d.entries >= from+overtaken {
			d.did[o]++
		} else {
			d.left[o]++
		}
		_ = l.cmd.Process.Signal(syscall.SIGCONT)
		l.busy = false
		d.wake()
	})
}

// stopped waits until all threads of a process are stopped.
func stopped(pid int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest[0] == 'T' {
			return nil
		}
		<-tick.C
	}
	return errors.New("the process does not stop")
}

// announce is the news of a batch, whose object must exist.
func (d *driver) announce(batch, key string) {
	_, err := d.store.Stat(context.Background(), key)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.announced[batch] = true
	if errors.Is(err, batcher.ErrNotFound) {
		d.fault("batch %s is announced, and its object %q does not exist", batch, key)
	}
}

// run does all orders, or fails the test when it has waited for the next one for patience.
func (d *driver) run(patience time.Duration) {
	d.t.Helper()
	for slot := range d.n {
		d.start(slot)
	}
	over, did := false, -1
	for !over {
		if d.until(patience, func() bool {
			over = d.failed || d.doneAll()
			return over || total(d.did) > did
		}) {
			did = d.total()
			continue
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for o, n := range d.left {
			if n > 0 {
				d.fault("%v went by; no batcher was %s %q for %d more times; the step was reached %d times", patience, o.deed, o.step, n, d.reached[o.step])
			}
		}
		return
	}
}

func (d *driver) total() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return total(d.did)
}

// total counts deeds.
func total(did map[order]int) (sum int) {
	for _, n := range did {
		sum += n
	}
	return sum
}

// doneAll reports whether nothing is left to be done or under way. Called with mu held.
func (d *driver) doneAll() bool {
	for _, n := range d.left {
		if n > 0 {
			return false
		}
	}
	for _, l := range d.lives {
		if l.busy {
			return false
		}
	}
	return len(d.lives) == d.n
}

// stop ends all batchers in the way an operator does, and wants them to obey.
func (d *driver) stop() {
	d.mu.Lock()
	d.ending = true
	for _, l := range d.lives {
		_ = l.cmd.Process.Signal(syscall.SIGCONT)
		_ = l.cmd.Process.Signal(syscall.SIGTERM)
	}
	d.wake()
	d.mu.Unlock()
	const limit = time.Minute
	if !d.until(limit, func() bool { return len(d.lives) == 0 }) {
		d.mu.Lock()
		for id, l := range d.lives {
			d.fault("batcher %d did not end within %v of SIGTERM\n%s", id, limit, l.stderr.String())
			l.killed = true
			_ = l.cmd.Process.Kill()
		}
		d.mu.Unlock()
	}
	d.over.Wait()
}

// tell prints what was done, and fails the test if a step was not met with each deed.
func (d *driver) tell() {
	d.t.Helper()
	var text strings.Builder
	var kills, halts int
	fmt.Fprintf(&text, "%-14s %8s %10s %13s %7s\n", "step", "reached", killAt, killAfter, halt)
	for _, s := range seal.Steps() {
		at, after, halted := d.did[order{s, killAt}], d.did[order{s, killAfter}], d.did[order{s, halt}]
		kills, halts = kills+at+after, halts+halted
		fmt.Fprintf(&text, "%-14s %8d %10d %13d %7d\n", s, d.reached[s], at, after, halted)
		if at == 0 || after == 0 || halted == 0 {
			d.t.Errorf("step %q: killed %d times at it, %d times after it, halted %d times, want each", s, at, after, halted)
		}
	}
	d.t.Logf("%d batchers: %d kills and %d halts over %d processes and %d entries\n%s", d.n, kills, halts, d.born, d.entries, text.String())
}
