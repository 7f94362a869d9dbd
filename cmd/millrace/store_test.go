package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/s3store"
	"millrace/batcher/verify"
	"millrace/ingest"
)

// TestStoreAway is rows 25 and 30: the S3 server is killed in the middle of what it does, for a while, several times, under load. Events are
// accepted all the time, also by a millrace that is killed and started meanwhile, and the log holds what is not in objects; when the server is back
// everything gets there, each row once and in the order of the log, and no object is cut short.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	const outages = 4
	x := newSite(t, "embedded", nil)
	s := x.server("")
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=100ms")
	s.start()
	senders := sendTo(s, 4)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	during := 0
	for range outages {
		<-after(t, 0.5+rng.Float64())
		x.s3.Stop(t)
		before := senders.count()
		<-after(t, 1.5)
		s.waitFor("accepting while the store is away", func() bool { return senders.count() > before })
		during += senders.count() - before
		if !s.comesUp() {
			t.Error("not ready while the store is away, though the log has room")
		}
		x.s3.Restart(t)
	}
	x.s3.Stop(t)
	s.kill()
	s.start() // an outage of the store must not become one of the senders
	before := senders.count()
	s.waitFor("accepting after a start without the store", func() bool { return senders.count() > before })
	x.s3.Restart(t)
	acked := senders.stop()
	begin := time.Now()
	s.drained()
	caughtUp := time.Since(begin)
	s.oneRunEach("count")
	s.clean()
	s.inOrder()
	r := readRows(t, x.objects())
	r.check(t, acked)
	t.Logf("measured: %d outages, %d of %d events accepted meanwhile, %d rows, caught up in %v (seed %d)",
		outages, during, len(acked), len(r.byPlace), caughtUp.Round(time.Millisecond), seed)
}

// count is how many events were acknowledged until now.
func (x *senders) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.acked)
}

// inOrder requires that the batches of a lane, in the order of their chain, have rising offsets that do not overlap.
func (s *server) inOrder() {
	s.t.Helper()
	list := s.allBatches()
	slices.SortFunc(list, func(a, b batcher.Batch) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Cut, b.Cut)) })
	next := map[string]int64{}
	for _, b := range list {
		lane := b.Stream.String() + " " + string(b.Lane)
		if b.First < next[lane] {
			s.t.Errorf("batch %s of entry %d begins at %d, the one before it ended at %d", b.ID, b.Seq, b.First, next[lane]-1)
		}
		next[lane] = b.Last + 1
	}
}

// TestVerifyNames is row 35: a person deletes an object and puts something else in the place of another. verify names both, with how many rows
// are concerned, and exits with 1, asked through the server and from the configuration alone, on a directory and on S3. What was not touched is
// not blamed, and events are accepted as before.
func TestVerifyNames(t *testing.T) {
	t.Parallel()
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, "dev", "--log-level", "error")
		objects := filepath.Join(s.dir, "objects")
		namesDamage(s, objects, func(key string, body []byte) { write(t, filepath.Join(objects, key), string(body)) })
	})
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		x := newSite(t, "embedded", nil)
		objects := x.objects()
		namesDamage(x.server(""), objects, func(key string, body []byte) {
			store, err := s3store.Open(t.Context(), s3store.Options{
				Bucket: x.bucket, Region: "us-east-1", Endpoint: x.s3.Endpoint, PathStyle: true,
				AccessKey: ingest.Secret(x.s3.AccessKey), SecretKey: ingest.Secret(x.s3.SecretKey),
			})
			if err == nil {
				err = os.Remove(filepath.Join(objects, key))
			}
			if err == nil {
				err = store.PutIfAbsent(t.Context(), key, body, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	})
}

// TestVerifyFlippedBit: a bit flips on the disk of the store. S3 refuses to pass such an object off as whole, and a directory does not know: in
// both verify names it and checks all others, and whoever wants its rows is told why there are none, where the store knows.
func TestVerifyFlippedBit(t *testing.T) {
	t.Parallel()
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, "dev", "--log-level", "error")
		flipped(s, filepath.Join(s.dir, "objects"))
	})
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		x := newSite(t, "embedded", nil)
		s := x.server("")
		key := flipped(s, x.objects())
		for _, b := range s.batches() {
			if b.Key != key {
				continue
			}
			if text := s.declined(exitFailed, "batches", "cat", b.ID); !strings.Contains(text, "millrace verify") {
				t.Errorf("batches cat does not say what to do:\n%s", text)
			}
		}
	})
}

// flipped makes two batches, damages the first and returns its key.
func flipped(s *server, objects string) (key string) {
	t := s.t
	t.Helper()
	s.start()
	acked := map[string]bool{}
	for i := range 2 {
		s.send(acked, fmt.Sprintf("e%d", i), 10)
		s.drained()
	}
	list := s.allBatches()
	key = list[len(list)-1].Key
	path := filepath.Join(objects, key)
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)-1] ^= 1
	if err := os.WriteFile(path, body, 0o600); err != nil { // the same file, so that versitygw keeps what it knows of it
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify"}, {"verify", "--offline"}} {
		var r verify.Report
		text, code := s.cli(append(args, "-o", "json")...)
		decode(t, text, &r)
		if code != exitFailed || r.Batches != int64(len(list)) || r.Totals[verify.Damaged].Items == 0 {
			t.Errorf("%v: exit %d, %d batches of %d, %v", args, code, r.Batches, len(list), r.Totals)
		}
		for _, p := range r.Problems {
			if p.Key != key {
				t.Errorf("%v: blames %s: %s", args, p.Key, p.What)
			}
		}
	}
	return key
}

// declined requires that a client command ends with a code, and returns what it says to people.
func (s *server) declined(code int, args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--data-dir", s.dir, "--server", "http://"+s.console)
	if got := run(s.t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &errs}); got != code {
		s.t.Errorf("millrace %s: exit %d, want %d: %s", strings.Join(args, " "), got, code, &errs)
	}
	return errs.String()
}

// namesDamage makes four batches and damages the two in the middle.
func namesDamage(s *server, objects string, replace func(key string, body []byte)) {
	t := s.t
	t.Helper()
	s.start()
	acked := map[string]bool{}
	for i := range 4 {
		if status, err := s.batch(fmt.Sprintf("e%d", i), 10); err != nil || status != http.StatusOK { // one request, so one batch
			t.Fatalf("status %d, %v", status, err)
		}
		s.drained()
	}
	s.clean()
	var keys []string // newest first
	for _, b := range s.allBatches() {
		keys = append(keys, b.Key)
	}
	if len(keys) < 4 {
		t.Fatalf("%d batches, want 4", len(keys))
	}
	deleted, replaced, other := keys[1], keys[2], keys[3]
	if err := os.Remove(filepath.Join(objects, deleted)); err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(filepath.Join(objects, other))
	if err != nil {
		t.Fatal(err)
	}
	replace(replaced, body)
	for _, args := range [][]string{{"verify"}, {"verify", "--offline"}} {
		what := strings.Join(args, " ")
		text, code := s.cli(args...)
		if code != exitFailed || !strings.Contains(text, "FAULTS") {
			t.Errorf("%s: exit %d\n%s", what, code, text)
		}
		for key, want := range map[string]bool{deleted: true, replaced: true, other: false, keys[0]: false} {
			if strings.Contains(text, key) != want {
				t.Errorf("%s names %s: want %v in:\n%s", what, key, want, text)
			}
		}
		text, _ = s.cli(append(args, "-o", "json")...)
		var r verify.Report
		decode(t, text, &r)
		if missing, lost := r.Totals[verify.Missing], r.Totals[verify.Lost]; missing.Items != 1 || missing.Rows != 10 || lost.Rows != 10 {
			t.Errorf("%s: missing %+v, lost %+v, want 10 rows each:\n%s", what, missing, lost, text)
		}
	}
	s.send(acked, "afterwards", 1)
}
