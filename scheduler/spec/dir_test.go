package spec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// watched runs a Dir and hands out its sets.
type watched struct {
	t    *testing.T
	path string
	sets chan Set
}

func watch(t *testing.T, path string, opts DirOptions) *watched {
	t.Helper()
	w := &watched{t: t, path: path, sets: make(chan Set)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	d := NewDir(path, opts)
	go func() {
		ended <- d.Run(ctx, func(ctx context.Context, set Set) error {
			select {
			case w.sets <- set:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// until takes sets until one looks as wanted.
func (w *watched) until(want string) Set {
	w.t.Helper()
	limit := time.After(30 * time.Second)
	got := "nothing"
	for {
		select {
		case set := <-w.sets:
			if got = describe(set); got == want {
				return set
			}
		case <-limit:
			w.t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// describe names files, their DAGs and the number of their faults: "a.yaml[one two]!1".
func describe(set Set) string {
	var parts []string
	for _, f := range set.Files {
		var ids []string
		for _, d := range f.DAGs {
			ids = append(ids, d.ID)
		}
		text := f.Name + "[" + strings.Join(ids, " ") + "]"
		if len(f.Faults) > 0 {
			text += fmt.Sprintf("!%d", len(f.Faults))
		}
		parts = append(parts, text)
	}
	if set.Partial {
		parts = append(parts, "…")
	}
	return strings.Join(parts, " ")
}

func (w *watched) write(name, src string) {
	w.t.Helper()
	path := filepath.Join(w.path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func simple(id string) string { return "dag: " + id + "\ntasks: {a: {run: x}}\n" }

func TestDirFollowsFiles(t *testing.T) {
	t.Parallel()
	w := watch(t, t.TempDir(), DirOptions{Builtin: map[string][]byte{"demo.yaml": []byte(simple("demo"))}})
	w.until("demo.yaml[demo]")
	w.write("a.yaml", simple("one"))
	w.until("a.yaml[one] demo.yaml[demo]")
	w.write("a.yaml", simple("one")+"---\n"+simple("two"))
	w.until("a.yaml[one two] demo.yaml[demo]")
	w.write("team/b.yml", simple("three"))
	w.until("a.yaml[one two] team/b.yml[three] demo.yaml[demo]")
	w.write("a.yaml", "dag: [")
	w.until("a.yaml[]!1 team/b.yml[three] demo.yaml[demo]")
	w.write(".hidden.yaml", simple("hidden"))
	w.write("notes.txt", "not a DAG")
	w.write(".git/c.yaml", simple("git"))
	if err := os.Remove(filepath.Join(w.path, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	w.until("team/b.yml[three] demo.yaml[demo]")
	// A configuration mount changes a link to a directory, not the file.
	w.write(".v1/d.yaml", simple("four"))
	w.write(".v2/d.yaml", simple("five"))
	link := func(target, name string) {
		tmp := filepath.Join(w.path, ".tmp")
		if err := errors.Join(os.Symlink(target, tmp), os.Rename(tmp, filepath.Join(w.path, name))); err != nil {
			t.Fatal(err)
		}
	}
	link(".v1", ".data")
	link(".data/d.yaml", "d.yaml")
	w.until("d.yaml[four] team/b.yml[three] demo.yaml[demo]")
	link(".v2", ".data")
	w.until("d.yaml[five] team/b.yml[three] demo.yaml[demo]")
}

// TestDirThatIsMadeLater: the directory does not exist at the start, as in a fresh checkout.
func TestDirThatIsMadeLater(t *testing.T) {
	t.Parallel()
	w := watch(t, filepath.Join(t.TempDir(), "dags"), DirOptions{Poll: time.Hour, Builtin: map[string][]byte{"demo.yaml": []byte(simple("demo"))}})
	w.until("demo.yaml[demo] …")
	w.write("a.yaml", simple("one"))
	w.until("a.yaml[one] demo.yaml[demo]")
	w.write("b.yaml", simple("two"))
	w.until("a.yaml[one] b.yaml[two] demo.yaml[demo]")
}

func TestDirPollsWhereThereAreNoEvents(t *testing.T) {
	t.Parallel()
	d := NewDir(t.TempDir(), DirOptions{})
	if got := describe(d.Read()); got != "" {
		t.Errorf("got %q", got)
	}
	path := filepath.Join(d.path, "a.yaml")
	write := func(src string, at time.Time) {
		if err := errors.Join(os.WriteFile(path, []byte(src), 0o644), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	// Two changes of the same size within one tick of a coarse clock are told apart.
	now := time.Now()
	for _, id := range []string{"one", "two"} {
		write(simple(id), now)
		if changed, _ := d.scan(t.Context(), nil); !changed || describe(d.set(false)) != "a.yaml["+id+"]" {
			t.Errorf("got %s, %v", describe(d.set(false)), changed)
		}
	}
	old := now.Add(-time.Hour)
	write(simple("two"), old)
	if changed, _ := d.scan(t.Context(), nil); changed {
		t.Error("a new time alone is a change")
	}
	if e := d.files["a.yaml"]; e.fresh {
		t.Error("an old file is read at each scan")
	}
}

func TestDirThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dags")
	d := NewDir(path, DirOptions{Builtin: map[string][]byte{"demo.yaml": []byte(simple("demo"))}})
	if got := describe(d.Read()); got != "demo.yaml[demo] …" {
		t.Errorf("missing: got %s", got)
	}
	if err := errors.Join(os.MkdirAll(path, 0o755), os.WriteFile(filepath.Join(path, "a.yaml"), []byte(simple("one")), 0o644)); err != nil {
		t.Fatal(err)
	}
	if got := describe(d.Read()); got != "a.yaml[one] demo.yaml[demo]" {
		t.Errorf("there: got %s", got)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if got := describe(d.Read()); got != "a.yaml[one] demo.yaml[demo] …" {
		t.Errorf("away: got %s", got)
	}
}

// A set that could not be taken over comes again.
func TestDirRepeatsUntilTaken(t *testing.T) {
	t.Parallel()
	d := NewDir(t.TempDir(), DirOptions{Poll: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := d.Run(ctx, func(context.Context, Set) error {
		if calls++; calls == 3 {
			cancel()
			return nil
		}
		return errors.New("not now")
	})
	if err != nil || calls != 3 {
		t.Errorf("got %d calls, %v", calls, err)
	}
}

func BenchmarkDir(b *testing.B) {
	path := b.TempDir()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(path, fmt.Sprintf("d%d.yaml", i)), []byte(simple(fmt.Sprint("d", i))), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if got := len(NewDir(path, DirOptions{}).Read().Files); got != 1000 {
				b.Fatal(got)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		d := NewDir(path, DirOptions{})
		d.Read()
		for _, e := range d.files {
			e.fresh = false
		}
		for b.Loop() {
			if changed, _ := d.scan(b.Context(), nil); changed {
				b.Fatal("changed")
			}
		}
	})
	b.Run("one changed", func(b *testing.B) {
		file := func(i int) string { return filepath.Join(path, fmt.Sprintf("d%d.yaml", i)) }
		long := time.Unix(1e9, 0) // ago, so that each file's time proves something
		for i := range 1000 {
			if err := os.Chtimes(file(i), long, long); err != nil {
				b.Fatal(err)
			}
		}
		d := NewDir(path, DirOptions{})
		d.Read()
		for b.Loop() {
			long = long.Add(time.Second)
			err := os.WriteFile(file(500), []byte(simple("d500")+"# "+long.String()+"\n"), 0o644)
			if err := errors.Join(err, os.Chtimes(file(500), long, long)); err != nil {
				b.Fatal(err)
			}
			if changed, partial := d.scan(b.Context(), nil); !changed || len(d.set(partial).Files) != 1000 {
				b.Fatal("not seen")
			}
		}
	})
}
