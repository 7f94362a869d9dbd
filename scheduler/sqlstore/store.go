package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest/vfs"
	"millrace/scheduler"
)

var _ scheduler.Store = (*Store)(nil)

// Options tune a [Store]. The zero value works.
type Options struct {
	// Readers is how many reads may go on at once; default 4.
	Readers int
	// Registerer takes the metrics; nil discards them.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Readers == 0 {
		o.Readers = 4
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	if o.Readers < 0 || o.Readers > 64 {
		return fmt.Errorf("readers is %d, want 1 to 64", o.Readers)
	}
	return nil
}

// Store is a scheduler.Store in one SQLite file. Safe for concurrent use.
type Store struct {
	lock    io.Closer
	writeDB *sql.DB
	readDB  *sql.DB
	known   atomic.Pointer[sql.Stmt] // of readDB; nil before its first use
	check   checkpoints
	m       *metrics
	// pruneStep and cleanStep are the constants, or less in tests.
	pruneStep, cleanStep int

	// mu guards conn and stmts: there is one writer.
	mu    sync.Mutex
	conn  *sql.Conn
	stmts map[string]*sql.Stmt

	closeOnce sync.Once
	closeErr  error
}

// Open opens or creates the database file and migrates it. Its directory is created. Errors: vfs.ErrLocked while another process has it
// open, [ErrNewerSchema], scheduler.ErrUnavailable.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	return open(ctx, path, o, sqliteMigrations())
}

func open(ctx context.Context, path string, o Options, files fs.FS) (_ *Store, err error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	o = o.withDefaults()
	if err := vfs.MkdirAllSync(vfs.OS, filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("create directory of store: %w", err)
	}
	s := &Store{stmts: map[string]*sql.Stmt{}, pruneStep: pruneStep, cleanStep: cleanStep}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open store %s: %w", path, errors.Join(err, s.Close()))
		}
	}()
	if s.lock, err = vfs.OS.Lock(path + ".lock"); err != nil {
		return nil, err
	}
	settings := "_pragma=synchronous(FULL)&_pragma=journal_size_limit(67108864)&_txlock=immediate"
	settings += fmt.Sprintf("&_pragma=wal_autocheckpoint(%d)", autoCheckpoint)
	if s.writeDB, err = sql.Open("sqlite", dsn(path, settings+"&_pragma=cache_size(-8192)")); err != nil {
		return nil, err
	}
	s.writeDB.SetMaxOpenConns(1)
	if s.check.db, err = sql.Open("sqlite", dsn(path, settings)); err != nil {
		return nil, err
	}
	s.check.db.SetMaxOpenConns(1)
	if err := migrate(ctx, s.writeDB, files); err != nil {
		return nil, err
	}
	if s.conn, err = s.writeDB.Conn(ctx); err != nil {
		return nil, classify(err)
	}
	if s.readDB, err = sql.Open("sqlite", dsn(path, "_pragma=query_only(1)")); err != nil {
		return nil, err
	}
	s.readDB.SetMaxOpenConns(o.Readers)
	s.readDB.SetMaxIdleConns(o.Readers)
	s.m = newMetrics(o.Registerer)
	return s, nil
}

// dsn names the file and the settings of a connection. The path is escaped: a '?' or '%' in it is part of the name.
func dsn(path, settings string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	return u.String() + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&" + settings
}

// Close is safe to call twice. What was applied is safe without it.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.check.wg.Wait() // whoever closes has applied the last change
		s.mu.Lock()
		defer s.mu.Unlock()
		var errs []error
		for _, st := range s.stmts {
			errs = append(errs, st.Close())
		}
		if s.readDB != nil {
			errs = append(errs, s.readDB.Close())
		}
		if s.check.db != nil {
			errs = append(errs, s.check.db.Close())
		}
		if s.conn != nil {
			errs = append(errs, s.conn.Close())
		}
		if s.writeDB != nil {
			errs = append(errs, s.writeDB.Close())
		}
		if s.lock != nil {
			errs = append(errs, s.lock.Close())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}
