package mesosexec

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ExecutorOptions tune an [Executor]. Without a value, each has its default.
type ExecutorOptions struct {
	// Name is that of the executor, under which it keeps its records; default mesos.
	Name string
	// Slots is how many attempts may be active at once; default 500.
	Slots int
	// Framework is what the framework says of itself.
	Framework Framework
	// Client is for the connection to the master.
	Client Options
	// Task says how tasks are launched.
	Task TaskOptions
	// Hold is how long an offer is kept for tasks to come after the last task was there, default 30 s; negative: not at all. Warm is how many offers are
	// kept beyond that, so that a task starts without waiting for one.
	Hold time.Duration
	Warm int
	// Settle is the time after which a task that the cluster does not know is lost: the masters' --agent_reregister_timeout, 10 minutes unless they say
	// otherwise, and some more; default 11 minutes.
	Settle time.Duration
	// Silence is how long nothing is launched after another master has begun to lead, unless that is shown to know our tasks; default 15 s.
	Silence time.Duration
	// Away is how long the sandbox of a task that has ended may not be readable until its end is reported without log and output; default 5 minutes.
	Away time.Duration
	// AskMin and AskMax bound the pauses between two questions after the same task, default 1 s and 30 s; Round is how often all are asked after, default
	// 15 minutes.
	AskMin, AskMax, Round time.Duration
	// Enders is how many ends of attempts are dealt with at the same time; default 64.
	Enders int
	// Wait is how long a caller waits for Run; default 10 s.
	Wait time.Duration
	// Seal encrypts what is kept of the secrets of an attempt while it runs, and Unseal is its inverse. nil: attempts with secrets are refused.
	Seal, Unseal func(attempt, text string) (string, error)
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Framework is what a framework says of itself.
type Framework struct {
	// Name and User have the defaults millrace and root; Roles: *.
	Name, User string
	Roles      []string
	Principal  string
	// WebUIURL is where people see what it does.
	WebUIURL, Hostname string
	// Failover is how long its tasks live on without it; default a week.
	Failover time.Duration
	// GPU says that it has use for agents with GPUs, which are not offered otherwise.
	GPU bool
}

func (o ExecutorOptions) withDefaults() ExecutorOptions {
	text := func(v *string, value string) {
		if *v == "" {
			*v = value
		}
	}
	text(&o.Name, "mesos")
	text(&o.Framework.Name, "millrace")
	text(&o.Framework.User, "root")
	if len(o.Framework.Roles) == 0 {
		o.Framework.Roles = []string{"*"}
	}
	for _, n := range []struct {
		v     *int
		value int
	}{{&o.Slots, 500}, {&o.Enders, 64}} {
		if *n.v == 0 {
			*n.v = n.value
		}
	}
	for _, d := range []struct {
		v     *time.Duration
		value time.Duration
	}{{&o.Framework.Failover, 7 * 24 * time.Hour}, {&o.Hold, 30 * time.Second}, {&o.Settle, 11 * time.Minute}, {&o.Silence, 15 * time.Second},
		{&o.Away, 5 * time.Minute}, {&o.AskMin, time.Second}, {&o.AskMax, 30 * time.Second}, {&o.Round, 15 * time.Minute}, {&o.Wait, 10 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.value
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Client.Logger == nil {
		o.Client.Logger = o.Logger
	}
	return o
}

// Validate reports all that is wrong with o.
func (o ExecutorOptions) Validate() error {
	errs := []error{o.Client.Validate()}
	if o.Slots < 0 || o.Warm < 0 || o.Enders < 0 {
		errs = append(errs, fmt.Errorf("%d slots, %d warm offers, %d at the same time: want none of them negative", o.Slots, o.Warm, o.Enders))
	}
	for name, d := range map[string]time.Duration{"failover": o.Framework.Failover, "settle": o.Settle, "silence": o.Silence, "away": o.Away,
		"least pause": o.AskMin, "longest pause": o.AskMax, "round": o.Round, "wait": o.Wait} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is %v, want at least 0", name, d))
		}
	}
	if (o.Seal == nil) != (o.Unseal == nil) {
		errs = append(errs, errors.New("seal and unseal go together"))
	}
	return errors.Join(errs...)
}
