package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/cmd/internal/loopback"
)

// binary builds millrace once for all tests that run it as people do: as a process. MILLRACE_TEST_BINARY names one that is built already.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("MILLRACE_TEST_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "millrace-test-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "millrace")
	builtIn = dir
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// builtIn is the directory of what binary built, which TestMain removes.
var builtIn string

func TestMain(m *testing.M) {
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/sbin:/usr/sbin") // mkfs, mount
	waitMuch()
	code := m.Run()
	for _, dir := range []string{builtIn, natsIn} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// waitMuch runs four parallel tests for each processor, if nobody has said otherwise: these tests wait for processes more than they compute.
func waitMuch() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	}
}

// server is a millrace process with its directory.
type server struct {
	t       *testing.T
	dir     string // data directory
	config  string // configuration file, or ""
	ingest  string
	console string
	health  string // address of a listener that says when the process is ready; the first of the two that it has
	args    []string
	env     []string
	cwd     string // working directory, or "" for that of the test
	cmd     *exec.Cmd
	stderr  *lockedBuffer
	exited  chan struct{} // closed when the process has ended
}

// newServer prepares a server; args come after the command line that all have.
func newServer(t *testing.T, command string, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), ingest: freeAddr(t), console: freeAddr(t)}
	s.health = s.ingest
	s.args = append([]string{command, "--data-dir", s.dir}, args...)
	if command == "dev" {
		s.args = append(s.args, "--listen", s.ingest, "--console", s.console)
	} else {
		s.env = append(s.env, "MILLRACE_INGEST__LISTEN="+s.ingest, "MILLRACE_CONSOLE__LISTEN="+s.console)
		for i, a := range args[:max(0, len(args)-1)] {
			if a == "--config" {
				s.config = args[i+1]
			}
		}
	}
	t.Cleanup(func() {
		s.stop()
		s.endRunner()
	})
	return s
}

// freeAddr returns an address for a process to listen on, now and when it is started again.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := loopback.Free()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// start starts the process and waits until it takes events; wrap, if any, is a command that starts it.
func (s *server) start(wrap ...string) {
	s.t.Helper()
	s.launch(wrap...)
	s.ready()
}

func (s *server) launch(wrap ...string) {
	s.t.Helper()
	bin, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	argv := append(append(append([]string{}, wrap...), bin), s.args...)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env, s.cmd.Dir = append(os.Environ(), s.env...), s.cwd
	s.stderr = &lockedBuffer{}
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.WaitDelay = time.Second // a tracer holds stderr longer
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) { // ends with the process
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
}

func (s *server) ready() {
	s.t.Helper()
	s.waitFor("ready", func() bool {
		resp, err := http.Get("http://" + s.health + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// patience is how long a test waits for what must happen. It only ends the wait for what never does: disks of shared machines stand still for
// seconds, and nothing here is a measure of time.
const patience = 3 * time.Minute

// waitFor polls a process from outside: there is nothing else to wait on.
func (s *server) waitFor(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not %s after %v; the server said:\n%s", what, patience, s.stderr)
		}
	}
}

// ended reports whether the process has ended.
func (s *server) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// kill ends the process as a power switch would, but for the disk.
func (s *server) kill() {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.exited
	s.cmd = nil
}

// stop drains the process and returns its exit code.
func (s *server) stop() int {
	if s.cmd == nil {
		return 0
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Errorf("did not end %v after SIGTERM:\n%s", patience, s.stderr)
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return code
}

// endRunner ends the supervisor of tasks, which outlives the server on purpose, and waits until it is gone.
func (s *server) endRunner() {
	s.waitFor("rid of the runner", func() bool {
		pids := s.runners()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(pids) == 0
	})
}

// runners returns the processes that supervise tasks of this data directory.
func (s *server) runners() []int {
	var out []int
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cmdline, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err != nil || !bytes.Contains(cmdline, []byte("runner\x00")) || !bytes.Contains(cmdline, []byte(s.dir)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// track posts one event and returns the answer's status and receipt.
func (s *server) track(id string) (int, string, error) {
	return s.post("/v1/track", fmt.Sprintf(`{"userId":"u","event":"Tested","messageId":%q}`, id))
}

// batch posts n events of about 500 bytes in one request, with the ids prefix-0 to prefix-(n-1).
func (s *server) batch(prefix string, n int) (int, error) {
	var b strings.Builder
	pad := strings.Repeat("x", 400)
	for i := range n {
		b.WriteString(map[bool]string{true: `{"batch":[`, false: `,`}[i == 0])
		fmt.Fprintf(&b, `{"type":"track","userId":"u","event":"Tested","messageId":"%s-%d","properties":{"pad":%q}}`, prefix, i, pad)
	}
	b.WriteString("]}")
	status, _, err := s.post("/v1/batch", b.String())
	return status, err
}

// send posts events one after the other, each of which must be accepted, and adds their ids to acked.
func (s *server) send(acked map[string]bool, prefix string, n int) {
	s.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%s-%d", prefix, i)
		if status, _, err := s.track(id); err != nil || status != http.StatusOK {
			s.t.Fatalf("event %s: status %d, %v; the server said:\n%s", id, status, err, s.stderr)
		}
		acked[id] = true
	}
}

func (s *server) post(path, body string) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+s.ingest+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth("dev", "")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-Millrace-Receipt"), err
}

// cli runs a client command in this process against the server.
func (s *server) cli(args ...string) (string, int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--data-dir", s.dir)
	if s.config != "" {
		args = append(args, "--config", s.config)
	}
	if args[0] != "log" && args[0] != "config" && !contains(args, "--offline") {
		args = append(args, "--server", "http://"+s.console)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code := run(ctx, args, streams{in: strings.NewReader(""), out: &out, err: &errs})
	if errs.Len() > 0 {
		s.t.Logf("millrace %s: exit %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return out.String(), code
}

// cliJSON decodes the -o json output of a client command.
func (s *server) cliJSON(out any, args ...string) {
	s.t.Helper()
	text, code := s.cli(append(args, "-o", "json")...)
	if code != exitOK {
		s.t.Fatalf("millrace %s: exit %d", strings.Join(args, " "), code)
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		s.t.Fatalf("millrace %s: %v in %s", strings.Join(args, " "), err, text)
	}
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}

// lockedBuffer takes a process's output.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// repoRoot is the root of the source tree.
func repoRoot(t *testing.T) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// move puts the data directory somewhere else, before the first start.
func (s *server) move(dir string) { s.dir, s.args[2] = dir, dir }
