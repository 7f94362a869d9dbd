package ingesttest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"millrace/ingest"
)

func testAppendRead(t *testing.T, h Harness) {
	recs := Records("r", 25)
	first := MustAppend(t, h.Log, recs[:10]...)
	second := MustAppend(t, h.Log, recs[10:]...)
	got := everything(t, h.parts(t))
	wantEqual(t, "number of records", len(got), len(recs))
	wantStored(t, got, recs[:10], first)
	wantStored(t, got, recs[10:], second)

	// Every field survives, but for the routing key, which is not stored.
	for _, p := range h.parts(t) {
		for _, f := range ReadAll(t, p, 0) {
			want := recs[0]
			for _, r := range recs {
				if r.Dedupe == f.Record.Dedupe {
					want = r
				}
			}
			want.RoutingKey = ""
			wantEqual(t, fmt.Sprint("record ", f.Offset), f.Record, want)
		}
	}
}

func testManyWriters(t *testing.T, h Harness) {
	const writers, calls = 16, 20
	var (
		wg       sync.WaitGroup
		receipts [writers][calls]ingest.Receipt
	)
	batch := func(w, c int) []ingest.Record { return Records(fmt.Sprintf("w%d-c%d-", w, c), 1+(w+c)%3) }
	for w := range writers {
		wg.Go(func() {
			for c := range calls {
				receipt, err := h.Log.Append(t.Context(), batch(w, c))
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				receipts[w][c] = receipt
			}
		})
	}
	wg.Wait()
	got := everything(t, h.parts(t))
	total := 0
	for w := range writers {
		for c := range calls {
			recs := batch(w, c)
			wantStored(t, got, recs, receipts[w][c])
			total += len(recs)
		}
	}
	wantEqual(t, "number of records", len(got), total)
}

func testOrder(t *testing.T, h Harness) {
	const keys, each = 5, 40
	for i := range each {
		var recs []ingest.Record
		for k := range keys {
			recs = append(recs, Record(fmt.Sprintf("k%d-%03d", k, i), fmt.Sprint("key", k), 80))
		}
		MustAppend(t, h.Log, recs...)
	}
	next := map[string]int{}
	home := map[string]int{}
	for _, p := range h.parts(t) {
		for _, f := range ReadAll(t, p, 0) {
			var key string
			var seq int
			if _, err := fmt.Sscanf(strings.Replace(string(f.Record.Payload[9:]), "-", " ", 1), "%s %d", &key, &seq); err != nil {
				t.Fatalf("payload %s: %v", f.Record.Payload, err)
			}
			if seq != next[key] {
				t.Errorf("key %s: got record %d, want %d", key, seq, next[key])
			}
			next[key]++
			if id, seen := home[key]; seen && id != p.ID() {
				t.Errorf("key %s: got it in partitions %d and %d, want one", key, id, p.ID())
			}
			home[key] = p.ID()
		}
	}
	wantEqual(t, "number of keys", len(next), keys)
}

func testAppendCopies(t *testing.T, h Harness) {
	rec := Record("kept", "k", 100)
	want := string(rec.Payload)
	MustAppend(t, h.Log, rec)
	for i := range rec.Payload {
		rec.Payload[i] = '!'
	}
	if _, ok := everything(t, h.parts(t))[want]; !ok {
		t.Errorf("got other bytes than were appended, want %s", want)
	}
}

func testAppendNothing(t *testing.T, h Harness) {
	receipt, err := h.Log.Append(t.Context(), nil)
	if err != nil || len(receipt) != 0 {
		t.Errorf("got %v, %v, want no receipt and no error", receipt, err)
	}
}

func testTooLarge(t *testing.T, h Harness) {
	good := Records("good", 2)
	bad := Record("bad", "k", 10)
	bad.Lane = "nowhere"
	_, err := h.Log.Append(t.Context(), []ingest.Record{good[0], bad})
	wantIs(t, "append a record without a lane", err, ingest.ErrBadLane)
	bad = Record("bad", "k", 10)
	bad.Payload = []byte("no object")
	_, err = h.Log.Append(t.Context(), []ingest.Record{good[0], bad})
	wantIs(t, "append a record that is no object", err, ingest.ErrBadRecord)
	if h.MaxRecord > 0 {
		_, err = h.Log.Append(t.Context(), []ingest.Record{good[0], Record("big", "k", h.MaxRecord)})
		wantIs(t, "append a large record", err, ingest.ErrTooLarge)
	}
	receipt := MustAppend(t, h.Log, good[1])
	got := everything(t, h.parts(t))
	wantStored(t, got, good[1:], receipt)
	wantEqual(t, "number of records", len(got), 1)
}

func testContext(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Log.Append(ctx, Records("never", 1))
	wantIs(t, "append with an ended context", err, context.Canceled)
	MustAppend(t, h.Log, Records("then", 1)...)
	for _, p := range h.parts(t) {
		_, _, err := p.Read(ctx, 0, 1, nil)
		wantIs(t, "read with an ended context", err, context.Canceled)
	}
}

func testFull(t *testing.T, h Harness) {
	if h.MaxBytes == 0 {
		return
	}
	var (
		stored int
		err    error
	)
	for i := 0; err == nil; i++ {
		if _, err = h.Log.Append(t.Context(), []ingest.Record{Record(fmt.Sprint("fill", i), "k", 1000)}); err == nil {
			stored++
		}
		if int64(stored)*1000 > h.MaxBytes {
			t.Fatalf("got %d records of 1,000 bytes into a log of %d", stored, h.MaxBytes)
		}
	}
	wantIs(t, "append to a full log", err, ingest.ErrFull)
	wantEqual(t, "records held", len(everything(t, h.parts(t))), stored)
	if pr, ok := h.Log.(ingest.Pressure); ok {
		if held, limit, _ := pr.Pressure(); limit != h.MaxBytes || held > limit || held < limit/2 {
			t.Errorf("got pressure %d of %d, want nearly %d of it", held, limit, h.MaxBytes)
		}
	}
	for _, p := range h.parts(t) {
		_, next, err := p.Bounds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		incs := p.Incarnations()
		if err := p.Trim(t.Context(), incs[len(incs)-1].Stream, next); err != nil {
			t.Fatal(err)
		}
	}
	MustAppend(t, h.Log, Record("again", "k", 1000))
}

func testClosed(t *testing.T, h Harness) {
	MustAppend(t, h.Log, Records("r", 3)...)
	parts := h.parts(t)
	waiting := make(chan error, 2)
	ended := make(chan error, 1)
	go func() { waiting <- parts[0].Wait(t.Context(), 1<<40) }() // ends with Close; received below
	started := make(chan struct{}, len(parts))
	go func() { // the same
		ended <- h.Log.Consume(t.Context(), func(ctx context.Context, _ ingest.Partition) error {
			started <- struct{}{}
			<-ctx.Done()
			return nil
		})
	}()
	<-started
	for range 2 {
		if err := h.Log.Close(); err != nil {
			t.Errorf("close: got %v, want nil", err)
		}
	}
	wantIs(t, "wait", <-waiting, ingest.ErrClosed)
	if err := <-ended; err != nil {
		t.Errorf("consume: got %v after Close, want nil", err)
	}
	_, err := h.Log.Append(t.Context(), Records("late", 1))
	wantIs(t, "append", err, ingest.ErrClosed)
	_, _, err = parts[0].Read(t.Context(), 0, 1, nil)
	wantIs(t, "read", err, ingest.ErrClosed)
	_, _, err = parts[0].Bounds(t.Context())
	wantIs(t, "bounds", err, ingest.ErrClosed)
	incs := parts[0].Incarnations()
	wantIs(t, "trim", parts[0].Trim(t.Context(), incs[0].Stream, 1), ingest.ErrClosed)
	wantIs(t, "save hint", parts[0].SaveHint(t.Context(), incs[0].Stream, ingest.ChainHint{Home: "h"}), ingest.ErrClosed)
}
