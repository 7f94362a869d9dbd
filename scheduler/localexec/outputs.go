//go:build linux

package localexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/output"
)

var _ scheduler.OutputPlacer = (*Executor)(nil)

// Outputs keeps outputs that are too large for a report.
type Outputs interface {
	// Put stores the output of an attempt, durably; it may be repeated. scheduler.ErrUnavailable: not now; another error: never.
	Put(ctx context.Context, attempt string, body []byte, now time.Time) (*scheduler.OutputRef, error)
	// Get returns one, whole. scheduler.ErrNotFound, scheduler.ErrUnavailable.
	Get(ctx context.Context, ref scheduler.OutputRef) ([]byte, error)
	// URI is where programs find it.
	URI(ref scheduler.OutputRef) string
}

// Names below the executor's directory: what was fetched for the tasks of a run is in outputs/<run>/, and is removed with the run's state.
const (
	outputsDir  = "outputs"
	fetchingDir = "outputs-fetching"
)

// deliver hands reports on. Large outputs are put into the store first: the file stays until the runner hears that the report was taken, so
// stopping anywhere puts the output again, and a report never names what is not there. What is large goes last, and what can not be stored now
// is left out, with an error that has the runner repeat it: so a store that is away delays nobody else.
func (e *Executor) deliver(ctx context.Context, list []scheduler.Report, report func(context.Context, []scheduler.Report) error) error {
	var small, large []scheduler.Report
	for _, rep := range list {
		if rep.OutputRef != nil && rep.OutputRef.SHA256 == "" {
			large = append(large, rep)
		} else {
			small = append(small, rep)
		}
	}
	if len(small) > 0 {
		if err := report(ctx, small); err != nil {
			return err
		}
	}
	for i := range large {
		if err := e.spill(ctx, &large[i]); err != nil {
			return err
		}
		if err := report(ctx, large[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// spill replaces the file in a report by the object that it became.
func (e *Executor) spill(ctx context.Context, rep *scheduler.Report) error {
	file := *rep.OutputRef
	rep.OutputRef = nil
	if rep.Outcome != scheduler.OutcomeExited || rep.Exit != 0 || rep.Signal != "" {
		return nil // nobody asks for it
	}
	if e.opt.Outputs == nil {
		rep.OutputError = fmt.Sprintf("has %d bytes, more than %d, and there is no object store for it", file.Bytes, scheduler.MaxOutput)
		return nil
	}
	body, problem, err := runner.ReadOutput(e.dir, file)
	switch {
	case err != nil:
		return fmt.Errorf("read output of attempt %s: %w", rep.Attempt, err)
	case problem != "":
		rep.OutputError = problem
		return nil
	}
	rep.OutputRef, rep.OutputError, err = output.Spill(ctx, e.opt.Outputs, rep.Attempt, body)
	return err
}

// PlaceOutput implements scheduler.OutputPlacer. An object that is a file here is read where it is; any other is fetched.
func (e *Executor) PlaceOutput(ctx context.Context, run string, ref scheduler.OutputRef) (string, error) {
	if e.opt.Outputs == nil {
		return "", fmt.Errorf("place output %s: there is no object store", ref.Ref)
	}
	if u, err := url.Parse(e.opt.Outputs.URI(ref)); err == nil && u.Scheme == "file" && u.Path != "" {
		if _, err := os.Stat(u.Path); err == nil {
			return u.Path, nil
		}
	}
	dir := filepath.Join(e.dir, outputsDir, filepath.Base(run))
	path := filepath.Join(dir, ref.SHA256+".json")
	if info, err := os.Stat(path); err == nil && info.Size() == ref.Bytes {
		return path, nil
	}
	body, err := e.opt.Outputs.Get(ctx, ref)
	if err != nil {
		return "", err
	}
	temp, err := e.fetched(body)
	if err != nil {
		return "", fmt.Errorf("place output %s: %w", ref.Ref, err)
	}
	e.placing.Lock()
	defer e.placing.Unlock()
	if err := errors.Join(os.MkdirAll(dir, 0o750), os.Rename(temp, path)); err != nil {
		return "", fmt.Errorf("place output %s: %w", ref.Ref, err)
	}
	return path, nil
}

// fetched writes a file that has no name yet by which it is looked for.
func (e *Executor) fetched(body []byte) (string, error) {
	dir := filepath.Join(e.dir, fetchingDir)
	if err := vfs.MkdirAllSync(vfs.OS, dir); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "output-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	return f.Name(), errors.Join(err, f.Chmod(0o440), f.Close())
}

// sweepOutputs removes what was fetched for runs that have ended. A run is asked after while nothing can be placed: what is placed is for a run
// that is live in the store already.
func (e *Executor) sweepOutputs(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(e.dir, outputsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		errs = append(errs, e.sweepRun(ctx, entry.Name()))
	}
	return errors.Join(errs...)
}

func (e *Executor) sweepRun(ctx context.Context, run string) error {
	e.placing.Lock()
	defer e.placing.Unlock()
	ended, err := e.opt.Ended(ctx, run)
	if err != nil || !ended {
		return err
	}
	return os.RemoveAll(filepath.Join(e.dir, outputsDir, run))
}
