//go:build linux

package dockerexec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/dockerexec"
)

// patience is how long something may take before a test gives up.
const patience = time.Minute

// bench is an executor that runs, with its engine.
type bench struct {
	*testing.T
	*engine
	opt  dockerexec.Options
	dir  string
	work string
	ex   *dockerexec.Executor

	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex // guards the rest
	reports []scheduler.Report
	deaf    bool // reports are not taken
}

func newBench(t *testing.T, opt dockerexec.Options) *bench {
	t.Helper()
	b := &bench{T: t, engine: newEngine(t), opt: opt, dir: t.TempDir(), work: t.TempDir()}
	b.opt.Host = b.host()
	b.begin()
	t.Cleanup(b.end)
	return b
}

// begin is a start of millrace, end one of its ends.
func (b *bench) begin() {
	b.Helper()
	b.ex = openAt(b.T, b.dir, b.opt)
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.done = cancel, make(chan error, 1)
	go func(ex *dockerexec.Executor) { b.done <- ex.Run(ctx, b.take) }(b.ex) // end ends it and waits
}

func (b *bench) end() {
	b.Helper()
	b.cancel()
	select {
	case err := <-b.done:
		if err != nil {
			b.Errorf("run: %v", err)
		}
		b.done <- nil // for another end
	case <-time.After(patience):
		b.Error("run has not ended")
	}
}

func (b *bench) take(_ context.Context, list []scheduler.Report) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deaf {
		return scheduler.ErrUnavailable
	}
	b.reports = append(b.reports, list...)
	return nil
}

func (b *bench) eventually(what string, ok func() bool) {
	b.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			b.Fatalf("not after %v: %s", patience, what)
		}
	}
}

// report returns the first report of an attempt that has an outcome, "": that of its end.
func (b *bench) report(id string, outcome scheduler.Outcome) scheduler.Report {
	b.Helper()
	var out scheduler.Report
	b.eventually(fmt.Sprintf("a report %q of %s", outcome, id), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		i := slices.IndexFunc(b.reports, func(r scheduler.Report) bool {
			return r.Attempt == id && (r.Outcome == outcome || outcome == "" && r.Outcome != scheduler.OutcomeRunning)
		})
		if i >= 0 {
			out = b.reports[i]
		}
		return i >= 0
	})
	return out
}

func (b *bench) shell(task, script string) scheduler.Launch {
	return scheduler.Launch{
		ID: "r1." + task + ".-1.1", Run: "r1", Task: task, MapIndex: scheduler.NoMap, Try: 1, Argv: []string{"sh", "-c", script},
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "WORK=" + b.work}, Input: []byte("{}"), Grace: patience,
		Container: &scheduler.Container{Image: image},
	}
}

func (b *bench) launch(all ...scheduler.Launch) {
	b.Helper()
	if err := b.ex.Launch(b.Context(), all); err != nil {
		b.Fatalf("launch: %v", err)
	}
}

func (b *bench) log(id string) string {
	b.Helper()
	r, err := b.ex.Log(b.Context(), id, 0)
	if err != nil {
		b.Fatalf("log: %v", err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// locked looks at the engine.
func locked[T any](b *bench, look func(e *engine) T) T {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	return look(b.engine)
}

// faults sets what becomes of the requests from here on.
func (b *bench) faults(f func(op string, n int) fault) {
	locked(b, func(e *engine) bool { clear(e.seen); e.fault = f; return true })
}

func (b *bench) boxes() int { return locked(b, func(e *engine) int { return len(e.containers) }) }

func (b *bench) started(id string) int { return locked(b, func(e *engine) int { return e.starts[id] }) }

// TestContainer: all that a task can ask for is in the request, and nothing is asked twice.
func TestContainer(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{Privileged: true})
	l := b.shell("all", "")
	l.Argv = []string{"true"}
	l.Heartbeat = time.Hour
	l.Resources = &scheduler.Resources{CPU: 0.5, CPULimit: 1.5, Mem: 256 << 20, GPU: 2}
	l.Machine = &scheduler.Machine{User: "nobody", Ports: []scheduler.Port{{Host: 8080, Container: 80}, {Host: 5353, Protocol: "udp"}}}
	l.Container = &scheduler.Container{Image: image, Network: scheduler.NetworkBridge, Privileged: true, Volumes: []scheduler.Volume{
		{ContainerPath: "/data", HostPath: "/srv/data", ReadOnly: true},
	}}
	b.launch(l)
	b.report(l.ID, "")
	c := locked(b, func(e *engine) created { return e.created[0] })
	h := c.HostConfig
	type request struct {
		Entrypoint, Cmd, Env []string
		User, Network        string
		Shares, Nano         int64
		Mem, Swap            int64
		GPUs, Mounts         int
		Privileged, Init     bool
		Ports                string
	}
	got := request{
		c.Entrypoint, c.Cmd, c.Env[2:], c.User, string(h.NetworkMode), h.CPUShares, h.NanoCPUs, h.Memory, h.MemorySwap, h.DeviceRequests[0].Count, len(h.Mounts),
		h.Privileged, h.Init != nil && *h.Init, fmt.Sprint(len(h.PortBindings), len(c.ExposedPorts)),
	}
	want := request{
		[]string{"true"}, []string{}, []string{
			"MILLRACE_INPUT=/millrace/millrace-input.json", "MILLRACE_OUTPUT=/millrace/millrace-output", "MILLRACE_STATE=/millrace/millrace-state",
			"MILLRACE_HEARTBEAT=/millrace/millrace-heartbeat", "PORT0=8080", "PORT1=5353", "PORTS=8080,5353",
		}, "nobody", "bridge", 512, 1500000000, 256 << 20, 256 << 20, 2, 2, true, true, "2 2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the request (-want +got):\n%s", diff)
	}
	if m := h.Mounts[1]; m.Source != "/srv/data" || m.Target != "/data" || !m.ReadOnly {
		t.Errorf("got the mount %+v", m)
	}
	b.eventually("the container is removed", func() bool { return b.boxes() == 0 })
	requests := locked(b, func(e *engine) []string { return slices.Clone(e.requests) })
	for _, once := range []string{"POST /containers/create", "/start", "PUT /containers/"} {
		n := 0
		for _, r := range requests {
			if strings.Contains(r, once) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%q was asked %d times, want once; all requests: %q", once, n, requests)
		}
	}
}

// TestEntrypoint: without a command the image's own entrypoint gets the arguments, and millrace-task what it needs to know.
func TestEntrypoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{Network: "tasks"})
	l := b.shell("own", "")
	l.Argv, l.Container.Args = nil, []string{"true", "x"} // the engine of the test has no images, so that the arguments are the command
	l.Env = append(l.Env, "TOKEN=correct-horse", "URL=https://u:correct-horse@h")
	l.Secrets = []string{"correct-horse"}
	b.launch(l)
	b.report(l.ID, "")
	c := locked(b, func(e *engine) created { return e.created[0] })
	if len(c.Entrypoint) != 0 || !slices.Equal(c.Cmd, l.Container.Args) || c.HostConfig.NetworkMode != "tasks" {
		t.Errorf("got entrypoint %q, command %q, network %q", c.Entrypoint, c.Cmd, c.HostConfig.NetworkMode)
	}
	for _, want := range []string{"MILLRACE_DIR=/millrace", "MILLRACE_GRACE=1m0s", "MILLRACE_MASK=TOKEN"} {
		if !slices.Contains(c.Env, want) {
			t.Errorf("the environment %q has no %s", c.Env, want)
		}
	}
	for name, val := range c.Labels {
		if strings.Contains(val, "correct-horse") {
			t.Errorf("label %s has a secret: %s", name, val)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	for name, tt := range map[string]struct {
		change func(l *scheduler.Launch)
		want   string
	}{
		"no image":    {func(l *scheduler.Launch) { l.Container = nil }, "runs images only"},
		"constraints": {func(l *scheduler.Launch) { l.Constraints = []scheduler.Constraint{{Attribute: "rack"}} }, "can not choose by constraints"},
		"mesos":       {func(l *scheduler.Launch) { l.Container.Containerizer = scheduler.ContainerizerMesos }, "containerizer of Mesos"},
		"privileged":  {func(l *scheduler.Launch) { l.Container.Privileged = true }, "executors.docker.privileged"},
		"parameters":  {func(l *scheduler.Launch) { l.Container.Parameters = []scheduler.Parameter{{Key: "ipc"}} }, "no parameters of it (ipc)"},
		"uris":        {func(l *scheduler.Launch) { l.Machine = &scheduler.Machine{URIs: []scheduler.URI{{}}} }, "fetches no URIs"},
		"health":      {func(l *scheduler.Launch) { l.Machine = &scheduler.Machine{Health: &scheduler.Health{}} }, "no health checks"},
		"ports":       {func(l *scheduler.Launch) { l.Machine = &scheduler.Machine{Ports: []scheduler.Port{{}}} }, "hands out no ports"},
	} {
		l := b.shell(strings.ReplaceAll(name, " ", "-"), "true")
		tt.change(&l)
		b.launch(l)
		if r := b.report(l.ID, ""); r.Outcome != scheduler.OutcomeRefused || !strings.Contains(r.Reason, tt.want) {
			t.Errorf("%s: got %+v, want a refusal with %q", name, r, tt.want)
		}
	}
	if n := locked(b, func(e *engine) int { return len(e.created) }); n != 0 {
		t.Errorf("%d containers were created", n)
	}
}

func TestPull(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{Auth: func(_ context.Context, image string) (string, error) { return "for " + image, nil }})
	const other = "registry.example/other@sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	locked(b, func(e *engine) bool {
		e.registry[other], e.registry[image] = "", ""
		e.registry["registry.example/secret:1"] = "pull access denied for secret, repository does not exist or may require 'docker login'"
		e.registry["registry.example/slow:1"] = "dial tcp: i/o timeout"
		return true
	})
	for _, tt := range []struct {
		name, image, pull string
		want              scheduler.Outcome
		pulls             int
	}{
		{"there", image, "", scheduler.OutcomeExited, 0},
		{"missing", other, scheduler.PullMissing, scheduler.OutcomeExited, 1},
		{"there-by-now", other, scheduler.PullMissing, scheduler.OutcomeExited, 0},
		{"always", image, scheduler.PullAlways, scheduler.OutcomeExited, 1},
		{"nowhere", "registry.example/no:1", "", scheduler.OutcomeRefused, 1},
		{"forbidden", "registry.example/secret:1", scheduler.PullAlways, scheduler.OutcomeRefused, 1},
		{"away", "registry.example/slow:1", "", scheduler.OutcomeLost, 1},
	} {
		l := b.shell(tt.name, "true")
		l.Container = &scheduler.Container{Image: tt.image, Pull: tt.pull}
		before := locked(b, func(e *engine) int { return len(e.pulls) })
		b.launch(l)
		r := b.report(l.ID, "")
		pulls, auth := locked(b, func(e *engine) []string { return e.pulls[before:] }), locked(b, func(e *engine) []string { return e.auth[before:] })
		if r.Outcome != tt.want || len(pulls) != tt.pulls {
			t.Errorf("%s: got %+v after %d pulls, want %s after %d", tt.name, r, len(pulls), tt.want, tt.pulls)
		}
		for i := range pulls {
			if pulls[i] != tt.image || auth[i] != "for "+tt.image {
				t.Errorf("%s: pulled %q with %q, want %s", tt.name, pulls[i], auth[i], tt.image)
			}
		}
	}
}

// TestNoPath: the environment of a task with an image need not have PATH, since images have theirs.
func TestNoPath(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	good, bad := b.shell("good", "exit 4"), b.shell("bad", "")
	good.Env, bad.Env = nil, nil
	bad.Argv = []string{"no-such-program"}
	b.launch(good, bad)
	if r := b.report(good.ID, ""); r.Exit != 4 {
		t.Errorf("got %+v, want exit code 4", r)
	}
	if r := b.report(bad.ID, ""); r.Outcome != scheduler.OutcomeRefused || !strings.Contains(r.Reason, "/usr/bin/no-such-program") {
		t.Errorf("got %+v, want a refusal that says where it was looked for", r)
	}
}

// TestKillWhilePulling: an attempt need not have its image to be killed.
func TestKillWhilePulling(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	const slow = "registry.example/slow:1"
	locked(b, func(e *engine) bool { e.stuck = map[string]chan struct{}{slow: make(chan struct{})}; return true })
	l := b.shell("slow", "true")
	l.Container = &scheduler.Container{Image: slow}
	b.launch(l)
	b.eventually("the image is pulled", func() bool { return locked(b, func(e *engine) bool { return len(e.pulls) == 1 }) })
	if err := b.ex.Kill(t.Context(), l.ID, patience); err != nil {
		t.Fatal(err)
	}
	if r := b.report(l.ID, ""); r.Outcome != scheduler.OutcomeExited || r.Signal != "SIGTERM" || !strings.Contains(r.Reason, "before it was started") {
		t.Errorf("got %+v, want the end before the start", r)
	}
}

// TestTaskImage: with millrace-task in front, what it says of a program is what is reported.
func TestTaskImage(t *testing.T) {
	t.Parallel()
	entrypoint := filepath.Join(t.TempDir(), "millrace-task")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", entrypoint, "../../cmd/millrace-task")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := newBench(t, dockerexec.Options{})
	task := func(name string, args ...string) scheduler.Launch {
		l := b.shell(name, "")
		l.Argv, l.Container.Args = nil, append([]string{entrypoint, "--"}, args...) // the engine of the test has no images, so that the arguments are the command
		return l
	}
	good := task("good", "sh", "-c", `cat "$MILLRACE_INPUT" > "$MILLRACE_OUTPUT"; echo out; echo err >&2; echo "$MILLRACE_DIR"; exit 3`)
	bad := task("bad", "no-such-program")
	b.launch(good, bad)
	if r := b.report(good.ID, ""); r.Exit != 3 || string(r.Output) != "{}" || b.log(good.ID) != "out\nerr\n\n" {
		t.Errorf("got %+v, log %q", r, b.log(good.ID))
	}
	if r := b.report(bad.ID, ""); r.Outcome != scheduler.OutcomeRefused || !strings.Contains(r.Reason, `"no-such-program": not found in PATH`) {
		t.Errorf("got %+v, want the refusal of millrace-task", r)
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	locked(b, func(e *engine) bool { e.oom = true; return true })
	l := b.shell("oom", "kill -KILL $$")
	l.Resources = &scheduler.Resources{Mem: 1 << 20}
	b.launch(l)
	if r := b.report(l.ID, ""); r.Signal != "SIGKILL" || !strings.Contains(r.Reason, "more than its 1048576 bytes of memory") {
		t.Errorf("got %+v, want SIGKILL for its memory", r)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	l := b.shell("hangs", "exec sleep 1000")
	l.Heartbeat, l.Grace = time.Millisecond, 0
	b.launch(l)
	if r := b.report(l.ID, ""); r.Outcome != scheduler.OutcomeTimeout || !strings.Contains(r.Reason, "no heartbeat for 1ms") {
		t.Errorf("got %+v, want the end for its heartbeat", r)
	}
}

func TestLogLimit(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{MaxLog: 10_000, Poll: 100 * time.Millisecond})
	l := b.shell("chatty", "yes")
	b.launch(l)
	r := b.report(l.ID, "")
	if n := len(b.log(l.ID)); !strings.Contains(r.Reason, "log_limit") || n > 10_000 {
		t.Errorf("got %+v and %d bytes of log, want the end for its log", r, n)
	}
}

// spilled is a store for large outputs that is away at first.
type spilled struct{ calls int }

func (s *spilled) Put(_ context.Context, _ string, body []byte, _ time.Time) (*scheduler.OutputRef, error) {
	if s.calls++; s.calls == 1 {
		return nil, scheduler.ErrUnavailable
	}
	return &scheduler.OutputRef{Ref: "kept", Bytes: int64(len(body)), SHA256: "x"}, nil
}

func TestLargeOutput(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{Outputs: &spilled{}})
	l := b.shell("large", `(printf '"'; head -c 100000 /dev/zero | tr '\0' 1; printf '"') > "$MILLRACE_OUTPUT"`)
	b.launch(l)
	if r := b.report(l.ID, ""); r.OutputRef == nil || r.OutputRef.Bytes != 100_002 || r.OutputError != "" {
		t.Errorf("got %+v, want a reference", r)
	}
	odd := b.shell("odd", `rm "$MILLRACE_OUTPUT"; mkdir "$MILLRACE_OUTPUT"`)
	b.launch(odd)
	if r := b.report(odd.ID, ""); r.OutputError != "is not a plain file" {
		t.Errorf("a directory as output: got %+v", r)
	}
}

// TestState: the tries of a task share a volume, which is removed when the run has ended.
func TestState(t *testing.T) {
	t.Parallel()
	var ended sync.Map
	b := newBench(t, dockerexec.Options{Sweep: 20 * time.Millisecond, Ended: func(_ context.Context, run string) (bool, error) {
		_, over := ended.Load(run)
		return over, nil
	}})
	first := b.shell("state", `echo kept > "$MILLRACE_STATE/job"; exit 1`)
	b.launch(first)
	b.report(first.ID, "")
	second := b.shell("state", `cat "$MILLRACE_STATE/job"`)
	second.ID, second.Try = "r1.state.-1.2", 2
	b.launch(second)
	if r := b.report(second.ID, ""); r.Exit != 0 || b.log(second.ID) != "kept\n" {
		t.Errorf("got %+v, log %q", r, b.log(second.ID))
	}
	if n := locked(b, func(e *engine) int { return len(e.volumes) }); n != 1 {
		t.Errorf("got %d volumes, want one", n)
	}
	ended.Store("r1", true)
	b.eventually("the volume is removed", func() bool { return locked(b, func(e *engine) int { return len(e.volumes) }) == 0 })
	if err := b.ex.ForgetRun(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ex.Log(t.Context(), first.ID, 0); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("the log of a forgotten run: got %v", err)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	if text, err := dockerexec.Probe(t.Context(), dockerexec.Options{Host: e.host()}); err != nil || !strings.Contains(text, "fake, version 0 on linux") {
		t.Errorf("got %q, %v", text, err)
	}
	e.Close()
	if _, err := dockerexec.Probe(t.Context(), dockerexec.Options{Host: e.host()}); err == nil {
		t.Error("an engine that is not there answers")
	}
	for _, bad := range []dockerexec.Options{{Host: "here"}, {CA: "ca.pem"}, {Slots: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

// TestSocket: an engine is reached by the path of its socket, too.
func TestSocket(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	path := filepath.Join(t.TempDir(), "docker.sock")
	serveSocket(t, path, e)
	if _, err := dockerexec.Probe(t.Context(), dockerexec.Options{Host: "unix://" + path}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
