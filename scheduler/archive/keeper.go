package archive

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
)

// Options are the tunables of a [Keeper]; zero values are filled in.
type Options struct {
	// Executors have the logs, by the name in an attempt.
	Executors map[string]scheduler.Executor
	// Drop forgets runs without an archive. It is asked at the beginning of each round; nil: never.
	Drop func() bool
	// MaxRuns and MaxBytes bound what goes into one object, the latter before compression: a run more may go in when it is reached. 0: 500, and
	// 16 MiB.
	MaxRuns  int
	MaxBytes int
	// LogTail is how much of each log's end is archived, in bytes. 0: 64 KiB.
	LogTail int64
}

// Keeper moves what ended long ago to the archive. Its rounds are for one goroutine.
type Keeper struct {
	history scheduler.History
	objects batcher.ObjectStore
	opts    Options
}

// Done is what a round did.
type Done struct {
	// Runs were forgotten; Objects have most of them, of so many Bytes.
	Runs, Objects int
	Bytes         int64
}

// NewKeeper returns a keeper of the runs in history, whose archives go to objects.
func NewKeeper(history scheduler.History, objects batcher.ObjectStore, opts Options) *Keeper {
	if opts.MaxRuns == 0 {
		opts.MaxRuns = 500
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 16 << 20
	}
	if opts.LogTail == 0 {
		opts.LogTail = 64 << 10
	}
	return &Keeper{history, objects, opts}
}

// Round archives and forgets the runs that ended before the day (UTC) of the time. It may be broken off, and repeated.
func (k *Keeper) Round(ctx context.Context, before time.Time) (Done, error) {
	var done Done
	before = before.UTC().Truncate(24 * time.Hour)
	drop := k.opts.Drop != nil && k.opts.Drop()
	if err := k.clean(ctx); err != nil {
		return done, err
	}
	for {
		runs, err := k.history.Ended(ctx, before, k.opts.MaxRuns)
		if err != nil || len(runs) == 0 {
			return done, err
		}
		key := ""
		if !drop {
			var bytes int
			if runs, key, bytes, err = k.store(ctx, runs); err != nil {
				return done, err
			}
			done.Objects++
			done.Bytes += int64(bytes)
		}
		gone, err := k.history.Forget(ctx, runs, key)
		done.Runs += len(gone)
		if err != nil {
			return done, err
		}
		if err := k.clean(ctx); err != nil {
			return done, err
		}
		if len(gone) == 0 && len(runs) > 0 {
			return done, fmt.Errorf("archive %d runs: all of them have changed meanwhile, run %s first", len(runs), runs[0].ID)
		}
	}
}

// cleanBatch is how many runs are cleaned up after at once.
const cleanBatch = 500

// clean removes what is left of forgotten runs.
func (k *Keeper) clean(ctx context.Context) error {
	for {
		runs, err := k.history.Leftovers(ctx, cleanBatch)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, ex := range k.opts.Executors {
			f, ok := ex.(scheduler.RunForgetter)
			if !ok {
				continue
			}
			for _, run := range runs {
				if err := f.ForgetRun(ctx, run); err != nil {
					return fmt.Errorf("remove the logs of run %s: %w", run, err)
				}
			}
		}
		if err := k.history.Clean(ctx, runs); err != nil {
			return err
		}
	}
}

// store puts the first of runs into an object, and returns those that it has, in which, and its size.
func (k *Keeper) store(ctx context.Context, runs []scheduler.Ended) ([]scheduler.Ended, string, int, error) {
	day := runs[0].EndedAt.UTC().Format(time.DateOnly)
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	var has []scheduler.Ended
	for size := 0; len(has) < len(runs) && size < k.opts.MaxBytes; {
		r := runs[len(has)]
		if r.EndedAt.UTC().Format(time.DateOnly) != day {
			break
		}
		line, err := k.line(ctx, r.ID)
		if errors.Is(err, scheduler.ErrNotFound) {
			return nil, "", 0, fmt.Errorf("archive run %s: it has gone meanwhile: %w", r.ID, err)
		}
		if err != nil {
			return nil, "", 0, err
		}
		if _, err := zip.Write(line); err != nil {
			return nil, "", 0, fmt.Errorf("compress run %s: %w", r.ID, err)
		}
		size += len(line)
		has = append(has, r)
	}
	if err := zip.Close(); err != nil {
		return nil, "", 0, fmt.Errorf("compress an archive: %w", err)
	}
	key, err := k.put(ctx, dayPrefix+day+"/"+has[0].ID+"-"+has[len(has)-1].ID, body.Bytes())
	return has, key, body.Len(), err
}

// put stores an object under a name, or, if another one has that, under one with its hash.
func (k *Keeper) put(ctx context.Context, name string, body []byte) (string, error) {
	key := name + suffix
	err := k.objects.PutIfAbsent(ctx, key, body, nil)
	if errors.Is(err, batcher.ErrExists) {
		there, _, getErr := k.objects.Get(ctx, key)
		if getErr == nil && bytes.Equal(there, body) {
			return key, nil
		}
		if getErr != nil && !errors.Is(getErr, batcher.ErrDamaged) {
			return "", fmt.Errorf("look at an archive that is there: %w", getErr)
		}
		sum := sha256.Sum256(body)
		key = name + "-" + hex.EncodeToString(sum[:8]) + suffix
		err = k.objects.PutIfAbsent(ctx, key, body, nil)
		if errors.Is(err, batcher.ErrExists) {
			return key, nil // its name says that it is the same
		}
	}
	if err != nil {
		return "", fmt.Errorf("store an archive: %w", err)
	}
	return key, nil
}

// line is a run as the archive has it.
func (k *Keeper) line(ctx context.Context, run string) ([]byte, error) {
	past, err := k.history.PastRun(ctx, run)
	if err != nil {
		return nil, err
	}
	rec := Record{V: 1, Kind: "run", PastRun: *past, Logs: []Log{}}
	for i := range past.Attempts {
		a := &past.Attempts[i]
		if ex := k.opts.Executors[a.Executor]; ex != nil {
			log, err := k.log(ctx, ex, a.ID)
			if err != nil {
				return nil, err
			}
			if log != nil {
				rec.Logs = append(rec.Logs, *log)
			}
		}
	}
	line, err := json.Marshal(&rec)
	if err != nil {
		return nil, fmt.Errorf("encode run %s: %w", run, err)
	}
	return append(line, '\n'), nil
}

// log reads the end of an attempt's log, nil if there is none.
func (k *Keeper) log(ctx context.Context, ex scheduler.Executor, attempt string) (*Log, error) {
	r, err := ex.Log(ctx, attempt, 0)
	if errors.Is(err, scheduler.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the log of attempt %s: %w", attempt, err)
	}
	defer func() { _ = r.Close() }() // only read
	log := &Log{Attempt: attempt}
	var skipped int64
	if s, ok := r.(io.Seeker); ok {
		size, err := s.Seek(0, io.SeekEnd)
		if err == nil {
			skipped, err = s.Seek(max(0, size-k.opts.LogTail), io.SeekStart)
		}
		if err != nil {
			return nil, fmt.Errorf("read the log of attempt %s: %w", attempt, err)
		}
	}
	var tail []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		log.Bytes += int64(n)
		if tail = append(tail, buf[:n]...); int64(len(tail)) > 2*k.opts.LogTail {
			tail = bytes.Clone(tail[int64(len(tail))-k.opts.LogTail:])
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the log of attempt %s: %w", attempt, err)
		}
	}
	log.Bytes += skipped
	log.Tail = strings.ToValidUTF8(string(tail[max(0, int64(len(tail))-k.opts.LogTail):]), "\uFFFD")
	return log, nil
}
