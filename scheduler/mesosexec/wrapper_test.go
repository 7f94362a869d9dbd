package mesosexec

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
)

// shells returns the shells that there are, each as argv that takes the arguments of sh.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for name, argv := range map[string][]string{"dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}, "mksh": {"mksh"}} {
		if path, err := exec.LookPath(argv[0]); err == nil {
			out[name] = append([]string{path}, argv[1:]...)
		}
	}
	if len(out) == 0 {
		t.Fatal("there is no shell to try the wrapper with")
	}
	return out
}

// box is where a wrapper ran.
type box struct{ dir string }

func (s box) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wrap executes the command of an attempt as an agent does, in a shell, and returns its output and exit code.
func wrap(t *testing.T, shell []string, l *scheduler.Launch) (s box, out string, code int) {
	t.Helper()
	info, err := taskOf(l, &match.Placed{}, mesos.ID{Value: "a"}, TaskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.dir = t.TempDir()
	cmd := exec.Command(shell[0], append(shell[1:len(shell):len(shell)], info.Command.Arguments[1:]...)...)
	cmd.Dir = s.dir
	cmd.Env = []string{"MESOS_SANDBOX=" + s.dir, "LIBPROCESS_PORT=0", "MESOS_EXECUTOR_ID=e"}
	for _, v := range info.Command.Environment.Variables {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	text, err := cmd.Output()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return s, string(text), cmd.ProcessState.ExitCode()
}

const path = "PATH=/usr/local/bin:/usr/bin:/bin"

// TestWrapper: a command gets what the contract says, and nothing of Mesos's, in any shell.
func TestWrapper(t *testing.T) {
	t.Parallel()
	const script = `printf '<%s>' "$@"; printf '\n%s %s %s %s\n' "${PWD##*/}" "${MILLRACE_INPUT##*/}" "${MILLRACE_OUTPUT##*/}" "${MILLRACE_HEARTBEAT##*/}"
		cat; cat "$MILLRACE_INPUT"; echo "to stderr" >&2; test -e "$MILLRACE_OUTPUT" && test ! -s "$MILLRACE_OUTPUT" && test ! -e "$MILLRACE_STATE"`
	odd := []string{"", " ", "a b", `"`, "'", "$HOME", "`x`", "\\", "*", "-n", "é\n\tü", "%s"}
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &scheduler.Launch{ID: "a", Argv: append([]string{"sh", "-c", script, "sh"}, odd...), Env: []string{path}, Input: []byte("{\"a\": \"%s \\\\ 'x' é\"}\n"), Heartbeat: 1}
			_, out, code := wrap(t, shell, l)
			want := "<" + strings.Join(odd, "><") + ">\nwork millrace-input.json millrace-output millrace-heartbeat\n" + string(l.Input) + "to stderr\n"
			if out != want || code != 0 {
				t.Errorf("got %q and code %d, want %q", out, code, want)
			}
		})
	}
}

// TestWrapperUnpacks: a large input is sent compressed. Where there is nothing to unpack it with, the attempt is refused.
func TestWrapperUnpacks(t *testing.T) {
	t.Parallel()
	large := []byte(strings.Repeat("{\"uri\": \"s3://bucket/é\"}\n", 10_000))
	for name, shell := range shells(t) {
		l := &scheduler.Launch{ID: "a", Argv: []string{"sh", "-c", `cat "$MILLRACE_INPUT"`}, Env: []string{path}, Input: large}
		if _, out, code := wrap(t, shell, l); out != string(large) || code != 0 {
			t.Errorf("%s: got %d bytes and code %d, want %d", name, len(out), code, len(large))
		}
		dir := t.TempDir()
		cmd := exec.Command(shell[0], append(shell[1:len(shell):len(shell)], "-c", wrapperOf(nil), "sh", "work", "no", "gzip", "1", "bm8gZ3ppcA==", "true")...)
		cmd.Env = []string{path, "MESOS_SANDBOX=" + dir}
		_ = cmd.Run() // What became of it is in its state.
		if got := (box{dir}).read(t, refusedFile); cmd.ProcessState.ExitCode() != 127 || !strings.HasPrefix(got, "the input is so large that it was sent compressed") {
			t.Errorf("%s: got %q and code %d", name, got, cmd.ProcessState.ExitCode())
		}
	}
}

// TestWrapperEnvironment: what the command finds is what the attempt has, with the contract's variables. Shells add a few of their own, all of which are named here.
func TestWrapperEnvironment(t *testing.T) {
	t.Parallel()
	for name, shell := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &scheduler.Launch{ID: "a", Argv: []string{"env", "-0"}, Env: []string{path, "EMPTY=", "LINES=a\nb='\"$x\"", "MESOS_EXECUTOR_ID=mine"}}
			s, out, _ := wrap(t, shell, l)
			got := map[string]string{}
			for _, kv := range strings.Split(strings.TrimSuffix(out, "\x00"), "\x00") {
				name, value, _ := strings.Cut(kv, "=")
				got[name] = value
			}
			for _, name := range []string{"PWD", "SHLVL", "_"} {
				delete(got, name)
			}
			want := map[string]string{"PATH": path[5:], "EMPTY": "", "LINES": "a\nb='\"$x\"", "MESOS_EXECUTOR_ID": "mine", "MILLRACE_INPUT": s.dir + "/" + inputFile,
				"MILLRACE_OUTPUT": s.dir + "/" + outputFile, "MILLRACE_STATE": s.dir + "/millrace-state"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWrapperRefuses: what can not be executed is said in a file, which is how the executor tells a refusal from an exit with 127.
func TestWrapperRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "noway": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/no/such/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, shell := range shells(t) {
		for _, c := range []struct{ command, want string }{
			{"no-such-program", `command "no-such-program": not found in PATH (PATH is "/usr/local/bin:/usr/bin:/bin")`},
			{"./x", `command "./x": no such file or directory`},
			{dir, `command "` + dir + `": is a directory`},
			{dir + "/plain", `command "` + dir + `/plain": permission denied`},
			{dir + "/noway", `command "` + dir + `/noway": can not be executed: the log says why`},
		} {
			s, out, code := wrap(t, shell, &scheduler.Launch{ID: "a", Argv: []string{c.command}, Env: []string{path}})
			if got := strings.TrimSpace(s.read(t, refusedFile)); got != c.want || code != 127 || !strings.Contains(out, c.want) {
				t.Errorf("%s: got %q, code %d, log %q; want %q", name, got, code, out, c.want)
			}
		}
		s, _, code := wrap(t, shell, &scheduler.Launch{ID: "a", Argv: []string{"sh", "-c", "exit 127"}, Env: []string{path}})
		if _, err := os.Stat(filepath.Join(s.dir, refusedFile)); err == nil || code != 127 {
			t.Errorf("%s: a program that exits with 127 is refused (code %d)", name, code)
		}
	}
}
