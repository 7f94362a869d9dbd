//go:build linux

package chaintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/memstore"
	"millrace/batcher/seal"
	"millrace/batcher/verify"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// lanesTask is to cut Rounds records of each of Lanes lanes, which come in turn, with the defaults of the batcher.
type lanesTask struct {
	Lanes, Rounds int
}

// lanesResult is what the child of TestOpenLanes has seen.
type lanesResult struct {
	// OpenLanes is the most that were open at the same time, Held the most that the worker says its rows took.
	OpenLanes int
	Held      int64
	// PeakRSS is VmHWM, in bytes, when the last row had come out, and StartRSS before the worker began.
	PeakRSS, StartRSS int64
	// Took is from the first record to the last row. RawBytes is what the records have in the log, Stored what the store has.
	Took             time.Duration
	RawBytes, Stored int64
	// Chain is what the entries take of Stored, Entries their number.
	Chain   int64
	Entries int
	// Reasons counts cuts. Rows and Problems are of package verify.
	Reasons  map[batcher.Reason]int
	Rows     int64
	Problems map[verify.Kind]verify.Count
}

// The bound of issue 3: 10,000 open lanes in less than 3 GiB.
const (
	manyLanes   = 10_000
	manyRounds  = 20
	maxLanesRSS = 3 << 30
)

// TestOpenLanes feeds one worker, in a process of its own, records of 10,000 lanes in turn: first one of each, until all are open, then more
// than its memory may hold. No lane comes of age, so that nothing but the memory decides what is cut, however fast the machine is; then the
// log is opened anew, and what is left of its first incarnation is drained. Log and store are in memory too, and count. It runs alone, before
// the parallel tests.
func TestOpenLanes(t *testing.T) {
	cmd, err := command(task{Lanes: &lanesTask{Lanes: manyLanes, Rounds: manyRounds}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var r lanesResult
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("peak %d MiB (%d MiB before the worker) with %d lanes open, of which rows %d MiB; %d rows (%d MiB in the log, %d MiB in the store, of which %d entries %d MiB) in %v, cuts %v",
		r.PeakRSS>>20, r.StartRSS>>20, r.OpenLanes, r.Held>>20, r.Rows, r.RawBytes>>20, r.Stored>>20, r.Entries, r.Chain>>20, r.Took.Round(100*time.Millisecond), r.Reasons)
	if r.OpenLanes != manyLanes {
		t.Errorf("%d lanes were open at the same time, want %d", r.OpenLanes, manyLanes)
	}
	if r.PeakRSS > maxLanesRSS {
		t.Errorf("peak of memory is %d MiB, want at most %d", r.PeakRSS>>20, maxLanesRSS>>20)
	}
	if r.Rows != manyLanes*manyRounds || len(r.Problems) > 0 {
		t.Errorf("%d rows, problems %v; want %d and none", r.Rows, r.Problems, manyLanes*manyRounds)
	}
	if r.Reasons[batcher.ReasonMemory] == 0 {
		t.Errorf("no batch was cut because memory was full, so that the bound was not met: %v", r.Reasons)
	}
}

// run is the child of TestOpenLanes; it prints a lanesResult.
func (l *lanesTask) run(ctx context.Context) error {
	log := memlog.New(memlog.Options{})
	store := memstore.New(memstore.Options{})
	rows := rowCount{all: int64(l.Lanes) * int64(l.Rounds), done: make(chan struct{})}
	w, err := seal.New(store, func(string) batcher.Policy { return batcher.Policy{MaxAge: time.Hour} }, &rows, seal.Options{})
	if err != nil {
		return err
	}
	var r lanesResult
	if r.StartRSS, err = peakRSS(); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- w.Work(working, log.Partition(0)) }() // ended by stop, and waited for below
	if err := l.feed(ctx, log, w, &r); err != nil {
		return err
	}
	log.Crash(nil) // loses nothing: all is durable
	if err := watch(ctx, w, &r, func() bool { return closed(rows.done) }); err != nil {
		return err
	}
	r.Took = time.Since(began)
	if r.PeakRSS, err = peakRSS(); err != nil {
		return err
	}
	stop()
	if err := <-ended; err != nil {
		return err
	}
	if err := l.look(ctx, log.Partition(0), store, &r); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// feed appends one record of each lane, waits until all are open, and appends the rest.
func (l *lanesTask) feed(ctx context.Context, log ingest.Appender, w *seal.Worker, r *lanesResult) error {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range l.Rounds {
		var recs []ingest.Record
		for n := range l.Lanes {
			rec := laneRecord(rng, round, n)
			r.RawBytes += int64(rec.BinarySize())
			if recs = append(recs, rec); len(recs) == 1000 || n == l.Lanes-1 {
				if _, err := log.Append(ctx, recs); err != nil {
					return err
				}
				recs = recs[:0]
			}
		}
		if round == 0 {
			if err := watch(ctx, w, r, func() bool { return r.OpenLanes >= l.Lanes }); err != nil {
				return err
			}
		}
	}
	return nil
}

// laneRecord is a track of about 500 bytes: 50 sources with 200 lanes each, as many as max_lanes permits.
func laneRecord(rng *rand.Rand, round, n int) ingest.Record {
	source := fmt.Sprintf("shop-%d", n/200)
	id := fmt.Sprintf("ajs-%d-%d-%016x", round, n, rng.Uint64())
	return ingest.Record{
		Lane: ingest.EventLane("default", source, ingest.KeyValue{Key: "city", Value: fmt.Sprint("city-", n%200)}), Type: "track",
		Dedupe: ingest.DedupeID(source, id), ReceivedAt: time.Now().UTC(), RoutingKey: source,
		Payload: fmt.Appendf(nil, `{"anonymousId":"%016x","context":{"ip":"203.0.113.%d","library":{"name":"analytics.js","version":"4.1.0"},`+
			`"locale":"de-DE","page":{"path":"/products/%d","title":"Product %d","url":"https://shop.example/products/%d"},`+
			`"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},"event":"Product Viewed","messageId":%q,`+
			`"properties":{"price":%d.%02d,"sku":"sku-%d"},"type":"track"}`,
			rng.Uint64(), n%250, n%900, n%900, n%900, id, n%300, n%100, n%5000),
	}
}

// watch keeps the peaks of what the worker says of itself until ok, or for five minutes.
func watch(ctx context.Context, w *seal.Worker, r *lanesResult, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status := w.Status()
		for _, s := range status {
			r.OpenLanes, r.Held = max(r.OpenLanes, s.Lanes), max(r.Held, s.Held)
		}
		if ok() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the worker: %w: %+v", ctx.Err(), status)
		}
	}
}

// look counts what came out.
func (l *lanesTask) look(ctx context.Context, log ingest.Partition, store *memstore.Store, r *lanesResult) error {
	chains := chain.New(store, chain.Options{})
	report, err := verify.Run(ctx, chains, store, verify.Options{Log: []ingest.Partition{log}})
	if err != nil {
		return err
	}
	r.Rows, r.Problems, r.Reasons = report.Rows, report.Totals, map[batcher.Reason]int{}
	for _, key := range store.Keys() {
		body := store.Body(key)
		r.Stored += int64(len(body))
		if !bytes.HasPrefix([]byte(key), []byte(batcher.PrefixChain)) {
			continue
		}
		r.Chain += int64(len(body))
		r.Entries++
		e, err := batcher.UnmarshalEntry(body)
		if err != nil {
			return err
		}
		for i := range e.Cuts {
			r.Reasons[e.Cuts[i].Reason]++
		}
	}
	return nil
}

// rowCount closes done when all rows were announced.
type rowCount struct {
	all  int64
	seen atomic.Int64
	done chan struct{}
}

// Announce implements [batcher.Announcer].
func (c *rowCount) Announce(_ context.Context, b batcher.Batch) {
	if c.seen.Add(b.Events) == c.all {
		close(c.done)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

var vmHWM = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// peakRSS is the most memory that this process has had resident.
func peakRSS() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	m := vmHWM.FindSubmatch(status)
	if m == nil {
		return 0, errors.New("no VmHWM in /proc/self/status")
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kib << 10, err
}
