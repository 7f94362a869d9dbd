package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/configs"
	"millrace/ingest"
)

// reloads are the metrics of reloading, and what a listener for it needs.
type reloads struct {
	successful, timestamp prometheus.Gauge
	// dags has a value when the DAG files must be read anew.
	dags chan struct{}
}

func newReloads(reg prometheus.Registerer) reloads {
	r := reloads{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_config_last_reload_successful", Help: "1 if the configuration was taken over when it was last read, else 0.",
		}),
		timestamp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_config_last_reload_success_timestamp_seconds", Help: "When the configuration was last taken over.",
		}),
		dags: make(chan struct{}, 1),
	}
	reg.MustRegister(r.successful, r.timestamp)
	r.done(nil)
	return r
}

func (r *reloads) done(err error) {
	if err != nil {
		r.successful.Set(0)
		return
	}
	r.successful.Set(1)
	r.timestamp.SetToCurrentTime()
}

// sources are those that are in force.
type sourceList struct {
	now atomic.Pointer[[]ingest.Source]
}

func (s *sourceList) list() []ingest.Source { return *s.now.Load() }

// followReloads reads the configuration again whenever Options.Reload has a value, until ctx ends.
func (a *app) followReloads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.opts.Reload:
		}
		err := a.reload()
		a.reloads.done(err)
		if err != nil {
			a.log.Error("configuration not reloaded, the one before stays in force", "err", err)
			_, _ = fmt.Fprintf(a.opts.Notices, "configuration not reloaded, the one before stays in force: %v\n", err)
		}
	}
}

// reload takes over what can be changed in a process that runs: all of it, or nothing if anything is wrong. Everything is read and checked
// before the first thing is changed.
func (a *app) reload() error {
	next, err := a.opts.Load()
	if err != nil {
		return err
	}
	if err := next.Validate(); err != nil { // as it stands, before anything of it is left out
		return err
	}
	merged, restart := a.live.Load().Reloaded(next)
	if err := merged.Validate(); err != nil {
		return err
	}
	sources, err := merged.SourceList(merged.Dir())
	if err != nil {
		return err
	}
	notifiers, err := merged.Notifiers(merged.Dir())
	if err != nil {
		return err
	}
	certs, err := readCertificates(merged)
	if err != nil {
		return err
	}
	if err := a.changeGateway(merged, sources); err != nil {
		return err
	}
	if a.schedule != nil {
		if err := a.schedule.notify.Set(notifiers); err != nil { // can not be: they were checked
			return err
		}
	}
	for section, cert := range certs {
		a.certs[section].current.Store(cert)
	}
	a.live.Store(merged)
	if a.schedule != nil {
		a.schedule.values.Configure(a.valuesOf(merged))
	}
	a.sources.now.Store(&sources)
	select {
	case a.reloads.dags <- struct{}{}:
	default:
	}
	a.log.Info("configuration reloaded", "file", merged.File, "sources", len(sources))
	if len(restart) > 0 {
		a.log.Warn("changed settings that take a restart are as before", "keys", strings.Join(restart, ", "))
	}
	return nil
}

// changeGateway gives new sources and limits to the gateway, both or none.
func (a *app) changeGateway(cfg *configs.Loaded, sources []ingest.Source) error {
	if a.gateway == nil {
		return nil
	}
	l := limits(&cfg.Ingest)
	if err := l.Validate(); err != nil {
		return fmt.Errorf("%w: ingest: %w", configs.ErrInvalid, err)
	}
	if err := a.gateway.SetSources(sources); err != nil {
		return fmt.Errorf("%w: %w", configs.ErrInvalid, err)
	}
	return a.gateway.SetLimits(l)
}

// Check reports what is wrong with a configuration, as far as it can be known without starting anything: the values, the secrets and the
// certificates that they refer to.
func Check(cfg *configs.Loaded) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	_, err := cfg.SourceList(cfg.Dir())
	_, notifyErr := cfg.Notifiers(cfg.Dir())
	_, certErr := readCertificates(cfg)
	return errors.Join(err, notifyErr, certErr)
}

// readCertificates reads those of both listeners.
func readCertificates(cfg *configs.Loaded) (map[string]*tls.Certificate, error) {
	out := map[string]*tls.Certificate{}
	var errs []error
	for section, files := range map[string]configs.TLS{"ingest": cfg.Ingest.TLS, "console": cfg.Console.TLS} {
		cert, err := readCertificate(cfg, section, files)
		out[section] = cert
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}
