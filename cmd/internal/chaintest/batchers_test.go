//go:build linux

package chaintest

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/batchertest"
	"millrace/batcher/chain"
	"millrace/ingest"
	"millrace/ingest/memlog"
	"millrace/ingest/wal"
)

var (
	seed  = flag.Uint64("seed", 1, "of the batchers' driver and writer")
	times = flag.Int("times", 2, "how often each deed is done at each step")
)

// testLog is a log with its one partition. reopen, if there is one, begins a new incarnation.
type testLog struct {
	ingest.Appender
	part   ingest.Partition
	reopen func()
}

func walLog(t *testing.T) testLog {
	l, err := wal.Open(t.TempDir(), wal.Options{SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return testLog{l, l, nil}
}

// memLog deletes exactly what it is told to, and is opened anew once, so that the batchers drain one chain and go on in the next.
func memLog(*testing.T) testLog {
	l := memlog.New(memlog.Options{ID: "chaintest"})
	return testLog{l, l.Partition(0), func() { l.Crash(nil) }}
}

// TestBatchers: see the package comment.
func TestBatchers(t *testing.T) {
	t.Parallel()
	server := batchertest.StartVersity(t)
	t.Run("three over a WAL", func(t *testing.T) {
		t.Parallel()
		batchers(t, server, 3, walLog(t))
	})
	t.Run("four over a log in memory", func(t *testing.T) {
		t.Parallel()
		batchers(t, server, 4, memLog(t))
	})
}

func batchers(t *testing.T, server *batchertest.Versity, n int, log testLog) {
	began := time.Now()
	d := newDriver(t, n, *times, *seed)
	defer d.stop() // also if something fails
	addr := (&Lender{part: log.part, driver: d}).lend(t)
	bucket := server.NewBucket(t)
	d.task = func(slot int) batcherTask {
		return batcherTask{
			Log: addr, Endpoint: server.Endpoint, Bucket: bucket, AccessKey: server.AccessKey, SecretKey: server.SecretKey,
			Policy: batcher.Policy{
				MaxAge: time.Duration(100+50*slot) * time.Millisecond, MaxEvents: int64(20 + 10*slot), Compression: []string{"gzip", "zstd"}[slot%2],
			},
		}
	}
	reader := d.task(0)
	store, err := reader.store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.store = store
	w := newWriter(log, *seed)
	writing, enough := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer enough()
	writers.Go(func() { w.run(writing, t) })
	if log.reopen != nil {
		writers.Go(func() { // ends when half of the orders are done, or with the test
			half := len(d.left) * *times / 2
			for !d.until(time.Minute, func() bool { return d.failed || d.ending || total(d.did) >= half }) {
			}
			log.reopen()
		})
	}
	d.run(time.Minute)
	worked := time.Since(began)
	enough()
	writers.Wait()
	if !t.Failed() {
		drain(t, chain.New(store, chain.Options{}), log.part)
	}
	d.stop()
	d.tell()
	if !t.Failed() {
		newChecker(t, store, w).run(log.part, d.announced)
	}
	t.Logf("seed %d: %v with deeds, %v in all", *seed, worked.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))
}

// drain waits until the live chain covers the whole log, and says that all its objects exist.
func drain(t *testing.T, chains *chain.Reader, part ingest.Partition) {
	t.Helper()
	const patience = 3 * time.Minute
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	incs := part.Incarnations()
	live := incs[len(incs)-1].Stream
	_, end, err := part.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for hint := int64(0); ; {
		tail, err := chains.Tail(t.Context(), live, hint)
		if err == nil && tail.Low == end && len(part.Incarnations()) == 1 && closes(t, chains, &tail) {
			return
		}
		hint = tail.Seq
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal(fmt.Errorf("the chain is not closed at %d, %v after the last record: tail %d, low %d, done %d, %v", end, patience, tail.Seq, tail.Low, tail.Done, err))
		}
	}
}

// closes reports whether the entries after done of tail, tail among them, have no cuts. Not every entry without cuts is such a tail: while
// objects are slow, one is written that raises done over some of the entries only.
func closes(t *testing.T, chains *chain.Reader, tail *batcher.Entry) bool {
	t.Helper()
	for seq := tail.Done + 1; seq <= tail.Seq; seq++ {
		e, err := chains.Entry(t.Context(), tail.Stream, seq)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Cuts) > 0 {
			return false
		}
	}
	return true
}
