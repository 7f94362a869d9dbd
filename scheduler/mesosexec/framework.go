package mesosexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// clusterKey is the key of the record about the cluster. No attempt is called so.
const clusterKey = "#cluster"

// clusterKept is what is known of the cluster after a restart.
type clusterKept struct {
	// Framework is the framework's id, "" before there is one; Leader the id of the master that led last, and that was found to know us.
	Framework string `json:"framework,omitempty"`
	Leader    string `json:"leader,omitempty"`
	// Hold is why nothing is launched until a person has confirmed it, or "".
	Hold   string    `json:"hold,omitempty"`
	HoldAt time.Time `json:"hold_at,omitzero"`
}

// cluster is what is known of the cluster; it belongs to the executor's lock.
type cluster struct {
	clusterKept
	// present is the id of the master that leads, leads is since when we know it.
	present string
	leads   time.Time
	// doubt are attempts that ran when another master began to lead, true for those that it does not know. As long as there are any, nothing is
	// launched, since what we are talking to may be another cluster: until one of them is known, or doubtUntil.
	doubt      map[*attempt]bool
	doubtUntil time.Time
	// confirmed is when a person has said that this is the right cluster: what was sent before and is not known is lost.
	confirmed time.Time
	// stopped is why there is no stream, and will be none before a person has done something; resume ends that.
	stopped error
	resume  chan struct{}
}

func (c *cluster) read(body []byte) error {
	if err := json.Unmarshal(body, &c.clusterKept); err != nil {
		return fmt.Errorf("read the record of the cluster: %w", err)
	}
	return nil
}

// keepCluster writes the record of the cluster as it is, or as change makes it.
func (e *Executor) keepCluster(ctx context.Context, change func(*clusterKept)) error {
	e.clusterMu.Lock() // so that what is written last is what is
	defer e.clusterMu.Unlock()
	e.mu.Lock()
	k := e.cluster.clusterKept
	e.mu.Unlock()
	change(&k)
	body, err := json.Marshal(&k)
	if err != nil {
		return err
	}
	if err := e.records.PutRecords(ctx, []scheduler.Record{{Executor: e.opt.Name, Key: clusterKey, Body: body}}); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.cluster.clusterKept) // what else has changed meanwhile stays
	return nil
}

// frameworkIDs is the executor as the one that keeps the framework's id.
type frameworkIDs struct{ e *Executor }

// FrameworkID implements IDs.
func (f frameworkIDs) FrameworkID(context.Context) (string, error) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return f.e.cluster.Framework, nil
}

// KeepFrameworkID implements IDs.
func (f frameworkIDs) KeepFrameworkID(ctx context.Context, id string) error {
	return f.e.keepCluster(ctx, func(k *clusterKept) { k.Framework = id })
}

// subscribe is what the framework says when it subscribes.
func (e *Executor) subscribe() mesos.Subscribe {
	f := &e.opt.Framework
	info := mesos.FrameworkInfo{
		User: f.User, Name: f.Name, Roles: f.Roles, Principal: f.Principal, WebUIURL: f.WebUIURL, Hostname: f.Hostname,
		FailoverTimeout: f.Failover.Seconds(), Checkpoint: true,
		Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}, {Type: mesos.CapTaskKilling},
			{Type: mesos.CapReservationRefinement}, {Type: mesos.CapRegionAware}},
	}
	if f.GPU {
		info.Capabilities = append(info.Capabilities, mesos.Capability{Type: mesos.CapGPU})
	}
	out := mesos.Subscribe{FrameworkInfo: info}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.said = !e.wantsOffers(time.Now()); e.said {
		out.SuppressedRoles = f.Roles
	}
	return out
}

// runFramework keeps the framework subscribed until ctx ends.
func (e *Executor) runFramework(ctx context.Context) {
	for ctx.Err() == nil {
		err := e.client.Run(ctx, e.handle)
		if ctx.Err() != nil {
			return
		}
		resume := make(chan struct{})
		e.mu.Lock()
		e.cluster.stopped, e.cluster.resume = err, resume
		clear(e.offers)
		e.mu.Unlock()
		e.log.Error("the framework is not subscribed any more, and nothing runs on mesos until a person has decided: see millrace mesos status", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-resume:
		}
	}
}

// resume lets runFramework go on; mu is held.
func (e *Executor) resumeFramework() {
	if e.cluster.stopped != nil {
		e.cluster.stopped = nil
		close(e.cluster.resume)
	}
}

// ErrNothingToDo answers a command that has nothing to decide on.
var ErrNothingToDo = fmt.Errorf("there is nothing to decide: %w", scheduler.ErrInvalid)

// Confirm says that the cluster is the right one, though it does not know our tasks: they are lost, and tasks are launched again.
func (e *Executor) Confirm(ctx context.Context) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	hold := e.cluster.Hold
	if hold != "" {
		e.cluster.doubt = nil // A restart may have begun to doubt again.
	}
	e.mu.Unlock()
	if hold == "" {
		return fmt.Errorf("confirm the cluster: %w: it is not on hold", ErrNothingToDo)
	}
	leader := ""
	if info := e.client.Status().Info; info != nil {
		leader = info.ID
	}
	if err := e.keepCluster(ctx, func(k *clusterKept) { k.Hold, k.HoldAt, k.Leader = "", time.Time{}, leader }); err != nil {
		return fmt.Errorf("confirm the cluster: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cluster.confirmed, e.cluster.doubt = time.Now(), nil
	e.askAll()
	wake(e.placing)
	return nil
}

// Register lets the framework subscribe again after it was removed, under a new id, or after another process took it over, under the one that it
// has. What ran under an id that was removed has been killed by the master, and is lost.
func (e *Executor) Register(ctx context.Context) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	err := e.cluster.stopped
	e.mu.Unlock()
	if err == nil {
		return fmt.Errorf("register the framework: %w: it is not stopped", ErrNothingToDo)
	}
	removed := errors.Is(err, ErrRemoved)
	if removed {
		if err := e.keepCluster(ctx, func(k *clusterKept) { *k = clusterKept{} }); err != nil {
			return fmt.Errorf("register the framework: %w", err)
		}
		e.client.forget()
	}
	e.mu.Lock()
	for _, a := range e.attempts {
		if removed && a.open() {
			e.end(a, &scheduler.Report{Attempt: a.Attempt, Outcome: scheduler.OutcomeLost, Exit: noExit, Node: a.Machine.Hostname, EndedAt: time.Now().UTC(),
				Reason: "the framework was removed from the cluster, which kills its tasks"})
		}
	}
	e.resumeFramework()
	e.mu.Unlock()
	e.settled(ctx, func() bool { return e.client.Status().Subscribed || e.isStopped() })
	return nil
}

// settleTime is how long a command waits for what it has set going: who asked is shown how it is then.
const settleTime = 5 * time.Second

// settled waits until ok, for a while.
func (e *Executor) settled(ctx context.Context, ok func() bool) {
	ctx, stop := context.WithTimeout(ctx, settleTime)
	defer stop()
	for ctx.Err() == nil && !ok() {
		wait(ctx, 10*time.Millisecond)
	}
}

func (e *Executor) isStopped() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cluster.stopped != nil
}

// Teardown removes the framework from the cluster for good. All its tasks are killed.
func (e *Executor) Teardown(ctx context.Context) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	stopped := e.cluster.stopped
	e.mu.Unlock()
	if stopped != nil {
		return fmt.Errorf("tear the framework down: %w: it is stopped: %w", ErrNothingToDo, stopped)
	}
	if err := e.client.Call(ctx, &mesos.Call{Type: mesos.CallTeardown}); err != nil {
		return fmt.Errorf("tear the framework down: %w", err)
	}
	e.settled(ctx, e.isStopped)
	return nil
}

// handle takes an event. It is quick: what takes time is done by others.
func (e *Executor) handle(_ context.Context, ev *mesos.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case ev.Subscribed != nil:
		e.subscribed(ev.Subscribed)
	case ev.Offers != nil:
		e.offered(ev.Offers.Offers)
	case ev.Rescind != nil:
		e.drop(ev.Rescind.OfferID.Value, whyRescinded)
	case ev.InverseOffers != nil:
		e.inverted(ev.InverseOffers.InverseOffers)
	case ev.RescindInverse != nil:
		e.dropInverse(ev.RescindInverse.InverseOfferID)
	case ev.Update != nil:
		e.update(&ev.Update.Status)
	}
	return nil
}

// subscribed begins a stream: offers of the one before are gone, and everything is asked after. mu is held.
func (e *Executor) subscribed(s *mesos.Subscribed) {
	clear(e.offers)
	e.inverse, e.idle, e.filtered = nil, e.said, false
	leader := ""
	if s.MasterInfo != nil {
		leader = s.MasterInfo.ID
	}
	now := time.Now()
	if leader != e.cluster.present {
		e.cluster.present, e.cluster.leads = leader, now
	}
	e.cluster.doubt = nil
	if leader != e.cluster.Leader {
		e.doubt(now)
	}
	e.askAll()
	wake(e.placing)
	wake(e.asking)
}

// doubt begins to find out whether a master that leads anew is of our cluster: it is if it knows, or does not yet know whether it knows, one of the tasks
// that were seen to run. A cluster that was made anew takes any framework id, and knows none of them. mu is held.
func (e *Executor) doubt(now time.Time) {
	doubt := map[*attempt]bool{}
	for _, a := range e.attempts {
		if a.phase == phaseSent && a.Started {
			doubt[a] = false
		}
	}
	if len(doubt) == 0 || e.cluster.Leader == "" {
		e.settleLeader()
		return
	}
	e.cluster.doubt, e.cluster.doubtUntil = doubt, now.Add(e.opt.Silence)
}

// settleLeader ends the doubt, and keeps who leads; mu is held.
func (e *Executor) settleLeader() {
	e.cluster.doubt = nil
	if e.cluster.Leader != e.cluster.present {
		e.cluster.Leader = e.cluster.present
		e.push(outgoing{cluster: true})
		wake(e.placing)
	}
}

// witness looks at what the master says of an attempt in doubt; mu is held.
func (e *Executor) witness(a *attempt, state mesos.TaskState) {
	if _, doubted := e.cluster.doubt[a]; !doubted {
		return
	}
	if state != mesos.TaskUnknown {
		e.settleLeader()
		return
	}
	e.cluster.doubt[a] = true
	for _, unknown := range e.cluster.doubt {
		if !unknown {
			return
		}
	}
	n := len(e.cluster.doubt)
	hold := fmt.Sprintf("master %s knows none of the %d tasks that ran under framework %s: it seems to be another cluster, which took the framework's id as if it were new",
		e.cluster.present, n, e.cluster.Framework)
	e.cluster.doubt = nil
	e.cluster.Hold, e.cluster.HoldAt = hold, time.Now().UTC()
	e.log.Error("nothing is launched on mesos until a person has confirmed the cluster: see millrace mesos status", "why", hold)
	e.push(outgoing{cluster: true})
}

// mayLaunch reports whether tasks may be sent; mu is held.
func (e *Executor) mayLaunch() bool {
	return e.cluster.Hold == "" && e.cluster.doubt == nil && e.cluster.stopped == nil
}
