package spec

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"millrace/scheduler"
)

// FuzzCompile: no file makes the compiler panic, a DAG that comes out has sound ids and a graph without cycles, and every fault has a place
// within the file.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, "testdata/full.yaml") {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte("dag: d\nx-a: &a {<<: *a}\ntasks: {a: *a}\n"))
	f.Add([]byte("dag: d\ntasks:\n  a: &x\n    run: x\n  b: *x\n"))
	f.Add([]byte("? a\n: - - b\n---\n...\n--- |\n x\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		dags, err := Compile("f.yaml", src)
		if err == nil && len(dags) == 0 {
			t.Error("neither a DAG nor a fault")
		}
		var faults Errors
		if err != nil && !errors.As(err, &faults) {
			t.Fatalf("got %T, want Errors", err)
		}
		for _, e := range faults {
			if e.Msg == "" || e.Line < 0 || e.Col < 0 || (e.Line > 0) != (e.Col > 0) {
				t.Errorf("fault without a place or a message: %+v", e)
			}
		}
		for i := range dags {
			checkSound(t, &dags[i])
		}
	})
}

func checkSound(t *testing.T, dag *scheduler.DAG) {
	t.Helper()
	if CheckID(dag.ID) != nil || len(dag.Tasks) == 0 {
		t.Errorf("dag %q with %d tasks came out", dag.ID, len(dag.Tasks))
	}
	if _, err := dag.Canonical(); err != nil {
		t.Error(err)
	}
	done := map[string]bool{}
	for range dag.Tasks {
		for _, task := range dag.Tasks {
			ready := true
			for _, need := range task.Needs {
				ready = ready && done[need]
			}
			done[task.ID] = done[task.ID] || ready
		}
	}
	for _, task := range dag.Tasks {
		if !done[task.ID] || (len(task.Run) == 0) == (task.Shell == "") {
			t.Errorf("task %+v came out", task)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	src, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile("full.yaml", src); err != nil {
			b.Fatal(err)
		}
	}
}
