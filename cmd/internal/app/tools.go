package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/verify"
	"millrace/configs"
	"millrace/ingest"
	"millrace/ingest/wal"
	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/spec"
)

// Runner is the process that supervises local tasks, until ctx ends.
func Runner(ctx context.Context, args []string) error { return runner.Main(ctx, args) }

// CompileDAGs compiles the text of a DAG file. The error shows each fault with its place, for people.
func CompileDAGs(file string, src []byte) ([]scheduler.DAG, error) {
	dags, _, err := CheckDAGs(file, src)
	return dags, err
}

// CheckDAGs is CompileDAGs with what is permitted and probably not meant.
func CheckDAGs(file string, src []byte) ([]scheduler.DAG, []spec.Warning, error) {
	f := spec.ReadFile(file, src)
	if len(f.Faults) > 0 {
		return nil, f.Warnings, errors.New(f.Faults.Detail())
	}
	return f.DAGs, f.Warnings, nil
}

// Verify walks chain and objects as the configuration names them, beside a running server or without one.
func Verify(ctx context.Context, cfg *configs.Loaded) (*verify.Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	store, closeStore, err := openObjects(ctx, cfg, true)
	if errors.Is(err, batcher.ErrNotFound) {
		return nil, fmt.Errorf("%w\nIs data_dir right? It is %s", err, cfg.Data("."))
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = closeStore() }()
	var logs []ingest.Partition
	reader, err := wal.OpenReader(nil, cfg.Data("log"))
	switch {
	case err == nil:
		defer func() { _ = reader.Close() }()
		logs = append(logs, reader)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open log: %w", err)
	}
	return verifyAll(ctx, store, logs...)
}

func verifyAll(ctx context.Context, store batcher.ObjectStore, logs ...ingest.Partition) (*verify.Report, error) {
	r, err := verify.Run(ctx, chain.New(store, chain.Options{}), store, verify.Options{Log: logs})
	return &r, err
}
