package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/seal"
	"millrace/configs"
	"millrace/ingest/gateway"
	"millrace/ingest/wal"
	"millrace/scheduler/vars/vault"
	"millrace/trigger/natsbus"
)

// Options are what a process gets from its command line.
type Options struct {
	// Logger takes messages; nil discards them. Notices gets what a person who starts the process should read.
	Logger  *slog.Logger
	Notices io.Writer
	// Runner is the command that supervises local tasks.
	Runner []string
	// Environ is the environment of the process, of which tasks get PATH, HOME, LANG, TZ and TMPDIR.
	Environ []string
	// Dev prints hints for a first-time user; Demo adds the demo DAG, whose tasks run on DemoExecutor, "" for local.
	Dev, Demo    bool
	DemoExecutor string
	// Double says of executors.mesos what the masters that it names are, if they are no real ones: it is printed and shown.
	Double string
	// Reload has a value when the configuration is to be read again, with Load. Both nil: never.
	Reload <-chan os.Signal
	Load   func() (*configs.Loaded, error)
}

// app is a process while it is put together.
type app struct {
	// cfg is what the process started with, live what is in force: they differ in what can be reloaded.
	cfg     *configs.Loaded
	live    atomic.Pointer[configs.Loaded]
	reloads reloads
	certs   map[string]*certificate // of the sections ingest and console
	sources sourceList
	opts    Options
	log     *slog.Logger
	metrics *prometheus.Registry
	actors  actors
	closers []func() error

	wal       *wal.Log
	gateway   *gateway.Server
	objects   batcher.ObjectStore
	catalogue *chain.Reader
	worker    *seal.Worker
	bus       *natsbus.Bus
	vault     *vault.Client // nil if there is none
	schedule  *scheduling
	console   string         // where it is, as a URL
	consoleAt string         // its scheme and address alone
	unproven  batcher.Prober // the store, while its probe is put off
}

// Run puts the roles of cfg together and runs them until ctx ends.
func Run(ctx context.Context, cfg *configs.Loaded, opts Options) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a := &app{cfg: cfg, opts: opts, log: opts.Logger, metrics: prometheus.NewRegistry()}
	a.live.Store(cfg)
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.opts.Notices == nil {
		a.opts.Notices = io.Discard
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.build(ctx); err != nil {
		return err
	}
	a.greet()
	return a.actors.run(ctx)
}

func (a *app) build(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.Data("."), 0o755); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	a.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	sources, err := a.cfg.SourceList(a.cfg.Dir())
	if err != nil {
		return err
	}
	a.sources.now.Store(&sources)
	certs, err := readCertificates(a.cfg)
	if err != nil {
		return err
	}
	a.certs = map[string]*certificate{"ingest": {}, "console": {}}
	for section, cert := range certs {
		a.certs[section].current.Store(cert)
	}
	a.reloads = newReloads(a.metrics)
	if a.opts.Reload != nil {
		a.back("reload", a.followReloads)
	}
	if a.cfg.HasRole(configs.RoleIngest) {
		if err := a.openLog(); err != nil {
			return err
		}
	}
	if a.cfg.HasRole(configs.RoleBatch) || a.cfg.HasRole(configs.RoleSchedule) {
		if err := a.buildObjects(ctx); err != nil {
			return err
		}
		if err := a.buildBus(ctx); err != nil {
			return err
		}
	}
	if a.cfg.HasRole(configs.RoleSchedule) {
		if err := a.buildSchedule(ctx); err != nil {
			return err
		}
	}
	if a.cfg.HasRole(configs.RoleBatch) {
		announce := announcers{a.buildPublisher()}
		if a.schedule != nil { // in one process the news need not travel
			announce = append(announce, a.schedule.dispatch)
		}
		if err := a.buildBatch(announce); err != nil {
			return err
		}
	}
	if a.cfg.HasRole(configs.RoleIngest) { // last, so that nothing is accepted by a process that can not be put together
		if err := a.buildIngest(sources); err != nil {
			return err
		}
	}
	return a.buildConsole(ctx)
}

func (a *app) front(name string, run func(context.Context) error) {
	a.actors.front = append(a.actors.front, actor{name, run})
}

func (a *app) back(name string, run func(context.Context) error) {
	a.actors.back = append(a.actors.back, actor{name, run})
}

// onClose adds what to close after all loops have ended, the newest first.
func (a *app) onClose(f func() error) { a.closers = append(a.closers, f) }

func (a *app) close() error {
	var errs []error
	for _, f := range slices.Backward(a.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// longestWindow is how far back any source recognises a repeated event.
func (a *app) longestWindow() time.Duration {
	longest := a.cfg.Batch.Policy().Window
	for name := range a.cfg.Sources {
		longest = max(longest, a.policy(name).Window)
	}
	return longest
}

func buildInfo() prometheus.Collector {
	v := BuildVersion()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "millrace_build_info", Help: "What was built; always 1.",
		ConstLabels: prometheus.Labels{"version": v.Version, "revision": v.Revision, "goversion": v.Go},
	})
	g.Set(1)
	return g
}
