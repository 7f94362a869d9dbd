package sql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"modernc.org/sqlite"

	"millrace/scheduler/operator"
)

// busyTimeout is how long a statement waits for another writer.
const busyTimeout = 10 * time.Second

func (w *work) sqlite(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return operator.Final(fmt.Errorf("open the database: %w; an empty file is an empty database", err))
	}
	at := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: fmt.Sprintf(
		"mode=rw&_txlock=immediate&_pragma=busy_timeout(%d)&_pragma=foreign_keys(1)", busyTimeout.Milliseconds())}
	db, err := sql.Open("sqlite", at.String())
	if err != nil {
		return operator.Final(fmt.Errorf("open the database %s: %w", path, err))
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return judgeSQLite(ctx, fmt.Errorf("begin: %w", err))
	}
	defer func() { _ = tx.Rollback() }()
	w.say("opened SQLite, %s", path)
	var start, end int64
	if err := tx.QueryRowContext(ctx, "SELECT total_changes()").Scan(&start); err != nil {
		return judgeSQLite(ctx, fmt.Errorf("begin: %w", err))
	}
	for i := range w.texts {
		begin := time.Now()
		if err := w.executeSQLite(ctx, tx, i); err != nil {
			return judgeSQLite(ctx, fmt.Errorf("%s: %w", w.at(i), err))
		}
		w.say("%s: done in %v", w.at(i), time.Since(begin).Round(time.Millisecond))
	}
	if err := tx.QueryRowContext(ctx, "SELECT total_changes()").Scan(&end); err != nil {
		return judgeSQLite(ctx, fmt.Errorf("commit: %w", err))
	}
	if err := tx.Commit(); err != nil {
		return judgeSQLite(ctx, fmt.Errorf("commit: %w", err))
	}
	w.affected = end - start
	w.say("committed, %d rows affected", w.affected)
	return nil
}

func (w *work) executeSQLite(ctx context.Context, tx *sql.Tx, i int) error {
	var args []any
	for name, raw := range w.values {
		if !operator.Mentions(w.texts[i:i+1], name) {
			continue
		}
		val, err := native(raw)
		if err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
		args = append(args, sql.Named(name, val))
	}
	res, err := tx.QueryContext(ctx, w.texts[i], args...)
	if err != nil {
		return err
	}
	defer func() { _ = res.Close() }()
	names, err := res.Columns()
	if err != nil {
		return err
	}
	if names = distinct(names); len(names) > 0 {
		w.rows.begin()
	}
	for res.Next() {
		vals, to := make([]any, len(names)), make([]any, len(names))
		for c := range vals {
			to[c] = &vals[c]
		}
		if err := res.Scan(to...); err != nil {
			return err
		}
		out := make([]json.RawMessage, len(names))
		for c := range vals {
			out[c] = jsonOfSQLite(vals[c])
		}
		if err := w.rows.add(names, out); err != nil {
			return err
		}
	}
	return res.Err()
}

// native returns a JSON value as one of SQLite's: text, a whole number, a real one, NULL. Lists and objects are text.
func native(raw json.RawMessage) (any, error) {
	val, ok, err := text(raw)
	if err != nil || !ok {
		return nil, err
	}
	switch c := raw[0]; {
	case c == 't', c == 'f':
		return c == 't', nil
	case c == '-' || c >= '0' && c <= '9':
		if n, err := strconv.ParseInt(val, 10, 64); err == nil {
			return n, nil
		}
		return strconv.ParseFloat(val, 64)
	}
	return val, nil
}

// jsonOfSQLite returns a value as JSON. What JSON does not have becomes text: infinity, bytes that are no text, times.
func jsonOfSQLite(val any) json.RawMessage {
	switch v := val.(type) {
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			val = strconv.FormatFloat(v, 'g', -1, 64)
		}
	case []byte:
		if utf8.Valid(v) {
			val = string(v)
		} // else JSON has it as base64
	}
	raw, err := json.Marshal(val)
	if err != nil {
		return json.RawMessage("null")
	}
	return raw
}

// Result codes of SQLite that may pass: busy, locked, out of memory, interrupted, I/O error, full, protocol.
//
// Source: https://www.sqlite.org/rescode.html
var passing = map[int]bool{5: true, 6: true, 7: true, 9: true, 10: true, 13: true, 15: true}

// judgeSQLite says whether another try may succeed.
func judgeSQLite(ctx context.Context, err error) error {
	var e *sqlite.Error
	if ctx.Err() != nil || errors.As(err, &e) && passing[e.Code()&0xff] {
		return operator.Again(ended(ctx, err))
	}
	return operator.Final(err)
}
