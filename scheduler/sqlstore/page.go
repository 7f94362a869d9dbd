package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
)

// filter collects the conditions of a query.
type filter struct {
	where []string
	args  []any
}

func (f *filter) add(condition string, args ...any) {
	f.where = append(f.where, condition)
	f.args = append(f.args, args...)
}

// given adds a condition if there is a value for it.
func (f *filter) given(condition, value string) {
	if value != "" {
		f.add(condition, value)
	}
}

// newestFirst orders rows by their time of creation, then their id; [filter.before] and [cursorAt] go on where a page ended.
const newestFirst = " ORDER BY created_at DESC, id DESC LIMIT "

// cursorAt is the cursor behind a row.
func cursorAt(created time.Time, id string) string {
	return strconv.FormatInt(micros(created), 10) + "." + id
}

// before selects what comes after the row of a cursor, if there is one; what names the rows.
func (f *filter) before(what, cursor string) error {
	if cursor == "" {
		return nil
	}
	at, id, ok := strings.Cut(cursor, ".")
	us, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("read %s before %q: %w: not a cursor", what, cursor, scheduler.ErrInvalid)
	}
	f.add("(created_at, id) < (?, ?)", us, id)
	return nil
}

func (f *filter) sql() string {
	if len(f.where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(f.where, " AND ")
}

// limit returns how many rows a page has.
func limit(n int) int {
	switch {
	case n <= 0:
		return 100
	case n > 1000:
		return 1000
	}
	return n
}

// cut takes the row off that was asked for beyond the page to see whether there is a next one, and then returns the page's last row.
func cut[T any](rows []T, limit int) ([]T, *T) {
	if len(rows) <= limit {
		return rows, nil
	}
	return rows[:limit], &rows[limit-1]
}

// runsSQL is the question for a page of runs, and for one run more than it has.
func runsSQL(q scheduler.RunQuery) (string, []any, error) {
	var f filter
	f.given("id=?", q.ID)
	f.given("dag=?", q.DAG)
	f.given("state=?", string(q.State))
	f.given("id IN (SELECT run FROM run_input WHERE batch=?)", q.Batch)
	f.given("replay_of=? AND replay_of <> ''", q.ReplayOf) // the second says that the index will do
	f.given("backfill=? AND backfill <> ''", q.Backfill)
	if err := f.before("runs", q.Before); err != nil {
		return "", nil, err
	}
	return "SELECT " + list("", runColumns) + " FROM run" + f.sql() + newestFirst + strconv.Itoa(limit(q.Limit)+1), f.args, nil
}

// Runs implements scheduler.Store. Pages are by time of creation, then id.
func (s *Store) Runs(ctx context.Context, q scheduler.RunQuery) ([]scheduler.Run, string, error) {
	query, args, err := runsSQL(q)
	if err != nil {
		return nil, "", err
	}
	n := limit(q.Limit)
	var runs []scheduler.Run
	next := ""
	err = s.read(ctx, "runs", func(v view) error {
		var err error
		if runs, err = all(v, scanRun, query, args...); err != nil {
			return err
		}
		var last *scheduler.Run
		if runs, last = cut(runs, n); last != nil {
			next = cursorAt(last.CreatedAt, last.ID)
		}
		return v.inputs(runs)
	})
	if err != nil {
		return nil, "", err
	}
	return runs, next, nil
}

// inputs fills in the batches of runs.
func (v view) inputs(runs []scheduler.Run) error {
	if len(runs) == 0 {
		return nil
	}
	at := map[string]*scheduler.Run{}
	ids := make([]any, len(runs))
	for i := range runs {
		at[runs[i].ID], ids[i] = &runs[i], runs[i].ID
	}
	marks := "?" + strings.Repeat(",?", len(ids)-1)
	pairs, err := all(v, scanPair, "SELECT run, batch FROM run_input WHERE run IN ("+marks+") ORDER BY run, n", ids...)
	for _, p := range pairs {
		r := at[p[0]]
		r.Batches = append(r.Batches, p[1])
	}
	return err
}

func scanPair(row scanner) (p [2]string, err error) {
	err = row.Scan(&p[0], &p[1])
	return p, err
}

// batchesSQL is runsSQL for batches.
func batchesSQL(q scheduler.BatchQuery) (string, []any) {
	var f filter
	f.given("tenant=?", q.Tenant)
	f.given("source=?", q.Source)
	if !q.Stream.IsZero() {
		// No batch of the stream is wider than the widest, so none that starts earlier can reach the offset.
		stream := q.Stream.String()
		f.add("stream=? AND first_offset <= ? AND first_offset >= ? - (SELECT MAX(width) FROM batch WHERE stream=?) AND last_offset >= ?",
			stream, q.Offset, q.Offset, stream, q.Offset)
	}
	f.given("id < ?", q.Before)
	return "SELECT doc FROM batch" + f.sql() + " ORDER BY id DESC LIMIT " + strconv.Itoa(limit(q.Limit)+1), f.args
}

// Batches implements scheduler.Store. Pages are by id, which sorts by the receipt of a batch's first record.
func (s *Store) Batches(ctx context.Context, q scheduler.BatchQuery) ([]batcher.Batch, string, error) {
	query, args := batchesSQL(q)
	n := limit(q.Limit)
	var batches []batcher.Batch
	next := ""
	err := s.read(ctx, "batches", func(v view) error {
		var err error
		if batches, err = all(v, scanBatch, query, args...); err != nil {
			return err
		}
		var last *batcher.Batch
		if batches, last = cut(batches, n); last != nil {
			next = last.ID
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return batches, next, nil
}

// CountRuns returns how many runs there are by state.
func (s *Store) CountRuns(ctx context.Context) (map[scheduler.State]int64, error) {
	type group struct {
		state scheduler.State
		n     int64
	}
	out := map[scheduler.State]int64{}
	err := s.read(ctx, "count_runs", func(v view) error {
		groups, err := all(v, func(row scanner) (g group, err error) {
			err = row.Scan(&g.state, &g.n)
			return g, err
		}, "SELECT state, n FROM run_count WHERE n > 0")
		for _, g := range groups {
			out[g.state] = g.n
		}
		return err
	})
	return out, err
}
