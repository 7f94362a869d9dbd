package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
)

// view is one committed state of the database, for as long as the read transaction lasts.
type view struct {
	ctx context.Context
	tx  *sql.Tx
}

// read runs do on one committed state.
func (s *Store) read(ctx context.Context, query string, do func(view) error) error {
	defer s.m.observe(query, time.Now())
	tx, err := s.readDB.BeginTx(ctx, nil)
	if err == nil {
		defer tx.Rollback() // Reading leaves nothing to keep.
		err = do(view{ctx, tx})
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", query, classify(err))
	}
	return nil
}

// all reads the rows of a query.
func all[T any](v view, scan func(scanner) (T, error), q string, args ...any) ([]T, error) {
	rows, err := v.tx.QueryContext(v.ctx, q, args...)
	if err != nil {
		return nil, err
	}
	return scanAll(rows, scan)
}

func scanAll[T any](rows *sql.Rows, scan func(scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var out []T
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// one reads the only row of a query; none is scheduler.ErrNotFound.
func one[T any](v view, scan func(scanner) (T, error), q string, args ...any) (T, error) {
	row, err := scan(v.tx.QueryRowContext(v.ctx, q, args...))
	if errors.Is(err, sql.ErrNoRows) {
		err = scheduler.ErrNotFound
	}
	return row, err
}

// list writes columns, each with the table's prefix.
func list(prefix string, columns []string) string {
	return prefix + strings.Join(columns, ","+prefix)
}

// Remember implements trigger.Ledger.
func (s *Store) Remember(ctx context.Context) (trigger.Memory, error) {
	m := trigger.Memory{Held: map[string][]trigger.Held{}}
	err := s.read(ctx, "remember", func(v view) error {
		var err error
		if m.Cursors, err = all(v, scanCursor, "SELECT stream, seq FROM cursor ORDER BY stream"); err != nil {
			return err
		}
		m.Fresh = len(m.Cursors) == 0
		if m.Ticks, err = all(v, scanTick, "SELECT rule, at FROM tick ORDER BY rule"); err != nil {
			return err
		}
		if m.Ahead, err = v.ahead(m.Cursors); err != nil {
			return err
		}
		if m.Groups, err = v.groups(); err != nil {
			return err
		}
		held, err := all(v, scanHeld, `SELECT d.rule, d.reason, d.lane_key, d.sides, d.at, b.doc FROM disposition d JOIN batch b ON b.id = d.batch
			WHERE d.fate IN ('held', 'coalesced') AND d.fate='held' ORDER BY d.rule, d.batch`)
		for _, h := range held {
			m.Held[h.rule] = append(m.Held[h.rule], h.held)
		}
		return err
	})
	return m, err
}

func scanStream(row scanner) (s ingest.Stream, err error) {
	var text string
	if err := row.Scan(&text); err != nil {
		return s, err
	}
	return ingest.ParseStream(text)
}

func scanCursor(row scanner) (c trigger.Cursor, err error) {
	var text string
	if err := row.Scan(&text, &c.Seq); err != nil {
		return c, err
	}
	c.Stream, err = ingest.ParseStream(text)
	return c, err
}

func scanTick(row scanner) (k trigger.Tick, err error) {
	err = row.Scan(&k.Rule, stamp{&k.At})
	return k, err
}

func scanAhead(row scanner) (a trigger.Ahead, err error) {
	var text string
	if err := row.Scan(&text, &a.Seq, &a.Batch); err != nil {
		return a, err
	}
	a.Stream, err = ingest.ParseStream(text)
	return a, err
}

// ahead asks stream by stream, hopping from one to the next in the index, so that it costs no more than there are streams and answers.
func (v view) ahead(cursors []trigger.Cursor) ([]trigger.Ahead, error) {
	at := map[ingest.Stream]int64{}
	for _, c := range cursors {
		at[c.Stream] = c.Seq
	}
	streams, err := all(v, scanStream, `WITH RECURSIVE hop (stream) AS (
		SELECT MIN(stream) FROM batch
		UNION ALL SELECT (SELECT MIN(stream) FROM batch WHERE stream > hop.stream) FROM hop WHERE hop.stream IS NOT NULL
	) SELECT stream FROM hop WHERE stream IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	var out []trigger.Ahead
	for _, s := range streams {
		some, err := all(v, scanAhead, "SELECT stream, seq, id FROM batch WHERE stream=? AND seq>? ORDER BY seq, id", s.String(), at[s])
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// member is a batch of an open group.
type member struct {
	rule, group string
	batch       batcher.Batch
}

func scanMember(row scanner) (m member, err error) {
	err = row.Scan(&m.rule, &m.group, document{&m.batch})
	return m, err
}

// heldRow is a batch that a rule holds.
type heldRow struct {
	rule string
	held trigger.Held
}

func scanHeld(row scanner) (h heldRow, err error) {
	err = row.Scan(&h.rule, &h.held.Reason, &h.held.Key, ids{&h.held.Sides}, stamp{&h.held.At}, document{&h.held.Batch})
	return h, err
}

func (v view) groups() ([]trigger.Group, error) {
	groups, err := all(v, scanGroup, "SELECT "+list("", groupColumns)+" FROM coalesce_group ORDER BY rule, id")
	if err != nil {
		return nil, err
	}
	members, err := all(v, scanMember, `SELECT d.rule, d.grp, b.doc FROM disposition d JOIN batch b ON b.id = d.batch
		WHERE d.fate IN ('held', 'coalesced') AND d.fate='coalesced' ORDER BY d.rule, d.grp, d.batch`)
	if err != nil {
		return nil, err
	}
	at := map[[2]string]*trigger.Group{}
	for i := range groups {
		at[[2]string{groups[i].Rule, groups[i].ID}] = &groups[i]
	}
	for _, m := range members {
		if g := at[[2]string{m.rule, m.group}]; g != nil {
			g.Batches = append(g.Batches, m.batch)
		}
	}
	return groups, nil
}

const live = "('queued', 'running')"

// Load implements scheduler.Store.
func (s *Store) Load(ctx context.Context) (*scheduler.Snapshot, error) {
	snap := &scheduler.Snapshot{}
	err := s.read(ctx, "load", func(v view) error {
		var err error
		if snap.Heads, err = all(v, scanHead, "SELECT "+list("", headColumns)+" FROM dag ORDER BY id"); err != nil {
			return err
		}
		snap.Versions, err = all(v, scanVersion, "SELECT "+list("", versionColumns)+` FROM dag_version
			WHERE version IN (SELECT version FROM dag UNION SELECT version FROM run WHERE state IN `+live+") ORDER BY version")
		if err != nil {
			return err
		}
		if snap.Live, err = v.live(); err != nil {
			return err
		}
		if snap.Backfills, err = v.liveBackfills(); err != nil {
			return err
		}
		return v.late(snap)
	})
	if err != nil {
		return nil, err
	}
	return snap, nil
}

func (v view) live() ([]scheduler.LiveRun, error) {
	runs, err := all(v, scanRun, "SELECT "+list("", runColumns)+" FROM run WHERE state IN "+live+" ORDER BY created_at, id")
	if err != nil {
		return nil, err
	}
	out := make([]scheduler.LiveRun, len(runs))
	at := make(map[string]*scheduler.LiveRun, len(runs))
	for i := range runs {
		out[i].Run = runs[i]
		at[runs[i].ID] = &out[i]
	}
	tasks, err := all(v, scanTask, "SELECT "+list("t.", taskColumns)+` FROM run r JOIN task_instance t ON t.run = r.id
		WHERE r.state IN `+live+" ORDER BY t.run, t.n, t.task, t.map_index")
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		at[t.Run].Tasks = append(at[t.Run].Tasks, t)
	}
	inputs, err := all(v, scanInput, inputSQL+" WHERE i.run IN (SELECT id FROM run WHERE state IN "+live+") ORDER BY i.run, i.n")
	for i := range inputs {
		r := at[inputs[i].run]
		inputs[i].add(&r.Run, &r.Batches)
	}
	return out, err
}

// input is one input of a run. The batch has no ID if the ledger does not have it.
type input struct {
	run, id string
	batch   batcher.Batch
}

const inputSQL = "SELECT i.run, i.batch, COALESCE(b.doc, '{}') FROM run_input i LEFT JOIN batch b ON b.id = i.batch"

func scanInput(row scanner) (in input, err error) {
	err = row.Scan(&in.run, &in.id, document{&in.batch})
	return in, err
}

func (in *input) add(r *scheduler.Run, batches *[]batcher.Batch) {
	r.Batches = append(r.Batches, in.id)
	if in.batch.ID != "" {
		*batches = append(*batches, in.batch)
	}
}

// Run implements scheduler.Store.
func (s *Store) Run(ctx context.Context, id string) (*scheduler.RunDetail, error) {
	return s.detail(ctx, "run", id, view.whole)
}

// detail reads the row of a run and its inputs, and has parts fill in what it wants of tasks, attempts and moves.
func (s *Store) detail(ctx context.Context, query, id string, parts func(v view, d *scheduler.RunDetail, id string) error) (*scheduler.RunDetail, error) {
	d := &scheduler.RunDetail{}
	err := s.read(ctx, query, func(v view) error {
		var err error
		if d.Run, err = one(v, scanRun, "SELECT "+list("", runColumns)+" FROM run WHERE id=?", id); err != nil {
			return fmt.Errorf("find run %q: %w", id, err)
		}
		if err := parts(v, d, id); err != nil {
			return err
		}
		inputs, err := all(v, scanInput, inputSQL+" WHERE i.run=? ORDER BY i.n", id)
		for i := range inputs {
			inputs[i].add(&d.Run, &d.Batches)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// whole reads all that a run has of tasks.
func (v view) whole(d *scheduler.RunDetail, id string) error {
	err := v.tasks(d, id)
	if err != nil {
		return err
	}
	d.Attempts, err = all(v, scanAttempt, "SELECT "+list("", attemptColumns)+` FROM attempt WHERE run=?
		ORDER BY created_at, task, map_index, try`, id)
	if err != nil {
		return err
	}
	d.Moves, err = all(v, scanMove, movesSQL("< 0")+" UNION ALL "+movesSQL(">= 0")+" ORDER BY id", id, id)
	return err
}

func (v view) tasks(d *scheduler.RunDetail, id string) (err error) {
	d.Tasks, err = all(v, scanTask, "SELECT "+list("", taskColumns)+" FROM task_instance WHERE run=? ORDER BY n, task, map_index", id)
	return err
}

// movesSQL asks for a run's part of the audit trail by one of the two indexes that have it.
func movesSQL(index string) string {
	return "SELECT " + list("", moveColumns) + ", id FROM transition WHERE run=? AND map_index " + index
}

// Batch implements scheduler.Store.
func (s *Store) Batch(ctx context.Context, id string) (*scheduler.BatchDetail, error) {
	d := &scheduler.BatchDetail{}
	err := s.read(ctx, "batch", func(v view) error {
		var err error
		if d.Batch, err = one(v, scanBatch, "SELECT doc FROM batch WHERE id=?", id); err != nil {
			return fmt.Errorf("find batch %q: %w", id, err)
		}
		d.Dispositions, err = all(v, scanDisposition, "SELECT "+list("", dispositionColumns)+" FROM disposition WHERE batch=? ORDER BY rule", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Version implements scheduler.Store.
func (s *Store) Version(ctx context.Context, version string) (*scheduler.DAGVersion, error) {
	var dv scheduler.DAGVersion
	err := s.read(ctx, "version", func(v view) error {
		var err error
		dv, err = one(v, scanVersion, "SELECT "+list("", versionColumns)+" FROM dag_version WHERE version=?", version)
		if err != nil {
			return fmt.Errorf("find version %q: %w", version, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &dv, nil
}
