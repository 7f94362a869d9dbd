package sql

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"millrace/scheduler"
	"millrace/scheduler/operator"
	"millrace/scheduler/schedulertest"
)

// database is one that tasks connect to by env:DB.
type database struct {
	t   *testing.T
	url string
}

// do executes statements and returns output, log and error.
func (d database) do(q scheduler.SQL) (out, log string, err error) {
	d.t.Helper()
	return d.within(d.t.Context(), q)
}

func (d database) within(ctx context.Context, q scheduler.SQL) (out, log string, err error) {
	d.t.Helper()
	if q.Connection == "" {
		q.Connection = "env:DB"
	}
	vars := map[string]string{"DB": d.url, "MILLRACE_IDEMPOTENCY_KEY": "r1/load", "MILLRACE_RUN_ID": "r1"}
	var b bytes.Buffer
	raw, err := Do(ctx, &q, Options{Log: &b, Environ: func(name string) (string, bool) { val, ok := vars[name]; return val, ok }})
	return string(raw), b.String(), err
}

// must executes statements that have to succeed, and returns the output.
func (d database) must(statements ...string) string {
	d.t.Helper()
	out, log, err := d.do(scheduler.SQL{Statements: statements, MaxRows: 100})
	if err != nil {
		d.t.Fatalf("%q: %v\n%s", statements, err, log)
	}
	return out
}

func params(kv ...string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for i := 0; i < len(kv); i += 2 {
		out[kv[i]] = json.RawMessage(kv[i+1])
	}
	return out
}

func newSQLite(t *testing.T) database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b?.db") // a name that a URL would take apart
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return database{t, "sqlite:" + path}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	d.must("CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER, x REAL, b BLOB, w TEXT)")
	d.behaves()
	if _, _, err := (database{t, "sqlite:/nowhere/x.db"}).do(scheduler.SQL{Statements: []string{"SELECT 1"}}); operator.ExitOf(err) != scheduler.ExitNoRetry {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	d := database{t, schedulertest.Postgres(t)}
	d.must("CREATE TABLE t (id text PRIMARY KEY, n bigint, x double precision, b bytea, w text)")
	d.behaves()
	t.Run("types", func(t *testing.T) { d.types(t) })
	t.Run("faults", func(t *testing.T) { d.faults(t) })
	t.Run("conflict", func(t *testing.T) { d.conflict(t) })
	t.Run("end", func(t *testing.T) { d.end(t) })
}

// behaves holds for every database.
func (d database) behaves() {
	t := d.t
	t.Helper()
	const evil = `'); DROP TABLE t; -- "`
	quoted, _ := json.Marshal(evil)
	insert := scheduler.SQL{
		Statements: []string{"INSERT INTO t (id, n, x, w) VALUES (@idempotency_key, @n, @x, @w)", "INSERT INTO t (id, n, w) SELECT @run_id, n + 1, NULL FROM t"},
		Params:     params("n", "9007199254740993", "x", "2.5", "w", string(quoted)), MaxRows: 10,
	}
	out, log, err := d.do(insert)
	if err != nil || out != `{"rows_affected":2}` || !strings.Contains(log, "committed, 2 rows affected") || strings.Contains(log, "DROP") {
		t.Fatalf("insert: got %s, %v\n%s", out, err, log)
	}
	want := `{"rows_affected":0,"rows":[{"id":"r1","n":9007199254740994,"x":null,"w":null},{"id":"r1/load","n":9007199254740993,"x":2.5,"w":` + string(quoted) + `}]}`
	if got := d.must("SELECT id, n, x, w FROM t ORDER BY id"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The second attempt is refused by its idempotency key, and not tried again.
	if _, _, err := d.do(insert); operator.ExitOf(err) != scheduler.ExitNoRetry || !strings.Contains(err.Error(), "statement 1 of 2") {
		t.Errorf("second attempt: %v", err)
	}
	// All or nothing.
	_, _, err = d.do(scheduler.SQL{Statements: []string{"DELETE FROM t", "INSERT INTO nowhere VALUES (1)"}})
	if operator.ExitOf(err) != scheduler.ExitNoRetry || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("bad statement: %v", err)
	}
	if got := d.must("SELECT count(*) AS n, count(*) AS n FROM t"); got != `{"rows_affected":0,"rows":[{"n":2,"n_2":2}]}` {
		t.Errorf("after a failure: %s", got)
	}
	d.bounds()
	for _, tt := range []struct {
		sql  scheduler.SQL
		want string
	}{
		{scheduler.SQL{Statements: []string{"SELECT @missing"}}, ""},
		{scheduler.SQL{Statements: []string{"SELECT 1"}, Params: params("a", "1")}, "used by no statement"},
		{scheduler.SQL{File: "/nowhere.sql"}, "read the statement"},
		{scheduler.SQL{Connection: "env:OTHER", Statements: []string{"SELECT 1"}}, "executors.local.env"},
		{scheduler.SQL{Statements: []string{"COMMIT"}}, ""},
	} {
		if _, _, err := d.do(tt.sql); operator.ExitOf(err) != scheduler.ExitNoRetry || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.sql, err, tt.want)
		}
	}
	file := filepath.Join(t.TempDir(), "q.sql")
	if err := os.WriteFile(file, []byte("-- how many\nSELECT count(*) AS n FROM t WHERE w = @w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := d.do(scheduler.SQL{File: file, Params: params("w", string(quoted)), MaxRows: 1}); err != nil || out != `{"rows_affected":0,"rows":[{"n":1}]}` {
		t.Errorf("file: got %s, %v", out, err)
	}
}

// bounds: a result is cut to max_rows and to what an output may have.
func (d database) bounds() {
	d.t.Helper()
	many := "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5000) SELECT n, 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' AS pad FROM r"
	for most, rows := range map[int]int{0: 0, 3: 3, 10_000: -1} {
		out, log, err := d.do(scheduler.SQL{Statements: []string{many}, MaxRows: most})
		var got struct {
			Rows      []any
			Truncated bool
		}
		if err != nil || json.Unmarshal([]byte(out), &got) != nil || len(out) > operator.MaxOutput {
			d.t.Fatalf("%d rows: %v, %d bytes", most, err, len(out))
		}
		if rows >= 0 && len(got.Rows) != rows || rows < 0 && len(got.Rows) < 1000 || got.Truncated != (most > 0) {
			d.t.Errorf("max_rows %d: %d rows, truncated %v", most, len(got.Rows), got.Truncated)
		}
		if got.Truncated && !strings.Contains(log, "more rows than the output takes") {
			d.t.Errorf("the log does not say that the result was cut:\n%s", log)
		}
	}
}

func (d database) types(t *testing.T) {
	out, _, err := d.do(scheduler.SQL{MaxRows: 1, Params: params("i", `"7"`, "b", "true", "j", `{"a": [1, null]}`, "t", `"2026-11-23T10:00:00Z"`, "z", "null", "n", "1.50"),
		Statements: []string{`SELECT @i::int AS i, @b::boolean AS b, @j::jsonb AS j, @t::timestamptz AT TIME ZONE 'UTC' AS t, @z::text AS z,
			@n::numeric AS n, 'NaN'::float8 AS nan, '{1,2}'::int[] AS list, '\x00ff'::bytea AS raw, 'a@i.example' AS mail, '{"x": 1}'::jsonb @> '{}' AS op`}})
	const want = `{"rows_affected":0,"rows":[{"i":7,"b":true,"j":{"a": [1, null]},"t":"2026-11-23 10:00:00","z":null,"n":1.50,"nan":"NaN","list":"{1,2}",` +
		`"raw":"\\x00ff","mail":"a@i.example","op":true}]}`
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal([]byte(out), &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !cmp.Equal(a, b) {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if out := d.must("CREATE TABLE r (n int)", "INSERT INTO r VALUES (1), (2) RETURNING n", "UPDATE r SET n = n"); out != `{"rows_affected":4,"rows":[{"n":1},{"n":2}]}` {
		t.Errorf("returning: %s", out)
	}
}

func (d database) faults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	for _, tt := range []struct {
		name, url, statement string
		exit                 int
		want                 string
	}{
		{"nobody listens", "postgres://u:s3cret@" + closed + "/d", "SELECT 1", 75, "connect"},
		{"no such database", strings.Replace(d.url, "/postgres?", "/nowhere?", 1), "SELECT 1", 64, "3D000"},
		{"no such user", strings.Replace(d.url, "millrace@", "stranger:s3cret@", 1), "SELECT 1", 64, "28000"},
		{"not a URL", "postgres://u:s3cret@[x/d", "SELECT 1", 64, "connection env:DB"},
		{"another kind", "mysql://u:s3cret@h/d", "SELECT 1", 64, "neither with postgres://"},
		{"syntax", d.url, "SELEC 1", 64, "at character 1"},
		{"two in one", d.url, "SELECT 1; SELECT 2", 64, "multiple commands"},
		{"hint", d.url, "SELECT nosuch(1)", 64, "You might need to add explicit type casts"},
		{"shutdown", d.url, "SELECT pg_terminate_backend(pg_backend_pid())", 75, "57P01"},
		{"serialization", d.url, "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", 75, "40001"},
		{"value", d.url, "SELECT 'x'::int", 64, "22P02"},
	} {
		_, log, err := database{t, tt.url}.do(scheduler.SQL{Statements: []string{tt.statement}})
		if operator.ExitOf(err) != tt.exit || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error()+log, "s3cret") {
			t.Errorf("%s: exit %d, %v, want %d with %q and no password", tt.name, operator.ExitOf(err), err, tt.exit, tt.want)
		}
	}
}

// conflict: what another transaction is in the way of may succeed another time.
func (d database) conflict(t *testing.T) {
	d.must("CREATE TABLE c (id int PRIMARY KEY, n int)", "INSERT INTO c VALUES (1, 0)")
	other, err := pgx.Connect(t.Context(), d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(context.WithoutCancel(t.Context())) }()
	for _, text := range []string{"BEGIN", "UPDATE c SET n = 1 WHERE id = 1"} {
		if _, err := other.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err = d.do(scheduler.SQL{Statements: []string{"SET LOCAL lock_timeout = '10ms'", "UPDATE c SET n = 2 WHERE id = 1"}})
	if operator.ExitOf(err) != scheduler.ExitAgain || !strings.Contains(err.Error(), "55P03") {
		t.Errorf("got %v, want the timeout of a lock, which is tried again", err)
	}
}

// waitForLock waits until a session waits for a lock.
func (d database) waitForLock(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(schedulertest.PostgresPatience); ; <-tick.C {
		if out := d.must("SELECT count(*) > 0 AS waits FROM pg_stat_activity WHERE wait_event_type = 'Lock'"); strings.Contains(out, "true") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for a lock")
		}
	}
}

// end: a task that is told to end while the database works ends, and what it did is rolled back.
func (d database) end(t *testing.T) {
	d.must("CREATE TABLE e (n int)")
	other, err := pgx.Connect(t.Context(), d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(context.WithoutCancel(t.Context())) }()
	for _, text := range []string{"BEGIN", "LOCK TABLE c IN ACCESS EXCLUSIVE MODE"} {
		if _, err := other.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { // ends by cancel
		_, _, err := d.within(ctx, scheduler.SQL{Statements: []string{"INSERT INTO e VALUES (1)", "SELECT n FROM c"}})
		done <- err
	}()
	d.waitForLock(t)
	cancel()
	if err := <-done; operator.ExitOf(err) != scheduler.ExitAgain || !strings.Contains(err.Error(), "told to end") {
		t.Errorf("got %v", err)
	}
	if out := d.must("SELECT n FROM e"); out != `{"rows_affected":0}` {
		t.Errorf("after the end: %s", out)
	}
}

func TestSQLiteBusyIsTriedAgain(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	d.must("CREATE TABLE t (n INTEGER)")
	path := strings.TrimPrefix(d.url, "sqlite:")
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer(" ", "%20", "?", "%3F").Replace(path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := d.within(ctx, scheduler.SQL{Statements: []string{"INSERT INTO t VALUES (1)"}}); operator.ExitOf(err) != scheduler.ExitAgain {
		t.Errorf("got %v, exit %d", err, operator.ExitOf(err))
	}
	if _, err := db.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if out := d.must("SELECT count(*) AS n FROM t"); out != `{"rows_affected":0,"rows":[{"n":0}]}` {
		t.Errorf("after the end: %s", out)
	}
}

func TestDistinct(t *testing.T) {
	t.Parallel()
	if got := fmt.Sprint(distinct([]string{"a", "b", "a", "a_2", "a"})); got != "[a b a_2 a_2_2 a_3]" {
		t.Errorf("got %s", got)
	}
}
