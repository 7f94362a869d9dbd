//go:build linux

package dockerexec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/moby/moby/client"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
	"millrace/scheduler/output"
)

// Options tune an [Executor]. The zero value works, with the engine of this machine.
type Options struct {
	// Name is the executor's name in records and metrics; default "docker".
	Name string
	// Host is where the engine listens: unix:///path or tcp://host:port; default unix:///var/run/docker.sock.
	Host string
	// CA, Cert and Key are files for TLS; all or none.
	CA, Cert, Key string
	// Slots is how many attempts may be active at once; default 8.
	Slots int
	// Network is that of tasks that name none; default [scheduler.NetworkHost].
	Network string
	// Privileged permits tasks to be privileged.
	Privileged bool
	// MaxLog bounds the output of one attempt in bytes; one that writes more is killed, reason log_limit. Default 1 GiB.
	MaxLog int64
	// Poll is how often all containers are listed, besides the news of them that the engine sends; default 15 s.
	Poll time.Duration
	// Auth returns the credentials for the registry of an image, as the engine's API wants them; nil, or "": none.
	Auth func(ctx context.Context, image string) (string, error)
	// Ended reports whether a run has ended, or is not known any more: then the volumes in which its tasks kept what the next try should find are removed.
	// nil: they are kept. It is asked every Sweep, default 1 minute.
	Ended func(ctx context.Context, run string) (bool, error)
	Sweep time.Duration
	// Outputs is where outputs go that are too large for a report. nil: such an output fails its attempt.
	Outputs output.Putter
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "docker"
	}
	if o.Host == "" {
		o.Host = client.DefaultDockerHost
	}
	if o.Slots == 0 {
		o.Slots = 8
	}
	if o.Network == "" {
		o.Network = scheduler.NetworkHost
	}
	if o.MaxLog == 0 {
		o.MaxLog = 1 << 30
	}
	if o.Poll == 0 {
		o.Poll = 15 * time.Second
	}
	if o.Sweep == 0 {
		o.Sweep = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	o = o.withDefaults()
	if _, err := client.ParseHostURL(o.Host); err != nil {
		errs = append(errs, fmt.Errorf("host is %q, want unix:///path or tcp://host:port: %w", o.Host, err))
	}
	if (o.CA == "") != (o.Cert == "") || (o.Cert == "") != (o.Key == "") {
		errs = append(errs, errors.New("TLS takes a file of certificates, a certificate and its key: all or none"))
	}
	if o.Slots < 1 || o.MaxLog < 1 || o.Poll < 0 || o.Sweep < 0 {
		errs = append(errs, fmt.Errorf("slots %d, bound of a log %d, poll %v, sweep %v: want at least 1, and no negative duration", o.Slots, o.MaxLog, o.Poll, o.Sweep))
	}
	return errors.Join(errs...)
}

// open returns the client of the engine. It connects to nothing.
func (o Options) open() (*client.Client, error) {
	opts := []client.Opt{client.WithHost(o.Host)}
	if o.CA != "" {
		opts = append(opts, client.WithTLSClientConfig(o.CA, o.Cert, o.Key))
	}
	return client.New(opts...)
}

// Probe asks the engine for its version, and returns a sentence about it.
func Probe(ctx context.Context, o Options) (string, error) {
	if err := o.Validate(); err != nil {
		return "", err
	}
	o = o.withDefaults()
	api, err := o.open()
	if err != nil {
		return "", err
	}
	defer api.Close()
	info, err := api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, version %s on %s/%s, %d containers run", info.Info.Name, info.Info.ServerVersion, info.Info.OSType, info.Info.Architecture, info.Info.ContainersRunning), nil
}
