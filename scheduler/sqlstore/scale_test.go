package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// questions are those that pages and commands ask for lists, about what fill made.
func questions(runs int) map[string]scheduler.RunQuery {
	deep := fmt.Sprintf("%d.r%09d", runs/2, runs/2)
	return map[string]scheduler.RunQuery{
		"all": {}, "one": {ID: "r000000042"}, "deep": {Before: deep}, "of a dag": {DAG: "big"}, "of a dag, deep": {DAG: "big", Before: deep}, "of a small dag": {DAG: "d7"},
		"in a state": {State: scheduler.StateSuccess}, "in a rare state": {State: scheduler.StateFailed}, "in no state": {State: scheduler.StateCancelled},
		"of a dag in a rare state": {DAG: "big", State: scheduler.StateFailed}, "of a dag in no state": {DAG: "big", State: scheduler.StateCancelled},
		"of a dag in a rare state, deep": {DAG: "big", State: scheduler.StateFailed, Before: deep}, "of a batch": {Batch: "b000000042"},
		"replays": {ReplayOf: "r000000042"}, "of a backfill": {Backfill: "b"}, "of a backfill, deep": {Backfill: "b", Before: deep},
	}
}

// TestListsUseIndexes: every list is answered by a search in an index that has its order, so that it costs what the page costs and not what
// the table has. With a million runs a scan takes a second.
func TestListsUseIndexes(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	fill(t, s, 2000)
	check := func(name, query string, args []any) {
		var plan []string
		err := s.read(t.Context(), "plan", func(v view) error {
			var err error
			plan, err = all(v, func(row scanner) (detail string, err error) {
				var id, parent, unused int
				err = row.Scan(&id, &parent, &unused, &detail)
				return detail, err
			}, "EXPLAIN QUERY PLAN "+query, args...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range plan {
			few := strings.Contains(query, "run_input") || strings.Contains(query, "stream=") // the runs of a batch, and the batches at an offset
			sorted := strings.Contains(step, "TEMP B-TREE") && !few
			if sorted || strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "INDEX") && !strings.Contains(query, "FROM batch ORDER BY id") {
				t.Errorf("%s: %q in\n%s", name, step, query)
			}
		}
	}
	for name, q := range questions(2000) {
		query, args, err := runsSQL(q)
		if err != nil {
			t.Fatal(err)
		}
		check("runs, "+name, query, args)
	}
	for name, q := range map[string]scheduler.BatchQuery{
		"all": {}, "deep": {Before: "b000000999"}, "of a source": {Source: "web"}, "at an offset": {Stream: schedulertest.ExampleStream, Offset: 7},
	} {
		query, args := batchesSQL(q)
		check("batches, "+name, query, args)
	}
	for name, q := range map[string]scheduler.NoticeQuery{
		"all": {Limit: 7}, "of a run": {Run: "r1"}, "of a notifier": {Notifier: "ops", Before: "9"}, "dead": {State: scheduler.NoticeDead},
	} {
		query, args, err := noticesSQL(q)
		if err != nil {
			t.Fatal(err)
		}
		if name != "all" { // these are read from the end of the table
			check("notices, "+name, query, args)
		}
	}
}

// TestCountRuns: the counts by state are those of the rows, after each kind of change, and in a database that was made before there were counts.
func TestCountRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := open(t.Context(), filepath.Join(dir, "state.db"), Options{}, firstMigrations(1))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 2000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	counted := func(when string) {
		t.Helper()
		got, err := s.CountRuns(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[scheduler.State]int64{}
		if err := s.read(t.Context(), "count", func(v view) error {
			_, err := all(v, func(row scanner) (none struct{}, err error) {
				var state scheduler.State
				var n int64
				err = row.Scan(&state, &n)
				want[state] = n
				return none, err
			}, "SELECT state, COUNT(*) FROM run GROUP BY state")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-rows +counts):\n%s", when, diff)
		}
	}
	counted("after the migration")
	_, r := change(1)
	for _, when := range []string{"a new run", "the same again, which is left alone"} {
		if err := s.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{r}}); err != nil {
			t.Fatal(err)
		}
		counted(when)
	}
	row := r.Run
	row.Rev = 1
	for _, state := range []scheduler.State{scheduler.StateRunning, scheduler.StateFailed} {
		row.State = state
		if err := s.Apply(t.Context(), &scheduler.Change{Runs: []scheduler.Run{row}}); err != nil {
			t.Fatal(err)
		}
		row.Rev++
		counted("a run that is " + string(state))
	}
	if _, err := s.conn.ExecContext(t.Context(), "DELETE FROM run WHERE dag = 'd7' OR state = 'failed'"); err != nil {
		t.Fatal(err)
	}
	counted("runs that are gone")
}

// TestLists: with 10,000 runs, nine tenths of them in one DAG, the pages of that DAG have each of its runs once, newest first. What a page takes is
// printed.
func TestLists(t *testing.T) {
	t.Parallel()
	const runs = 10_000
	s := openTest(t, t.TempDir())
	fill(t, s, runs)
	seen := map[string]bool{}
	var newest time.Time
	var took []time.Duration
	for q := (scheduler.RunQuery{DAG: "big"}); ; {
		began := time.Now()
		page, next, err := s.Runs(t.Context(), q)
		took = append(took, time.Since(began))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			if seen[r.ID] || r.DAG != "big" || !newest.IsZero() && r.CreatedAt.After(newest) {
				t.Fatalf("run %s of %s, made at %v, comes after one of %v, or twice", r.ID, r.DAG, r.CreatedAt, newest)
			}
			seen[r.ID], newest = true, r.CreatedAt
		}
		if q.Before = next; next == "" {
			break
		}
	}
	slices.Sort(took)
	t.Logf("measured: %d pages of %d runs: slowest %v, p50 %v", len(took), len(seen), took[len(took)-1], took[len(took)/2])
	if want := runs * 9 / 10; len(seen) != want {
		t.Errorf("got %d runs, want %d", len(seen), want)
	}
}

// TestSoakLists measures the lists with a million runs of five tasks each, nine tenths of them in one DAG.
func TestSoakLists(t *testing.T) {
	if os.Getenv("MILLRACE_SOAK") == "" {
		t.SkipNow()
	}
	const runs = 1_000_000
	s := openTest(t, t.TempDir())
	began := time.Now()
	fill(t, s, runs)
	t.Logf("measured: %d runs and %d tasks were written in %v", runs, 5*runs, time.Since(began).Round(time.Second))
	for name, q := range questions(runs) {
		t.Logf("measured: runs, %s: p99 %v", name, slowest(t, func(ctx context.Context) error {
			_, _, err := s.Runs(ctx, q)
			return err
		}))
	}
	for name, ask := range map[string]func(context.Context) error{
		"batches": func(ctx context.Context) error { _, _, err := s.Batches(ctx, scheduler.BatchQuery{}); return err },
		"counts":  func(ctx context.Context) error { _, err := s.CountRuns(ctx); return err },
		"a run":   func(ctx context.Context) error { _, err := s.Run(ctx, "r000000042"); return err },
		"load":    func(ctx context.Context) error { _, err := s.Load(ctx); return err },
	} {
		t.Logf("measured: %s: p99 %v", name, slowest(t, ask))
	}
}

// slowest asks a hundred times and returns the second slowest, which is the 99th percentile.
func slowest(t *testing.T, ask func(context.Context) error) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 100 {
		began := time.Now()
		if err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[98].Round(10 * time.Microsecond)
}

// fill writes runs r000000000, r000000001, … of five tasks, each with a batch, one a microsecond; every thousandth failed, and every tenth is
// of one of a hundred small DAGs.
func fill(t *testing.T, s *Store, runs int) {
	t.Helper()
	b := schedulertest.ExampleBatch(0)
	doc, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	numbers := fmt.Sprintf("WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n+1 FROM c WHERE n < %d) ", runs-1)
	const run = "printf('r%09d', n)"
	const batch = "printf('b%09d', n)"
	for _, q := range []string{
		"INSERT INTO batch (" + strings.Join(batchColumns[:10], ",") + ") " + numbers + "SELECT " + batch + ", 'default', 'web', '" + b.Stream.String() + "', n, n, n, 0, n, '" + string(doc) + "' FROM c",
		`INSERT INTO run (id, dag, version, state, trigger_doc, params, replay, replay_of, events, bytes, interval_start, interval_end, watermark,
			reason, trace, created_at, started_at, ended_at, rev) ` + numbers + "SELECT " + run + `, CASE WHEN n%10=9 THEN 'd'||(n/10%100) ELSE 'big' END, 'v1',
			CASE WHEN n%1000=0 THEN 'failed' ELSE 'success' END, '{}', '{}', 0, '', 1, 1, 0, 0, 0, '', '', n, n, n, 1 FROM c`,
		"INSERT INTO run_input " + numbers + "SELECT " + run + ", 0, " + batch + " FROM c",
		`INSERT INTO task_instance (run, task, map_index, n, state, try, lost, executor, external_id, retry_at, kill_reason, exit_code, reason,
			output, started_at, ended_at, rev) ` + numbers + ", k (i) AS (VALUES (0),(1),(2),(3),(4)) SELECT " + run + `, 't'||i, -1, i, 'success', 1, 0,
			'local', '', 0, '', 0, '', '', n, n, 1 FROM c, k`,
	} {
		if _, err := s.conn.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
	}
}
