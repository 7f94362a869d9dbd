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

// compiler compiles files that the user has named. It asks the programs and the operators among them, the latter once for each directory.
type compiler struct {
	read func(name string, src []byte) spec.File
	ops  map[string]spec.Operators // by directory
}

func newCompiler(read func(name string, src []byte) spec.File) *compiler {
	return &compiler{read: read, ops: map[string]spec.Operators{}}
}

// file asks a program what its DAGs are, and has the text of any other file compiled.
func (c *compiler) file(name string, src []byte) spec.File {
	var f spec.File
	if spec.IsProgram(name) {
		f = spec.Ask(context.Background(), name, name, askTime)
	} else {
		f = c.read(name, src)
	}
	if !f.Uses() {
		return f
	}
	dir := filepath.Dir(name)
	if c.ops[dir] == nil {
		c.ops[dir] = operatorsNear(dir)
	}
	return f.With(c.ops[dir])
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
	f := newCompiler(spec.ReadLocal).file(name, src)
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
	names := pinNames{}
	for i := range dag.Tasks {
		t, served := &dag.Tasks[i], there.Task(dag.Tasks[i].ID)
		if served == nil {
			continue
		}
		if spec.IsProgram(l.file) && len(t.Run) > 0 && len(served.Run) > 0 && filepath.Base(t.Run[0]) == filepath.Base(l.file) {
			t.Run = slices.Clone(t.Run)
			if err := names.replace(&t.Run[0], l.file, served.Run[0]); err != nil {
				return nil, err
			}
		}
		if t.Use != nil && served.Use != nil && t.Use.Program != "" {
			use := *t.Use
			t.Use = &use
			if err := names.replace(&use.Program, use.Program, served.Use.Program); err != nil {
				return nil, err
			}
		}
	}
	return &dag, nil
}

// pinNames are where a server keeps its copies, by the path of the program: a name is the hash of all that the program is.
type pinNames map[string]string

// replace sets own to pin if that is a server's copy of the program at path.
func (names pinNames) replace(own *string, path, pin string) error {
	name, known := names[path]
	if !known {
		var err error
		if name, err = spec.PinName(path); err != nil {
			return err
		}
		names[path] = name
	}
	if strings.HasSuffix(filepath.ToSlash(pin), "/"+name) {
		*own = pin
	}
	return nil
}
