package main

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"millrace/batcher/batchertest"
	"millrace/batcher/verify"
	"millrace/ingest/wal"
)

// gate stands between millrace and S3. While it is shut, chain entries pass and objects of events do not.
type gate struct{ shut atomic.Bool }

func (g *gate) before(t *testing.T) func(v *batchertest.Versity) string {
	return func(v *batchertest.Versity) string {
		target, err := url.Parse(v.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // what was signed
		}}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if g.shut.Load() && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/events/") {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			pass.ServeHTTP(w, r)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
}

// TestLogBehindChain is row 13: what a disk leaves that acknowledged writes and did not store them. The chain claims records for objects that do
// not exist yet, and the log ends before them: it is an older copy. The next start finds that, says which records it misses and where to
// look, cuts nothing over them and uses none of their offsets again, while events are accepted. Then either the true log comes back and nothing was lost, or a
// person accepts the loss: it is named in the chain for ever, and what came since gets its rows.
func TestLogBehindChain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		out  func(b *behind)
	}{
		{"the true log comes back", (*behind).restore},
		{"the loss is accepted", (*behind).accept},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := leftBehind(t)
			b.found()
			tt.out(b)
			rows := readRows(t, b.x.objects())
			rows.check(t, b.acked)
		})
	}
}

const missed = 40

// behind is a server whose log lacks records that its chain has claimed.
type behind struct {
	x     *site
	s     *server
	acked map[string]bool // in the log as it is, or in objects
	lost  map[string]bool // in the true log only
	old   string          // the older copy of the log, and where the true one is kept
	kept  string
}

// leftBehind makes one: a copy of the log is taken, more is acknowledged and claimed, then the copy is put back.
func leftBehind(t *testing.T) *behind {
	t.Helper()
	g := &gate{}
	b := &behind{x: newSite(t, "embedded", g.before(t)), acked: map[string]bool{}, lost: map[string]bool{}}
	b.s = b.x.server("")
	log := filepath.Join(b.s.dir, "log")
	b.old, b.kept = filepath.Join(b.s.dir, "old"), filepath.Join(b.s.dir, "kept")
	b.s.start()
	b.s.send(b.acked, "before", 40)
	b.s.drained()
	must(t, "cp", "-a", log, b.old)
	g.shut.Store(true)
	if status, err := b.s.batch("missed", missed); err != nil || status != http.StatusOK { // one request, so one cut
		t.Fatalf("status %d, %v", status, err)
	}
	for i := range missed {
		b.lost[fmt.Sprintf("missed-%d", i)] = true
	}
	b.s.waitFor("claiming what it can not put", func() bool {
		var r verify.Report
		b.s.cliJSON(&r, "verify")
		return r.InFlight.Rows == missed
	})
	b.s.kill()
	g.shut.Store(false)
	rename(t, log, b.kept)
	rename(t, b.old, log)
	return b
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// found requires that the start says what is missing, and that nothing pretends that it is there.
func (b *behind) found() {
	s, t := b.s, b.s.t
	t.Helper()
	s.start()
	s.waitFor("saying which records are missing", func() bool {
		text := s.stderr.String()
		return strings.Contains(text, "claims records that this log does not hold") && strings.Contains(text, "40") && strings.Contains(text, "79")
	})
	s.waitFor("saying so in its metrics", func() bool { return s.metric("millrace_batch_stuck") == 1 })
	const next = "millrace log accept-loss --first 40 --last 79 --yes"
	if text := s.stderr.String(); !strings.Contains(text, next) {
		t.Errorf("the log does not say what to do, %s:\n%s", next, text)
	}
	var seen bytes.Buffer
	if s.dump(&seen, "/api/v1/status"); !strings.Contains(seen.String(), next) {
		t.Errorf("the status does not say what to do, %s:\n%s", next, &seen)
	}
	if text, _ := s.cli("verify"); !strings.Contains(text, "beyond_log") || !strings.Contains(text, "millrace log check") {
		t.Errorf("verify does not name the fault, or not the next step:\n%s", text)
	}
	for _, args := range [][]string{{"verify"}, {"verify", "--offline"}} {
		var r verify.Report
		text, code := s.cli(append(args, "-o", "json")...)
		decode(t, text, &r)
		if beyond := r.Totals[verify.BeyondLog]; code != exitFailed || r.Rows != 40 || beyond.Items != 1 || beyond.Rows != missed || len(r.Totals) != 1 {
			t.Errorf("%v: exit %d, %d rows and %v, want 40 and one batch of %d that is beyond the log", args, code, r.Rows, r.Totals, missed)
		}
	}
}

// restore puts the true log back.
func (b *behind) restore() {
	s, t := b.s, b.s.t
	t.Helper()
	s.kill()
	rename(t, filepath.Join(s.dir, "log"), b.old)
	rename(t, b.kept, filepath.Join(s.dir, "log"))
	s.start()
	maps.Copy(b.acked, b.lost)
	s.send(b.acked, "after", 40)
	s.drained()
	s.oneRunEach("count")
	s.clean()
}

// accept goes on without what is missing. Events that came before that are held, and get their rows afterwards.
func (b *behind) accept() {
	s, t := b.s, b.s.t
	t.Helper()
	s.send(b.acked, "meanwhile", 40)
	s.kill()
	text, code := s.cli("log", "check", "-o", "json")
	var found []wal.Damage
	decode(t, text, &found)
	if code != exitFailed || len(found) != 1 || found[0].First != 40 || found[0].Next != 40+missed {
		t.Errorf("log check: exit %d, want records 40 to 79:\n%s", code, text)
	}
	if _, code := s.cli("log", "accept-loss", "--first", "40", "--last", "78", "--yes"); code != exitNotFound {
		t.Errorf("log accept-loss of a part: exit %d, want %d", code, exitNotFound)
	}
	if text, code := s.cli("log", "accept-loss", "--first", "40", "--last", "79", "--yes"); code != exitOK || !strings.Contains(text, "40-79") {
		t.Errorf("log accept-loss: exit %d\n%s", code, text)
	}
	s.start()
	s.send(b.acked, "after", 40)
	s.waitFor("done with all that is left", func() bool {
		var r verify.Report
		text, code = s.cli("verify", "-o", "json")
		decode(t, text, &r)
		return !pending(&r) && r.Rows == int64(len(b.acked))
	})
	var r verify.Report
	decode(t, text, &r)
	if void := r.Totals[verify.Void]; code != exitFailed || len(r.Totals) != 1 || void.Items != 1 || void.Rows != missed {
		t.Errorf("verify: exit %d, %v, want one void batch of %d rows and nothing else", code, r.Totals, missed)
	}
	if got := s.metric("millrace_batch_stuck"); got != 0 {
		t.Errorf("millrace_batch_stuck is %v in the end", got)
	}
	if text, code := s.cli("log", "check"); code != exitOK {
		t.Errorf("log check afterwards: exit %d\n%s", code, text)
	}
}

// metric returns the sum of a metric's samples, -1 if there are none.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.console + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	sum, found := 0.0, false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name+" ") && !strings.HasPrefix(line, name+"{") {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			s.t.Fatalf("metric %s: %v", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return -1
	}
	return sum
}
