package expr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// MaxValue is the longest value of an environment variable or argument, in bytes: Linux takes 128 KiB for one string, name included.
const MaxValue = 120 << 10

const opener = "${{"

// HasExpr reports whether s holds a "${{".
func HasExpr(s string) bool { return strings.Contains(s, opener) }

// Text is a string with expressions in ${{ }}, compiled. It is safe for concurrent use.
type Text struct {
	parts []part
}

type part struct {
	lit string
	prg *Program
}

// CompileText compiles s in the task scope. Each expression must yield a string, a number, a bool, a time or null. Errors are [Error],
// joined; their places are counted in s.
func CompileText(s string) (*Text, error) { return CompileTextIn(ScopeTask, s) }

// CompileTextIn is [CompileText] in another scope.
func CompileTextIn(scope Scope, s string) (*Text, error) {
	var t Text
	var errs []error
	for rest := s; rest != ""; {
		lit, after, found := strings.Cut(rest, opener)
		if lit != "" {
			t.parts = append(t.parts, part{lit: lit})
		}
		if !found {
			break
		}
		at := len(s) - len(after)
		end := closer(after)
		if end < 0 {
			errs = append(errs, placed(s, at-len(opener), &Error{Line: 1, Col: 1, Msg: `"${{" without "}}"`}))
			break
		}
		prg, err := compileScalar(scope, after[:end])
		if err != nil {
			errs = append(errs, placeAll(s, at, err))
		} else {
			t.parts = append(t.parts, part{prg: moved(prg, s, at)})
		}
		rest = after[end+2:]
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &t, nil
}

// Const reports whether the text has no expression.
func (t *Text) Const() bool {
	for _, p := range t.parts {
		if p.prg != nil {
			return false
		}
	}
	return true
}

// Refs returns the parameters and tasks that the expressions name, with places in the text.
func (t *Text) Refs() []Ref {
	var refs []Ref
	for _, p := range t.parts {
		if p.prg != nil {
			refs = append(refs, p.prg.refs...)
		}
	}
	return refs
}

// Eval returns the string. It has no NUL, and at most [MaxValue] bytes.
func (t *Text) Eval(vars *Vars) (string, error) { return t.EvalInto(vars, nil) }

// EvalInto is Eval for a place with a syntax of its own: each value stands in it as escape returns it, what is around the expressions as it is
// written. An error of escape is about the value.
func (t *Text) EvalInto(vars *Vars, escape func(string) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.prg == nil {
			b.WriteString(p.lit)
			continue
		}
		val, err := p.prg.eval(vars)
		if err != nil {
			return "", err
		}
		s, err := stringify(val)
		if err != nil {
			return "", fmt.Errorf("evaluate %q: %w", p.prg.src, err)
		}
		if escape != nil {
			if s, err = escape(s); err != nil {
				return "", fmt.Errorf("evaluate %q: %w", p.prg.src, err)
			}
		}
		b.WriteString(s)
	}
	s := b.String()
	if strings.ContainsRune(s, 0) {
		return "", errors.New("the value has a NUL character")
	}
	if len(s) > MaxValue {
		return "", fmt.Errorf("the value has %d bytes, and %d is the most that a process can be given; take it from the input file", len(s), MaxValue)
	}
	return s, nil
}

func stringify(val ref.Val) (string, error) {
	switch val := val.(type) {
	case types.String:
		return string(val), nil
	case types.Int:
		return strconv.FormatInt(int64(val), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(val), 10), nil
	case types.Double:
		return strconv.FormatFloat(float64(val), 'g', -1, 64), nil
	case types.Bool:
		return strconv.FormatBool(bool(val)), nil
	case types.Timestamp:
		return val.Time.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return val.Duration.String(), nil
	case types.Null:
		return "", nil
	}
	return "", fmt.Errorf("it yields %s; only a string, a number, a bool or a time can be given; take the rest from the input file",
		val.Type().TypeName())
}

// closer finds the "}}" that ends an expression: not one within a string or a map of CEL.
func closer(s string) int {
	var quote byte
	depth := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}' && strings.HasPrefix(s[i:], "}}"):
			return i
		}
	}
	return -1
}

// placeAll moves the errors of an expression that starts at offset at of s.
func placeAll(s string, at int, err error) error {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return placed(s, at, err)
	}
	var errs []error
	for _, err := range joined.Unwrap() {
		errs = append(errs, placed(s, at, err))
	}
	return errors.Join(errs...)
}

func placed(s string, at int, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	line, col := place(s, at, e.Line, e.Col)
	return &Error{Line: line, Col: col, Msg: e.Msg}
}

func moved(p *Program, s string, at int) *Program {
	for i := range p.refs {
		p.refs[i].Line, p.refs[i].Col = place(s, at, p.refs[i].Line, p.refs[i].Col)
	}
	return p
}

// place turns a place in the expression at offset at of s into a place in s.
func place(s string, at, line, col int) (int, int) {
	before := s[:at]
	if line == 1 {
		col += at - (strings.LastIndexByte(before, '\n') + 1)
	}
	return line + strings.Count(before, "\n"), col
}
