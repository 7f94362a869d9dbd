package app

import (
	"context"
	"fmt"

	"millrace/batcher"
	"millrace/configs"
	"millrace/trigger/natsbus"
	"millrace/trigger/publish"
)

// buildBus opens the bus that batch and schedule share.
func (a *app) buildBus(ctx context.Context) error {
	opts, err := busOptions(a.cfg)
	if err != nil {
		return err
	}
	opts.Log = a.log
	bus, err := natsbus.Open(ctx, opts)
	if err != nil {
		return fmt.Errorf("open bus: %w", err)
	}
	a.bus = bus
	a.onClose(bus.Close)
	return nil
}

// busOptions says which bus the configuration means.
func busOptions(cfg *configs.Loaded) (natsbus.Options, error) {
	if cfg.Bus.Kind != "nats" {
		return natsbus.Options{Dir: cfg.Data("bus")}, nil
	}
	url, err := cfg.Bus.NATS.URL.Resolve(cfg.Dir())
	if err != nil {
		return natsbus.Options{}, fmt.Errorf("bus.nats.url: %w", err)
	}
	opts := natsbus.Options{URL: url.Reveal()}
	if cfg.Bus.NATS.Creds != "" {
		opts.Creds = cfg.Path(cfg.Bus.NATS.Creds)
	}
	return opts, nil
}

// buildPublisher adds what announces batches.
func (a *app) buildPublisher() batcher.Announcer {
	p := publish.New(a.bus, publish.Options{Log: a.log, Registerer: a.metrics})
	a.back("publisher", p.Run)
	return p
}
