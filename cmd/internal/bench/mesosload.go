package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/match"
)

// ackers is how many goroutines acknowledge: a round trip takes longer than an event.
const ackers = 16

// mesosLoad is the framework of a measurement.
//
//	handle ── updates ──▶ acks ──▶ acknowledge ×16
//	   └──── wake ──▶ launchAll: place, ACCEPT, DECLINE
type mesosLoad struct {
	o      *MesosOptions
	client *mesosexec.Client
	acks   chan *mesos.Acknowledge // never closed; its readers end with their context
	wake   chan struct{}           // of one; something has changed

	mu       sync.Mutex // guards the rest
	begun    bool       // there was a stream
	offers   map[string]mesos.Offer
	offered  time.Time // when the last offers came
	stale    bool      // nothing that matters to matching has changed since the last decision
	tasks    []mesosTask
	next     int // the first that was not launched
	active   int
	finished int
	failed   int
	lost     int
	why      string
	broken   error
	unplaced string
	agents   map[string]bool
	answers  []time.Duration
	matching []time.Duration
}

// mesosTask is a task with the times of what became of it, zero if it did not.
type mesosTask struct {
	mesosexec.Known
	due, sent, starting, running, ended time.Time
}

const taskPrefix = "bench-"

func newMesosLoad(o *MesosOptions) *mesosLoad {
	return &mesosLoad{
		o: o, acks: make(chan *mesos.Acknowledge, 4096), wake: make(chan struct{}, 1), offers: map[string]mesos.Offer{}, tasks: make([]mesosTask, o.Tasks),
		agents: map[string]bool{},
	}
}

// handle is the mesosexec.Handler.
func (l *mesosLoad) handle(ctx context.Context, e *mesos.Event) error {
	now := time.Now()
	l.mu.Lock()
	var ack *mesos.Acknowledge
	switch e.Type {
	case mesos.EventSubscribed:
		if l.begun {
			l.broken = errors.New("the stream was cut, and with it the framework and its tasks")
		}
		l.begun = true
	case mesos.EventOffers:
		for _, o := range e.Offers.Offers {
			l.offers[o.ID.Value] = o
		}
		l.offered, l.stale = now, false
	case mesos.EventRescind:
		delete(l.offers, e.Rescind.OfferID.Value)
	case mesos.EventUpdate:
		ack = l.update(&e.Update.Status, now)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // It is to wake up already.
	}
	if ack == nil {
		return nil
	}
	select {
	case l.acks <- ack:
	case <-ctx.Done():
	}
	return nil
}

// update notes what a task has come to; mu is held.
func (l *mesosLoad) update(st *mesos.TaskStatus, now time.Time) *mesos.Acknowledge {
	n, err := strconv.Atoi(strings.TrimPrefix(st.TaskID.Value, taskPrefix))
	if err != nil || n < 0 || n >= l.next {
		return nil // It is of nobody here.
	}
	t := &l.tasks[n]
	v := mesosexec.Judge(st, t.Known)
	t.Started = t.Started || v.Acknowledge
	switch {
	case st.State == mesos.TaskStarting && t.starting.IsZero():
		t.starting = now
	case v.Do == mesosexec.DoReport && v.Report.Outcome == scheduler.OutcomeRunning && t.running.IsZero():
		t.running = now
	case v.Do == mesosexec.DoReport && v.Report.Outcome != scheduler.OutcomeRunning:
		l.end(t, st, &v.Report, now)
	}
	if !v.Acknowledge {
		return nil
	}
	return &mesos.Acknowledge{AgentID: st.AgentID, TaskID: st.TaskID, UUID: st.UUID}
}

// end counts a task that goes on no more, for a benchmark: nothing is waited for that may come back.
func (l *mesosLoad) end(t *mesosTask, st *mesos.TaskStatus, rep *scheduler.Report, now time.Time) {
	if t.Ended {
		return
	}
	t.Ended, t.ended, l.stale = true, now, false
	l.active--
	switch {
	case rep.Outcome == scheduler.OutcomeExited && rep.Exit == 0:
		l.finished++
		return
	case rep.Outcome == scheduler.OutcomeExited:
		l.failed++
	default:
		l.lost++
	}
	if l.why == "" {
		l.why = fmt.Sprintf("%s %s %s", st.State, rep.Reason, st.Message)
	}
}

// acknowledge sends what handle has put into acks, until ctx ends.
func (l *mesosLoad) acknowledge(ctx context.Context) {
	for {
		select {
		case a := <-l.acks:
			// One that does not arrive is not made up for: the update comes again.
			_ = l.client.Call(ctx, &mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: a})
		case <-ctx.Done():
			return
		}
	}
}

// settled is for how long no new offers may come until those that there are count as all.
const settled = 1500 * time.Millisecond

// gather waits for a stream, and, unless the measurement is a cold one, for offers.
func (l *mesosLoad) gather(ctx context.Context, ended <-chan error) error {
	return l.until(ctx, ended, func(now time.Time) (done bool, err error) {
		if !l.begun || l.o.Cold {
			return l.begun, nil
		}
		return len(l.offers) > 0 && now.Sub(l.offered) >= settled, nil
	})
}

// launchAll launches all tasks and waits for their ends.
func (l *mesosLoad) launchAll(ctx context.Context, ended <-chan error) error {
	l.mu.Lock()
	l.due(time.Now())
	l.mu.Unlock()
	if l.o.Cold {
		if err := l.client.Call(ctx, &mesos.Call{Type: mesos.CallRevive, Revive: &mesos.Roles{Roles: []string{l.o.Role}}}); err != nil {
			return err
		}
	}
	return l.until(ctx, ended, func(time.Time) (bool, error) {
		accepts, unused := l.place()
		left := l.next == len(l.tasks)
		l.mu.Unlock() // The answer to a call may need what an update brings.
		err := l.accept(ctx, accepts)
		if err == nil && len(unused) > 0 && (l.o.Cold || left) {
			err = l.decline(ctx, unused, left)
		}
		l.mu.Lock()
		return l.finished+l.failed+l.lost == len(l.tasks), err
	})
}

// due notes that the tasks may be launched that Parallel lets; mu is held.
func (l *mesosLoad) due(now time.Time) {
	for i := l.next; i < l.limit(); i++ {
		if l.tasks[i].due.IsZero() {
			l.tasks[i].due = now
		}
	}
}

// limit is the first task that is not due; mu is held.
func (l *mesosLoad) limit() int {
	if l.o.Parallel == 0 {
		return len(l.tasks)
	}
	return min(len(l.tasks), l.next+l.o.Parallel-l.active)
}

// place decides where tasks go, and counts them as launched. It returns the offers that nothing is to be held of. mu is held.
func (l *mesosLoad) place() ([]match.Accept, []mesos.ID) {
	begun := time.Now()
	l.due(begun)
	if l.stale || len(l.offers) == 0 {
		return nil, nil
	}
	l.stale = true
	in := match.Input{Now: begun}
	room := 0.0
	for _, o := range l.offers {
		in.Offers = append(in.Offers, o)
		room += offeredCPUs(&o) / l.o.CPUs
	}
	needs := []match.Need{{Name: mesos.CPUs, Amount: match.Wanted(l.o.CPUs)}, {Name: mesos.Mem, Amount: match.Wanted(l.o.Mem)}}
	for i := l.next; i < min(l.limit(), l.next+int(room)+1); i++ { // The last of them is there to be told why it has no place.
		in.Asks = append(in.Asks, match.Ask{ID: taskPrefix + strconv.Itoa(i), Rank: i, Needs: needs})
	}
	if len(in.Asks) == 0 && !l.o.Cold && l.next < len(l.tasks) {
		return nil, nil
	}
	out := match.Place(&in)
	l.matching = append(l.matching, time.Since(begun))
	if len(out.Unplaced) > 0 {
		l.unplaced = out.Unplaced[0].String()
	}
	for _, a := range out.Accepts {
		l.agents[a.AgentID.Value] = true
		l.next, l.active = l.next+len(a.Tasks), l.active+len(a.Tasks)
		for _, id := range a.OfferIDs {
			delete(l.offers, id.Value)
		}
	}
	if l.o.Cold || l.next == len(l.tasks) {
		for _, id := range out.Unused {
			delete(l.offers, id.Value)
		}
		return out.Accepts, out.Unused
	}
	return out.Accepts, nil
}

func offeredCPUs(o *mesos.Offer) float64 {
	sum := 0.0
	for i := range o.Resources {
		if r := &o.Resources[i]; r.Name == mesos.CPUs && r.Scalar != nil {
			sum += r.Scalar.Value
		}
	}
	return sum
}

// accept launches.
func (l *mesosLoad) accept(ctx context.Context, accepts []match.Accept) error {
	for _, a := range accepts {
		launch := &mesos.Launch{TaskInfos: make([]mesos.TaskInfo, 0, len(a.Tasks))}
		for _, p := range a.Tasks {
			launch.TaskInfos = append(launch.TaskInfos, mesos.TaskInfo{
				Name: "millrace-bench", TaskID: mesos.ID{Value: p.Ask}, AgentID: a.AgentID, Resources: p.Resources, Command: &mesos.CommandInfo{Value: l.o.Command},
			})
		}
		now := time.Now()
		l.mu.Lock()
		for _, p := range a.Tasks {
			n, _ := strconv.Atoi(strings.TrimPrefix(p.Ask, taskPrefix)) // It is one of ours.
			t := &l.tasks[n]
			t.Known = mesosexec.Known{Attempt: p.Ask, Node: a.Hostname, Accepts: 1}
			t.sent = now
		}
		l.mu.Unlock()
		err := l.client.Call(ctx, &mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{
			OfferIDs: a.OfferIDs, Filters: &mesos.Filters{}, Operations: []mesos.Operation{{Type: mesos.OperationLaunch, Launch: launch}},
		}})
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.answers = append(l.answers, time.Since(now))
		l.mu.Unlock()
	}
	return nil
}

// decline gives offers back, for good if no more are wanted.
func (l *mesosLoad) decline(ctx context.Context, offers []mesos.ID, forGood bool) error {
	filters := &mesos.Filters{}
	if forGood {
		filters.RefuseSeconds = time.Hour.Seconds()
	}
	err := l.client.Call(ctx, &mesos.Call{Type: mesos.CallDecline, Decline: &mesos.Decline{OfferIDs: offers, Filters: filters}})
	if err == nil && forGood {
		err = l.client.Call(ctx, &mesos.Call{Type: mesos.CallSuppress, Suppress: &mesos.Roles{Roles: []string{l.o.Role}}})
	}
	return err
}

// until calls step, with mu held, whenever something has changed, until it is done. It says every few seconds what is waited for, and gives up after Patience
// without a change.
func (l *mesosLoad) until(ctx context.Context, ended <-chan error, step func(now time.Time) (done bool, err error)) error {
	const every = 5 * time.Second
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	moved, said := time.Now(), time.Now()
	before := -1
	for {
		now := time.Now()
		l.mu.Lock()
		done, err := step(now)
		if err == nil {
			err = l.broken
		}
		state := l.finished + l.failed + l.lost + l.next
		l.mu.Unlock()
		if err == nil {
			err = hopeless(l.client.Status().Err)
		}
		if done || err != nil {
			return err
		}
		if state != before {
			before, moved, said = state, now, now
		}
		if now.Sub(moved) > l.o.Patience {
			return l.givesUp()
		}
		if now.Sub(said) >= every {
			said = now
			_, _ = fmt.Fprintf(l.o.Notices, "%s, since %v\n", l.waiting(), now.Sub(moved).Round(time.Second))
		}
		select {
		case <-l.wake:
		case <-tick.C:
		case err := <-ended:
			return fmt.Errorf("%w: the framework has ended: %w", ErrMesos, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// givesUp says what was waited for in vain.
func (l *mesosLoad) givesUp() error {
	is := ErrMesos
	if !l.client.Status().Subscribed {
		is = ErrNoMaster
	}
	return fmt.Errorf("%w within %v: %s", is, l.o.Patience, l.waiting())
}

// hopeless returns the errors that waiting does not mend.
func hopeless(err error) error {
	for _, h := range []struct {
		is   error
		next string
	}{
		{mesosexec.ErrUnauthorised, "give --principal and --secret-file, or --token-file, of somebody who may register frameworks"},
		{mesosexec.ErrNotMesos, "give --master the address of a Mesos master, like http://10.0.0.1:5050"},
	} {
		if errors.Is(err, h.is) {
			return fmt.Errorf("%w; %s", err, h.next)
		}
	}
	return nil
}

// waiting says what is waited for.
func (l *mesosLoad) waiting() string {
	st := l.client.Status()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := fmt.Sprintf("%v CPUs and %v MiB for the role %s", l.o.CPUs, l.o.Mem, l.o.Role)
	switch {
	case !st.Subscribed && st.Err != nil:
		return fmt.Sprintf("no master takes the framework: %v", st.Err)
	case !st.Subscribed:
		return "no master has answered"
	case l.offered.IsZero():
		return fmt.Sprintf("subscribed at %s, waiting for offers of %s; none has come: other frameworks hold all, the role has no quota left, or there are no agents", st.Master, want)
	case l.active > 0:
		return fmt.Sprintf("waiting for the ends of %d tasks, %d of %d have ended", l.active, l.finished+l.failed+l.lost, len(l.tasks))
	}
	return fmt.Sprintf("waiting for offers of %s: %s", want, cmp.Or(l.unplaced, "those that came are gone"))
}
