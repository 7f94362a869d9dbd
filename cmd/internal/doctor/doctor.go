// Package doctor looks for what keeps a server from running, or from keeping its promises, on this machine with this configuration, and names
// the fix.
//
// Each check stands in one table. It may be run beside a server: nothing of the server's is changed or held. A probe of the object store leaves
// a small object, as each start of a server does. Doctor does not judge what went through a server: `verify` does.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/configs"
)

// Result is what a check came to.
type Result string

// The results. Warn is what works today and may not tomorrow; skip says that there was nothing to look at.
const (
	OK   Result = "ok"
	Warn Result = "warn"
	Fail Result = "fail"
	Skip Result = "skip"
)

// Finding is what a check found.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	// Why says what was seen, Fix what to do about it.
	Why string `json:"why"`
	Fix string `json:"fix,omitempty"`
}

// Env is what is looked at.
type Env struct {
	// Config is the configuration; nil if it can not be read, and then ConfigErr says why.
	Config    *configs.Loaded
	ConfigErr error
	// TimeURL is a server whose Date header the clock is compared with; "": that of the object store, if it has one.
	TimeURL string
	// Objects probes the store and returns its home, Bus the bus, Homes where the log's chains are, Damage what of the log can not be read.
	Objects func(ctx context.Context) (string, error)
	Bus     func(ctx context.Context) error
	Homes   func(ctx context.Context) ([]string, error)
	Damage  func(ctx context.Context) ([]string, error)
	// Docker asks the engine that is configured, and returns what it is.
	Docker func(ctx context.Context) (string, error)
	// DAGs compiles the text of a DAG file and returns how many DAGs it has; the error is for people.
	DAGs func(file string, text []byte) (int, error)
}

// Check is one line of the table.
type Check struct {
	Name, Short string
	run         func(ctx context.Context, e *Env) []Finding
}

// Checks are all checks, in the order of what depends on what.
var Checks = []Check{
	{"config", "the configuration can be read, and its parts fit", checkConfig},
	{"data_dir", "the data directory is on a disk that keeps what is written, and can be written", checkDataDir},
	{"disk", "the disk has room for the log", checkDisk},
	{"ports", "both listeners can be had", checkPorts},
	{"clock", "the clock is right", checkClock},
	{"objects", "the object store is there, and honours put-if-absent", checkObjects},
	{"log", "the log can be read, and its chain is in the object store", checkLog},
	{"bus", "an external NATS is there, with JetStream", checkBus},
	{"mesos", "the Mesos masters that are configured are there and take us, and logs can be read from their agents", checkMesos},
	{"docker", "the Docker engine that is configured answers", checkDocker},
	{"dags", "all DAG files compile", checkDAGs},
}

// perCheck bounds each check: a part that hangs must not hide the others.
const perCheck = 30 * time.Second

// Run runs the checks of these names, all without any, and calls each with what they find. It reports whether nothing failed.
func Run(ctx context.Context, e *Env, names []string, each func(Finding)) (sound bool) {
	sound = true
	for _, c := range Checks {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		for _, f := range c.find(ctx, e) {
			f.Check = c.Name
			sound = sound && f.Result != Fail
			each(f)
		}
	}
	return sound
}

func (c *Check) find(ctx context.Context, e *Env) []Finding {
	if e.Config == nil && c.Name != "config" {
		return []Finding{{Result: Skip, Why: "there is no configuration to go by"}}
	}
	ctx, cancel := context.WithTimeout(ctx, perCheck)
	defer cancel()
	return c.run(ctx, e)
}

func ok(format string, args ...any) Finding {
	return Finding{Result: OK, Why: fmt.Sprintf(format, args...)}
}

func checkConfig(_ context.Context, e *Env) []Finding {
	err := e.ConfigErr
	if err == nil {
		err = e.Config.Validate()
	}
	if err == nil {
		_, err = e.Config.SourceList(e.Config.Dir())
	}
	if err != nil {
		return []Finding{{Result: Fail, Why: err.Error(), Fix: "mend the configuration as it says; 'millrace config check' repeats this, 'millrace config show --origin' says where each value comes from"}}
	}
	if e.Config.File == "" {
		return []Finding{ok("no file, defaults and environment")}
	}
	return []Finding{ok("%s, %d sources", e.Config.File, len(e.Config.Sources))}
}

func checkDocker(ctx context.Context, e *Env) []Finding {
	conf := &e.Config.Executors.Docker
	if !conf.On() {
		return []Finding{{Result: Skip, Why: "no engine is configured"}}
	}
	what, err := e.Docker(ctx)
	if err != nil {
		return []Finding{{Result: Fail, Why: fmt.Sprintf("the engine at %s: %v", conf.Host, err),
			Fix: "start it, correct executors.docker, or let the user of millrace use its socket (group docker)"}}
	}
	return []Finding{ok("%s: %s", conf.Host, what)}
}
