package mesosexec

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
)

// View is how an executor is at a moment, for people.
type View struct {
	// Subscribed says that there is a stream to Master, since Since; Error is why there is none.
	Subscribed  bool      `json:"subscribed"`
	Master      string    `json:"master,omitempty"`
	Version     string    `json:"version,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	Heard       time.Time `json:"heard,omitzero"`
	FrameworkID string    `json:"framework_id,omitempty"`
	Roles       []string  `json:"roles"`
	Error       string    `json:"error,omitempty"`
	// Stopped is why the framework does not subscribe again before a person has decided; Hold why nothing is launched before. Next says what to do.
	Stopped string    `json:"stopped,omitempty"`
	Hold    string    `json:"hold,omitempty"`
	HoldAt  time.Time `json:"hold_at,omitzero"`
	Next    string    `json:"next,omitempty"`
	// Suppressed says that no offers are asked for.
	Suppressed bool `json:"suppressed"`
	// Offers are those that are held, Declined counts those that are not held any more, by why.
	Offers   []OfferView      `json:"offers"`
	Declined map[string]int64 `json:"declined"`
	// Agents are those that are known by offers and attempts, by hostname.
	Agents []AgentView `json:"agents"`
	// Tasks counts attempts that have not ended, by the state of their tasks: waiting and sending are ours, the others are those of Mesos.
	Tasks map[string]int `json:"tasks"`
	// Waiting are the attempts that have no place yet, in their order, the first of them.
	Waiting []WaitingView `json:"waiting"`
	// Inverse are the agents that are asked back.
	Inverse []InverseView `json:"inverse,omitempty"`
}

// OfferView is an offer that is held.
type OfferView struct {
	ID       string             `json:"id"`
	Agent    string             `json:"agent"`
	Hostname string             `json:"hostname"`
	Role     string             `json:"role,omitempty"`
	Since    time.Time          `json:"since"`
	Scalars  map[string]float64 `json:"resources"`
}

// AgentView is an agent.
type AgentView struct {
	ID       string `json:"id"`
	Hostname string `json:"hostname"`
	URL      string `json:"url,omitempty"`
	Offers   int    `json:"offers"`
	Tasks    int    `json:"tasks"`
}

// WaitingView is an attempt that has no place yet.
type WaitingView struct {
	Attempt string          `json:"attempt"`
	Since   time.Time       `json:"since"`
	Why     string          `json:"why,omitempty"`
	Reason  *match.Unplaced `json:"reason,omitempty"`
}

// InverseView is an agent that is asked back.
type InverseView struct {
	Agent string    `json:"agent,omitempty"`
	From  time.Time `json:"from"`
}

// maxWaiting bounds the attempts that a view names.
const maxWaiting = 100

// View returns how the executor is.
func (e *Executor) View() View {
	st := e.client.Status()
	e.mu.Lock()
	defer e.mu.Unlock()
	v := View{
		Subscribed: st.Subscribed, Master: st.Master, Since: st.Since, Heard: st.Heard, FrameworkID: e.cluster.Framework, Roles: e.opt.Framework.Roles,
		Hold: e.cluster.Hold, HoldAt: e.cluster.HoldAt, Suppressed: e.idle, Declined: map[string]int64{}, Tasks: map[string]int{},
		Offers: []OfferView{}, Agents: []AgentView{}, Waiting: []WaitingView{},
	}
	if st.Info != nil {
		v.Version = st.Info.Version
	}
	if st.Err != nil {
		v.Error = st.Err.Error()
	}
	if e.cluster.stopped != nil {
		v.Stopped = e.cluster.stopped.Error()
	}
	v.Next = e.next()
	for why, n := range e.declined {
		v.Declined[why] = n
	}
	agents := map[string]*AgentView{}
	e.viewOffers(&v, agents)
	e.viewTasks(&v, agents)
	for _, a := range agents {
		v.Agents = append(v.Agents, *a)
	}
	slices.SortFunc(v.Agents, func(x, y AgentView) int { return cmp.Or(cmp.Compare(x.Hostname, y.Hostname), cmp.Compare(x.ID, y.ID)) })
	for i := range e.inverse {
		v.Inverse = append(v.Inverse, InverseView{e.inverse[i].AgentID.Value, time.Unix(0, e.inverse[i].Unavailability.Start.Nanoseconds).UTC()})
	}
	return v
}

// next says what a person is to do; mu is held.
func (e *Executor) next() string {
	switch {
	case e.cluster.stopped != nil:
		return "'millrace mesos register' subscribes again: under a new id if the framework was removed, whose tasks are lost then"
	case e.cluster.Hold != "":
		return "look whether executors.mesos.masters are those of the right cluster; if they are, 'millrace mesos confirm' gives those tasks up and goes on"
	}
	return ""
}

func (e *Executor) viewOffers(v *View, agents map[string]*AgentView) {
	for _, o := range e.offers {
		view := OfferView{ID: o.ID.Value, Agent: o.AgentID.Value, Hostname: o.Hostname, Since: o.since.UTC(), Scalars: map[string]float64{}}
		if o.AllocationInfo != nil {
			view.Role = o.AllocationInfo.Role
		}
		for _, r := range o.Resources {
			if r.Type == mesos.TypeScalar && r.Scalar != nil {
				view.Scalars[r.Name] += r.Scalar.Value
			}
		}
		v.Offers = append(v.Offers, view)
		agentOf(agents, o.AgentID.Value, o.Hostname, urlOf(&o.Offer)).Offers++
	}
	slices.SortFunc(v.Offers, func(x, y OfferView) int { return cmp.Compare(x.ID, y.ID) })
}

func agentOf(agents map[string]*AgentView, id, hostname, url string) *AgentView {
	if agents[id] == nil {
		agents[id] = &AgentView{ID: id, Hostname: hostname, URL: url}
	}
	return agents[id]
}

func (e *Executor) viewTasks(v *View, agents map[string]*AgentView) {
	for a := range e.live {
		switch {
		case a.phase == phaseWaiting:
			v.Tasks["waiting"]++
		case a.phase == phaseSending || a.state == "":
			v.Tasks["sending"]++
		default:
			v.Tasks[string(a.state)]++
		}
		if a.phase != phaseWaiting && a.Agent != "" {
			agentOf(agents, a.Agent, a.Machine.Hostname, a.URL).Tasks++
		}
	}
	for _, a := range e.waiting[:min(len(e.waiting), maxWaiting)] {
		w := WaitingView{Attempt: a.Attempt, Since: a.since.UTC(), Reason: a.unplaced, Why: e.whyWaiting(a)}
		v.Waiting = append(v.Waiting, w)
	}
}

// whyWaiting says why an attempt has no place yet; mu is held.
func (e *Executor) whyWaiting(a *attempt) string {
	switch st := e.client.Status(); {
	case e.cluster.stopped != nil:
		return "the framework is stopped: " + e.cluster.stopped.Error()
	case e.cluster.Hold != "":
		return "nothing is launched before a person has confirmed the cluster: " + e.cluster.Hold
	case !st.Subscribed && st.Err != nil:
		return "not subscribed at a master: " + st.Err.Error()
	case !st.Subscribed:
		return "not subscribed at a master yet"
	case e.cluster.doubt != nil:
		return "another master leads, and it is being found out whether it knows the tasks that run"
	case a.unplaced != nil:
		return a.unplaced.String()
	}
	return "waits for an offer"
}

type execMetrics struct {
	declined, updates, reports *prometheus.CounterVec
	strangers                  prometheus.Counter
}

// newExecMetrics makes the metrics of e; those that say how it is ask it.
func newExecMetrics(e *Executor) (*execMetrics, error) {
	labels := prometheus.Labels{"executor": e.opt.Name}
	gauge := func(n, help string, of func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "millrace_mesos_" + n, Help: help, ConstLabels: labels}, func() float64 {
			e.mu.Lock()
			defer e.mu.Unlock()
			return float64(of())
		})
	}
	one := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	counters := func(n, help, by string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_mesos_" + n, Help: help, ConstLabels: labels}, []string{by})
	}
	m := &execMetrics{
		declined:  counters("offers_gone_total", "Offers that are not held any more, by why.", "why"),
		updates:   counters("updates_total", "Updates of tasks, by the state that they have.", "state"),
		reports:   counters("reports_total", "Reports that the engine has taken, by their outcome.", "outcome"),
		strangers: prometheus.NewCounter(prometheus.CounterOpts{Name: "millrace_mesos_strangers_total", Help: "Updates of tasks that are not known.", ConstLabels: labels}),
	}
	if e.opt.Registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		gauge("waiting_attempts", "Attempts that have no place on an agent yet.", func() int { return len(e.waiting) }),
		gauge("offers", "Offers that are held.", func() int { return len(e.offers) }),
		gauge("stopped", "1 while the framework does not subscribe before a person has decided.", func() int { return one(e.cluster.stopped != nil) }),
		gauge("hold", "1 while nothing is launched before a person has confirmed the cluster.", func() int { return one(e.cluster.Hold != "") }),
		m.declined, m.updates, m.reports, m.strangers,
	} {
		if err := e.opt.Registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
