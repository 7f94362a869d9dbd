package mesosexec

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
)

// held is an offer that we have.
type held struct {
	mesos.Offer
	since time.Time
}

// declined counts offers that we have not, by why.
type declined map[string]int64

// Why an offer is not held any more.
const (
	whyUsed      = "used"
	whyIdle      = "idle"  // there is nothing to launch
	whyUnfit     = "unfit" // nothing that waits fits
	whyHold      = "hold"  // nothing is launched until a person has confirmed the cluster
	whyRescinded = "rescinded"
)

// How long a master is not to offer again what was declined: while tasks wait for something larger, and while nothing waits.
const (
	refuseUnfit = 5 * time.Second
	refuseIdle  = time.Hour
)

// While tasks wait and no offer is held, offers are asked for again after pauses that double from the one to the other. A master makes them at once then,
// also of what the last ACCEPT has left over, which would come with its next round otherwise, a second later.
const (
	reviveSoon = 50 * time.Millisecond
	reviveLate = time.Minute
)

// avoidFor is how long an agent that did not start a task is used last for the tasks of that name.
const avoidFor = 10 * time.Minute

// offered takes new offers; mu is held.
func (e *Executor) offered(list []mesos.Offer) {
	now := time.Now()
	for i := range list {
		e.offers[list[i].ID.Value] = &held{Offer: list[i], since: now}
	}
	e.revivePause = 0
	wake(e.placing)
}

// drop forgets an offer; mu is held.
func (e *Executor) drop(id, why string) {
	if _, ok := e.offers[id]; !ok {
		return
	}
	delete(e.offers, id)
	e.declined[why]++
	e.metrics.declined.WithLabelValues(why).Inc()
}

// wantsOffers reports whether there is something to launch, or may be soon; mu is held.
func (e *Executor) wantsOffers(now time.Time) bool {
	return e.cluster.Hold == "" && (len(e.waiting) > 0 || e.opt.Warm > 0 || e.opt.Hold > 0 && now.Sub(e.busy) < e.opt.Hold)
}

// runPlacing decides which attempt goes where, whenever something has changed, until ctx ends.
func (e *Executor) runPlacing(ctx context.Context) {
	look := time.NewTimer(placeTick)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.placing:
		case <-look.C:
		}
		e.mu.Lock()
		now := time.Now()
		e.place(now)
		next := placeTick
		if e.starved() {
			next = min(next, max(0, e.reviveAt.Sub(now)))
		}
		e.mu.Unlock()
		look.Reset(next)
	}
}

// placeTick is how often offers are looked at when nothing has changed.
const placeTick = time.Second

// starved reports whether something waits, and there is no offer at all; mu is held.
func (e *Executor) starved() bool { return len(e.waiting) > 0 && len(e.offers) == 0 && e.mayLaunch() }

// place sends what has a place, asks for offers if something waits, and gives back offers that nothing needs; mu is held.
func (e *Executor) place(now time.Time) {
	if len(e.waiting) > 0 {
		e.busy = now
	}
	if e.mayLaunch() && len(e.waiting) > 0 && len(e.offers) > 0 {
		e.assign(now)
	}
	e.revive(now)
	e.release(now)
}

// revive asks for offers, if something waits for them; mu is held.
func (e *Executor) revive(now time.Time) {
	if !e.mayLaunch() {
		return
	}
	if e.idle && e.wantsOffers(now) || e.filtered && len(e.waiting) > 0 || e.starved() && !now.Before(e.reviveAt) {
		e.idle, e.filtered = false, false
		e.revivePause = min(max(2*e.revivePause, reviveSoon), reviveLate)
		e.reviveAt = now.Add(e.revivePause)
		e.call(&mesos.Call{Type: mesos.CallRevive, Revive: &mesos.Roles{Roles: e.opt.Framework.Roles}})
	}
}

// assign matches what waits with the offers that are held; mu is held.
func (e *Executor) assign(now time.Time) {
	e.waiting = slices.DeleteFunc(e.waiting, func(a *attempt) bool { return a.phase != phaseWaiting }) // those that were heard of have ended, or run
	in := match.Input{Now: now}
	for _, o := range e.offers {
		in.Offers = append(in.Offers, o.Offer)
	}
	for _, a := range e.waiting {
		in.Asks = append(in.Asks, e.askOf(a, now))
	}
	for a := range e.live {
		if a.phase != phaseWaiting && a.Agent != "" {
			in.Active = append(in.Active, match.Active{Group: a.Group, Machine: a.Machine})
		}
	}
	res := match.Place(&in)
	for i := range res.Unplaced {
		e.attempts[res.Unplaced[i].Ask].unplaced = &res.Unplaced[i]
	}
	for i := range res.Accepts {
		e.accept(&res.Accepts[i])
	}
	e.waiting = slices.DeleteFunc(e.waiting, func(a *attempt) bool { return a.phase != phaseWaiting })
}

// askOf is what an attempt asks of an offer. Attempts come in the order in which the engine has launched them, as far as that matters: an earlier
// second comes first.
func (e *Executor) askOf(a *attempt, now time.Time) match.Ask {
	ask := match.Ask{
		ID: a.Attempt, Rank: int(a.since.Unix()), Needs: needsOf(a.launch, e.opt.Task), Constraints: a.launch.Constraints, Group: a.Group, Reach: a.launch.Timeout,
	}
	for agent, until := range e.avoid[a.Group] {
		if now.Before(until) {
			ask.Avoid = append(ask.Avoid, agent)
		}
	}
	slices.Sort(ask.Avoid)
	return ask
}

// accept makes what was matched an ACCEPT, or several: one whose ACCEPT was refused goes alone. mu is held.
func (e *Executor) accept(m *match.Accept) {
	first := e.offers[m.OfferIDs[0].Value]
	out := outgoing{offers: m.OfferIDs}
	var tasks []mesos.TaskInfo
	for i := range m.Tasks {
		a := e.attempts[m.Tasks[i].Ask]
		info, err := taskOf(a.launch, &m.Tasks[i], m.AgentID, e.opt.Task)
		if err == nil && a.Secrets == "" {
			a.Secrets, err = e.seal(a.launch)
		}
		if err != nil {
			e.refuse(a, err.Error())
			continue
		}
		if a.solo && len(tasks) > 0 {
			continue // It is next, with the offers that come then.
		}
		a.phase, a.unplaced = phaseSending, nil
		a.Agent, a.URL, a.Machine = m.AgentID.Value, urlOf(&first.Offer), match.Machine{Hostname: first.Hostname, Domain: first.Domain, Attributes: first.Attributes}
		a.Streams, a.Heartbeat, a.Reach, a.Grace = streamsOf(a.launch), a.launch.Heartbeat, a.launch.Timeout, a.launch.Grace
		a.secret = a.launch.Secrets
		tasks, out.attempts = append(tasks, *info), append(out.attempts, a)
		if a.solo {
			break
		}
	}
	if len(tasks) == 0 {
		return
	}
	for _, id := range m.OfferIDs {
		e.drop(id.Value, whyUsed)
	}
	// What the tasks leave of the offers is offered again at once: there is more to come.
	out.call = &mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: m.OfferIDs, Filters: &mesos.Filters{},
		Operations: []mesos.Operation{{Type: mesos.OperationLaunch, Launch: &mesos.Launch{TaskInfos: tasks}}}}}
	e.push(out)
}

// urlOf returns the base address of an offer's agent.
func urlOf(o *mesos.Offer) string {
	if o.URL == nil {
		return ""
	}
	host := cmp.Or(o.URL.Address.IP, o.URL.Address.Hostname, o.Hostname)
	return fmt.Sprintf("%s://%s", cmp.Or(o.URL.Scheme, "http"), hostPort(host, o.URL.Address.Port))
}

// release gives back the offers that nothing needs; mu is held.
func (e *Executor) release(now time.Time) {
	if len(e.offers) == 0 && (e.idle || e.wantsOffers(now)) {
		return
	}
	byAge := slices.SortedFunc(maps.Values(e.offers), func(x, y *held) int {
		return cmp.Or(x.since.Compare(y.since), cmp.Compare(x.ID.Value, y.ID.Value))
	})
	var idle, unfit []mesos.ID
	recent := e.opt.Hold > 0 && now.Sub(e.busy) < e.opt.Hold
	for i, o := range byAge {
		switch {
		case e.cluster.Hold != "" || e.cluster.stopped != nil:
			idle = append(idle, o.ID)
			e.drop(o.ID.Value, whyHold)
		case len(e.waiting) > 0 && e.cluster.doubt == nil && now.Sub(o.since) > refuseUnfit:
			// It fits nothing that waits, also not together with what was freed since on its agent.
			unfit = append(unfit, o.ID)
			e.drop(o.ID.Value, whyUnfit)
		case len(e.waiting) > 0, recent, i < e.opt.Warm:
		default:
			idle = append(idle, o.ID)
			e.drop(o.ID.Value, whyIdle)
		}
	}
	e.decline(unfit, refuseUnfit)
	e.decline(idle, refuseIdle)
	e.filtered = e.filtered || len(idle) > 0
	if !e.idle && !e.wantsOffers(now) {
		e.idle = true
		e.call(&mesos.Call{Type: mesos.CallSuppress, Suppress: &mesos.Roles{Roles: e.opt.Framework.Roles}})
	}
}

func (e *Executor) decline(ids []mesos.ID, refuse time.Duration) {
	if len(ids) > 0 {
		e.call(&mesos.Call{Type: mesos.CallDecline, Decline: &mesos.Decline{OfferIDs: ids, Filters: &mesos.Filters{RefuseSeconds: refuse.Seconds()}}})
	}
}

// refuse reports that an attempt can never be launched; mu is held.
func (e *Executor) refuse(a *attempt, why string) {
	a.phase = phaseEnding
	e.add(a)
	e.report(delivery{a: a, report: scheduler.Report{Attempt: a.Attempt, Outcome: scheduler.OutcomeRefused, Exit: noExit, Reason: why, EndedAt: time.Now().UTC()}})
}

// inverted takes requests to give agents back. mu is held.
func (e *Executor) inverted(list []mesos.InverseOffer) {
	var yes, no []mesos.ID
	for i := range list {
		o := &list[i]
		e.inverse = append(e.inverse, *o)
		if e.doneBefore(o) {
			yes = append(yes, o.ID)
		} else {
			no = append(no, o.ID)
		}
	}
	filters := &mesos.Filters{RefuseSeconds: 60} // asked again, we look again
	if len(yes) > 0 {
		e.call(&mesos.Call{Type: mesos.CallAcceptInverse, AcceptInverse: &mesos.AnswerInverse{InverseOfferIDs: yes, Filters: filters}})
	}
	if len(no) > 0 {
		e.call(&mesos.Call{Type: mesos.CallDeclineInverse, DeclineInverse: &mesos.AnswerInverse{InverseOfferIDs: no, Filters: filters}})
	}
}

// doneBefore reports whether all tasks on an agent will have ended when it is to be given back, as far as their time-outs promise it. Nothing
// more is placed there by then: see package match. mu is held.
func (e *Executor) doneBefore(o *mesos.InverseOffer) bool {
	start := time.Unix(0, o.Unavailability.Start.Nanoseconds)
	for a := range e.live {
		if a.Agent == o.AgentID.Value && a.open() && (a.Reach == 0 || a.SentAt.Add(a.Reach).After(start)) {
			return false
		}
	}
	return true
}

func (e *Executor) dropInverse(id mesos.ID) {
	e.inverse = slices.DeleteFunc(e.inverse, func(o mesos.InverseOffer) bool { return o.ID == id })
}
