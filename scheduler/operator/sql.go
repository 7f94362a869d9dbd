package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

var _ scheduler.Configured = SQL{}

// SQL executes statements in one transaction. Values are bound: no value becomes a part of a statement's text.
type SQL struct{ opts Options }

// Params that every statement may use without declaring them.
const (
	ParamKey = "idempotency_key" // the same for all attempts of the task in its run
	ParamRun = "run_id"
)

// MaxRows is the most that `max_rows` may say.
const MaxRows = 10_000

// Kind returns "sql".
func (SQL) Kind() string { return scheduler.KindSQL }

// Validate implements scheduler.Operator.
func (SQL) Validate(t *scheduler.Task) error {
	q := t.SQL
	if q == nil {
		return errors.New("there is no sql")
	}
	errs := []error{CheckConnection(q.Connection)}
	switch {
	case q.File == "" && len(q.Statements) == 0:
		errs = append(errs, errors.New("sql has neither a statement nor a file"))
	case q.File != "" && len(q.Statements) > 0:
		errs = append(errs, errors.New("sql has a statement and a file, and can have one of them"))
	case q.File != "" && !filepath.IsAbs(q.File):
		errs = append(errs, fmt.Errorf("file %q is not an absolute path: a task starts in a directory of its own", q.File))
	}
	for _, text := range q.Statements {
		errs = append(errs, CheckStatement(text))
	}
	for _, name := range slices.Sorted(maps.Keys(q.Params)) {
		errs = append(errs, CheckParam(q, name))
	}
	if q.MaxRows < 0 || q.MaxRows > MaxRows {
		errs = append(errs, fmt.Errorf("max_rows is %d, want 0 to %d", q.MaxRows, MaxRows))
	}
	return errors.Join(errs...)
}

// CheckConnection reports whether a connection can stand in a DAG file.
func CheckConnection(text string) error {
	name, named := strings.CutPrefix(text, scheduler.ConnPrefix)
	switch {
	case text == "env:" || text == "file:" || text == "" || named && name == "":
		return errors.New("connection names nothing: write conn:NAME, env:NAME or file:PATH")
	case named && expr.HasExpr(text):
		return errors.New("${{ }} can not stand in connection: a value could choose the database")
	case named:
		return scheduler.CheckValueName(name)
	case IsSecret(text), strings.HasPrefix(text, "sqlite:"):
		if expr.HasExpr(text) {
			return errors.New("${{ }} can not stand in connection: a value could choose the database")
		}
		return nil
	}
	return errors.New("connection has to be conn:NAME ('millrace conns set' makes one), or env:NAME or file:PATH, where the URL of the database is " +
		"found (or sqlite:PATH): a DAG file is no place for a password")
}

// CheckStatement reports whether a statement can be executed as it is written.
func CheckStatement(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("a statement is empty")
	case expr.HasExpr(text):
		return errors.New("${{ }} can not stand in a statement: the value would be read as SQL; write @name there, and name: ${{ … }} below params")
	}
	return nil
}

var paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// CheckParam reports what is wrong with the parameter of a name.
func CheckParam(q *scheduler.SQL, name string) error {
	switch {
	case !paramName.MatchString(name):
		return fmt.Errorf("parameter %q: a name has letters, digits and _, and starts with no digit", name)
	case name == ParamKey || name == ParamRun:
		return fmt.Errorf("parameter %s is given by millrace", name)
	case q.File == "" && !Mentions(q.Statements, name):
		return fmt.Errorf("parameter %s is used by no statement; write @%s where its value belongs", name, name)
	}
	return nil
}

// Mentions reports whether one of the statements has the parameter @name.
func Mentions(statements []string, name string) bool {
	return slices.ContainsFunc(statements, func(text string) bool {
		for rest := text; ; {
			_, after, found := strings.Cut(rest, "@"+name)
			if !found {
				return false
			}
			if after == "" || !paramName.MatchString("x"+after[:1]) {
				return true
			}
			rest = after
		}
	})
}

// Compile implements scheduler.Operator.
func (o SQL) Compile(t *scheduler.Task) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	return o.opts.argv(o.Kind()), nil
}

// Settings implements scheduler.Configured.
func (o SQL) Settings(t *scheduler.Task, eval scheduler.Eval) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	q := *t.SQL
	q.Params = make(map[string]json.RawMessage, len(t.SQL.Params))
	for name, val := range t.SQL.Params {
		filled, err := FillJSON(val, eval)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", name, err)
		}
		q.Params[name] = filled
	}
	vars, err := named(&q, eval)
	if err != nil {
		return nil, err
	}
	packed, err := pack(Envelope{SQL: &q})
	return append(packed, vars...), err
}

// connVar is the variable in which the URL of a connection of the installation travels.
const connVar = "MILLRACE_CONNECTION"

// named puts the URL of a connection of the installation where env:NAME finds it: so it stands in no message about the settings.
func named(q *scheduler.SQL, eval scheduler.Eval) ([]string, error) {
	uri, err := uriOf(q.Connection, eval)
	if err != nil || uri == "" {
		return nil, err
	}
	if path, ok := strings.CutPrefix(uri, "sqlite://"); ok {
		uri = "sqlite:" + path
	}
	q.Connection = "env:" + connVar
	return []string{connVar + "=" + uri}, nil
}
