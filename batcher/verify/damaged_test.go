package verify

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
)

// flipped is a store that checks checksums, as S3 does, and has one object with a wrong one.
type flipped struct {
	batcher.ObjectStore
	key string
}

func (s flipped) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	body, info, err := s.ObjectStore.Get(ctx, key)
	if key == s.key && err == nil {
		body = append([]byte{}, body...)
		body[len(body)-1] ^= 1
		err = fmt.Errorf("get %q: %w", key, batcher.ErrDamaged)
	}
	return body, info, err
}

// TestDamagedInStore: what the store itself knows to be damaged is told by its name, as it would be in a store that checks nothing, and all
// the rest is checked nonetheless.
func TestDamagedInStore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		key  func(x *fixture) string
		want map[Kind]Count
		rows int64 // of 22
	}{
		{"object", func(x *fixture) string { return x.big().Object }, map[Kind]Count{Damaged: {2, 0}}, 22},
		{"sidecar", func(x *fixture) string { return batcher.IDsKey(x.big().Batch) }, map[Kind]Count{Sidecar: {1, 7}}, 22},
		{"entry", func(*fixture) string { return batcher.ChainKey(stream, 3) }, map[Kind]Count{Chain: {3, 0}}, 22},
		// Then the newest entry that reads says that 1 to 3 are done, and the three batches of 4 are not closed by any.
		{"last entry", func(*fixture) string { return batcher.ChainKey(stream, 6) }, map[Kind]Count{Chain: {1, 0}}, 22},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newFixture(t, 40)
			x.chain()
			store := flipped{x.store, tt.key(x)}
			r, err := Run(t.Context(), catalogue{store}, store, Options{Log: []ingest.Partition{x.log(0)}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.Totals); diff != "" || r.Rows != tt.rows || r.InFlight.Rows != 4 || r.Log.Lost != 0 {
				t.Errorf("%d rows, %+v in flight, log %+v, totals (-want +got):\n%s%v", r.Rows, r.InFlight, r.Log, diff, r.Problems)
			}
			for _, p := range r.Problems {
				if strings.Contains(p.What, batcher.ErrDamaged.Error()) && (p.Key == store.key || strings.Contains(p.What, store.key)) {
					return
				}
			}
			t.Errorf("no problem names %s as damaged: %v", store.key, r.Problems)
		})
	}
}

// TestBeyondLog is row 13: a cut whose object does not exist is in flight as long as somebody can make it. The holder of a log that ended before
// its records cannot. A log that is written still may be behind for a moment, and an object that exists needs no log.
func TestBeyondLog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		next int64 // of the incarnation; the cut in flight is of lane web, 25 to 29
		want map[Kind]Count
	}{
		{"log goes on", -1, nil},
		{"log ends after the cut", 30, nil},
		{"log ends within the cut", 29, map[Kind]Count{BeyondLog: {1, 4}}},
		{"log ends before the cut", 22, map[Kind]Count{BeyondLog: {1, 4}}},
	} {
		x := newFixture(t, 40)
		x.chain()
		log := x.log(0)
		log.incs[0].Next = tt.next
		if tt.next >= 0 {
			log.records = log.records[:tt.next]
			next := ingest.Stream{Log: "log", Incarnation: "next", Partition: 2}
			log.incs = append(log.incs, ingest.Incarnation{Stream: next, First: 40, Next: -1})
		}
		r := x.run(log)
		if diff := cmp.Diff(tt.want, r.Totals); diff != "" || r.OK != (tt.want == nil) {
			t.Errorf("%s: totals (-want +got):\n%s%v", tt.name, diff, r.Problems)
		}
		if flying := r.InFlight.Rows > 0; flying != (tt.want == nil) {
			t.Errorf("%s: in flight %+v", tt.name, r.InFlight)
		}
		if l := r.Log; l.Lost != 0 || l.InObjects+l.Duplicates+l.InFlight+l.NotCut+l.SetAside != l.Records {
			t.Errorf("%s: log %+v", tt.name, l)
		}
		for _, p := range r.Problems {
			if p.Key != x.entries[4].Cuts[0].Object || p.First != 25 || p.Last != 29 || !strings.Contains(p.What, fmt.Sprint(tt.next)) {
				t.Errorf("%s: %+v does not name object, records and the end of the log", tt.name, p)
			}
		}
	}
}

// slow is a store that holds one object back.
type slow struct {
	batcher.ObjectStore
	key     string
	asked   atomic.Int64 // for objects
	release chan struct{}
}

func (s *slow) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	if strings.HasPrefix(key, ingest.RootEvents+"/") {
		s.asked.Add(1)
	}
	if key == s.key {
		<-s.release
	}
	return s.ObjectStore.Get(ctx, key)
}

// TestObjectsInMemory: what was read waits for its turn to be counted, and no more is read than there are workers. The offsets of rows take
// memory until then, and a group of entries can have very many.
func TestObjectsInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, 40)
		x.chain()
		const workers = 3
		store := &slow{ObjectStore: x.store, key: x.entries[0].Cuts[0].Object, release: make(chan struct{})}
		var r Report
		var err error
		done := make(chan struct{})
		go func() { // ends with the check, which is waited for below
			defer close(done)
			r, err = Run(t.Context(), catalogue{x.store}, store, Options{Workers: workers})
		}()
		synctest.Wait()
		if got := store.asked.Load(); got != workers {
			t.Errorf("%d objects are read while the first is not counted, want %d", got, workers)
		}
		close(store.release)
		<-done
		if err != nil || !r.OK || r.Rows != 22 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestEnded: a check that is broken off is an error, not a report of what was seen until then.
func TestEnded(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 40)
	x.chain()
	for n := int64(1); n < 8; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		store := &ending{ObjectStore: x.store, left: n, cancel: cancel}
		if _, err := Run(ctx, catalogue{x.store}, store, Options{}); err == nil {
			t.Errorf("ended at object %d: no error", n)
		}
		cancel()
	}
}

// ending is a store whose reader gives up when it gets object number left.
type ending struct {
	batcher.ObjectStore
	left   int64
	seen   atomic.Int64
	cancel func()
}

func (s *ending) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	body, info, err := s.ObjectStore.Get(context.WithoutCancel(ctx), key)
	if s.seen.Add(1) == s.left {
		s.cancel()
	}
	return body, info, err
}

// torn is a log that does not read from an offset on.
type torn struct {
	*partition
	at int64
}

func (p torn) Read(ctx context.Context, from int64, maxBytes int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	if from >= p.at {
		return nil, 0, fmt.Errorf("segment 0: %w", ingest.ErrCorrupt)
	}
	recs, next, err := p.partition.Read(ctx, from, maxBytes, buf)
	for i := range recs {
		if recs[i].Offset >= p.at {
			return recs[:i], p.at, err
		}
	}
	return recs, next, err
}

// TestDamagedLog: a log that does not read to its end is a problem, and chain and objects are judged nonetheless.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 40)
	x.chain()
	x.store.Delete(x.big().Object)
	r := x.run(torn{x.log(0), 30})
	want := map[Kind]Count{Damaged: {1, 0}, Missing: {1, 7}}
	if diff := cmp.Diff(want, r.Totals); diff != "" || r.Log.Records != 30 || r.Log.Lost != 0 {
		t.Errorf("log %+v, totals (-want +got):\n%s%v", r.Log, diff, r.Problems)
	}
	for _, p := range r.Problems {
		if p.Kind == Damaged && (p.First != 30 || p.Last != 39 || p.Stream != stream || !strings.Contains(p.What, "offset 30")) {
			t.Errorf("%+v, want offsets 30 to 39", p)
		}
	}
}
