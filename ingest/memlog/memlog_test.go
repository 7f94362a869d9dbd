package memlog_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/memlog"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n, " partitions"), func(t *testing.T) {
			t.Parallel()
			ingesttest.TestLog(t, func(t *testing.T) ingesttest.Harness {
				l := memlog.New(memlog.Options{Partitions: n, MaxBytes: 256 << 10, MaxRecord: 4 << 10})
				crash := func(*testing.T) ingesttest.Log {
					l.Crash(nil)
					return l
				}
				return ingesttest.Harness{
					Log: l, Partitions: n, Reopen: crash, Crash: crash, MaxBytes: 256 << 10, MaxRecord: 4 << 10,
				}
			})
		})
	}
}

func names(t *testing.T, p ingest.Partition) (out []string) {
	t.Helper()
	low, _, err := p.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range ingesttest.ReadAll(t, p, low) {
		var name string
		fmt.Sscanf(string(f.Record.Payload), `{"name":%q`, &name)
		out = append(out, name)
	}
	return out
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got records %v, want %v", got, want)
	}
}

func TestOnlyDurableRecordsAreSeenAndSurvive(t *testing.T) {
	t.Parallel()
	l := memlog.New(memlog.Options{Manual: true})
	p := l.Partition(0)
	put := func(prefix string, n int) {
		if _, err := l.Put(ingesttest.Records(prefix, n)); err != nil {
			t.Fatal(err)
		}
	}
	put("a", 2)
	want(t, names(t, p))
	l.Sync()
	put("b", 3)
	want(t, names(t, p), "a0", "a1")
	l.Crash(nil)
	want(t, names(t, p), "a0", "a1")
	put("c", 1)
	l.Sync()
	want(t, names(t, p), "a0", "a1", "c0")

	seen := map[int]bool{}
	for seed := range uint64(50) {
		put("d", 3)
		before := len(names(t, p))
		l.Crash(rand.New(rand.NewPCG(seed, 0)))
		seen[len(names(t, p))-before] = true
	}
	if len(seen) != 4 {
		t.Errorf("got %v records of 3 surviving a torn crash, want 0 to 3", seen)
	}
}

func TestAppendWaitsForSync(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		l := memlog.New(memlog.Options{Manual: true})
		done := make(chan error, 1)
		go func() { // ends with Sync or Crash; received below
			_, err := l.Append(t.Context(), ingesttest.Records("r", 1))
			done <- err
		}()
		for held := int64(0); held == 0; held, _, _ = l.Pressure() {
		}
		select {
		case err := <-done:
			t.Fatalf("got %v before Sync, want it to wait", err)
		default:
		}
		if crash {
			l.Crash(nil)
		} else {
			l.Sync()
		}
		if err := <-done; (err != nil) != crash {
			t.Errorf("crash %v: got %v", crash, err)
		}
	}
}

func TestCloneGoesOnUnderAnotherName(t *testing.T) {
	t.Parallel()
	l := memlog.New(memlog.Options{})
	ingesttest.MustAppend(t, l, ingesttest.Records("a", 2)...)
	c := l.Clone()
	ingesttest.MustAppend(t, l, ingesttest.Records("l", 1)...)
	ingesttest.MustAppend(t, c, ingesttest.Records("c", 1)...)
	want(t, names(t, l.Partition(0)), "a0", "a1", "l0")
	want(t, names(t, c.Partition(0)), "a0", "a1", "c0")
	li, ci := l.Partition(0).Incarnations(), c.Partition(0).Incarnations()
	if li[0].Stream != ci[0].Stream || li[len(li)-1].Stream == ci[len(ci)-1].Stream {
		t.Errorf("got incarnations %v and %v, want the first one shared and the last not", li, ci)
	}
}

func TestDamageIsAGapOnceAccepted(t *testing.T) {
	t.Parallel()
	l := memlog.New(memlog.Options{})
	ingesttest.MustAppend(t, l, ingesttest.Records("a", 5)...)
	p := l.Partition(0)
	p.Damage(1, 2)
	recs, next, err := p.Read(t.Context(), 0, 1<<20, nil)
	if err != nil || len(recs) != 1 || next != 1 {
		t.Fatalf("got %d records, next %d, %v, want the one before the damage", len(recs), next, err)
	}
	if _, _, err := p.Read(t.Context(), 1, 1<<20, nil); err == nil {
		t.Fatal("got no error within the damage")
	}
	p.AcceptLoss()
	want(t, names(t, p), "a0", "a3", "a4")
	if lost := p.Lost(); len(lost) != 1 || lost[0].First != 1 || lost[0].Last != 2 {
		t.Errorf("got lost %v, want 1–2", lost)
	}
}
