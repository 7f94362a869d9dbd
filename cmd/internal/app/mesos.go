package app

import (
	"fmt"
	"os"
	"strings"
	"time"

	"millrace/configs"
	"millrace/scheduler"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/sandbox"
	"millrace/scheduler/mesosexec/zkdetect"
	"millrace/scheduler/vars"
)

// mesosName is what the executor on Mesos is called in DAG files.
const mesosName = "mesos"

// buildMesos makes the executor on Mesos, if there is to be one.
func (a *app) buildMesos(records scheduler.Records, values *vars.Registry) (*mesosexec.Executor, error) {
	m := &a.cfg.Executors.Mesos
	if !m.On() {
		return nil, nil
	}
	detector, err := a.detector(m.Masters)
	if err != nil {
		return nil, err
	}
	client, err := mesosClient(a.cfg)
	if err != nil {
		return nil, err
	}
	client.Registerer = a.metrics
	host, _ := os.Hostname()
	kept := mesosexec.Sandboxes{Dir: a.cfg.Data("mesos"), Objects: a.objects, Options: sandbox.Options{
		MaxLog: int64(m.MaxLog), Logger: a.log, Registerer: a.metrics,
	}}
	ex, err := mesosexec.NewExecutor(detector, records, kept, mesosexec.ExecutorOptions{
		Name: mesosName, Slots: m.Slots, Client: client, Hold: heldFor(m.Hold), Warm: m.Warm, Settle: m.Settle, Logger: a.log.With("executor", mesosName), Registerer: a.metrics,
		Framework: mesosexec.Framework{
			User: m.User, Roles: m.Roles, Principal: m.Principal, Failover: m.FailoverTimeout, GPU: m.GPU, WebUIURL: a.consoleURL(), Hostname: host,
		},
		Task: mesosexec.TaskOptions{Containerizer: m.Containerizer, Secrets: m.Secrets, DockerOptions: m.DockerOptions},
		Seal: values.SealFor, Unseal: values.UnsealFor,
	})
	if err != nil {
		return nil, fmt.Errorf("open mesos executor: %w", err)
	}
	return ex, nil
}

// mesosClient returns how masters and agents of a configuration are spoken to.
func mesosClient(cfg *configs.Loaded) (mesosexec.Options, error) {
	m := &cfg.Executors.Mesos
	opt := mesosexec.Options{}
	secret := func(ref configs.SecretRef) mesosexec.Secret {
		return func() (string, error) {
			text, err := ref.Resolve(cfg.Dir())
			return text.Reveal(), err
		}
	}
	switch {
	case m.Secret != "":
		opt.Credentials = mesosexec.Basic(m.Principal, secret(m.Secret))
	case m.Token != "":
		opt.Credentials = mesosexec.Bearer(secret(m.Token))
	}
	if m.CA == "" {
		return opt, nil
	}
	var err error
	if opt.TLS, err = mesosexec.TrustAlso(cfg.Path(m.CA)); err != nil {
		return opt, fmt.Errorf("%w: executors.mesos.ca: %w", configs.ErrInvalid, err)
	}
	return opt, nil
}

// detector returns what knows where the masters are.
func (a *app) detector(masters []string) (mesosexec.Detector, error) {
	if !strings.HasPrefix(masters[0], "zk://") {
		list, err := mesosexec.NewList(masters...)
		if err != nil {
			return nil, fmt.Errorf("%w: executors.mesos.masters: %w", configs.ErrInvalid, err)
		}
		return list, nil
	}
	d, err := zkdetect.New(masters[0], zkdetect.Options{HTTPS: a.cfg.Executors.Mesos.CA != "", Logger: a.log})
	if err != nil {
		return nil, fmt.Errorf("%w: executors.mesos.masters: %w", configs.ErrInvalid, err)
	}
	a.back("mesos leader", d.Run)
	return d, nil
}

// heldFor is how long offers are held: for an executor 0 is the default, and less is not at all.
func heldFor(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
