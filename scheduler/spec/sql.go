package spec

import (
	"encoding/json"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

const defaultMaxRows = 100

func (b *builder) sql(n ast.Node, t *scheduler.Task) {
	q := &scheduler.SQL{MaxRows: defaultMaxRows}
	t.SQL = q
	var params ast.Node
	b.mapping(n, "sql", fields{
		"connection": func(v ast.Node) {
			q.Connection = b.str(v, "connection")
			b.check(v, operator.CheckConnection(q.Connection))
		},
		"statement": func(v ast.Node) { q.Statements = b.statements(v) },
		"file":      func(v ast.Node) { q.File = b.str(v, "file") },
		"params":    func(v ast.Node) { params = v },
		"max_rows":  func(v ast.Node) { q.MaxRows = int(b.integer(v, "max_rows", operator.MaxRows)) },
	})
	if params != nil {
		q.Params = b.sqlParams(params, q, t.ID)
	}
	if q.Connection == "" {
		b.errorf(n, "add connection: env:NAME", "sql has no connection")
	}
	// What is left is about several keys at once.
	if err := (operator.SQL{}).Validate(&scheduler.Task{SQL: &scheduler.SQL{
		Connection: "env:X", Statements: q.Statements, File: q.File,
	}}); err != nil && !b.faultAt(n) {
		b.check(n, err)
	}
}

// faultAt reports whether a fault is within the lines of a mapping.
func (b *builder) faultAt(n ast.Node) bool { return b.hasErrorWithin(&placed{at: n, value: n}) }

func (b *builder) statements(n ast.Node) []string {
	var out []string
	for _, v := range b.list(n, "statement", true) {
		text := b.str(v, "statement")
		b.check(v, operator.CheckStatement(text))
		out = append(out, text)
	}
	return out
}

func (b *builder) sqlParams(n ast.Node, q *scheduler.SQL, task string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, p := range b.pairs(n, "params") {
		b.check(p.node, operator.CheckParam(q, p.key))
		out[p.key] = b.json(p.value, "parameter "+p.key, task)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
