package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// valueRoots are the names below which an installation's values are.
var valueRoots = []string{"vars", "secrets", "conns"}

func isValue(root string) bool { return slices.Contains(valueRoots, root) }

// The fields of a connection. What may have a secret in it counts as one.
var (
	openFields   = []string{"type", "host", "port", "login", "schema"}
	secretFields = []string{"password", "uri", "extra"}
)

// valueRef fills in what else there is to say of a reference; e is where it stands.
func valueRef(ref Ref, e ast.Expr) Ref {
	ref.Secret = ref.Root == "secrets"
	ref.Optional = isValue(ref.Root) && e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly()
	return ref
}

// checkValues checks how an expression uses the installation's values: by names that stand in it, of a connection with a field, and of a secret
// nothing but the whole. It fills in the fields.
func checkValues(tree *ast.AST, refs []Ref) error {
	var errs []error
	var idents, named int
	secret := false
	fault := func(e ast.Expr, format string, args ...any) {
		at := tree.SourceInfo().GetStartLocation(e.ID())
		errs = append(errs, &Error{Line: max(1, at.Line()), Col: max(1, at.Column()+1), Msg: fmt.Sprintf(format, args...)})
	}
	fields := 0
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && isValue(e.AsIdent()) {
			idents++
		}
		if root, _, ok := refOf(e); ok && isValue(root) {
			named++
		}
		if conn, field, ok := fieldOf(e); ok {
			fields++
			secret = noteField(refs, conn, field) || secret
			if !slices.Contains(openFields, field) && !slices.Contains(secretFields, field) {
				fault(e, "a connection has no field '%s', only %s", field, strings.Join(slices.Concat(openFields, secretFields), ", "))
			}
		}
	}))
	conns := 0
	for _, ref := range refs {
		secret = secret || ref.Secret
		if ref.Root == "conns" {
			conns++
		}
	}
	switch {
	case idents > named:
		fault(tree.Expr(), "write the name of the value, as vars.NAME or vars[\"NAME\"]: it has to be known which ones a DAG uses")
	case conns > fields:
		fault(tree.Expr(), "write which field of the connection, as conns.NAME.host; there are %s", strings.Join(slices.Concat(openFields, secretFields), ", "))
	case secret && !alone(tree.Expr()):
		fault(tree.Expr(), "a secret must be a whole expression, with text around it if need be: what is made of one could not be masked in logs")
	}
	return errors.Join(errs...)
}

// fieldOf takes conns.NAME.field apart.
func fieldOf(e ast.Expr) (conn, field string, ok bool) {
	var operand ast.Expr
	switch e.Kind() {
	case ast.SelectKind:
		operand, field = e.AsSelect().Operand(), e.AsSelect().FieldName()
	case ast.CallKind:
		args := e.AsCall().Args()
		if e.AsCall().FunctionName() != operators.Index || len(args) != 2 || args[1].Kind() != ast.LiteralKind {
			return "", "", false
		}
		if field, ok = args[1].AsLiteral().Value().(string); !ok {
			return "", "", false
		}
		operand = args[0]
	default:
		return "", "", false
	}
	root, conn, ok := refOf(operand)
	return conn, field, ok && root == "conns"
}

// noteField fills in the field of the first reference to the connection that has none, and reports whether that is a secret.
func noteField(refs []Ref, conn, field string) bool {
	for i := range refs {
		if r := &refs[i]; r.Root == "conns" && r.Name == conn && r.Field == "" {
			r.Field, r.Secret = field, slices.Contains(secretFields, field)
			return r.Secret
		}
	}
	return false
}

// alone reports whether an expression is secrets.NAME, conns.NAME.field or conns.NAME.extra.KEY, and nothing else.
func alone(e ast.Expr) bool {
	if e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		return false
	}
	if _, _, ok := refOf(e); ok {
		return true
	}
	if _, _, ok := fieldOf(e); ok {
		return true
	}
	if e.Kind() == ast.SelectKind {
		_, field, ok := fieldOf(e.AsSelect().Operand())
		return ok && field == "extra"
	}
	return false
}

// values are those that were added to [Vars].
type values struct {
	variables map[string]any
	secrets   map[string]string
	conns     map[string]map[string]any
}

func (v *values) named(root string) (any, bool) {
	switch root {
	case "vars":
		if v.variables == nil {
			return map[string]any{}, true
		}
		return v.variables, true
	case "secrets":
		if v.secrets == nil {
			return map[string]string{}, true
		}
		return v.secrets, true
	}
	if v.conns == nil {
		return map[string]map[string]any{}, true
	}
	return v.conns, true
}

// AddVariable makes vars.NAME visible; raw is its value as JSON.
func (v *Vars) AddVariable(name string, raw json.RawMessage) error {
	val, err := decodeJSON(raw)
	if err != nil {
		return fmt.Errorf("read variable %s: %w", name, err)
	}
	if v.values.variables == nil {
		v.values.variables = map[string]any{}
	}
	v.values.variables[name] = val
	return nil
}

// WithSecrets returns v with secrets.NAME and conns.NAME visible, which v itself does not get. The fields of a connection are those of
// scheduler.Values.
func (v *Vars) WithSecrets(secrets map[string]string, conns map[string]map[string]string) *Vars {
	out := *v
	out.values.secrets = maps.Clone(secrets)
	out.values.conns = map[string]map[string]any{}
	for name, fields := range conns {
		conn, extra := map[string]any{}, map[string]any{}
		for field, val := range fields {
			if key, ok := strings.CutPrefix(field, "extra."); ok {
				extra[key] = val
			} else {
				conn[field] = val
			}
		}
		conn["extra"] = extra
		out.values.conns[name] = conn
	}
	return &out
}
