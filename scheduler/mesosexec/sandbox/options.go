package sandbox

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
)

// Names of files that a task may leave in its sandbox.
const (
	// OutputName is what MILLRACE_OUTPUT is to name.
	OutputName = "millrace-output"
	// RefusedName has a sentence that says why the command could never be started.
	RefusedName = "millrace-refused"
	// HeartbeatName is what MILLRACE_HEARTBEAT is to name.
	HeartbeatName = "millrace-heartbeat"
)

// Task says where the sandbox of an attempt is and what of it is wanted.
type Task struct {
	// Attempt is its id, "<run>.<task>.<map index>.<try>".
	Attempt string
	// Agent is the base URL of the agent, such as http://10.0.0.3:5051.
	Agent string
	// Dir is the virtual path of the sandbox: /frameworks/F/executors/E/runs/latest, and tasks/T below it for a task of a group.
	Dir string
	// Streams are the files that the log is made of: stdout, or stdout and stderr. Two become one log line by line, in the order in which they are found.
	Streams []string
	// Secrets are masked in log, output and reasons. They have to be the same each time.
	Secrets []string
	// Heartbeat is within what time the file HeartbeatName has to change. 0: it need not.
	Heartbeat time.Duration
}

// Result is what a sandbox had, masked.
type Result struct {
	// Output is the content of the file OutputName, at most scheduler.MaxOutput bytes; nil if there is none, or a larger one: that is in the object
	// store, and OutputRef says where. OutputError is why it could not be taken, or why nobody knows whether there is one.
	Output      []byte               `json:"output,omitempty"`
	OutputRef   *scheduler.OutputRef `json:"output_ref,omitempty"`
	OutputError string               `json:"output_error,omitempty"`
	// Refused is why the command could never be started, "" if it could.
	Refused string `json:"refused,omitempty"`
	// Log is where programs find the archived log, "" if it could not be archived.
	Log string `json:"log,omitempty"`
	// Missing is why the log is not whole, "" if it is.
	Missing string `json:"missing,omitempty"`
}

// Options tune a [Keeper]. The zero value works.
type Options struct {
	// Authorization returns the header of that name for requests to agents, "" for none. used is the one that an agent has not accepted, "" at first: then
	// it is asked once more. nil: none.
	Authorization func(used string) (string, error)
	// TLS is for agents with https; nil: the machine's authorities.
	TLS *tls.Config
	// MaxLog bounds the log of an attempt, in bytes; default 1 GiB. What comes after is not collected, and the log says so.
	MaxLog int64
	// Full is called once for an attempt whose log has reached MaxLog, Silent for one whose heartbeat file has not changed for longer than
	// Task.Heartbeat, as far as we could look. They must not block, and not call the keeper. nil: nobody cares.
	Full   func(attempt string)
	Silent func(attempt string)
	// MinPause and MaxPause bound the time between two looks at an attempt: it doubles from the one to the other while the log does not grow; default
	// 100 ms and 2 s. While somebody reads the log it is at most ReadPause, default 250 ms.
	MinPause, MaxPause, ReadPause time.Duration
	// Parallel bounds how many requests are under way at once, default 32, and PerAgent those to one agent, default 4.
	Parallel, PerAgent int
	// RequestTimeout is how long one may take; default 10 s.
	RequestTimeout time.Duration
	// Keep is how long a log that was archived stays on this disk, for those who read it just then; default 1 hour. KeepBytes is how much of them stays
	// at most; default 1 GiB.
	Keep      time.Duration
	KeepBytes int64
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{&o.MinPause, 100 * time.Millisecond}, {&o.MaxPause, 2 * time.Second}, {&o.ReadPause, 250 * time.Millisecond}, {&o.RequestTimeout, 10 * time.Second}, {&o.Keep, time.Hour}} {
		if *d.at == 0 {
			*d.at = d.value
		}
	}
	if o.MaxLog == 0 {
		o.MaxLog = 1 << 30
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = 1 << 30
	}
	if o.Parallel == 0 {
		o.Parallel = 32
	}
	if o.PerAgent == 0 {
		o.PerAgent = 4
	}
	if o.Authorization == nil {
		o.Authorization = func(string) (string, error) { return "", nil }
	}
	if o.Full == nil {
		o.Full = func(string) {}
	}
	if o.Silent == nil {
		o.Silent = func(string) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.MaxLog < 0 || o.KeepBytes < 0 {
		errs = append(errs, fmt.Errorf("bounds of logs are %d and %d bytes, want at least 1", o.MaxLog, o.KeepBytes))
	}
	if o.MinPause < 0 || o.MaxPause < 0 || o.ReadPause < 0 || o.RequestTimeout < 0 || o.Keep < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	if o.MaxPause > 0 && o.MinPause > o.MaxPause {
		errs = append(errs, errors.New("the least pause is above the longest"))
	}
	if o.Parallel < 0 || o.PerAgent < 0 {
		errs = append(errs, fmt.Errorf("%d requests at once, %d to one agent: want at least 1", o.Parallel, o.PerAgent))
	}
	return errors.Join(errs...)
}
