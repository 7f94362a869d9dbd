package spec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// programs is a directory of DAG programs, which are shell scripts here, and a Dir that is scanned by hand.
type programs struct {
	t     *testing.T
	dir   string
	calls string // a file to which scripts add a line each time that they are asked
	d     *Dir
}

func newPrograms(t *testing.T, opts DirOptions) *programs {
	t.Helper()
	dir := t.TempDir()
	if opts.Programs == "" {
		opts.Programs = filepath.Join(t.TempDir(), "programs")
	}
	// What is not about time is not to fail for it.
	if opts.Ask == 0 {
		opts.Ask = 5 * time.Minute
	}
	return &programs{t: t, dir: dir, calls: filepath.Join(t.TempDir(), "calls"), d: NewDir(dir, opts)}
}

// script writes a program that says that it was asked, and then does what text says.
func (p *programs) script(name, text string) {
	p.t.Helper()
	p.plain(name, "#!/bin/sh\necho \"$0 $*\" >> "+p.calls+"\n"+text, 0o755)
}

func (p *programs) plain(name, text string, mode os.FileMode) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *programs) scan() (set Set, changed bool) {
	p.t.Helper()
	changed, partial := p.d.scan(p.t.Context(), nil)
	return p.d.set(partial), changed
}

// asked is how often programs were asked.
func (p *programs) asked() int {
	text, _ := os.ReadFile(p.calls)
	return strings.Count(string(text), "\n")
}

// says is a script that describes a DAG as an SDK does.
func says(id string) string {
	return fmt.Sprintf("cat <<END\n{\"dag\": %q, \"tasks\": {\"a\": {\"run\": [\"$0\", \"run-task\", \"a\"]}}}\nEND\n", id)
}

func TestProgram(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{})
	p.script("load.dag", says("load"))
	p.plain("plain.yaml", simple("plain"), 0o644)
	set, changed := p.scan()
	if got := describe(set); got != "load.dag[load] plain.yaml[plain]" || !changed {
		t.Fatalf("got %s, changed %v, faults %v", got, changed, set.Files[0].Faults)
	}
	first := set.Files[0].DAGs[0].Tasks[0].Run
	if len(first) != 3 || filepath.Base(first[0]) != "load.dag" || !strings.HasPrefix(first[0], p.d.opts.Programs) {
		t.Errorf("the task runs %q, want the copy of the program", first)
	}
	if calls, _ := os.ReadFile(p.calls); string(calls) != first[0]+" describe\n" {
		t.Errorf("got calls %q, want the copy to have been asked once", calls)
	}
	// The same content is not asked again: neither a new time nor another look.
	later := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(p.dir, "load.dag"), later, later); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, changed := p.scan(); changed || p.asked() != 1 {
			t.Errorf("after a touch: changed %v, asked %d times", changed, p.asked())
		}
	}
	// New content is another copy; the old one stays for runs that name it.
	p.script("load.dag", says("load")+"# new\n")
	set, changed = p.scan()
	second := set.Files[0].DAGs[0].Tasks[0].Run
	if !changed || p.asked() != 2 || second[0] == first[0] {
		t.Errorf("after a change: changed %v, asked %d times, runs %q", changed, p.asked(), second)
	}
	if _, err := os.Stat(first[0]); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(p.dir, "load.dag")); err != nil {
		t.Fatal(err)
	}
	if set, changed := p.scan(); !changed || describe(set) != "plain.yaml[plain]" {
		t.Errorf("after its removal: changed %v, %s", changed, describe(set))
	}
}

func TestProgramFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		mode         os.FileMode
		want         []string
	}{
		{name: "not executable", script: says("x"), mode: 0o644, want: []string{"not executable", "chmod +x p.dag"}},
		{name: "exit code", script: "echo no such table >&2; exit 3", want: []string{"exit code 3; it says:\nno such table", "describe, which must print"}},
		{name: "signal", script: "kill -SEGV $$", want: []string{"signal: segmentation fault"}},
		{name: "too much", script: "yes", want: []string{"more than 524288 bytes"}},
		{name: "too much, and ignores the pipe", script: "trap '' PIPE; head -c 1000000 /dev/zero; sleep 0", want: []string{"more than 524288 bytes"}},
		{name: "nothing", script: "true", want: []string{"p.dag describe: there is no DAG"}},
		{name: "a fault in what it says", script: `echo '{"dag": "x",'; echo ' "tasks": {"a": {"rnu": ["x"]}}}'`,
			want: []string{"p.dag describe:2:18: ", `did you mean "run"?`, `    2 |  "tasks"`}},
		{name: "a cycle", script: `echo 'dag: x'; echo 'tasks: {a: {run: x, needs: a}}'`, want: []string{"p.dag describe:2:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPrograms(t, DirOptions{})
			p.script("p.dag", tt.script+"\n")
			if tt.mode != 0 {
				p.plain("p.dag", tt.script, tt.mode)
			}
			set, changed := p.scan()
			if got := describe(set); !changed || got != "p.dag[]!1" {
				t.Fatalf("got %s, changed %v, %v", got, changed, set.Files)
			}
			text := set.Files[0].Faults.Detail()
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("got %s, want %q in it", text, want)
				}
			}
			if text := set.Files[0].Faults[0].File; !strings.HasPrefix(text, "p.dag") {
				t.Errorf("the fault is of %q", text)
			}
		})
	}
}

func TestProgramThatIsNoProgram(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{})
	p.plain("p.dag", "neither a script nor a binary", 0o755)
	set, _ := p.scan()
	if text := set.Files[0].Faults.Detail(); !strings.Contains(text, "exec format error") || !strings.Contains(text, "begin a script") {
		t.Errorf("got %s", text)
	}
	// It becomes executable: neither its size nor its time change.
	p.plain("q.dag", "#!/bin/sh\n"+says("q"), 0o644)
	p.scan()
	if err := os.Chmod(filepath.Join(p.dir, "q.dag"), 0o755); err != nil {
		t.Fatal(err)
	}
	if set, changed := p.scan(); !changed || describe(set) != "p.dag[]!1 q.dag[q]" {
		t.Errorf("changed %v, %s", changed, describe(set))
	}
	// Where there is no room for copies, nothing is run.
	none := NewDir(p.dir, DirOptions{})
	if got := describe(none.Read()); got != "p.dag[]!1 q.dag[]!1" {
		t.Errorf("without a directory for copies: %s", got)
	}
}

// TestProgramThatHangs: it is killed with its children, says why, is asked again later, and its neighbours are there all the while.
func TestProgramThatHangs(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{Ask: 50 * time.Millisecond, AskAgain: time.Nanosecond})
	p.script("hangs.dag", "sleep 1000 &\necho $! >> "+p.calls+".pids\nwait\n")
	p.plain("plain.yaml", simple("plain"), 0o644)
	set, changed := p.scan()
	if got := describe(set); got != "hangs.dag[]!1 plain.yaml[plain]" || !changed {
		t.Errorf("got %s, changed %v", got, changed)
	}
	if text := set.Files[0].Faults.Error(); !strings.Contains(text, "describe took more than 50ms") {
		t.Errorf("got %s", text)
	}
	if set, changed := p.scan(); changed || describe(set) != "hangs.dag[]!1 plain.yaml[plain]" {
		t.Errorf("asked again: changed %v, %s", changed, describe(set))
	}
	var pids string
	for limit := 50 * time.Millisecond; pids == ""; limit *= 2 { // until it was fast enough to have a child
		p.d.opts.Ask = limit
		p.scan()
		text, _ := os.ReadFile(p.calls + ".pids")
		pids = string(text)
	}
	for _, pid := range strings.Fields(pids) {
		for limit := time.After(time.Minute); running(pid); runtime.Gosched() { // it was sent SIGKILL
			select {
			case <-limit:
				t.Fatalf("process %s lives on", pid)
			default:
			}
		}
	}
	p.d.opts.Ask = 5 * time.Minute
	p.script("hangs.dag", says("mended"))
	if set, changed := p.scan(); !changed || describe(set) != "hangs.dag[mended] plain.yaml[plain]" {
		t.Errorf("mended: changed %v, %s, %v", changed, describe(set), set.Files[0].Faults)
	}
}

// running reports whether a process exists and is no zombie.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestProgramSeesACleanEnvironment(t *testing.T) {
	t.Setenv("MILLRACE_TEST_SECRET", "s3cret")
	p := newPrograms(t, DirOptions{})
	p.script("p.dag", "env >&2; pwd >&2; cat >&2; exit 1\n")
	set, _ := p.scan()
	text := set.Files[0].Faults.Error()
	for _, want := range []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "\n/ ("} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %q", text, want)
		}
	}
	if strings.Contains(text, "s3cret") || strings.Contains(text, "HOME=") {
		t.Errorf("got %s, want nothing of our environment", text)
	}
}

func TestOldCopiesAreRemoved(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{})
	p.script("p.dag", says("one"))
	p.scan()
	p.script("p.dag", says("two"))
	p.scan()
	copies := func() int {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(p.d.opts.Programs, "*", "p.dag"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	now := time.Now()
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 2}, {pinKeep - time.Hour, 2}, {pinKeep + time.Hour, 1}, {9 * pinKeep, 1}} {
		if err := p.d.sweepPins(now.Add(tt.after)); err != nil {
			t.Fatal(err)
		}
		if got := copies(); got != tt.want {
			t.Errorf("after %v: %d copies, want %d", tt.after, got, tt.want)
		}
	}
	// One that is needed again is no longer marked.
	if err := os.Remove(filepath.Join(p.dir, "p.dag")); err != nil {
		t.Fatal(err)
	}
	p.scan()
	if err := p.d.sweepPins(now); err != nil {
		t.Fatal(err)
	}
	p.script("p.dag", says("two"))
	p.scan()
	if err := errors.Join(p.d.sweepPins(now.Add(2*pinKeep)), p.d.sweepPins(now.Add(2*pinKeep))); err != nil || copies() != 1 {
		t.Errorf("got %d copies, %v, want that which is needed", copies(), err)
	}
}

func TestAskInPlace(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{})
	p.script("p.dag", says("one"))
	p.plain("q.dag", says("two"), 0o644)
	for name, want := range map[string]string{"p.dag": "p.dag[one]", "q.dag": "q.dag[]!1", "none.dag": "none.dag[]!1"} {
		f := Ask(context.Background(), name, filepath.Join(p.dir, name), time.Minute)
		if got := describe(Set{Files: []File{f}}); got != want {
			t.Errorf("got %s, want %s: %v", got, want, f.Faults)
		}
	}
}
