package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	lib "modernc.org/sqlite/lib"

	"millrace/scheduler"
	"millrace/trigger"
)

// Apply implements scheduler.Store. A change is one transaction and one fsync. ctx is heeded until the transaction begins; from there on
// it takes milliseconds, and breaking it off would only make its outcome unknown.
//
// A run of NewRuns that exists is left alone together with the Attempts and Moves that c has for it: they belong to a decision that was
// taken before.
func (s *Store) Apply(ctx context.Context, c *scheduler.Change) error {
	if c.Empty() {
		return nil
	}
	defer s.m.observe("apply", time.Now())
	return s.update(ctx, func(t *tx) error { return t.apply(c) })
}

// update runs do in a transaction. An error of do undoes everything.
func (s *Store) update(ctx context.Context, do func(*tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err)
	}
	// A context that can end makes the driver start a goroutine for each statement.
	t := &tx{ctx: context.WithoutCancel(ctx), s: s}
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		if primary(err) == lib.SQLITE_BUSY {
			s.m.busy.Inc()
		}
		return fmt.Errorf("begin: %w", classify(err))
	}
	err := do(t)
	if err == nil {
		if _, err = t.exec("COMMIT"); err == nil {
			s.wrote(t.rows)
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	// SQLite may have rolled back by itself, and then says so with an error that tells us nothing.
	_, _ = t.exec("ROLLBACK")
	return classify(err)
}

// tx is the one write transaction that is open; Store.mu is held.
type tx struct {
	ctx  context.Context
	s    *Store
	rows int // written
}

// stmt returns the prepared form of q, which is kept for good: q is one of few.
func (t *tx) stmt(q string) (*sql.Stmt, error) {
	if st := t.s.stmts[q]; st != nil {
		return st, nil
	}
	st, err := t.s.conn.PrepareContext(t.ctx, q)
	if err != nil {
		return nil, err
	}
	t.s.stmts[q] = st
	return st, nil
}

// exec returns the number of rows that q changed.
func (t *tx) exec(q string, args ...any) (int64, error) {
	st, err := t.stmt(q)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	t.rows += int(n)
	return n, err
}

// insert puts rows, laid out one after the other in args, into a table, several with one statement. conflict is its ON CONFLICT clause.
func (t *tx) insert(table string, columns []string, conflict string, args []any) error {
	width := len(columns)
	for _, rows := range []int{64, 16, 4, 1} {
		q := ""
		for ; len(args) >= rows*width; args = args[rows*width:] {
			if q == "" {
				q = insertSQL(table, columns, rows, conflict)
			}
			if _, err := t.exec(q, args[:rows*width]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// insertSQL writes an insert of several rows.
func insertSQL(table string, columns []string, rows int, conflict string) string {
	row := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
	return "INSERT INTO " + table + " (" + strings.Join(columns, ",") + ") VALUES " + row + strings.Repeat(","+row, rows-1) + " " + conflict
}

// replacing is the ON CONFLICT clause that overwrites all columns but those of the key.
func replacing(columns []string, keys ...string) string {
	var set []string
	for _, c := range columns {
		if !slices.Contains(keys, c) {
			set = append(set, c+"=excluded."+c)
		}
	}
	return "ON CONFLICT (" + strings.Join(keys, ",") + ") DO UPDATE SET " + strings.Join(set, ",")
}

const keep = "ON CONFLICT DO NOTHING"

var (
	insertBatch    = insertSQL("batch", batchColumns, 1, keep)
	insertRun      = insertSQL("run", runColumns, 1, keep)
	upsertHead     = insertSQL("dag", headColumns, 1, replacing(headColumns, "id"))
	upsertGroup    = insertSQL("coalesce_group", groupColumns, 1, replacing(groupColumns, "rule", "id"))
	replaceAttempt = replacing(attemptColumns, "run", "id")
	updateRun      = updateSQL("run", runColumns[frozenRun:], "id")
	updateTask     = updateSQL("task_instance", taskColumns[frozenTask:], "run", "task", "map_index")
)

// updateSQL writes the compare-and-swap of a row: its arguments are the columns, then the keys, then the revision that it must have.
func updateSQL(table string, columns []string, keys ...string) string {
	return "UPDATE " + table + " SET " + strings.Join(columns, "=?,") + "=? WHERE " + strings.Join(keys, "=? AND ") + "=? AND rev=?"
}

func (t *tx) apply(c *scheduler.Change) error {
	exists := map[string]bool{}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"write dags", func() error { return t.dags(c) }},
		{"write arrivals", func() error { return t.arrivals(c.Arrivals) }},
		{"write dispositions", func() error { return t.dispositions(c.Updates) }},
		{"write groups", func() error { return t.groups(c.Groups) }},
		{"write cursors", func() error { return t.cursors(c.Cursors, c.Ticks) }},
		{"insert runs", func() error { return t.newRuns(c.NewRuns, exists) }},
		{"write runs", func() error { return t.runs(c.Runs) }},
		{"write tasks", func() error { return t.tasks(c.Tasks) }},
		{"write attempts", func() error { return t.attempts(c.Attempts, exists) }},
		{"write transitions", func() error { return t.moves(c.Moves, exists) }},
		{"write backfills", func() error { return t.backfills(c) }},
		{"write cached outputs", func() error { return t.cached(c.Cached) }},
		{"write notices", func() error { return t.notices(c.Notices, exists) }},
		{"write overdue", func() error { return t.overdue(c.Overdue) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (t *tx) dags(c *scheduler.Change) error {
	for _, v := range c.Versions {
		err := t.insert("dag_version", versionColumns, keep, []any{v.Version, v.DAG, string(v.Canonical), micros(v.CreatedAt)})
		if err != nil {
			return err
		}
	}
	for _, h := range c.Heads {
		if _, err := t.exec(upsertHead, h.ID, h.Version, h.File, h.Error, h.Paused, h.Removed, micros(h.UpdatedAt)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) arrivals(arrivals []trigger.Arrival) error {
	var rows []any
	for i := range arrivals {
		a := &arrivals[i]
		args, err := batchArgs(a, i)
		if err != nil {
			return err
		}
		n, err := t.exec(insertBatch, args...)
		if err != nil {
			return err
		}
		if n == 0 {
			continue // It is there, and so are its dispositions.
		}
		for j := range a.Dispositions {
			rows = append(rows, dispositionArgs(&a.Dispositions[j])...)
		}
	}
	return t.insert("disposition", dispositionColumns, "", rows)
}

// dispositions replaces those that are provisional; a final one stays as it is.
func (t *tx) dispositions(updates []trigger.Disposition) error {
	for i := range updates {
		d := &updates[i]
		_, err := t.exec(`UPDATE disposition SET fate=?, reason=?, run=?, grp=?, at=?, lane_key=?, sides=?
			WHERE batch=? AND rule=? AND fate IN ('held', 'coalesced')`,
			string(d.Fate), d.Reason, d.Run, d.Group, micros(d.At), d.Key, strings.Join(d.Sides, ","), d.Batch, d.Rule)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) groups(groups []trigger.Group) error {
	for i := range groups {
		g := &groups[i]
		var err error
		if g.Closed != "" {
			_, err = t.exec("DELETE FROM coalesce_group WHERE rule=? AND id=?", g.Rule, g.ID)
		} else {
			_, err = t.exec(upsertGroup, g.Rule, g.ID, g.Key, micros(g.OpenedAt), micros(g.LastAt), g.Events, g.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cursors moves cursors and ticks, never back: what they cover is dealt with for good.
func (t *tx) cursors(cursors []trigger.Cursor, ticks []trigger.Tick) error {
	for _, c := range cursors {
		_, err := t.exec(`INSERT INTO cursor (stream, seq) VALUES (?, ?)
			ON CONFLICT (stream) DO UPDATE SET seq=excluded.seq WHERE excluded.seq > cursor.seq`, c.Stream.String(), c.Seq)
		if err != nil {
			return err
		}
	}
	for _, k := range ticks {
		_, err := t.exec(`INSERT INTO tick (rule, at) VALUES (?, ?)
			ON CONFLICT (rule) DO UPDATE SET at=excluded.at WHERE excluded.at > tick.at`, k.Rule, micros(k.At))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) newRuns(runs []scheduler.NewRun, exists map[string]bool) error {
	var inputs, tasks []any
	for i := range runs {
		r := &runs[i]
		args, err := runArgs(&r.Run, 1)
		if err != nil {
			return err
		}
		n, err := t.exec(insertRun, args...)
		if err != nil {
			return err
		}
		if n == 0 {
			exists[r.Run.ID] = true
			continue
		}
		for n, b := range r.Run.Batches {
			inputs = append(inputs, r.Run.ID, n, b)
		}
		for n := range r.Tasks {
			tasks = append(tasks, taskArgs(&r.Tasks[n], n, 1)...)
		}
	}
	if err := t.insert("run_input", []string{"run", "n", "batch"}, "", inputs); err != nil {
		return err
	}
	return t.insert("task_instance", taskColumns, "", tasks)
}

func (t *tx) runs(runs []scheduler.Run) error {
	for i := range runs {
		r := &runs[i]
		args, err := runArgs(r, r.Rev+1)
		if err != nil {
			return err
		}
		q := insertRun
		if r.Rev != 0 {
			q, args = updateRun, append(args[frozenRun:], r.ID, r.Rev)
		}
		if err := t.swap(q, args); err != nil {
			return fmt.Errorf("run %s at revision %d: %w", r.ID, r.Rev, err)
		}
	}
	return nil
}

// lateTask is the place of a task that is added to a run that exists: after the others.
const lateTask = 1 << 20

func (t *tx) tasks(tasks []scheduler.TaskRun) error {
	var added []scheduler.TaskRun
	for i := range tasks {
		k := &tasks[i]
		if k.Rev == 0 {
			added = append(added, *k)
			continue
		}
		args := append(taskArgs(k, lateTask, k.Rev+1)[frozenTask:], k.Run, k.Task, k.MapIndex, k.Rev)
		if err := t.swap(updateTask, args); err != nil {
			return fmt.Errorf("task %s at revision %d: %w", k.ID(), k.Rev, err)
		}
	}
	return t.addTasks(added)
}

// swap executes a compare-and-swap of one row.
func (t *tx) swap(q string, args []any) error {
	n, err := t.exec(q, args...)
	if err != nil {
		return err
	}
	if n != 1 {
		return scheduler.ErrConflict
	}
	return nil
}

func (t *tx) attempts(attempts []scheduler.Attempt, exists map[string]bool) error {
	var rows []any
	for i := range attempts {
		if a := &attempts[i]; !exists[a.Run] {
			rows = append(rows, attemptArgs(a)...)
		}
	}
	return t.insert("attempt", attemptColumns, replaceAttempt, rows)
}

func (t *tx) moves(moves []scheduler.Move, exists map[string]bool) error {
	var rows []any
	for i := range moves {
		if m := &moves[i]; !exists[m.Run] {
			rows = append(rows, moveArgs(m)...)
		}
	}
	return t.insert("transition", moveColumns, "", rows)
}
