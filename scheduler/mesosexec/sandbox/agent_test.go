package sandbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/mesosexec/sandbox"
	"millrace/scheduler/mesossim"
)

// TestAuthorization: agents behind TLS want to know who asks, and change their minds.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.launch("r1.a.-1.1", "echo one; echo 1 > millrace-output")
	w.ended(task.Attempt)
	behind, err := url.Parse(task.Agent)
	if err != nil {
		t.Fatal(err)
	}
	var want atomic.Value
	want.Store("Bearer one")
	proxy := httputil.NewSingleHostReverseProxy(behind)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want.Load() {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // of handshakes that are to go wrong
	front.StartTLS()
	t.Cleanup(front.Close)
	task.Agent = front.URL + "/"

	var mu sync.Mutex
	var asked []string
	opt := quick
	opt.Authorization = func(used string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, used)
		if used == "" {
			return "Bearer one", nil
		}
		return "Bearer two", nil
	}
	if _, err := w.keeperAt(t.TempDir(), w.objects, opt).Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an agent that nobody vouches for: got %v", err)
	}
	opt.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	opt.TLS.RootCAs.AddCert(front.Certificate())
	want.Store("Bearer none of these")
	if _, err := w.keeperAt(t.TempDir(), w.objects, opt).Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) || !strings.Contains(err.Error(), "401") {
		t.Errorf("not accepted: got %v", err)
	}
	want.Store("Bearer two")
	asked = nil
	k := w.keeperAt(t.TempDir(), w.objects, opt)
	if res := k.finish(task); string(res.Output) != "1\n" || k.log(task.Attempt, 0) != "one\n" {
		t.Errorf("got %+v", res)
	}
	if len(asked) < 2 || asked[0] != "" || asked[1] != "Bearer one" {
		t.Errorf("asked with %q", asked)
	}
	opt.Authorization = func(string) (string, error) { return "", errors.New("no such file") }
	if _, err := w.keeperAt(t.TempDir(), w.objects, opt).Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without secret: got %v", err)
	}
}

// TestStuckAgent: an agent that takes requests and answers none holds up nobody else, and whoever waits for it can stop.
func TestStuckAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() }) // Nobody accepts.
	opt := quick
	opt.Parallel, opt.PerAgent, opt.RequestTimeout = 3, 2, time.Hour
	k := w.keeper(opt)
	stuck := sandbox.Task{Agent: "http://" + lis.Addr().String(), Dir: "/x", Streams: []string{"stdout"}}
	for n := range 50 {
		stuck.Attempt = fmt.Sprintf("r1.stuck.%d.1", n)
		k.Follow(stuck)
	}
	gate := w.gate("gate")
	task := w.launch("r1.a.-1.1", "echo one; read x < "+gate+"; echo two")
	k.Follow(task)
	k.shows(task.Attempt, "one\n")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 5)
	for n := range cap(ended) {
		one := stuck
		one.Attempt = fmt.Sprintf("r1.stuck.%d.1", n)
		go func() { // ends with cancel
			_, err := k.Finish(ctx, one)
			ended <- err
		}()
	}
	w.open(gate)
	k.shows(task.Attempt, "one\ntwo\n")
	w.ended(task.Attempt)
	k.finish(task)
	cancel()
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, scheduler.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	k.stop()
}

// TestOddAgents: answers that no agent should give are errors of a moment. The agent may be elsewhere the next time.
func TestOddAgents(t *testing.T) {
	t.Parallel()
	k, err := sandbox.New(t.TempDir(), memstore.New(memstore.Options{}), quick)
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"no JSON":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no base64": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"read_file":{"data":"%"}}`)) },
		"recovering": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Agent has not finished recovery", http.StatusServiceUnavailable)
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"cut":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"forbidden": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"length lies": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusOK)
		},
	} {
		server := httptest.NewServer(answer)
		_, err := k.Finish(t.Context(), sandbox.Task{Attempt: "r1.a.-1.1", Agent: server.URL, Dir: "/x", Streams: []string{"stdout"}})
		if !errors.Is(err, scheduler.ErrUnavailable) || !strings.Contains(err.Error(), server.URL) || !strings.Contains(err.Error(), "r1.a.-1.1") {
			t.Errorf("%s: got %v, want ErrUnavailable with agent and attempt", name, err)
		}
		server.Close()
	}
}

// BenchmarkRunning follows 500 quiet tasks on five agents for as long as all of them have been looked at once more: what that costs is the time of
// the processor for an operation, agents included. "grows" has each of them write a line in between.
func BenchmarkRunning(b *testing.B) {
	for _, grows := range []bool{false, true} {
		b.Run(map[bool]string{false: "quiet", true: "grows"}[grows], func(b *testing.B) { benchmarkRunning(b, grows) })
	}
}

func benchmarkRunning(b *testing.B, grows bool) {
	const tasks, machines = 500, 5
	dir := b.TempDir()
	sim, err := mesossim.New(mesossim.Options{Dir: dir, Agents: make([]mesossim.AgentOptions, machines)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sim.Close() })
	var looks atomic.Int64
	objects := memstore.New(memstore.Options{})
	opt := sandbox.Options{MinPause: time.Millisecond, MaxPause: time.Millisecond, Authorization: func(string) (string, error) { looks.Add(1); return "", nil }}
	k, err := sandbox.New(filepath.Join(dir, "spool"), objects, opt)
	if err != nil {
		b.Fatal(err)
	}
	var files []*os.File
	for n := range tasks {
		place := filepath.Join(dir, fmt.Sprintf("agent%d", n%machines), fmt.Sprint(n))
		if err := os.MkdirAll(place, 0o700); err != nil {
			b.Fatal(err)
		}
		f, err := os.Create(filepath.Join(place, "stdout"))
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, f)
		k.Follow(sandbox.Task{Attempt: fmt.Sprintf("r1.a.%d.1", n), Agent: sim.AgentURL(n % machines), Dir: place, Streams: []string{"stdout"}, Secrets: []string{secret}})
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }() // ends with cancel
	for b.Loop() {
		if grows {
			for _, f := range files {
				if _, err := f.WriteString("2026-11-23T18:58:19Z INFO loaded 5000 rows into events_by_hour in 13ms\n"); err != nil {
					b.Fatal(err)
				}
			}
		}
		until := looks.Load() + tasks
		waitFor(b, "a look at each", func() bool { return looks.Load() >= until })
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/tasks, "µs/look")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
	for _, f := range files {
		_ = f.Close()
	}
}

// BenchmarkFinish takes tasks that have written a line and put something out to their ends, a few at a time.
func BenchmarkFinish(b *testing.B) {
	dir := b.TempDir()
	sim, err := mesossim.New(mesossim.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sim.Close() })
	place := filepath.Join(dir, "agent0", "a")
	if err := os.MkdirAll(place, 0o700); err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{"stdout": "loaded 5000 rows\n", "stderr": "", sandbox.OutputName: `{"rows":5000}`} {
		if err := os.WriteFile(filepath.Join(place, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	k, err := sandbox.New(filepath.Join(dir, "spool"), memstore.New(memstore.Options{}), sandbox.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			task := sandbox.Task{Attempt: fmt.Sprintf("r%d.a.-1.1", n.Add(1)), Agent: sim.AgentURL(0), Dir: place, Streams: []string{"stdout"}, Secrets: []string{secret}}
			if _, err := k.Finish(b.Context(), task); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
