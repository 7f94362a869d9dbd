package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"millrace/configs"
	"millrace/ingest"
	"millrace/ingest/gateway"
	"millrace/ingest/wal"
)

// openLog opens the log of this process: the one for writing and reading.
func (a *app) openLog() error {
	w := a.cfg.Log.WAL
	log, err := wal.Open(a.cfg.Data("log"), wal.Options{
		SegmentBytes: int64(w.Segment), MaxDelay: w.MaxDelay, MaxBytes: int64(w.MaxBytes), ReserveBytes: int64(w.MinFree),
		MaxRecord: configs.MaxRecord,
		Logger:    a.log, Registerer: a.metrics,
	})
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	a.wal = log
	a.onClose(log.Close)
	a.back("log", func(ctx context.Context) error {
		select {
		case err := <-log.Failed():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	return nil
}

// buildIngest adds the gateway.
func (a *app) buildIngest(sources []ingest.Source) error {
	gw, err := gateway.New(a.wal, sources, gateway.Options{
		Limits: limits(&a.cfg.Ingest), Front: a.gatewayFront(),
		DrainDelay: a.cfg.Shutdown.Delay, Drain: a.cfg.Shutdown.Timeout,
		Log: a.log, Metrics: a.metrics,
	})
	if err != nil {
		return err
	}
	ln, err := listen(a.cfg.Ingest.Listen, "ingest.listen")
	if err != nil {
		return err
	}
	a.gateway = gw
	ln = a.certs["ingest"].wrap(ln, "http/1.1")
	a.front("gateway", func(ctx context.Context) error { return gw.Run(ctx, ln) })
	return nil
}

// gatewayFront returns what the configuration says of what lies before the gateway.
func (a *app) gatewayFront() gateway.Front {
	in := &a.cfg.Ingest
	f := gateway.Front{TrustedProxies: in.TrustedProxies, PublicURL: in.PublicURL}
	if in.Scripts != "" {
		f.Scripts = a.cfg.Path(in.Scripts)
	}
	return f
}

// orNone returns a rate as the gateway takes it: its zero is a default, so none is negative.
func orNone(rate configs.Size) int {
	if rate == 0 {
		return -1
	}
	return int(rate)
}

// limits returns what the configuration says of the gateway's limits.
func limits(in *configs.Ingest) gateway.Limits {
	return gateway.Limits{
		MaxEvent: int(in.MaxEvent), MaxRequest: int(in.MaxRequest), MaxCompressed: int(in.MaxCompressed), MaxRatio: in.MaxRatio,
		MaxBulk: int64(in.MaxBulk), MaxHeaderBytes: int(in.MaxHeaderBytes), MaxHeaders: in.MaxHeaders,
		HeaderTimeout: in.HeaderTimeout, BodyTimeout: in.BodyTimeout, MinBodyRate: int(in.MinBodyRate), IdleTimeout: in.IdleTimeout,
		MaxConns: in.MaxConns, MaxConnsPerIP: in.MaxConnsPerIP, MaxInflight: int(in.MaxInflight),
		SourceRate: in.SourceRate, TenantRate: in.TenantRate, OrphanRate: orNone(in.UnknownKeyRate),
	}
}

// listen opens a listener and says which key to change if it can not.
func listen(addr, key string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\nIs another millrace running? Choose another address with %s", key, err, key)
	}
	return ln, nil
}

// RunLogOnly serves gateway and log alone, with the clickstream source of dev: what `bench ingest --log-only` measures.
func RunLogOnly(ctx context.Context, addr, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	log, err := wal.Open(dir+"/log", wal.Options{MaxDelay: 2 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	dev := configs.Dev()
	sources, err := dev.SourceList(".")
	if err != nil {
		return err
	}
	gw, err := gateway.New(log, sources, gateway.Options{})
	if err != nil {
		return err
	}
	ln, err := listen(addr, "--listen")
	if err != nil {
		return err
	}
	return gw.Run(ctx, ln)
}
