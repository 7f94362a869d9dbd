package ingesttest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"millrace/ingest"
)

func testReadPieces(t *testing.T, h Harness) {
	MustAppend(t, h.Log, Records("r", 50)...)
	for _, p := range h.parts(t) {
		all := ReadAll(t, p, 0)
		for _, size := range []int{1, 300, 1000} {
			got, err := Scan(t.Context(), p, 0, size)
			if err != nil {
				t.Fatalf("read in pieces of %d bytes: %v", size, err)
			}
			wantEqual(t, "records", got, all)
		}
		if recs, _, err := p.Read(t.Context(), 0, 1, nil); err != nil || len(all) > 0 && len(recs) != 1 {
			t.Errorf("got %d records, %v for one byte, want 1", len(recs), err)
		}
		for i, f := range all { // From any offset, in any order.
			f = all[(i*7)%len(all)]
			recs, _, err := p.Read(t.Context(), f.Offset, 1, nil)
			if err != nil || recs[0].Offset != f.Offset {
				t.Fatalf("read from %d: got %v, %v", f.Offset, recs, err)
			}
		}
		_, next, err := p.Bounds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		recs, at, err := p.Read(t.Context(), next, 1, nil)
		if err != nil || len(recs) != 0 || at != next {
			t.Errorf("read at the high watermark %d: got %d records, next %d, %v, want none", next, len(recs), at, err)
		}
	}
}

func testWait(t *testing.T, h Harness) {
	p := h.parts(t)[0]
	_, next, err := p.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantIs(t, "wait with an ended context", p.Wait(ctx, next), context.Canceled)

	woken := make(chan error, 1)
	go func() { woken <- p.Wait(t.Context(), next) }() // ends with the append below; received there
	for n := next; n == next; {                        // Until a record fell into this partition.
		MustAppend(t, h.Log, Records("r", 5)...)
		if _, n, err = p.Bounds(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-woken; err != nil {
		t.Errorf("wait: got %v, want nil", err)
	}
	if err := p.Wait(t.Context(), next); err != nil {
		t.Errorf("wait below the high watermark: got %v, want nil at once", err)
	}
}

func testConsume(t *testing.T, h Harness) {
	broken := errors.New("broken")
	err := h.Log.Consume(t.Context(), func(ctx context.Context, p ingest.Partition) error {
		if p.ID() == 0 {
			return broken
		}
		<-ctx.Done() // The others are ended.
		return ctx.Err()
	})
	wantIs(t, "consume with work that fails", err, broken)

	ctx, cancel := context.WithCancel(t.Context())
	parts := max(1, h.Partitions)
	begun := make(chan int, 2*parts)
	ended := make(chan error, 1)
	go func() { // ends with ctx; waited for below
		ended <- h.Log.Consume(ctx, func(ctx context.Context, p ingest.Partition) error {
			begun <- p.ID()
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	var ids []int
	for range parts {
		ids = append(ids, <-begun)
	}
	slices.Sort(ids)
	for i, id := range ids {
		wantEqual(t, "partition", id, i)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("consume: got %v after its context ended, want nil", err)
	}
	wantEqual(t, "further calls of work", len(begun), 0)
}

func testTrim(t *testing.T, h Harness) {
	MustAppend(t, h.Log, Records("a", 60)...)
	for _, p := range h.parts(t) {
		all := ReadAll(t, p, 0)
		if len(all) == 0 {
			continue
		}
		cut := all[len(all)/2].Offset
		stream := streamOf(p, cut)
		for _, low := range []int64{cut, cut, 0} { // Again, and back: nothing changes.
			if err := p.Trim(t.Context(), stream, low); err != nil {
				t.Fatalf("trim to %d: %v", low, err)
			}
			wantEqual(t, "records that are left", ReadAll(t, p, cut), all[len(all)/2:])
		}
		low, _, err := p.Bounds(t.Context())
		if err != nil || low > cut {
			t.Errorf("got low %d, %v, want at most %d", low, err, cut)
		}
		if low > all[0].Offset {
			_, _, err := p.Read(t.Context(), all[0].Offset, 1, nil)
			wantIs(t, "read below low", err, ingest.ErrTrimmed)
		}
		other := ingest.Stream{Log: "another", Incarnation: "x", Partition: p.ID()}
		if err := p.Trim(t.Context(), other, cut); err == nil {
			t.Error("trim a stream of another log: got nil, want an error")
		}
		if got := len(p.Incarnations()); got != 1 {
			t.Errorf("got %d incarnations after trimming the live one, want 1", got)
		}
	}
}

func testHints(t *testing.T, h Harness) {
	MustAppend(t, h.Log, Records("r", 40)...)
	p := h.parts(t)[0]
	stream := p.Incarnations()[0].Stream
	check := func(p ingest.Partition, want ingest.ChainHint) {
		t.Helper()
		got, err := p.Hint(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "hint", got, want)
	}
	check(p, ingest.ChainHint{})
	for _, hint := range []ingest.ChainHint{{Home: "s3://b", Seq: 1}, {Home: "s3://b", Seq: 7}} {
		if err := p.SaveHint(t.Context(), stream, hint); err != nil {
			t.Fatal(err)
		}
		check(p, hint)
	}
	other := stream
	other.Incarnation = "unknown"
	if got, err := p.Hint(t.Context(), other); err != nil || got != (ingest.ChainHint{}) {
		t.Errorf("got hint %v, %v of a stream that is not known, want none", got, err)
	}
	if h.Reopen == nil || len(ReadAll(t, p, 0)) == 0 {
		return
	}
	l := h.Reopen(t)
	defer l.Close()
	check(Partitions(t, l, max(1, h.Partitions))[0], ingest.ChainHint{Home: "s3://b", Seq: 7})
}

func testReopen(t *testing.T, h Harness) {
	if h.Reopen != nil {
		reopened(t, h, h.Reopen)
	}
}

func testCrash(t *testing.T, h Harness) {
	if h.Crash != nil {
		reopened(t, h, h.Crash)
	}
}

// reopened checks that a log goes on behind what it held, under another name.
func reopened(t *testing.T, h Harness, reopen func(t *testing.T) Log) {
	t.Helper()
	old := Records("old", 30)
	receipt := MustAppend(t, h.Log, old...)
	before := map[int]ingest.Incarnation{}
	for _, p := range h.parts(t) {
		incs := p.Incarnations()
		if len(incs) != 1 || !incs[0].Live() {
			t.Fatalf("got incarnations %v of a new log, want one that is live", incs)
		}
		_, next, err := p.Bounds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before[p.ID()] = ingest.Incarnation{Stream: incs[0].Stream, First: incs[0].First, Next: next}
	}
	l := reopen(t)
	defer l.Close()
	young := Records("young", 30)
	second := MustAppend(t, l, young...)
	parts := Partitions(t, l, max(1, h.Partitions))
	got := everything(t, parts)
	wantStored(t, got, old, receipt)
	wantStored(t, got, young, second)
	for _, p := range parts {
		was := before[p.ID()]
		incs := p.Incarnations()
		live := incs[len(incs)-1]
		if live.Stream == was.Stream || !live.Live() || live.First != was.Next {
			t.Errorf("got live incarnation %+v after %+v, want another one that begins at its end", live, was)
		}
		if was.Next == was.First {
			continue
		}
		wantEqual(t, "the old incarnation", incs[0], was)
		if err := p.Trim(t.Context(), was.Stream, was.Next); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "incarnations after trimming the old one", p.Incarnations(), []ingest.Incarnation{live})
		if low, _, err := p.Bounds(t.Context()); err != nil || low < was.Next {
			t.Errorf("got low %d, %v, want the old incarnation gone", low, err)
		}
		if err := p.Trim(t.Context(), was.Stream, was.Next); err != nil {
			t.Errorf("trim a stream that is forgotten: got %v, want nil", err)
		}
	}
}

func testEmptyIncarnations(t *testing.T, h Harness) {
	if h.Reopen == nil || h.Crash == nil {
		return
	}
	first := h.parts(t)[0].Incarnations()
	l := h.Reopen(t)
	second := Partitions(t, l, max(1, h.Partitions))[0].Incarnations()
	l = h.Crash(t)
	defer l.Close()
	third := Partitions(t, l, max(1, h.Partitions))[0].Incarnations()
	for _, incs := range [][]ingest.Incarnation{first, second, third} {
		if len(incs) != 1 || !incs[0].Live() || incs[0].First != 0 {
			t.Errorf("got incarnations %v of an empty log, want one that is live, from 0", incs)
		}
	}
	if first[0].Stream == second[0].Stream || second[0].Stream == third[0].Stream {
		t.Errorf("got streams %v, %v, %v, want all different", first[0].Stream, second[0].Stream, third[0].Stream)
	}
}
