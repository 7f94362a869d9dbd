package app

import (
	"context"

	"millrace/configs"
	"millrace/scheduler/dockerexec"
	taskout "millrace/scheduler/output"
	"millrace/scheduler/registry"
)

// addDocker adds the executor on a Docker engine, if one is configured.
func (a *app) addDocker(ctx context.Context, s *scheduling, outputs *taskout.Store, registries *registry.Client) error {
	if !a.cfg.Executors.Docker.On() {
		return nil
	}
	opt := dockerOptions(a.cfg)
	opt.Auth, opt.Ended, opt.Outputs, opt.Logger, opt.Registerer = registries.EngineAuth, runEnded(s.store), outputs, a.log, a.metrics
	e, err := dockerexec.Open(ctx, a.cfg.Data("docker"), s.store, opt)
	if err != nil {
		return err
	}
	a.onClose(e.Close)
	s.executors["docker"] = e
	return nil
}

func dockerOptions(cfg *configs.Loaded) dockerexec.Options {
	d := &cfg.Executors.Docker
	opt := dockerexec.Options{
		Host: d.Host, Slots: d.Slots, Network: d.Network, Privileged: d.Privileged, MaxLog: int64(d.MaxLog),
	}
	if d.CA != "" {
		opt.CA, opt.Cert, opt.Key = cfg.Path(d.CA), cfg.Path(d.Cert), cfg.Path(d.Key)
	}
	return opt
}

// ProbeDocker asks the Docker engine that is configured what it is.
func ProbeDocker(ctx context.Context, cfg *configs.Loaded) (string, error) {
	return dockerexec.Probe(ctx, dockerOptions(cfg))
}
