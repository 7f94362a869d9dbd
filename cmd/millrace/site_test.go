package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/batchertest"
	"millrace/batcher/verify"
	"millrace/scheduler"
)

// site is what a configuration file points at in production: an S3 server and a NATS server, each a process of its own, and DAG files.
type site struct {
	t      *testing.T
	s3     *batchertest.Versity
	bucket string
	nats   *natsServer // nil: the embedded bus
	config string
}

// countDAG says in its log what it was given.
const countDAG = `dag: count
on: [{id: every, batch: {source: web}}]
tasks:
  say: {run: 'echo "counted $MILLRACE_EVENT_COUNT"'}
`

// newSite starts the servers and writes the configuration; bus is "nats" or "embedded". endpoint, if any, stands between millrace and S3.
func newSite(t *testing.T, bus string, endpoint func(*batchertest.Versity) string) *site {
	t.Helper()
	x := &site{t: t, s3: batchertest.StartVersity(t)}
	x.bucket = x.s3.NewBucket(t)
	dir := t.TempDir()
	x.config = filepath.Join(dir, "millrace.yaml")
	url := x.s3.Endpoint
	if endpoint != nil {
		url = endpoint(x.s3)
	}
	busConfig := "{kind: embedded}"
	if bus == "nats" {
		x.nats = startNATS(t)
		busConfig = fmt.Sprintf("{kind: nats, nats: {url: %q}}", "nats://"+x.nats.addr)
	}
	for name, text := range map[string]string{
		"s3.key": x.s3.SecretKey,
		"millrace.yaml": fmt.Sprintf(`objects:
  kind: s3
  s3: {bucket: %s, region: us-east-1, endpoint: %q, path_style: true, access_key: %s, secret_key: "file:s3.key"}
bus: %s
batch: {max_age: 500ms, max_events: 2000}
sources:
  web: {kind: clickstream, write_keys: [dev]}
dags: dags
`, x.bucket, url, x.s3.AccessKey, busConfig),
		"dags/count.yaml": countDAG,
	} {
		write(t, filepath.Join(dir, name), text)
	}
	return x
}

// write makes a file, and its directory.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// server prepares a process of the site; without roles it has all.
func (x *site) server(roles string) *server {
	x.t.Helper()
	args := []string{"--config", x.config, "--log-level", "error"}
	if roles != "" {
		args = append(args, "--roles", roles)
	}
	s := newServer(x.t, "serve", args...)
	if roles == "schedule" {
		s.health = s.console
	}
	return s
}

// objects is where the bucket's objects are: versitygw keeps them as files.
func (x *site) objects() string { return filepath.Join(x.s3.Dir, x.bucket) }

// natsServer is an external NATS server with JetStream on disk.
type natsServer struct {
	t    *testing.T
	addr string
	dir  string
	cmd  *exec.Cmd
}

// natsBinary builds the server of the module that millrace embeds, once for all tests.
var natsBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-test-nats-")
	if err != nil {
		return "", err
	}
	natsIn = dir
	path := filepath.Join(dir, "nats-server")
	out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return path, nil
})

// natsIn is the directory of what natsBinary built, which TestMain removes.
var natsIn string

func startNATS(t *testing.T) *natsServer {
	t.Helper()
	n := &natsServer{t: t, addr: freeAddr(t), dir: t.TempDir()}
	t.Cleanup(n.kill)
	n.start()
	return n
}

func (n *natsServer) start() {
	n.t.Helper()
	bin, err := natsBinary()
	if err != nil {
		n.t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(n.addr)
	n.cmd = exec.Command(bin, "-a", host, "-p", port, "-js", "-sd", n.dir, "-l", os.DevNull)
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if c, err := net.Dial("tcp", n.addr); err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatal("nats-server: not ready after 20 s")
		}
	}
}

// kill ends the server as kill -9 does.
func (n *natsServer) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	n.cmd = nil
}

// streams are the streams that the server has on its disk.
func (n *natsServer) streams() []string {
	found, _ := filepath.Glob(filepath.Join(n.dir, "jetstream", "*", "streams", "*"))
	return found
}

// flood posts requests of 100 events each over 8 connections, all of which must be accepted, and adds the events' ids to acked.
func (s *server) flood(acked map[string]bool, prefix string, requests int) {
	s.t.Helper()
	const senders, each = 8, 100
	var wg sync.WaitGroup
	for i := range senders {
		wg.Add(1)
		go func() { // ends with its last request; waited for below
			defer wg.Done()
			for k := i; k < requests; k += senders {
				if status, err := s.batch(fmt.Sprintf("%s-%d", prefix, k), each); err != nil || status != http.StatusOK {
					s.t.Errorf("request %d: status %d, %v", k, status, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if s.t.Failed() {
		s.t.Fatalf("the server said:\n%s", s.stderr)
	}
	for k := range requests {
		for e := range each {
			acked[fmt.Sprintf("%s-%d-%d", prefix, k, e)] = true
		}
	}
}

// batches lists all batches that the server knows.
func (s *server) batches() []batcher.Batch {
	s.t.Helper()
	var out []batcher.Batch
	s.cliJSON(&out, "batches", "ls", "--limit", "10000")
	return out
}

// allBatches lists them when it has every batch of the chain: the list is the scheduler's, which hears of a batch after it is committed.
func (s *server) allBatches() (list []batcher.Batch) {
	s.t.Helper()
	s.waitFor("showing every batch", func() bool {
		list = s.batches()
		return int64(len(list)) == s.committed()
	})
	return list
}

// runs lists all runs of a DAG.
func (s *server) runs(dag string) []scheduler.Run {
	s.t.Helper()
	var out []scheduler.Run
	s.cliJSON(&out, "runs", "ls", "--dag", dag, "--limit", "10000")
	return out
}

// oneRunEach waits until every batch of source web that is in the chain has one run of a DAG that succeeded, and returns the runs. A second run of a
// batch is an error; runs of batches that do not exist are, too.
func (s *server) oneRunEach(dag string) []scheduler.Run {
	s.t.Helper()
	s.allBatches()
	var runs []scheduler.Run
	s.waitFor("done with a run of each batch", func() bool {
		runs = s.runs(dag) // before the batches: those of a run are there when it is
		of := map[string]int{}
		for _, b := range s.batches() {
			if b.Source == "web" {
				of[b.ID] = 0
			}
		}
		succeeded := 0
		for _, r := range runs {
			for _, id := range r.Batches {
				n, known := of[id]
				if !known || n > 0 {
					s.t.Fatalf("batch %s: known %v, has %d runs, and now %s", id, known, n, r.ID)
				}
				of[id]++
			}
			if r.State == scheduler.StateSuccess {
				succeeded++
			}
		}
		return len(of) > 0 && len(runs) == len(of) && succeeded == len(of)
	})
	return runs
}

// counted sums what the runs of countDAG say in their logs, which must be what each run was given.
func (s *server) counted(runs []scheduler.Run) int64 {
	s.t.Helper()
	var sum int64
	for _, r := range runs {
		text, code := s.cli("runs", "logs", r.ID)
		if want := fmt.Sprintf("counted %d\n", r.Events); code != exitOK || !strings.Contains(text, want) {
			s.t.Errorf("log of run %s: exit %d, got %q, want %q in it", r.ID, code, text, want)
		}
		sum += r.Events
	}
	return sum
}

// committed counts the batches that the chain has: every process that reads objects can, the list of batches is the scheduler's.
func (s *server) committed() int64 {
	s.t.Helper()
	var r verify.Report
	s.cliJSON(&r, "verify")
	return r.Batches
}

// clean requires that verify finds nothing, through the server and from the configuration alone.
func (s *server) clean() {
	s.t.Helper()
	for _, args := range [][]string{{"verify"}, {"verify", "--offline"}} {
		if out, code := s.cli(args...); code != exitOK {
			s.t.Errorf("%s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
	}
}

// TestEveryEvent is the way of an event with everything embedded; with objects in a real S3 server and triggers through an external NATS server; and
// with the scheduler in a process of its own. One event by hand and 100,000 in bulk become rows, batches and runs whose logs count them, each
// once. Then, roles apart, the scheduler is killed, NATS is killed and its directory is emptied while there are triggers in it that nobody took
// (row 43): every batch has its run all the same.
func TestEveryEvent(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"count.yaml": countDAG}))
		s.env = append(s.env, "MILLRACE_BATCH__MAX_EVENTS=2000")
		s.start()
		throughAll(s, s, filepath.Join(s.dir, "objects"))
	})
	t.Run("S3 and NATS", func(t *testing.T) {
		t.Parallel()
		x := newSite(t, "nats", nil)
		s := x.server("")
		s.start()
		throughAll(s, s, x.objects())
		x.usedNATS()
	})
	t.Run("roles apart", func(t *testing.T) {
		t.Parallel()
		x := newSite(t, "nats", nil)
		front, back := x.server("ingest,batch"), x.server("schedule")
		back.start()
		front.start()
		acked := throughAll(front, back, x.objects())
		x.usedNATS()
		if text := front.declined(exitFailed, "batches", "ls"); !strings.Contains(text, "role schedule") || !strings.Contains(text, "--server") {
			t.Errorf("batches ls, asked of a process without them, does not say who has them and what to do:\n%s", text)
		}
		x.wipedBetween(front, back, acked)
	})
}

// throughAll sends events to front and follows them on back, which may be the same process.
func throughAll(front, back *server, objects string) map[string]bool {
	t := front.t
	t.Helper()
	const requests = 1000
	acked := map[string]bool{}
	begin := time.Now()
	front.send(acked, "by-hand", 1)
	front.flood(acked, "bulk", requests)
	accepted := time.Since(begin)
	front.drained()
	runs := back.oneRunEach("count")
	took := time.Since(begin)
	if got := back.counted(runs); got != int64(len(acked)) {
		t.Errorf("the runs' logs count %d events, %d were acknowledged", got, len(acked))
	}
	back.readsBatch()
	if text, code := back.cli("where", "by-hand-0"); code != exitOK || !strings.Contains(text, "batch") {
		t.Errorf("where: exit %d\n%s", code, text)
	}
	front.clean()
	if out, code := back.cli("verify"); code != exitOK {
		t.Errorf("verify by the process with the runs: exit %d\n%s", code, out)
	}
	r := readRows(t, objects)
	r.check(t, acked)
	t.Logf("measured: %d events accepted in %v, in %d batches and as many runs after %v", len(acked), accepted.Round(time.Millisecond),
		len(runs), took.Round(time.Millisecond))
	return acked
}

// usedNATS requires that triggers went through the external server.
func (x *site) usedNATS() {
	x.t.Helper()
	if len(x.nats.streams()) == 0 {
		x.t.Error("the NATS server has no stream: triggers went another way")
	}
}

// readsBatch reads one batch as a person does, and requires the rows that the list promises.
func (s *server) readsBatch() {
	s.t.Helper()
	b := s.batches()[0]
	text, code := s.cli("batches", "cat", b.ID)
	if got := int64(strings.Count(text, "\n")); code != exitOK || got != b.Events {
		s.t.Errorf("batches cat %s: exit %d, %d rows, want %d", b.ID, code, got, b.Events)
	}
	first, _, _ := strings.Cut(text, "\n")
	if !json.Valid([]byte(first)) {
		s.t.Errorf("batches cat %s: the first row is not JSON: %s", b.ID, first)
	}
}

func (x *site) wipedBetween(front, back *server, acked map[string]bool) {
	t := x.t
	t.Helper()
	back.kill()
	before := front.committed()
	front.flood(acked, "unseen", 200)
	front.drained()
	unseen := front.committed() - before
	x.nats.kill()
	remove(t, filepath.Join(x.nats.dir, "jetstream"))
	x.nats.start()
	front.flood(acked, "meanwhile", 10)
	back.start()
	front.flood(acked, "seen", 10)
	front.drained()
	runs := back.oneRunEach("count")
	if got := back.counted(runs); got != int64(len(acked)) {
		t.Errorf("the runs' logs count %d events, %d were acknowledged", got, len(acked))
	}
	front.clean()
	r := readRows(t, x.objects())
	r.check(t, acked)
	t.Logf("measured: JetStream wiped with %d triggers in it, %d batches and as many runs in the end", unseen, len(runs))
	if unseen == 0 {
		t.Error("nothing was announced while the scheduler was away: the test has shown nothing")
	}
}
