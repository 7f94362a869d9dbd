package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"millrace/scheduler/operator"
)

const connectTimeout = 10 * time.Second

func (w *work) postgres(ctx context.Context, url string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return operator.Final(fmt.Errorf("connection %s: %w", w.Connection, err)) // pgx leaves the password out
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		key, _ := w.Environ("MILLRACE_IDEMPOTENCY_KEY")
		cfg.RuntimeParams["application_name"] = "millrace " + key
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return judge(ctx, fmt.Errorf("connection %s: %w", w.Connection, err))
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(end)
	}()
	w.say("connected to PostgreSQL, database %s", cfg.Database)
	tx, err := conn.Begin(ctx)
	if err != nil {
		return judge(ctx, fmt.Errorf("begin: %w", err))
	}
	for i := range w.texts {
		if err := w.execute(ctx, tx, i); err != nil {
			return judge(ctx, fmt.Errorf("%s: %w", w.at(i), err)) // closing the connection rolls back
		}
		if conn.PgConn().TxStatus() != 'T' {
			return operator.Final(fmt.Errorf("%s ended the transaction: an attempt is one, which is committed after the last statement", w.at(i)))
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return judge(ctx, fmt.Errorf("commit: %w; whether it took place is not known if the connection was lost", err))
	}
	w.say("committed, %d rows affected", w.affected)
	return nil
}

func (w *work) execute(ctx context.Context, tx pgx.Tx, i int) error {
	query, args, err := w.bind(ctx, w.texts[i])
	if err != nil {
		return operator.Final(err)
	}
	begin := time.Now()
	// Everything travels as text: PostgreSQL reads a value as the type that it has inferred for its place, and writes results exactly.
	opts := []any{pgx.QueryExecModeDescribeExec, pgx.QueryResultFormats{pgx.TextFormatCode}}
	res, err := tx.Query(ctx, query, append(opts, args...)...)
	if err != nil {
		return err
	}
	defer res.Close()
	var names []string
	fields := res.FieldDescriptions()
	for _, f := range fields {
		names = append(names, f.Name)
	}
	if names = distinct(names); len(names) > 0 {
		w.rows.begin()
	}
	for res.Next() {
		vals := make([]json.RawMessage, len(fields))
		for c, raw := range res.RawValues() {
			vals[c] = jsonOf(fields[c].DataTypeOID, raw)
		}
		if err := w.rows.add(names, vals); err != nil {
			return err
		}
	}
	res.Close()
	if err := res.Err(); err != nil {
		return err
	}
	tag := res.CommandTag()
	if !tag.Select() {
		w.affected += tag.RowsAffected()
	}
	w.say("%s: %s in %v", w.at(i), tag, time.Since(begin).Round(time.Millisecond))
	return nil
}

// bound is a value that was found for a parameter, so that NULL and nothing can be told apart.
type bound struct{ val any }

// bind turns @name into $1 with a value each.
func (w *work) bind(ctx context.Context, statement string) (string, []any, error) {
	named := pgx.NamedArgs{}
	for name, raw := range w.values {
		val, ok, err := text(raw)
		if err != nil {
			return "", nil, fmt.Errorf("parameter %s: %w", name, err)
		}
		b := bound{}
		if ok {
			b.val = val
		}
		named[name] = b
	}
	query, args, err := named.RewriteQuery(ctx, nil, statement, nil)
	if err != nil {
		return "", nil, err
	}
	for i, arg := range args {
		b, ok := arg.(bound)
		if !ok {
			return "", nil, fmt.Errorf("a parameter with @ has no value; params has %s", strings.Join(slices.Sorted(maps.Keys(w.values)), ", "))
		}
		args[i] = b.val
	}
	return query, args, nil
}

// jsonOf returns a value, as PostgreSQL writes it, as JSON: numbers, bools and JSON as themselves, everything else as a string.
func jsonOf(oid uint32, raw []byte) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	switch oid {
	case pgtype.BoolOID:
		return json.RawMessage(strconv.FormatBool(string(raw) == "t"))
	case pgtype.JSONOID, pgtype.JSONBOID:
		if json.Valid(raw) {
			return slices.Clone(raw)
		}
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.NumericOID, pgtype.Float4OID, pgtype.Float8OID:
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) && json.Valid(raw) {
			return slices.Clone(raw)
		}
	}
	out, err := json.Marshal(string(raw))
	if err != nil {
		return json.RawMessage("null")
	}
	return out
}

// final are the classes of SQLSTATE with which the database says that this statement, these values or this user will not do. Others (connection,
// resources, serialization, shutdown) may pass.
//
// Source: PostgreSQL documentation, appendix A.
var final = []string{"0A", "0L", "21", "22", "23", "26", "28", "2B", "34", "3B", "3D", "3F", "42", "44", "P0"}

// judge says whether another try may succeed.
func judge(ctx context.Context, err error) error {
	var f *operator.Failure
	if errors.As(err, &f) {
		return err
	}
	var pg *pgconn.PgError
	if ctx.Err() == nil && errors.As(err, &pg) {
		text := fmt.Sprintf("%s: PostgreSQL says: %s (SQLSTATE %s)", before(err, pg), pg.Message, pg.Code)
		if pg.Position > 0 {
			text += fmt.Sprintf(", at character %d", pg.Position)
		}
		if pg.Hint != "" {
			text += ". " + pg.Hint
		}
		if slices.Contains(final, pg.Code[:min(2, len(pg.Code))]) {
			return operator.Final(errors.New(text))
		}
		return operator.Again(errors.New(text))
	}
	return operator.Again(ended(ctx, err))
}

// before is what an error says before that of the database.
func before(err error, pg *pgconn.PgError) string {
	return strings.TrimSuffix(strings.TrimSuffix(err.Error(), pg.Error()), ": ")
}
