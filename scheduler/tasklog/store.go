package tasklog

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
)

// Prefix is where logs are in the object store.
const Prefix = batcher.PrefixMeta + "logs/"

const (
	lastName = "/log.gz"
	// partBytes is how long the parts of a log are, all but the last. Archives say what theirs is.
	partBytes = 4 << 20
	// maxMissing bounds the text that says why a log is not whole, as it is in the metadata.
	maxMissing = 1024
)

// Names of metadata.
const (
	metaBytes   = "bytes"
	metaPart    = "part-bytes"
	metaHash    = "log-hash"
	metaMissing = "missing"
)

// Archived is a log in the object store.
type Archived struct {
	// URI is where programs find its last part, which is all of most logs.
	URI   string
	Bytes int64
	// Missing is why the log is not whole, "" if it is.
	Missing string
}

// Store keeps logs in an object store. Safe for concurrent use.
type Store struct {
	objects batcher.ObjectStore
	part    int64
}

// New returns a store of logs in objects.
func New(objects batcher.ObjectStore) *Store { return &Store{objects, partBytes} }

// prefix is where the objects of an attempt are.
func prefix(attempt string) string {
	run, rest, _ := strings.Cut(attempt, ".")
	return Prefix + run + "/" + rest
}

// partKey is that of a part but the last.
func partKey(attempt, hash string, n int64) string {
	return fmt.Sprintf("%s/%s-%06d.gz", prefix(attempt), hash, n)
}

// Put stores the log of an attempt, size bytes that no longer change, and returns when it is durable. If the attempt has an archive already, nothing is
// put, and that one is returned. missing is why the log is not whole. scheduler.ErrUnavailable: not now; any other error: it can not be stored.
func (s *Store) Put(ctx context.Context, attempt string, log io.ReaderAt, size int64, missing string) (Archived, error) {
	done, err := s.put(ctx, attempt, log, size, missing)
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, batcher.ErrExists):
		return s.Stat(ctx, attempt)
	case errors.Is(err, batcher.ErrRefused):
		return Archived{}, fmt.Errorf("store log of attempt %s: %w", attempt, err)
	default:
		return Archived{}, fmt.Errorf("store log of attempt %s: %w: %w", attempt, scheduler.ErrUnavailable, err)
	}
}

func (s *Store) put(ctx context.Context, attempt string, log io.ReaderAt, size int64, missing string) (Archived, error) {
	before := max(0, size-1) / s.part // parts before the last
	meta := map[string]string{metaBytes: strconv.FormatInt(size, 10), metaPart: strconv.FormatInt(s.part, 10)}
	if missing != "" {
		missing = strings.ToValidUTF8(missing, "\uFFFD")
		for len(url.QueryEscape(missing)) > maxMissing {
			missing = strings.ToValidUTF8(missing[:len(missing)*3/4], "") + "…"
		}
		meta[metaMissing] = url.QueryEscape(missing)
	}
	if before > 0 {
		if _, err := s.objects.Stat(ctx, prefix(attempt)+lastName); !errors.Is(err, batcher.ErrNotFound) {
			if err == nil {
				err = batcher.ErrExists
			}
			return Archived{}, err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(log, 0, size)); err != nil {
			return Archived{}, fmt.Errorf("read the log: %w", err)
		}
		meta[metaHash] = hex.EncodeToString(sum.Sum(nil)[:8])
	}
	for n := range before {
		if err := s.putPart(ctx, partKey(attempt, meta[metaHash], n), io.NewSectionReader(log, n*s.part, s.part), nil); err != nil && !errors.Is(err, batcher.ErrExists) {
			return Archived{}, err
		}
	}
	key := prefix(attempt) + lastName
	if err := s.putPart(ctx, key, io.NewSectionReader(log, before*s.part, size-before*s.part), meta); err != nil {
		return Archived{}, err
	}
	return Archived{URI: s.objects.URI(key), Bytes: size, Missing: missing}, nil
}

// zips has writers that nobody uses: one takes most of a megabyte, and most logs have less than a page.
var zips = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func (s *Store) putPart(ctx context.Context, key string, part *io.SectionReader, meta map[string]string) error {
	var body bytes.Buffer
	zip := zips.Get().(*gzip.Writer)
	defer zips.Put(zip)
	zip.Reset(&body)
	n, err := io.Copy(zip, part)
	if err = errors.Join(err, zip.Close()); err != nil {
		return fmt.Errorf("compress the log: %w", err)
	}
	if n != part.Size() {
		return fmt.Errorf("read the log: it is shorter than it was: %w", io.ErrUnexpectedEOF)
	}
	return s.objects.PutIfAbsent(ctx, key, body.Bytes(), meta)
}

// Stat returns what is archived of an attempt. scheduler.ErrNotFound, scheduler.ErrUnavailable.
func (s *Store) Stat(ctx context.Context, attempt string) (Archived, error) {
	info, err := s.objects.Stat(ctx, prefix(attempt)+lastName)
	if err != nil {
		return Archived{}, failed(attempt, err)
	}
	p, err := placeOf(info)
	if err != nil {
		return Archived{}, failed(attempt, err)
	}
	return Archived{URI: s.objects.URI(info.Key), Bytes: p.size, Missing: p.missing}, nil
}

// Open opens the log of an attempt at a byte offset. What it returns is an io.Seeker, too, and fetches the parts that are read.
// scheduler.ErrNotFound, scheduler.ErrUnavailable.
func (s *Store) Open(ctx context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	body, info, err := s.objects.Get(ctx, prefix(attempt)+lastName)
	if err != nil {
		return nil, failed(attempt, err)
	}
	p, err := placeOf(info)
	if err != nil {
		return nil, failed(attempt, err)
	}
	r := &reader{ctx: ctx, store: s, attempt: attempt, place: p, at: max(0, offset), cur: max(0, p.size-1) / p.part}
	if r.text, err = unzip(body); err != nil {
		return nil, failed(attempt, err)
	}
	return r, nil
}

// failed says what an error of the object store means to a reader.
func failed(attempt string, err error) error {
	switch {
	case errors.Is(err, batcher.ErrNotFound):
		return fmt.Errorf("open log of attempt %s: %w", attempt, scheduler.ErrNotFound)
	case errors.Is(err, batcher.ErrUnavailable):
		return fmt.Errorf("open log of attempt %s: %w: %w", attempt, scheduler.ErrUnavailable, err)
	default:
		return fmt.Errorf("open log of attempt %s: %w", attempt, err)
	}
}

// place is what the metadata says.
type place struct {
	size, part    int64
	hash, missing string
}

func placeOf(info batcher.ObjectInfo) (place, error) {
	p := place{hash: info.Meta[metaHash]}
	var errs [3]error
	p.size, errs[0] = strconv.ParseInt(info.Meta[metaBytes], 10, 64)
	p.part, errs[1] = strconv.ParseInt(info.Meta[metaPart], 10, 64)
	p.missing, errs[2] = url.QueryUnescape(info.Meta[metaMissing])
	err := errors.Join(errs[:]...)
	if err == nil && (p.size < 0 || p.part <= 0) {
		err = fmt.Errorf("a log of %d bytes in parts of %d", p.size, p.part)
	}
	if err != nil {
		return p, fmt.Errorf("read metadata of %s: %w", info.Key, err)
	}
	return p, nil
}

func unzip(body []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return text, nil
}

// reader reads a log. It has one part at a time.
type reader struct {
	ctx     context.Context // of Open, whose caller reads
	store   *Store
	attempt string
	place   place
	at      int64
	cur     int64 // number of the part that text is
	text    []byte
}

func (r *reader) Read(b []byte) (int, error) {
	if r.at >= r.place.size {
		return 0, io.EOF
	}
	if n := r.at / r.place.part; n != r.cur {
		if err := r.fetch(n); err != nil {
			return 0, failed(r.attempt, err)
		}
	}
	within := r.at - r.cur*r.place.part
	if within >= int64(len(r.text)) {
		return 0, failed(r.attempt, fmt.Errorf("part %d has %d bytes: %w", r.cur, len(r.text), io.ErrUnexpectedEOF))
	}
	n := copy(b, r.text[within:])
	r.at += int64(n)
	return n, nil
}

// fetch gets part n.
func (r *reader) fetch(n int64) error {
	key := partKey(r.attempt, r.place.hash, n)
	if n == max(0, r.place.size-1)/r.place.part {
		key = prefix(r.attempt) + lastName
	}
	body, _, err := r.store.objects.Get(r.ctx, key)
	if err != nil {
		return err
	}
	text, err := unzip(body)
	if err != nil {
		return err
	}
	r.cur, r.text = n, text
	return nil
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.place.size
	}
	if offset < 0 {
		return r.at, errors.New("seek before the beginning of a log")
	}
	r.at = offset
	return offset, nil
}

func (r *reader) Close() error { return nil }

// sweepStep is how many runs [Store.Sweep] asks about at once.
const sweepStep = 200

// Sweep removes the logs of runs that kept does not return, except those that were put at before or later, and reports of how many runs it has removed
// logs. kept is given ids and returns those of runs that the scheduler has not forgotten. A store that can not remove has nothing to sweep.
func (s *Store) Sweep(ctx context.Context, before time.Time, kept func(ctx context.Context, runs []string) (map[string]bool, error)) (int, error) {
	remover, ok := s.objects.(batcher.Remover)
	if !ok {
		return 0, nil
	}
	n := 0
	var runs []string
	flush := func() error {
		if len(runs) == 0 {
			return nil
		}
		known, err := kept(ctx, runs)
		if err != nil {
			return fmt.Errorf("ask which runs are kept: %w", err)
		}
		for _, run := range runs {
			if known[run] {
				continue
			}
			removed, err := s.sweepRun(ctx, remover, run, before)
			if removed > 0 {
				n++
			}
			if err != nil {
				return err
			}
		}
		runs = runs[:0]
		return nil
	}
	for info, err := range s.objects.List(ctx, batcher.ListOptions{Prefix: Prefix, Dirs: true}) {
		if err != nil {
			return n, fmt.Errorf("list logs: %w", err)
		}
		run := strings.TrimSuffix(strings.TrimPrefix(info.Key, Prefix), "/")
		if runs = append(runs, run); len(runs) == sweepStep {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	return n, flush()
}

func (s *Store) sweepRun(ctx context.Context, remover batcher.Remover, run string, before time.Time) (removed int, err error) {
	for info, err := range s.objects.List(ctx, batcher.ListOptions{Prefix: Prefix + run + "/"}) {
		if err != nil {
			return removed, fmt.Errorf("list logs of run %s: %w", run, err)
		}
		if !info.ModTime.Before(before) {
			continue // Of a run that may be newer than the answer.
		}
		if err := remover.Remove(ctx, info.Key); err != nil {
			return removed, fmt.Errorf("remove log: %w", err)
		}
		removed++
	}
	return removed, nil
}
