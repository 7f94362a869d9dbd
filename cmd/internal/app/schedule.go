package app

import (
	"context"
	"fmt"
	"slices"

	"millrace/batcher"
	"millrace/configs"
	"millrace/scheduler"
	"millrace/scheduler/engine"
	"millrace/scheduler/localexec"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/notify"
	taskout "millrace/scheduler/output"
	"millrace/scheduler/registry"
	"millrace/scheduler/spec"
	"millrace/scheduler/sqlstore"
	"millrace/scheduler/vars"
	"millrace/trigger/dispatch"
)

// scheduling is the schedule role of this process.
type scheduling struct {
	store     *sqlstore.Store
	executors map[string]scheduler.Executor
	mesos     *mesosexec.Executor // nil: there is none
	engine    *engine.Engine
	dispatch  *dispatch.Dispatcher
	hold      *hold
	notify    *notify.Service
	history   *history
	values    *vars.Registry
}

// buildSchedule adds dispatch, engine and executor.
func (a *app) buildSchedule(ctx context.Context) error {
	store, err := sqlstore.Open(ctx, a.cfg.Data("state.db"), sqlstore.Options{Registerer: a.metrics})
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	a.onClose(store.Close)
	outputs := taskout.NewStore(a.objects)
	local, err := localexec.New(a.cfg.Data("tasks"), localexec.Options{
		Slots: a.cfg.Executors.Local.Slots, MaxLog: int64(a.cfg.Executors.Local.MaxLog), RunnerArgv: a.opts.Runner,
		Logger: a.log, Registerer: a.metrics, Ended: runEnded(store), Outputs: outputs,
	})
	if err != nil {
		return fmt.Errorf("open local executor: %w", err)
	}
	s := &scheduling{store: store, executors: map[string]scheduler.Executor{"local": local}}
	registries, err := registry.New(registry.Options{Insecure: a.cfg.Images.Insecure, Timeout: a.cfg.Images.Timeout})
	if err != nil {
		return err
	}
	if err := a.addDocker(ctx, s, outputs, registries); err != nil {
		return err
	}
	operators, err := a.operators()
	if err != nil {
		return err
	}
	if s.values, err = a.openValues(ctx, store); err != nil {
		return err
	}
	if s.mesos, err = a.buildMesos(store, s.values); err != nil {
		return err
	}
	if s.mesos != nil && a.opts.Double != "" {
		a.back("mesos double", func(ctx context.Context) error { return a.confirmDouble(ctx, s.mesos) })
	}
	if s.mesos != nil {
		s.executors[mesosName] = s.mesos
	}
	s.engine, err = engine.New(store, s.executors, engine.Options{
		Registry: registries, Operators: operators, Env: a.taskEnv(), Values: s.values, Outputs: outputs, Logger: a.log, Registerer: a.metrics, Noticed: func() { s.notify.Wake() },
	})
	if err != nil {
		return err
	}
	s.dispatch = dispatch.New(a.catalogue, store, s.engine, s.engine, dispatch.Options{Bus: a.bus, Gate: s.engine, Log: a.log, Registerer: a.metrics})
	if s.hold, err = newHold(ctx, s); err != nil {
		return err
	}
	if err := a.buildNotify(s); err != nil {
		return err
	}
	s.history = a.newHistory(s, outputs)
	a.schedule = s
	a.back("engine", s.engine.Run)
	a.back("dispatch", s.dispatchWhenReady)
	a.back("dags", a.followDAGs)
	a.back("retention", func(ctx context.Context) error {
		prune(ctx, s.history.round, a.retention, a.log)
		return nil
	})
	return nil
}

// dispatchWhenReady begins with the rules that the files have, which a new ledger starts with, and after a restore when it was resumed.
func (s *scheduling) dispatchWhenReady(ctx context.Context) error {
	for _, begun := range []<-chan struct{}{s.engine.Ready(), s.hold.resumed} {
		select {
		case <-begun:
		case <-ctx.Done():
			return nil
		}
	}
	return s.dispatch.Run(ctx)
}

// awaitLedger waits, in a process that also schedules, until dispatch has recorded where its ledger starts, and reports whether it has: a new
// ledger starts at the tails that exist, so a batch that was cut before would count as the past and start nothing. Nothing is lost meanwhile,
// since the log holds what comes in. A ledger on hold is not new.
func (a *app) awaitLedger(ctx context.Context) bool {
	if a.schedule == nil || a.schedule.hold.held {
		return true
	}
	select {
	case <-a.schedule.dispatch.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

// followDAGs keeps the engine's DAGs as the files are. A reload looks at all of them anew, perhaps in another directory.
func (a *app) followDAGs(ctx context.Context) error {
	for ctx.Err() == nil {
		round, end := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- a.watchDAGs(round) }() // ends with the round, and is waited for below
		select {
		case <-a.reloads.dags:
		case <-ctx.Done():
		}
		end()
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}

func (a *app) watchDAGs(ctx context.Context) error {
	dir := spec.DirOptions{Logger: a.log, Programs: a.cfg.Data("programs")}
	if a.opts.Demo {
		demo := configs.DemoDAG
		if ex := a.opts.DemoExecutor; ex != "" {
			demo = slices.Concat(demo, []byte("defaults: {executor: "+ex+"}\n"))
		}
		dir.Builtin = map[string][]byte{"demo.yaml": demo}
	}
	cfg, path := a.live.Load(), ""
	if err := a.schedule.engine.SetPools(ctx, cfg.Pools); err != nil && ctx.Err() == nil {
		return fmt.Errorf("set pools: %w", err)
	}
	if cfg.DAGs != "" {
		path = cfg.Path(cfg.DAGs)
	}
	var warned []string
	return spec.NewDir(path, dir).Run(ctx, a.takeDAGs(&warned))
}

// announcers tells several of a batch.
type announcers []batcher.Announcer

// Announce implements batcher.Announcer.
func (as announcers) Announce(ctx context.Context, b batcher.Batch) {
	for _, a := range as {
		a.Announce(ctx, b)
	}
}
