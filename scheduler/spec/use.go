package spec

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/output"
)

// An operator of somebody else is an executable in the DAG directory whose name is that of the operator with ".op". Asked to `describe`, it
// prints [Description] as JSON; a task that has `use: <name>` is executed by `<program> run-task <task>`, and finds what stands in `with` in its
// environment. It is copied, asked and pinned as a program that describes DAGs is: see program.go.

const operatorExt = ".op"

// IsOperator reports whether the file at path is an operator of somebody else.
func IsOperator(path string) bool { return filepath.Ext(path) == operatorExt }

// Operator is one that tasks can use.
type Operator struct {
	Name string
	// Program is the executable: a copy of the file.
	Program string
	Description
	schema *output.Schema
	// fault is why the operator can not be used.
	fault *Error
}

// Description is what an operator says of itself.
type Description struct {
	Description string `json:"description,omitempty"`
	// Settings is the JSON Schema of what stands in `with`; none: anything.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// Operators are those that tasks can use, by name.
type Operators map[string]*Operator

// use is a place where an operator is named.
type use struct {
	task     string
	at, with Error // what is said of them lacks a message yet
}

// place is an error without a message.
func (d *decoder) place(n ast.Node) Error {
	line, col := position(n)
	return Error{File: d.file, DAG: d.dag, Line: line, Col: col, Excerpt: excerpt(d.lines, line, col)}
}

// readUse reads the name of an operator; what stands in with is another key.
func (b *builder) readUse(n ast.Node, t *scheduler.Task) {
	t.Use = &scheduler.Use{Name: b.id(n, "use"), With: json.RawMessage("{}")}
	b.uses = append(b.uses, use{task: t.ID, at: b.place(n), with: b.place(n)})
}

// finishUse takes what stands in with, nil if nothing does, once all of the task is read.
func (b *builder) finishUse(with ast.Node, t *scheduler.Task) {
	switch {
	case with == nil:
		return
	case t.Use == nil:
		b.errorf(with, "name the operator: use: <name>", "task %q has with, and no use", t.ID)
		return
	}
	b.uses[len(b.uses)-1].with = b.place(with)
	switch b.resolve(with).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		back := b.standing(inEnv)
		t.Use.With = b.json(with, "with", t.ID)
		back()
	default:
		b.errorf(with, "", "with must be a mapping of settings, got %s", kindOf(b.resolve(with)))
	}
}

// Uses reports whether a task of the file uses an operator of somebody else.
func (f *File) Uses() bool { return len(f.uses) > 0 }

// With returns the file with the operators that its tasks use. What is not there, or does not take what stands in with, is a fault of the DAG.
// The file is not changed.
func (f File) With(ops Operators) File {
	if len(f.uses) == 0 {
		return f
	}
	out := f
	out.DAGs, out.Faults = nil, slices.Clone(f.Faults)
	for i := range f.DAGs {
		dag := f.DAGs[i]
		dag.Tasks = slices.Clone(dag.Tasks)
		faults := ops.fill(&dag, f.uses[dag.ID])
		if out.Faults = append(out.Faults, faults...); len(faults) == 0 {
			out.DAGs = append(out.DAGs, dag)
		}
	}
	return out
}

// fill gives the tasks of a DAG their operators.
func (ops Operators) fill(dag *scheduler.DAG, uses []use) (faults Errors) {
	for _, u := range uses {
		t := dag.Task(u.task)
		op := ops[t.Use.Name]
		filled := *t.Use
		switch {
		case op == nil:
			e := u.at
			e.Msg = fmt.Sprintf("operator %q is not known: there is no %s%s in the DAG directory", filled.Name, filled.Name, operatorExt)
			e.Hint = suggest(filled.Name, slices.Sorted(maps.Keys(ops)))
			faults = append(faults, &e)
		case op.fault != nil:
			e := u.at
			e.Msg, e.Hint = fmt.Sprintf("operator %q can not be used: %s", filled.Name, op.fault.Msg), op.fault.Hint
			faults = append(faults, &e)
		default:
			if fault := op.refuses(filled.With); fault != "" {
				e := u.with
				e.Msg = fmt.Sprintf("operator %q does not take what stands in with: %s", filled.Name, fault)
				faults = append(faults, &e)
			}
		}
		if op != nil {
			filled.Program = op.Program
		}
		t.Use = &filled
	}
	return faults
}

// refuses returns what the operator's schema says against settings, or "". A text with an expression may be anything.
func (op *Operator) refuses(with json.RawMessage) string {
	if op.schema == nil {
		return ""
	}
	return op.schema.CheckBut(with, expr.HasExpr)
}

// file is what people are shown of an operator: its fault.
func (op *Operator) file(name string) File {
	f := File{Name: name}
	if op.fault != nil {
		f.Faults = Errors{op.fault}
	}
	return f
}

// operators are those of the directory. Of two with one name the first, by path, counts.
func (d *Dir) operators() Operators {
	ops := Operators{}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		if op := d.files[name].op; op != nil && ops[op.Name] == nil {
			ops[op.Name] = op
		}
	}
	return ops
}

// AskOperator asks the operator at path, as it stands there, what it is. It has limit to answer.
func AskOperator(ctx context.Context, path string, limit time.Duration) *Operator {
	program, err := filepath.Abs(path)
	if err == nil {
		err = checkExecutable(program)
	}
	if err != nil {
		return &Operator{Name: operatorName(path), fault: faulty(path, err).Faults[0]}
	}
	op, _ := askOperator(ctx, path, program, limit)
	return op
}

func operatorName(file string) string {
	return strings.TrimSuffix(path.Base(filepath.ToSlash(file)), operatorExt)
}

func askOperator(ctx context.Context, file, program string, limit time.Duration) (op *Operator, again bool) {
	op = &Operator{Name: operatorName(file), Program: program}
	if err := CheckID(op.Name); err != nil {
		op.fault = &Error{File: file, Msg: fmt.Sprintf("the name of an operator is that of its file: %v", err), Hint: "rename it"}
		return op, false
	}
	out, fault, again := interview(ctx, file, program, limit)
	if fault != nil {
		op.fault = fault
		return op, again
	}
	if fault := op.read(out); fault != nil {
		fault.File = file
		op.fault = fault
	}
	return op, false
}

// read takes over what an operator printed.
func (op *Operator) read(out []byte) *Error {
	const hint = `it must print {"description": "…", "settings": {a JSON Schema}} and end`
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&op.Description); err != nil {
		return &Error{Msg: fmt.Sprintf("describe printed something else than JSON of an operator: %v", err), Hint: hint}
	}
	if len(op.Settings) == 0 || string(op.Settings) == "null" {
		return nil
	}
	var err error
	if op.schema, err = output.CompileSchema(op.Settings); err != nil {
		return &Error{Msg: fmt.Sprintf("settings is no JSON Schema: %v", err), Hint: hint}
	}
	return nil
}
