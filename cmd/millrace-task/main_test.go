package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asTask is the variable by which the test binary is millrace-task itself.
const asTask = "MILLRACE_INPUT_TEST_IS_TASK"

func TestMain(m *testing.M) {
	if os.Getenv(asTask) != "" {
		os.Exit(run(os.Args[1:], os.Environ(), os.Stdout))
	}
	os.Exit(m.Run())
}

// patience is how long something may take before a test gives up.
const patience = time.Minute

// attempt is one call of millrace-task.
type attempt struct {
	*testing.T
	dir string
	cmd *exec.Cmd
	out bytes.Buffer
}

// begin prepares a call with its files below a new directory. Only env and PATH are in its environment.
func begin(t *testing.T, env []string, args ...string) *attempt {
	t.Helper()
	a := &attempt{T: t, dir: t.TempDir()}
	a.cmd = exec.CommandContext(t.Context(), os.Args[0], args...)
	a.cmd.Env = append([]string{asTask + "=1", "PATH=" + os.Getenv("PATH"), "MILLRACE_DIR=" + a.dir, "WORK=" + a.dir}, env...)
	a.cmd.Stdout = &a.out
	a.cmd.WaitDelay = patience
	return a
}

// shell is a call that runs a script.
func shell(t *testing.T, script string, env ...string) *attempt {
	t.Helper()
	return begin(t, env, "--", "sh", "-c", script)
}

func (a *attempt) start() {
	a.Helper()
	if err := a.cmd.Start(); err != nil {
		a.Fatal(err)
	}
}

// end returns the exit code.
func (a *attempt) end() int {
	a.Helper()
	err := a.cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		a.Fatalf("wait: %v", err)
	}
	return a.cmd.ProcessState.ExitCode()
}

func (a *attempt) run() (int, string) {
	a.Helper()
	a.start()
	return a.end(), a.out.String()
}

func (a *attempt) file(name string) string {
	a.Helper()
	text, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.Fatal(err)
	}
	return string(text)
}

// await returns the content of a file as soon as it has any: scripts write one by renaming it.
func (a *attempt) await(name string) string {
	a.Helper()
	a.eventually(name+" is there", func() bool { return a.file(name) != "" })
	return a.file(name)
}

func (a *attempt) eventually(what string, ok func() bool) {
	a.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			a.Fatalf("not after %v: %s; it wrote %q", patience, what, a.out.String())
		}
	}
}

func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		want         int
	}{
		{"success", "exit 0", 0},
		{"its own", "exit 3", 3},
		{"skipped", "exit 99", 99},
		{"signal", "kill -KILL $$", 128 + 9},
		{"own signal", "kill -TERM $$", 128 + 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if code, out := shell(t, tt.script).run(); code != tt.want || out != "" {
				t.Errorf("got %d and %q, want %d and nothing", code, out, tt.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, program, env, want string
	}{
		{"no such program", "no-such-program", "", "not found in PATH"},
		{"no such file", "/no/such/program", "", "no such file"},
		{"not executable", text, "", "not executable"},
		{"broken input", "true", `MILLRACE_INPUT_DATA={"v":`, "is not JSON"},
		{"broken archive", "true", "MILLRACE_INPUT_GZIP=e30=", "unpack MILLRACE_INPUT_GZIP"},
		{"lost piece of the input", "true", `MILLRACE_INPUT_0={"v":1,`, "may be missing"},
		{"no input at that place", "true", "MILLRACE_INPUT=/no/such/input.json", "input document"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := begin(t, []string{tt.env}, "--", tt.program)
			code, out := a.run()
			if code != exitRefused || !strings.Contains(out, tt.want) || !strings.Contains(a.file(refusedName), tt.want) {
				t.Errorf("got %d, %q and the reason %q, want %d and %q in both", code, out, a.file(refusedName), exitRefused, tt.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"no program", nil, nil, exitUsage, "no program"},
		{"unknown flag", nil, []string{"--no-such-flag", "--", "true"}, exitUsage, "no-such-flag"},
		{"broken variable", []string{"MILLRACE_GRACE=soon"}, []string{"--", "true"}, exitUsage, `MILLRACE_GRACE is "soon"`},
		{"negative", nil, []string{"--grace", "-1s", "--", "true"}, exitUsage, "negative"},
		{"version", nil, []string{"--version"}, 0, "millrace-task " + version},
		{"help", nil, []string{"--help"}, 0, "usage: millrace-task"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if code, out := begin(t, tt.env, tt.args...).run(); code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("got %d and %q, want %d and %q", code, out, tt.code, tt.want)
			}
		})
	}
}

func TestUsageNamesAllVariables(t *testing.T) {
	t.Parallel()
	for _, name := range own {
		if told := strings.Contains(usage, name); !told && name != "MILLRACE_STATE" {
			t.Errorf("the help does not name %s", name)
		}
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	const doc = `{"v":1,"text":"\"quotes' and $dollars"}`
	file := filepath.Join(t.TempDir(), "in.json")
	if err := os.WriteFile(file, []byte(doc), 0o444); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"whole", []string{"MILLRACE_INPUT_DATA=" + doc}, nil, doc},
		{"compressed", []string{"MILLRACE_INPUT_GZIP=" + packed(t, doc)}, nil, doc},
		{"pieces", []string{"MILLRACE_INPUT_1=" + doc[7:20], "MILLRACE_INPUT_0=" + doc[:7], "MILLRACE_INPUT_2=" + doc[20:]}, nil, doc},
		{"file", []string{"MILLRACE_INPUT=" + file}, nil, doc},
		{"flag", nil, []string{"--input", file}, doc},
		{"none", nil, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append(slices.Clone(tt.args), "--", "sh", "-c", `if [ -n "$MILLRACE_INPUT" ]; then cat "$MILLRACE_INPUT" > "$MILLRACE_OUTPUT"; fi`)
			a := begin(t, tt.env, args...)
			if code, out := a.run(); code != 0 || a.file(outputName) != tt.want {
				t.Errorf("got %d, %q and the output %q, want %q", code, out, a.file(outputName), tt.want)
			}
		})
	}
}

// TestSandbox: in a Mesos task the files are in the sandbox, also if MILLRACE_DIR is not set.
func TestSandbox(t *testing.T) {
	t.Parallel()
	a := shell(t, `echo '{"rows":3}' > "$MILLRACE_OUTPUT"`, `MILLRACE_INPUT_DATA={}`)
	a.cmd.Env = append(a.cmd.Env, "MILLRACE_DIR=", "MESOS_SANDBOX="+a.dir)
	if code, out := a.run(); code != 0 || a.file("millrace-output") != "{\"rows\":3}\n" || a.file("millrace-input.json") != "{}" {
		t.Errorf("got %d and %q, output %q, input %q", code, out, a.file("millrace-output"), a.file("millrace-input.json"))
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	a := begin(t, []string{
		"MESOS_TASK_ID=1", "MESOS_DIRECTORY=/x", "LIBPROCESS_PORT=0", "MILLRACE_INPUT_DATA={}", "MILLRACE_INPUT_7=x", "MILLRACE_GRACE=5s", "MILLRACE_MASK=TOKEN",
		"TOKEN=", "MILLRACE_RUN_ID=r1", "ODD= a=b 'c'",
	}, "--heartbeat", "1h", "--", "env")
	_, out := a.run()
	got := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	slices.Sort(got)
	want := []string{
		"MILLRACE_HEARTBEAT=" + a.dir + "/millrace-heartbeat", "MILLRACE_INPUT=" + a.dir + "/millrace-input.json", "MILLRACE_OUTPUT=" + a.dir + "/millrace-output",
		"MILLRACE_RUN_ID=r1", "MILLRACE_STATE=" + a.dir + "/millrace-state", "ODD= a=b 'c'", "PATH=" + os.Getenv("PATH"), "TOKEN=", "WORK=" + a.dir,
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFilesOfOthers: an executor may have made the files, and a directory for state.
func TestFilesOfOthers(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	a := shell(t, `echo "$MILLRACE_STATE"; echo hi > "$MILLRACE_OUTPUT"; test -e "$MILLRACE_HEARTBEAT"`,
		"MILLRACE_OUTPUT="+other+"/out", "MILLRACE_STATE="+other+"/state", "MILLRACE_HEARTBEAT="+other+"/beat")
	code, out := a.run()
	if text, err := os.ReadFile(other + "/out"); code != 0 || out != other+"/state\n" || string(text) != "hi\n" {
		t.Errorf("got %d, %q, output %q (%v)", code, out, text, err)
	}
}

func TestOneStream(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	for i := range 200 {
		want.WriteString("out " + strconv.Itoa(i) + "\nerr " + strconv.Itoa(i) + "\n")
	}
	_, out := shell(t, `i=0; while [ $i -lt 200 ]; do echo "out $i"; echo "err $i" >&2; i=$((i+1)); done`).run()
	if out != want.String() {
		t.Errorf("got %q, want both streams in their order", out)
	}
}

// TestUnbuffered: what is written is there while the program runs, masked or not.
func TestUnbuffered(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"", "TOKEN=correct-horse-battery"} {
		a := shell(t, `echo before; read -r line < "$WORK/gate"; echo after`, secret, "MILLRACE_MASK=TOKEN")
		gate := filepath.Join(a.dir, "gate")
		if err := syscall.Mkfifo(gate, 0o600); err != nil {
			t.Fatal(err)
		}
		a.cmd.Stdout = nil
		pipe, err := a.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		a.start()
		r := bufio.NewReader(pipe)
		if line, err := r.ReadString('\n'); line != "before\n" {
			t.Errorf("with %q: got %q, %v, want the first line before the program ends", secret, line, err)
		}
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
			t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); line != "after\n" {
			t.Errorf("with %q: got %q, %v", secret, line, err)
		}
		if code := a.end(); code != 0 {
			t.Errorf("got exit code %d", code)
		}
	}
}

func TestMasked(t *testing.T) {
	t.Parallel()
	code, out := shell(t, `echo "$TOKEN"; printf %s "$TOKEN" | base64; echo "$OTHER" >&2; printf 'the end: correct-ho'; exit 5`,
		"MILLRACE_MASK=TOKEN,OTHER,UNSET", "TOKEN=correct-horse-battery", "OTHER=staple-staple").run()
	if want := "***\n***\n***\nthe end: correct-ho"; code != 5 || out != want {
		t.Errorf("got %d and %q, want 5 and %q", code, out, want)
	}
	if code, out := begin(t, []string{"MILLRACE_MASK=TOKEN", "TOKEN=correct-horse-battery"}, "--", "correct-horse-battery").run(); code != exitRefused ||
		strings.Contains(out, "horse") {
		t.Errorf("got %d and %q, want a refusal without the secret", code, out)
	}
}

// packed is a text as gzip and base64 make it.
func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
