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
	return compile(name, src)
}

// compileAll compiles a file that must have no fault.
func compileAll(name string, src []byte) ([]scheduler.DAG, error) {
	f := compileFile(name, src, spec.ReadLocal)
	if len(f.Faults) > 0 {
		return nil, errors.New("the file has faults:\n" + f.Faults.Detail())
	}
	return f.DAGs, nil
}

// asServed returns a program's DAG with its tasks run by the server's copy, where that is a copy of the same program: a server never runs the
// file itself.
func asServed(l localDAG, there *scheduler.DAG) (*scheduler.DAG, error) {
	if !spec.IsProgram(l.file) || there == nil {
		return l.dag, nil
	}
	pin, err := spec.PinName(l.file)
	if err != nil {
		return nil, err
	}
	dag := *l.dag
	dag.Tasks = slices.Clone(dag.Tasks)
	for i := range dag.Tasks {
		t, served := &dag.Tasks[i], there.Task(dag.Tasks[i].ID)
		own := len(t.Run) > 0 && filepath.Base(t.Run[0]) == filepath.Base(l.file)
		if own && served != nil && len(served.Run) > 0 && strings.HasSuffix(filepath.ToSlash(served.Run[0]), "/"+pin) {
			t.Run = slices.Clone(t.Run)
			t.Run[0] = served.Run[0]
		}
	}
	return &dag, nil
}
