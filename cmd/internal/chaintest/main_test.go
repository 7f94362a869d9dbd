//go:build linux

package chaintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/s3store"
	"millrace/batcher/seal"
	"millrace/ingest"
)

// env carries the task of a child process, as JSON.
const env = "MILLRACE_CHAINTEST"

// task is what a child process of the test has to do: to be a batcher, or to measure open lanes.
type task struct {
	Batcher *batcherTask `json:",omitempty"`
	Lanes   *lanesTask   `json:",omitempty"`
}

// batcherTask is all that a batcher needs to know.
type batcherTask struct {
	// Life is the number of the process, Log the address where the log is lent.
	Life                                   int
	Log                                    string
	Endpoint, Bucket, AccessKey, SecretKey string
	// Policy is for all sources; batchers have different ones.
	Policy batcher.Policy
}

// TestMain makes the test binary its own child.
func TestMain(m *testing.M) {
	text := os.Getenv(env)
	if text == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var do task
	err := json.Unmarshal([]byte(text), &do)
	switch {
	case err != nil:
	case do.Batcher != nil:
		err = do.Batcher.run(ctx)
	case do.Lanes != nil:
		err = do.Lanes.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// command returns the command of a child, which dies with this process.
func command(do task) (*exec.Cmd, error) {
	text, err := json.Marshal(do)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

func (b *batcherTask) store(ctx context.Context) (*s3store.Store, error) {
	return s3store.Open(ctx, s3store.Options{
		Bucket: b.Bucket, Endpoint: b.Endpoint, PathStyle: true, Region: "us-east-1",
		AccessKey: ingest.Secret(b.AccessKey), SecretKey: ingest.Secret(b.SecretKey), Timeout: 20 * time.Second,
	})
}

// run is the main of a batcher process: the program's own worker and store client, over a log that is lent.
func (b *batcherTask) run(ctx context.Context) error {
	log, err := borrow(b.Log, b.Life)
	if err != nil {
		return err
	}
	store, err := b.store(ctx)
	if err != nil {
		return err
	}
	w, err := seal.New(store, func(string) batcher.Policy { return b.Policy }, log, seal.Options{
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnStep: log.step, Spacing: seal.SpacingS3,
	})
	if err != nil {
		return err
	}
	if err := w.Work(ctx, log); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errors.New("the worker ended by itself")
	}
	return nil
}
