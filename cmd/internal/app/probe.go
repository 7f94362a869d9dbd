package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"millrace/batcher"
	"millrace/configs"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
	"millrace/trigger/natsbus"
)

// ProbeObjects opens the object store as a server does and asks whether it keeps what the chain needs; it returns the store's home. Where a
// server holds the lock of a directory, it only looks whether the store can be read. A probe leaves small objects below _millrace/probe/.
func ProbeObjects(ctx context.Context, cfg *configs.Loaded) (home string, err error) {
	store, closeStore, err := openObjects(ctx, cfg, false)
	locked := errors.Is(err, vfs.ErrLocked)
	if locked {
		store, closeStore, err = openObjects(ctx, cfg, true)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = closeStore() }() // nothing was kept in memory
	if p, ok := store.(batcher.Prober); ok && !locked {
		if err := p.Probe(ctx); err != nil {
			return store.Home(), fmt.Errorf("probe objects at %s: %w", store.Home(), err)
		}
	}
	return store.Home(), nil
}

// ProbeBus asks an external bus whether it is there. The embedded one always is.
func ProbeBus(ctx context.Context, cfg *configs.Loaded) error {
	if cfg.Bus.Kind != "nats" {
		return nil
	}
	opts, err := busOptions(cfg)
	if err != nil {
		return err
	}
	return natsbus.Probe(ctx, opts)
}

// LogHomes returns where the log says that its chains are; none if there is no log.
func LogHomes(ctx context.Context, cfg *configs.Loaded) ([]string, error) {
	r, err := wal.OpenReader(nil, cfg.Data("log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var homes []string
	for _, inc := range r.Incarnations() {
		hint, err := r.Hint(ctx, inc.Stream)
		if err != nil {
			return nil, fmt.Errorf("ask the log for its chain: %w", err)
		}
		if hint.Home != "" {
			homes = append(homes, hint.Home)
		}
	}
	return homes, nil
}

// CheckLog reads the log and returns its damage; none if there is no log.
func CheckLog(ctx context.Context, cfg *configs.Loaded) ([]wal.Damage, error) {
	damage, err := wal.Check(ctx, nil, cfg.Data("log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return damage, err
}
