package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/cmd/internal/bench"
	"millrace/cmd/internal/loopback"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesossim"
)

// smallMesos starts a double that offers every 10 ms.
func smallMesos(t *testing.T, o mesossim.Options) *mesossim.Cluster {
	t.Helper()
	o.Allocation, o.Dir = 10*time.Millisecond, t.TempDir()
	c, err := mesossim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// benchMesos runs the command in this process.
func benchMesos(ctx context.Context, args ...string) (out, errs string, code int) {
	var o, e lockedBuffer
	code = run(ctx, append([]string{"bench", "mesos"}, args...), streams{nil, &o, &e})
	return o.String(), e.String(), code
}

// TestBenchMesos: what is measured adds up, offers held or not, one by one or all at once, and nothing is left on the cluster.
func TestBenchMesos(t *testing.T) {
	t.Parallel()
	sim := smallMesos(t, mesossim.Options{Masters: 2, Agents: make([]mesossim.AgentOptions, 3), Credentials: map[string]string{"bench": "s3cret"}})
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "s3cret\n")
	cluster := []string{"--master", strings.Join([]string{sim.Masters()[1], sim.Masters()[0]}, ","), "--principal", "bench", "--secret-file", secret, "--tasks", "20"}
	for _, c := range []struct {
		name string
		args []string
		mode string
	}{
		{"warm", nil, "warm"}, {"cold", []string{"--cold"}, "cold"}, {"few", []string{"--parallel", "3"}, "warm"},
		{"one by one, cold", []string{"--parallel", "1", "--cold", "--profile", filepath.Join(t.TempDir(), "profile")}, "cold"},
		{"larger than one agent", []string{"--cpus", "4"}, "warm"},
	} {
		out, errs, code := benchMesos(t.Context(), append(append(c.args, cluster...), "-o", "json")...)
		var r bench.MesosReport
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK {
			t.Fatalf("%s: exit code %d, %v\n%s%s", c.name, code, err, out, errs)
		}
		t.Logf("measured: %s: %.0f tasks/s, ACCEPT → RUNNING p50 %.1f ms, matching max %.2f ms, %.2f ms of CPU a task", c.name, r.TasksPerSec, r.Running["p50"], r.Matching["max"], r.CPU)
		if r.Finished != 20 || r.Failed+r.Lost != 0 || r.Mode != c.mode || r.Version != mesossim.Version || r.Agents < 1 || r.Accepts < 1 || r.TasksPerSec <= 0 {
			t.Errorf("%s: got %+v", c.name, r)
		}
		if r.Starting["p50"] > r.Running["p50"] || r.Running["p50"] > r.Ended["p50"] || r.Running["p50"] <= 0 || r.Ended["max"] > r.Seconds*1000 {
			t.Errorf("%s: starts after it runs, or runs after it ends: %+v", c.name, r)
		}
		if left := frameworks(t, sim); len(left) > 0 {
			t.Errorf("%s: the cluster still has the frameworks %v", c.name, left)
		}
	}
	for _, format := range outputs {
		out, errs, code := benchMesos(t.Context(), append(cluster, "--tasks", "2", "--cold", "-o", format)...)
		if err := parses(format, out); err != nil || code != exitOK {
			t.Errorf("-o %s: exit code %d, %v\n%s%s", format, code, err, out, errs)
		}
	}
}

// frameworks are the names of those that a cluster knows.
func frameworks(t *testing.T, sim *mesossim.Cluster) []string {
	t.Helper()
	resp, err := http.Get(sim.URL() + "/frameworks")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var known struct {
		Frameworks []struct {
			Name string `json:"name"`
		} `json:"frameworks"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&known); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range known.Frameworks {
		names = append(names, f.Name)
	}
	return names
}

// TestBenchMesosSays: what keeps it from measuring is said, with the exit code for it.
func TestBenchMesosSays(t *testing.T) {
	t.Parallel()
	sim := smallMesos(t, mesossim.Options{Agents: []mesossim.AgentOptions{{Resources: mesossim.Resources(0.5, 512, 512), Hostname: "tiny"}}})
	locked := smallMesos(t, mesossim.Options{Credentials: map[string]string{"bench": "s3cret"}})
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	nobody, err := loopback.Free()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		code int
		args []string
		want []string
	}{
		{"no master", exitUsage, nil, []string{"no master: give --master"}},
		{"half a credential", exitUsage, []string{"--master", sim.URL(), "--principal", "me"}, []string{"go together"}},
		{"no tasks", exitUsage, []string{"--master", sim.URL(), "--tasks", "0"}, []string{"0 tasks"}},
		{"nobody there", exitUnreachable, []string{"--master", nobody, "--patience", "300ms"}, []string{"no master was reached within 300ms", "connection refused"}},
		{"no Mesos", exitUnreachable, []string{"--master", other.URL}, []string{"no Mesos master", "give --master the address"}},
		{"no credentials", exitAuth, []string{"--master", locked.URL()}, []string{"does not accept the credentials", "give --principal"}},
		{"too large", exitFailed, []string{"--master", sim.URL(), "--cpus", "2", "--patience", "2s"}, []string{"too little cpus: 2 wanted", "tiny"}},
		{"fails", exitFailed, []string{"--master", sim.URL(), "--tasks", "2", "--command", "exit 3"}, []string{"2 of 2 tasks did not finish", "exited with status 3"}},
	} {
		out, errs, code := benchMesos(t.Context(), c.args...)
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: got %s, want %q in it", c.name, errs, want)
			}
		}
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.name, code, c.code, out, errs)
		}
	}
}

// TestBenchMesosInterrupted: ^C removes the framework, and with it what runs.
func TestBenchMesosInterrupted(t *testing.T) {
	t.Parallel()
	sim := smallMesos(t, mesossim.Options{})
	ctx, interrupt := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { // It ends with ctx, and is waited for below.
		_, _, c := benchMesos(ctx, "--master", sim.URL(), "--tasks", "5", "--command", "sleep 600")
		code <- c
	}()
	eventually(t, "five tasks", func() bool {
		running := 0
		for _, task := range sim.Tasks() {
			if task.State == mesos.TaskRunning {
				running++
			}
		}
		return running == 5
	})
	interrupt()
	if got := <-code; got != exitInterrupted {
		t.Errorf("exit code %d, want %d", got, exitInterrupted)
	}
	if left := frameworks(t, sim); len(left) > 0 {
		t.Errorf("the cluster still has the frameworks %v", left)
	}
	eventually(t, "end of all processes", func() bool {
		for _, task := range sim.Tasks() {
			if !errors.Is(syscall.Kill(task.PID, 0), syscall.ESRCH) {
				return false
			}
		}
		return true
	})
}

// eventually waits for what becomes of others.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("no %s after %v", what, patience)
		}
	}
}

// TestBenchMesosDouble: the double is a process of its own, which the command waits for.
func TestBenchMesosDouble(t *testing.T) {
	t.Parallel()
	out, errs, code := millrace(t, t.TempDir(), nil, "bench", "mesos", "--double", "3", "--tasks", "30", "-o", "json")
	var r bench.MesosReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || r.Finished != 30 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
}
