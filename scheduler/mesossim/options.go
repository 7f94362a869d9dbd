package mesossim

import (
	"errors"
	"fmt"
	"time"

	"millrace/scheduler/mesos"
)

// Options say what a cluster is like. The zero value is one master and one agent as in the traces, in real time.
type Options struct {
	// Masters is how many there are, 1 by default. With more, one leads and the others send calls on to it.
	Masters int
	// Agents are those that are there from the start; without any, one of 8 CPUs.
	Agents []AgentOptions
	// Dir is where the agents keep their sandboxes; by default a temporary directory, which Close removes.
	Dir string

	// Path is the PATH of tasks, /usr/local/bin:/usr/bin:/bin by default: nothing else of a task's environment comes from this process either.
	Path string

	// Heartbeat is the interval of heartbeats, 15 s by default.
	Heartbeat time.Duration
	// Allocation is the interval at which free resources are offered, 1 s by default.
	Allocation time.Duration
	// Retry is when an update that is not acknowledged comes again, 10 s by default; it doubles each time, up to MaxRetry, 10 minutes by default.
	Retry, MaxRetry time.Duration
	// OfferTimeout is when an offer that nobody answers is rescinded; 0 is never.
	OfferTimeout time.Duration
	// AgentTimeout is how long an agent may be silent until its tasks are unreachable, 75 s by default.
	AgentTimeout time.Duration
	// AgentReturn is how long agents take to register with a new leader, by default AgentTimeout, and 140 ms where there are several masters.
	AgentReturn time.Duration
	// Election is how long followers go on naming a leader that is dead, 4 s by default.
	Election time.Duration
	// Second is what the protocol's seconds last: those of filters, failover_timeout, kill_policy and max_completion_time. 1 s by default.
	Second time.Duration
	// StartDelay is how long an agent takes until a task starts; a real one took 90 ms. 0 by default.
	StartDelay time.Duration
	// Manual stops the clock of all the above: it stands still until [Cluster.Advance] moves it, and nothing is offered again until [Cluster.Allocate].
	Manual bool

	// Credentials are principals with their secrets; with any, every call of a scheduler must have one of them.
	Credentials map[string]string
	// HTTPCommandExecutor makes agents heed the kill_policy of a KILL, which a real agent does with the flag of that name only.
	HTTPCommandExecutor bool
	// Flags are said by /flags besides those that follow from the above, and Limits, by role and resource, by /roles, with what is used of them. Nothing is done
	// because of them (unobserved).
	Flags  map[string]string
	Limits map[string]map[string]float64
	// Easy lets pass what a real cluster does not, to show that a client depends on it.
	Easy Easy
}

// Easy is what a cluster lets pass. A client that is worth its name needs none of it.
type Easy struct {
	StreamIDs bool // calls need no Mesos-Stream-Id
	Acks      bool // updates follow one another without being acknowledged, and none comes again
	Offers    bool // an offer that was used once can be used again for what is free on its agent
}

// AgentOptions say what an agent is like.
type AgentOptions struct {
	// Resources are by default ports 31000 to 32000, 8 CPUs, 8 GiB of memory and 20 GiB of disk, for every role. One with a Role other than * is reserved
	// for it (unobserved).
	Resources  []mesos.Resource
	Attributes []mesos.Attribute
	Domain     *mesos.Domain
	// Hostname is 127.0.0.1 by default; the agent listens there whatever it is called.
	Hostname string
}

// ErrUnknown says that there is no such master or agent.
var ErrUnknown = errors.New("not of this cluster")

// Validate reports what cannot be.
func (o Options) Validate() error {
	var errs []error
	if o.Masters < 0 {
		errs = append(errs, fmt.Errorf("%d masters: want at least one", o.Masters))
	}
	for name, d := range map[string]time.Duration{"heartbeat": o.Heartbeat, "allocation": o.Allocation, "retry": o.Retry, "second": o.Second,
		"agent timeout": o.AgentTimeout, "agent return": o.AgentReturn, "election": o.Election, "offer timeout": o.OfferTimeout} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s of %v: want a positive duration", name, d))
		}
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	o.Masters = max(o.Masters, 1)
	if len(o.Agents) == 0 {
		o.Agents = make([]AgentOptions, 1)
	}
	if o.Path == "" {
		o.Path = "/usr/local/bin:/usr/bin:/bin"
	}
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{&o.Heartbeat, 15 * time.Second}, {&o.Allocation, time.Second}, {&o.Retry, 10 * time.Second}, {&o.MaxRetry, 10 * time.Minute},
		{&o.AgentTimeout, 75 * time.Second}, {&o.Election, 4 * time.Second}, {&o.Second, time.Second}} {
		if *d.at == 0 {
			*d.at = d.value
		}
	}
	if o.AgentReturn == 0 && o.Masters == 1 {
		o.AgentReturn = o.AgentTimeout
	} else if o.AgentReturn == 0 {
		o.AgentReturn = 140 * time.Millisecond
	}
	return o
}

func (a AgentOptions) withDefaults() AgentOptions {
	if a.Hostname == "" {
		a.Hostname = "127.0.0.1"
	}
	if len(a.Resources) == 0 {
		a.Resources = Resources(8, 8192, 20480)
	}
	return a
}

// Resources returns those of an agent with so many CPUs, MiB of memory and of disk, and ports 31000 to 32000.
func Resources(cpus, mem, disk float64) []mesos.Resource {
	return []mesos.Resource{
		{Name: mesos.Ports, Type: mesos.TypeRanges, Ranges: &mesos.Ranges{Range: []mesos.Range{{Begin: 31000, End: 32000}}}},
		Amount(mesos.CPUs, cpus), Amount(mesos.Mem, mem), Amount(mesos.Disk, disk),
	}
}

// Amount returns a resource that is an amount.
func Amount(name string, value float64) mesos.Resource {
	return mesos.Resource{Name: name, Type: mesos.TypeScalar, Scalar: &mesos.Scalar{Value: value}}
}

// seconds returns what so many seconds of the protocol last here.
func (o Options) seconds(n float64) time.Duration { return time.Duration(n * float64(o.Second)) }
