package app

import (
	"context"
	"fmt"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/dirstore"
	"millrace/batcher/s3store"
	"millrace/batcher/seal"
	"millrace/configs"
	"millrace/ingest"
)

// openObjects opens the object store and probes it. readOnly opens a directory beside the process that puts.
func openObjects(ctx context.Context, cfg *configs.Loaded, readOnly bool) (batcher.ObjectStore, func() error, error) {
	if cfg.Objects.Kind == "s3" {
		store, err := openS3(ctx, cfg)
		return store, func() error { return nil }, err
	}
	store, err := dirstore.Open(cfg.Data(cfg.Objects.Dir.Path), dirstore.Options{ReadOnly: readOnly})
	if err != nil {
		return nil, nil, fmt.Errorf("open objects: %w", err)
	}
	return store, store.Close, nil
}

// s3Options are those of the configuration, with its secrets.
func s3Options(cfg *configs.Loaded) (s3store.Options, error) {
	c := cfg.Objects.S3
	access, err := c.AccessKey.Resolve(cfg.Dir())
	if err != nil {
		return s3store.Options{}, fmt.Errorf("objects.s3.access_key: %w", err)
	}
	secret, err := c.SecretKey.Resolve(cfg.Dir())
	if err != nil {
		return s3store.Options{}, fmt.Errorf("objects.s3.secret_key: %w", err)
	}
	return s3store.Options{
		Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, Endpoint: c.Endpoint, PathStyle: c.PathStyle,
		AccessKey: access, SecretKey: secret, Checksums: c.Checksums,
	}, nil
}

func openS3(ctx context.Context, cfg *configs.Loaded) (batcher.ObjectStore, error) {
	opts, err := s3Options(cfg)
	if err != nil {
		return nil, err
	}
	store, err := s3store.Open(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("open objects: %w", err)
	}
	return store, nil
}

// buildObjects opens the store that batch and schedule share, and reads its chains.
func (a *app) buildObjects(ctx context.Context) error {
	store, closeStore, err := openObjects(ctx, a.cfg, !a.cfg.HasRole(configs.RoleBatch))
	if err != nil {
		return err
	}
	a.onClose(closeStore)
	if a.cfg.HasRole(configs.RoleBatch) {
		if err := a.probe(ctx, store); err != nil {
			return err
		}
	}
	a.objects, a.catalogue = store, chain.New(store, chain.Options{})
	return nil
}

// buildBatch adds the worker of the log's partitions.
func (a *app) buildBatch(announce batcher.Announcer) error {
	spacing := seal.SpacingDir
	if a.cfg.Objects.Kind == "s3" {
		spacing = seal.SpacingS3
	}
	worker, err := seal.New(a.objects, a.policy, announce, seal.Options{
		LogName: a.cfg.Log.Kind, Memory: int64(a.cfg.Batcher.Memory), Index: int64(a.cfg.Batcher.DedupeMemory), Window: a.longestWindow(),
		Spacing: spacing, Log: a.log, Metrics: a.metrics, WayOut: wayOut,
	})
	if err != nil {
		return err
	}
	a.worker = worker
	var log ingest.Consumer = a.wal
	a.back("batcher", func(ctx context.Context) error {
		if !a.awaitLedger(ctx) {
			return nil
		}
		if err := a.awaitProof(ctx); err != nil {
			return err
		}
		return log.Consume(ctx, worker.Work)
	})
	return nil
}

// policy is the batch policy of a source, the defaults for one that was removed.
func (a *app) policy(source string) batcher.Policy { return a.live.Load().BatchOf(source).Policy() }
