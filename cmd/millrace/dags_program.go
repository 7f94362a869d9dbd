package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/spec"
)

// askTime is how long a program may take to say what its DAGs are, when a person waits for it.
const askTime = time.Minute

// compileFile asks a program what its DAGs are, and has the text of any other file compiled. It runs the program: it is for files that the
// user has named.
func compileFile(name string, src []byte, compile func(name string, src []byte) spec.File) spec.File {
	if spec.IsProgram(name) {
		return spec.Ask(context.Background(), name, name, askTime)
	}
	f := compile(name, src)
	if !f.Uses() {
		return f
	}
	return f.With(operatorsNear(filepath.Dir(name)))
}

// operatorsAbove is how many directories above a file's own are searched for operators.
const operatorsAbove = 4

// operatorsNear asks the operators of a directory, or of the next one above it that has some, as a server does with those of its DAG directory.
func operatorsNear(dir string) spec.Operators {
	ops := spec.Operators{}
	for range operatorsAbove + 1 {
		found, _ := filepath.Glob(filepath.Join(dir, "*.op")) // the pattern is good
		for _, path := range found {
			op := spec.AskOperator(context.Background(), path, askTime)
			ops[op.Name] = op
		}
		if len(found) > 0 {
			break
		}
		dir = filepath.Join(dir, "..")
	}
	return ops
}

// compileAll compiles a file that must have no fault.
func compileAll(name string, src []byte) ([]scheduler.DAG, error) {
	f := compileFile(name, src, spec.ReadLocal)
	if len(f.Faults) > 0 {
		return nil, errors.New("the file has faults:\n" + f.Faults.Detail())
	}
	return f.DAGs, nil
}

// asServed returns a DAG whose programs and operators are the server's copies, where those are copies of the same files: a server never runs
// the files themselves.
func asServed(l localDAG, there *scheduler.DAG) (*scheduler.DAG, error) {
	if there == nil {
		return l.dag, nil
	}
	dag := *l.dag
	dag.Tasks = slices.Clone(dag.Tasks)
	for i := range dag.Tasks {
		t, served := &dag.Tasks[i], there.Task(dag.Tasks[i].ID)
		if served == nil {
			continue
		}
		if spec.IsProgram(l.file) && len(t.Run) > 0 && len(served.Run) > 0 && filepath.Base(t.Run[0]) == filepath.Base(l.file) {
			same, err := sameProgram(l.file, served.Run[0])
			if err != nil {
				return nil, err
			}
			if same {
				t.Run = slices.Clone(t.Run)
				t.Run[0] = served.Run[0]
			}
		}
		if t.Use != nil && served.Use != nil && t.Use.Program != "" {
			same, err := sameProgram(t.Use.Program, served.Use.Program)
			if err != nil {
				return nil, err
			}
			if same {
				use := *t.Use
				use.Program = served.Use.Program
				t.Use = &use
			}
		}
	}
	return &dag, nil
}

// sameProgram reports whether pin is a server's copy of the program at path.
func sameProgram(path, pin string) (bool, error) {
	name, err := spec.PinName(path)
	return err == nil && strings.HasSuffix(filepath.ToSlash(pin), "/"+name), err
}
