package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"millrace/batcher/dedupe"
	"millrace/batcher/encode"
	"millrace/configs"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/api"
	"millrace/scheduler/backfill"
)

// buildConsole adds page, API, metrics and health, as far as this process has what they show.
func (a *app) buildConsole(_ context.Context) error {
	c := a.cfg.Console
	if err := api.CheckListen(c.Listen, c.TLS.On(), c.Insecure); err != nil {
		return fmt.Errorf("%w: %w", configs.ErrInvalid, err)
	}
	token, err := api.LoadToken(a.cfg.Data("."))
	if err != nil {
		return err
	}
	deps := api.Deps{
		Codec: codec{}, Sources: a.sources.list,
		Config: func() any { return a.live.Load().Values() }, CompileDAGs: compilePointers, Ready: a.ready, Metrics: a.metrics,
	}
	var logs []ingest.Partition
	if a.wal != nil {
		deps.Pressure, logs = a.wal, append(logs, a.wal)
	}
	if a.objects != nil {
		deps.Catalogue, deps.Objects = a.catalogue, a.objects
		deps.Verify = func(ctx context.Context) (any, error) { return verifyAll(ctx, a.objects, logs...) }
	}
	if a.worker != nil {
		deps.Finder, deps.Stuck = a.worker, a.stuck
	}
	if s := a.schedule; s != nil {
		deps.Store, deps.Control, deps.Executors, deps.Resume, deps.Held = s.store, s.engine, s.executors, s.hold.resume, s.hold.since
		if a.opts.Double != "" {
			deps.ExecutorNotes = map[string]string{mesosName: doubleNote}
		}
		deps.Explain, deps.Simulate = s.engine, s.simulate
		deps.Outbox, deps.Notifications = s.store, s.notify
		deps.Prune = s.history.now(a.retention)
		deps.Approve = s.engine
		if s.mesos != nil { // a nil executor is no nil interface
			deps.Mesos = s.mesos
		}
		deps.Backfiller, deps.PlanBackfill = s.engine, backfill.New(s.store, s.engine, judge{}, a.catalogue).Plan
		deps.Values, deps.TestConnection = s.values, testConnection
	}
	srv, err := api.New(deps, api.Options{
		Token: token, BasePath: c.BasePath, Hosts: c.Hosts, Redact: c.Redact, TLS: c.TLS.On(), Pprof: c.Pprof,
		Version: api.Version(BuildVersion()), Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	ln, err := listen(c.Listen, "console.listen")
	if err != nil {
		return err
	}
	a.consoleAt = a.certs["console"].scheme() + "://" + ln.Addr().String()
	a.console = a.consoleAt
	if a.opts.Dev {
		a.console = srv.LoginURL(a.console)
	}
	ln = a.certs["console"].wrap(ln, "h2", "http/1.1")
	a.back("console", func(ctx context.Context) error { return srv.Run(ctx, ln) })
	return nil
}

// ready says why the process is not ready. A store or bus that is away is no reason: the log has room, or says that it has not.
func (a *app) ready() error {
	var errs []error
	if a.gateway != nil {
		errs = append(errs, a.gateway.Ready())
	}
	if a.schedule != nil {
		select {
		case <-a.schedule.engine.Ready():
		default:
			errs = append(errs, errors.New("the scheduler is starting"))
		}
	}
	return errors.Join(errs...)
}

func compilePointers(file string, src []byte) ([]*scheduler.DAG, error) {
	dags, err := CompileDAGs(file, src)
	out := make([]*scheduler.DAG, len(dags))
	for i := range dags {
		out[i] = &dags[i]
	}
	return out, err
}

// codec reads for the console what the batcher wrote.
type codec struct{}

// Rows implements api.Codec.
func (codec) Rows(name string, body []byte) (io.ReadCloser, error) {
	return encode.NewReader(name, body)
}

// IDs implements api.Codec.
func (codec) IDs(body []byte, row func(api.SidecarRow) bool) error {
	ids, err := dedupe.UnmarshalIDs(bytes.Clone(body))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !row(api.SidecarRow{ID: id.Hash, ReceivedAt: id.Received, Offset: id.Offset}) {
			break
		}
	}
	return nil
}

// greet tells the person who started the process where things are.
func (a *app) greet() {
	w := a.opts.Notices
	_, _ = fmt.Fprintf(w, "millrace is running (version %s)\n", version)
	if a.cfg.File != "" {
		_, _ = fmt.Fprintf(w, "  config   %s\n", a.cfg.File)
	}
	_, _ = fmt.Fprintf(w, "  data     %s\n", a.cfg.Data("."))
	if a.gateway != nil {
		_, _ = fmt.Fprintf(w, "  events   %s://%s\n", a.certs["ingest"].scheme(), a.cfg.Ingest.Listen)
	}
	_, _ = fmt.Fprintf(w, "  console  %s\n", a.console)
	if a.schedule != nil && a.schedule.hold.held {
		_, _ = fmt.Fprintln(w, "  HOLD     the state was restored: no batch starts a run until 'millrace admin resume --since' says from when on")
	}
	if a.opts.Double != "" {
		_, _ = fmt.Fprintf(w, "  mesos    %s\n", a.opts.Double)
	}
	if !a.opts.Dev {
		return
	}
	if !a.cfg.Ingest.TLS.On() {
		_, _ = fmt.Fprintf(w, "  try      curl http://%s/v1/track -u dev: -d '{\"userId\": \"u1\", \"event\": \"Hello\"}'\n", a.cfg.Ingest.Listen)
		return
	}
	cert := a.cfg.Path(a.cfg.Ingest.TLS.Cert)
	_, _ = fmt.Fprintf(w, "  trust    %s\n", cert)
	_, _ = fmt.Fprintf(w, "  try      curl --cacert %s https://%s/v1/track -u dev: -d '{\"userId\": \"u1\", \"event\": \"Hello\"}'\n", cert, a.cfg.Ingest.Listen)
	_, _ = fmt.Fprintf(w, "           export MILLRACE_SERVER=%s://%s\n", a.certs["console"].scheme(), a.cfg.Console.Listen)
}
