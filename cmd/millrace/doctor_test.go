package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/cmd/internal/doctor"
)

// millrace runs the built binary as a person does.
func millrace(t *testing.T, dir string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// quiet are listeners that nobody else has.
func quiet(t *testing.T) []string {
	t.Helper()
	return []string{"MILLRACE_INGEST__LISTEN=" + freeAddr(t), "MILLRACE_CONSOLE__LISTEN=" + freeAddr(t)}
}

// forgetful is a store that takes every put, as old S3 workalikes do.
func forgetful(t *testing.T) string {
	objects := map[string][]byte{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut:
			objects[r.URL.Path], _ = io.ReadAll(r.Body)
		case http.MethodGet, http.MethodHead:
			_, _ = w.Write(objects[r.URL.Path])
		}
	}))
	srv.Config.SetKeepAlivesEnabled(false) // requests come one after the other: the map has no lock
	t.Cleanup(srv.Close)
	return srv.URL
}

// breakage is one thing that is wrong, for real. do breaks it below dir, and returns environment and arguments.
type breakage struct {
	name, check, why, fix string
	do                    func(t *testing.T, dir string) (env, args []string)
}

var breakages = []breakage{
	{"unknown key", "config", "data_dri", "config check", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, "millrace.yaml"), "data_dri: x\n")
		return nil, nil
	}},
	{"missing secret", "config", "NO_SUCH_SECRET is not set", "config check", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, "millrace.yaml"), "sources: {s: {kind: webhook, scheme: stripe, secrets: [\"env:NO_SUCH_SECRET\"]}}\n")
		return nil, nil
	}},
	{"no Mesos", "mesos", "no master that leads was found", "executors.mesos.masters names", func(t *testing.T, _ string) ([]string, []string) {
		return []string{"MILLRACE_EXECUTORS__MESOS__MASTERS=http://" + freeAddr(t)}, nil
	}},
	{"no Docker", "docker", "the engine at tcp://127.0.0.1:", "correct executors.docker", func(t *testing.T, _ string) ([]string, []string) {
		return []string{"MILLRACE_EXECUTORS__DOCKER__HOST=tcp://" + freeAddr(t)}, nil
	}},
	{"memory", "data_dir", "is on tmpfs", "directory on a disk", func(t *testing.T, _ string) ([]string, []string) {
		dir, err := os.MkdirTemp("/dev/shm", "millrace-doctor-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return nil, []string{"--data-dir", dir}
	}},
	{"read-only", "data_dir", "read-only file system", "remount", func(t *testing.T, dir string) ([]string, []string) {
		needTool(t, "mount", "umount")
		at := filepath.Join(dir, "ro")
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, "mount", "--bind", at, at)
		t.Cleanup(func() { must(t, "umount", at) })
		must(t, "mount", "-o", "remount,bind,ro", at)
		return nil, []string{"--data-dir", at}
	}},
	{"no directory", "data_dir", "not a directory", "set data_dir", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, "file"), "")
		return nil, []string{"--data-dir", filepath.Join(dir, "file", "data")}
	}},
	{"disk low", "disk", "senders get 503", "make room", func(*testing.T, string) ([]string, []string) {
		return []string{"MILLRACE_LOG__WAL__MIN_FREE=4000TiB"}, nil
	}},
	{"port taken", "ports", "is taken by pid ", "ingest.listen", func(t *testing.T, _ string) ([]string, []string) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		return []string{"MILLRACE_INGEST__LISTEN=" + ln.Addr().String()}, nil
	}},
	{"no such address", "ports", "no such address", "console.listen", func(*testing.T, string) ([]string, []string) {
		return []string{"MILLRACE_CONSOLE__LISTEN=192.0.2.1:8081", "MILLRACE_CONSOLE__INSECURE=true"}, nil // TEST-NET-1: nobody has it
	}},
	{"clock went back", "clock", "from now", "set the clock", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, ".millrace/log/MANIFEST"), "")
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(filepath.Join(dir, ".millrace/log/MANIFEST"), later, later); err != nil {
			t.Fatal(err)
		}
		return nil, nil
	}},
	{"clock off", "clock", "10m0s ahead of", "set the clock", func(t *testing.T, _ string) ([]string, []string) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-10*time.Minute).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusForbidden)
		}))
		t.Cleanup(srv.Close)
		return nil, []string{"--time-url", srv.URL}
	}},
	{"store without condition", "objects", "If-None-Match", "honours If-None-Match", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, "millrace.yaml"), "objects: {kind: s3, s3: {bucket: b, region: r, path_style: true, access_key: a, secret_key: s, endpoint: "+forgetful(t)+"}}\n")
		return nil, nil
	}},
	{"store away", "objects", "connection refused", "objects.s3", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, "millrace.yaml"), "objects: {kind: s3, s3: {bucket: b, region: r, access_key: a, secret_key: s, endpoint: \"http://"+freeAddr(t)+"\"}}\n")
		return nil, nil
	}},
	{"log damaged", "log", "MANIFEST", "good copy", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, ".millrace/log/MANIFEST"), "nonsense\n")
		return nil, nil
	}},
	{"chain elsewhere", "log", "batching does not start", "admin move-chain", func(t *testing.T, _ string) ([]string, []string) {
		s := newServer(t, "dev", "--log-level", "error")
		s.start()
		s.send(map[string]bool{}, "doctor", 1)
		s.drained()
		s.stop()
		return []string{"MILLRACE_OBJECTS__DIR__PATH=elsewhere"}, []string{"--data-dir", s.dir}
	}},
	{"nats away", "bus", "connect to nats", "nats-server -js", func(t *testing.T, _ string) ([]string, []string) {
		return []string{"MILLRACE_BUS__KIND=nats", "MILLRACE_BUS__NATS__URL=nats://" + freeAddr(t)}, nil
	}},
	{"broken dag", "dags", "bad.yaml:", "mend ", func(t *testing.T, dir string) ([]string, []string) {
		write(t, filepath.Join(dir, "dags/bad.yaml"), "dag: bad\non: [{manual: {}}]\ntasks: {a: {run: [\"true\"], neds: [b]}}\n")
		return nil, nil
	}},
}

// TestDoctor breaks each thing that doctor looks for, and wants its name and the fix, for people and for machines.
func TestDoctor(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	for _, b := range breakages {
		broken[b.check] = true
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env, args := b.do(t, dir)
			env = append(quiet(t), env...)
			args = append([]string{"doctor"}, args...)
			text, _, code := millrace(t, dir, env, args...)
			if code != exitFailed {
				t.Errorf("exit code %d, want %d", code, exitFailed)
			}
			at := strings.Index(text, "FAIL    "+b.check)
			if at < 0 || !strings.Contains(text[at:], b.why) || !strings.Contains(text[at:], "fix: ") || !strings.Contains(text[at:], b.fix) {
				t.Errorf("want FAIL %s with %q and the fix %q in:\n%s", b.check, b.why, b.fix, text)
			}
			out, _, _ := millrace(t, dir, env, append(args, "-o", "json")...)
			var found []doctor.Finding
			if err := json.Unmarshal([]byte(out), &found); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			for _, f := range found {
				if f.Check == b.check && f.Result == doctor.Fail && strings.Contains(f.Why, b.why) && strings.Contains(f.Fix, b.fix) {
					return
				}
			}
			t.Errorf("no failure of %s among %+v", b.check, found)
		})
	}
	for _, c := range doctor.Checks {
		if !broken[c.Name] {
			t.Errorf("nothing breaks what %s looks for", c.Name)
		}
	}
}

// TestDoctorSound: on a good machine nothing fails, before a server runs and beside one.
func TestDoctorSound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, _, code := millrace(t, dir, quiet(t), "doctor"); code != exitOK {
		t.Errorf("exit code %d on a fresh machine:\n%s", code, out)
	}
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	env := []string{"MILLRACE_INGEST__LISTEN=" + s.ingest, "MILLRACE_CONSOLE__LISTEN=" + s.console}
	out, _, code := millrace(t, dir, env, "doctor", "--data-dir", s.dir)
	if code != exitOK || strings.Count(out, "taken by the server of this data directory") != 2 {
		t.Errorf("exit code %d beside a server:\n%s", code, out)
	}
	if out, _, code := millrace(t, dir, env, "doctor", "disc"); code != exitUsage || out != "" {
		t.Errorf("unknown check: exit code %d, %q", code, out)
	}
}
