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
		Limits: a.limits(), Drain: a.cfg.Shutdown.Timeout,
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
	a.front("gateway", func(ctx context.Context) error { return gw.Run(ctx, ln) })
	return nil
}

// orNone returns a rate as the gateway takes it: its zero is a default, so none is negative.
func orNone(rate configs.Size) int {
	if rate == 0 {
		return -1
	}
	return int(rate)
}

// limits returns what the configuration says of the gateway's limits.
func (a *app) limits() gateway.Limits {
	in := a.cfg.Ingest
	return gateway.Limits{
		MaxEvent: int(in.MaxEvent), MaxRequest: int(in.MaxRequest), MaxInflight: int(in.MaxInflight), OrphanRate: orNone(in.UnknownKeyRate),
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
