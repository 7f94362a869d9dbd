package app

import (
	"context"
	"fmt"

	"millrace/batcher"
	"millrace/trigger/natsbus"
	"millrace/trigger/publish"
)

// buildBus opens the bus that batch and schedule share.
func (a *app) buildBus(ctx context.Context) error {
	opts := natsbus.Options{Dir: a.cfg.Data("bus"), Log: a.log}
	if a.cfg.Bus.Kind == "nats" {
		url, err := a.cfg.Bus.NATS.URL.Resolve(a.cfg.Dir())
		if err != nil {
			return fmt.Errorf("bus.nats.url: %w", err)
		}
		opts.Dir, opts.URL = "", url.Reveal()
		if a.cfg.Bus.NATS.Creds != "" {
			opts.Creds = a.cfg.Path(a.cfg.Bus.NATS.Creds)
		}
	}
	bus, err := natsbus.Open(ctx, opts)
	if err != nil {
		return fmt.Errorf("open bus: %w", err)
	}
	a.bus = bus
	a.onClose(bus.Close)
	return nil
}

// buildPublisher adds what announces batches.
func (a *app) buildPublisher() batcher.Announcer {
	p := publish.New(a.bus, publish.Options{Log: a.log, Registerer: a.metrics})
	a.back("publisher", p.Run)
	return p
}
