// Package sql executes the statements of a task that has `sql`, in a process of its own, in PostgreSQL or SQLite.
//
// An attempt is one transaction: all of its statements, or nothing. Values are bound by the database's own protocol and are never a part of a
// statement's text. If the process is killed, or the connection is lost, before the commit, the database rolls back. If that happens while the
// commit is under way, whether it took place is not known, and the next attempt executes the statements again; @idempotency_key, the same for all
// attempts, is what a table can be made to refuse the second by.
package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// Options are what the process has around it.
type Options struct {
	// Environ looks a variable of the task up.
	Environ func(name string) (string, bool)
	// Log gets what a person reads about the attempt.
	Log io.Writer
}

// Do executes the statements and returns the output: {"rows_affected": …, "rows": […]}. The error says by its [operator.Failure] whether another
// try may succeed: not if the database has understood the statement and refuses it.
func Do(ctx context.Context, q *scheduler.SQL, opts Options) ([]byte, error) {
	w := &work{SQL: q, Options: opts, rows: rows{most: q.MaxRows}}
	if err := w.prepare(); err != nil {
		return nil, operator.Final(err)
	}
	where, err := operator.Secret(q.Connection, opts.Environ)
	if err != nil {
		return nil, operator.Final(fmt.Errorf("connection: %w", err))
	}
	switch {
	case strings.HasPrefix(where, "sqlite:"):
		err = w.sqlite(ctx, strings.TrimPrefix(strings.TrimPrefix(where, "sqlite:"), "//"))
	case strings.HasPrefix(where, "postgres://"), strings.HasPrefix(where, "postgresql://"):
		err = w.postgres(ctx, where)
	default:
		return nil, operator.Final(fmt.Errorf("connection %s: the URL starts neither with postgres:// nor with sqlite:", q.Connection))
	}
	if err != nil {
		return nil, err
	}
	return w.output()
}

// work is one attempt.
type work struct {
	*scheduler.SQL
	Options
	texts    []string
	values   map[string]json.RawMessage
	affected int64
	rows     rows
}

func (w *work) say(format string, args ...any) { _, _ = fmt.Fprintf(w.Log, format+"\n", args...) }

// prepare reads the file, if there is one, and adds the parameters that every statement has.
func (w *work) prepare() error {
	w.texts = w.Statements
	if w.File != "" {
		text, err := os.ReadFile(w.File)
		if err != nil {
			return fmt.Errorf("read the statement: %w", err)
		}
		w.texts = []string{string(text)}
	}
	w.values = map[string]json.RawMessage{}
	for name, val := range w.Params {
		w.values[name] = val
	}
	for name, variable := range map[string]string{operator.ParamKey: "MILLRACE_IDEMPOTENCY_KEY", operator.ParamRun: "MILLRACE_RUN_ID"} {
		val, _ := w.Environ(variable)
		raw, err := json.Marshal(val)
		if err != nil {
			return err
		}
		w.values[name] = raw
	}
	for name := range w.Params {
		if !operator.Mentions(w.texts, name) {
			return fmt.Errorf("parameter %s is used by no statement; write @%s where its value belongs", name, name)
		}
	}
	return nil
}

// at names a statement in an error.
func (w *work) at(i int) string {
	if w.File != "" {
		return "the statement of " + w.File
	}
	if len(w.texts) == 1 {
		return "the statement"
	}
	return fmt.Sprintf("statement %d of %d", i+1, len(w.texts))
}

// text returns a JSON value as text: a string's own, and that of anything else as JSON has it. ok is false for null.
func text(raw json.RawMessage) (val string, ok bool, err error) {
	if string(raw) == "null" {
		return "", false, nil
	}
	if !strings.HasPrefix(string(raw), `"`) {
		return string(raw), true, nil
	}
	err = json.Unmarshal(raw, &val)
	return val, true, err
}

// rows collects what fits into an output.
type rows struct {
	most    int
	list    []json.RawMessage
	bytes   int
	dropped bool
}

// frame is left for what stands around the rows.
const frame = 256

// add takes a row, or notes that there is one more than fits.
func (r *rows) add(names []string, vals []json.RawMessage) error {
	if r.dropped || len(r.list) >= r.most {
		r.dropped = true
		return nil
	}
	var b strings.Builder
	for i, name := range names {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.Write(key)
		b.WriteByte(':')
		b.Write(vals[i])
	}
	b.WriteByte('}')
	if r.bytes+b.Len()+1 > operator.MaxOutput-frame {
		r.dropped = true
		return nil
	}
	r.bytes += b.Len() + 1
	r.list = append(r.list, json.RawMessage(b.String()))
	return nil
}

// begin forgets the rows of the statement before: the last one that has any counts.
func (r *rows) begin() { r.list, r.bytes, r.dropped = nil, 0, false }

// distinct makes names that stand twice differ, as keys of an object have to.
func distinct(names []string) []string {
	seen := map[string]bool{}
	for i, name := range names {
		for n := 2; seen[names[i]]; n++ {
			names[i] = fmt.Sprintf("%s_%d", name, n)
		}
		seen[names[i]] = true
	}
	return names
}

func (w *work) output() ([]byte, error) {
	out := struct {
		Affected  int64             `json:"rows_affected"`
		Rows      []json.RawMessage `json:"rows,omitempty"`
		Truncated bool              `json:"truncated,omitempty"`
	}{w.affected, w.rows.list, w.rows.dropped && w.rows.most > 0}
	if out.Truncated {
		w.say("the result has more rows than the output takes: %d are in it (max_rows, and %d bytes)", len(out.Rows), operator.MaxOutput)
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, operator.Final(fmt.Errorf("write the output: %w", err))
	}
	return raw, nil
}

// ended explains a context's end, or returns err.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("the task was told to end (timeout:, or a person); the transaction is rolled back")
	}
	return err
}
