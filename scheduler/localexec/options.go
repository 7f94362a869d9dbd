//go:build linux

package localexec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options tune an [Executor]. The zero value works.
type Options struct {
	// Name is the executor's name in metrics; default "local".
	Name string
	// Slots is how many attempts may be active at once; default 8. The engine keeps to it, not the runner.
	Slots int
	// RunnerArgv starts the runner: a program, by an absolute path, and arguments, to which " --dir <dir>" is added. It must call
	// [millrace/scheduler/localexec/runner.Main]. Default: this program with the argument "runner".
	RunnerArgv []string
	// MaxLog bounds the output of one attempt in bytes; one that writes more is killed, reason log_limit. Default 1 GiB. It is looked at
	// twice a second, so that an attempt can write more in between.
	MaxLog int64
	// Idle is how long a runner with nothing to do and nothing to report waits for millrace to come back; default 1 minute.
	Idle time.Duration
	// Wait is how long Launch, Kill and Reconcile wait for the runner before they return ErrUnavailable; default 5 s.
	Wait time.Duration
	// Ended reports whether a run has ended, or is not known any more: then what its tasks kept for their next try is removed. nil: it
	// is kept. It is asked every Sweep, default 1 minute, for each run that has kept something.
	Ended func(ctx context.Context, run string) (bool, error)
	Sweep time.Duration
	// Outputs is where outputs go that are too large for a report. nil: such an output fails its attempt.
	Outputs Outputs
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() (Options, error) {
	if o.Name == "" {
		o.Name = "local"
	}
	if o.Slots == 0 {
		o.Slots = 8
	}
	if len(o.RunnerArgv) == 0 {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find own program: %w", err)
		}
		o.RunnerArgv = []string{self, "runner"}
	}
	if o.MaxLog == 0 {
		o.MaxLog = 1 << 30
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	if o.Wait == 0 {
		o.Wait = 5 * time.Second
	}
	if o.Sweep == 0 {
		o.Sweep = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.Slots < 0 {
		errs = append(errs, fmt.Errorf("slots are %d, want at least 1", o.Slots))
	}
	if o.MaxLog < 0 {
		errs = append(errs, fmt.Errorf("bound of a log is %d, want at least 1", o.MaxLog))
	}
	if o.Idle < 0 || o.Wait < 0 || o.Sweep < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	return errors.Join(errs...)
}
