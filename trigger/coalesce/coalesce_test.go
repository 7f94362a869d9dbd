package coalesce

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

func batch(stream string, seq int64, cut int, created time.Time) batcher.Batch {
	return batcher.Batch{
		ID: fmt.Sprintf("%s-%d-%d", stream, seq, cut), Stream: ingest.Stream{Log: stream, Incarnation: "i"}, Seq: seq, Cut: cut,
		Events: 10, Bytes: 100, CreatedAt: created,
	}
}

func ids(g trigger.Group) []string {
	var out []string
	for _, b := range g.Batches {
		out = append(out, b.ID)
	}
	return out
}

func TestAdd(t *testing.T) {
	t.Parallel()
	type arrival struct {
		batch batcher.Batch
		at    float64
	}
	one := func(seq int64, s float64) arrival { return arrival{batch("a", seq, 0, at(s)), s} }
	type group struct {
		Reason  string
		Batches []string
	}
	tests := []struct {
		name   string
		bounds *trigger.Coalesce
		in     []arrival
		closed []group
		open   []string
		due    time.Time
	}{
		{"batches", &trigger.Coalesce{MaxBatches: 2}, []arrival{one(1, 0), one(2, 1), one(3, 2)},
			[]group{{MaxBatches, []string{"a-1-0", "a-2-0"}}}, []string{"a-3-0"}, time.Time{}},
		{"one at a time", &trigger.Coalesce{MaxBatches: 1}, []arrival{one(1, 0), one(2, 1)},
			[]group{{MaxBatches, []string{"a-1-0"}}, {MaxBatches, []string{"a-2-0"}}}, nil, time.Time{}},
		{"events, reached", &trigger.Coalesce{MaxEvents: 20}, []arrival{one(1, 0), one(2, 1)},
			[]group{{MaxEvents, []string{"a-1-0", "a-2-0"}}}, nil, time.Time{}},
		{"bytes, passed", &trigger.Coalesce{MaxBytes: 150}, []arrival{one(1, 0), one(2, 1)},
			[]group{{MaxBytes, []string{"a-1-0", "a-2-0"}}}, nil, time.Time{}},
		{"quiet starts again with each batch", &trigger.Coalesce{Quiet: 5 * time.Second}, []arrival{one(1, 0), one(2, 4), one(3, 8)},
			nil, []string{"a-1-0", "a-2-0", "a-3-0"}, at(13)},
		{"late for quiet: a new group", &trigger.Coalesce{Quiet: 5 * time.Second}, []arrival{one(1, 0), one(2, 5)},
			[]group{{Quiet, []string{"a-1-0"}}}, []string{"a-2-0"}, at(10)},
		{"max_wait does not start again", &trigger.Coalesce{Quiet: 5 * time.Second, MaxWait: 6 * time.Second}, []arrival{one(1, 0), one(2, 4)},
			nil, []string{"a-1-0", "a-2-0"}, at(6)},
		{"late for max_wait, and full at once", &trigger.Coalesce{MaxEvents: 10, MaxWait: 6 * time.Second}, []arrival{one(1, 0), one(2, 7)},
			[]group{{MaxEvents, []string{"a-1-0"}}, {MaxEvents, []string{"a-2-0"}}}, nil, time.Time{}},
		{"the clock goes back", &trigger.Coalesce{Quiet: 5 * time.Second}, []arrival{one(1, 10), one(2, 0)},
			nil, []string{"a-1-0", "a-2-0"}, at(15)},
		{"overtaken", &trigger.Coalesce{MaxBatches: 3}, []arrival{one(2, 0), one(1, 1), one(3, 2)},
			[]group{{MaxBatches, []string{"a-1-0", "a-2-0", "a-3-0"}}}, nil, time.Time{}},
		{"the rule does not coalesce any more", nil, []arrival{one(1, 0)}, []group{{RuleChanged, []string{"a-1-0"}}}, nil, time.Time{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := Spec{Rule: "d/r", Key: "k", Bounds: test.bounds}
			var open *trigger.Group
			var closed []group
			for _, a := range test.in {
				var done []trigger.Group
				done, open = s.Add(open, a.batch, at(a.at))
				for _, g := range done {
					closed = append(closed, group{g.Closed, ids(g)})
				}
			}
			if diff := cmp.Diff(test.closed, closed); diff != "" {
				t.Errorf("closed (-want +got):\n%s", diff)
			}
			var left []string
			var due time.Time
			if open != nil {
				left, due = ids(*open), s.Deadline(*open)
				if want := "coal:k:" + open.Batches[0].ID; open.ID != want {
					t.Errorf("id: got %q, want %q", open.ID, want)
				}
			}
			if diff := cmp.Diff(test.open, left); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
			if !due.Equal(test.due) {
				t.Errorf("deadline: got %v, want %v", due, test.due)
			}
		})
	}
}

func TestOldest(t *testing.T) {
	t.Parallel()
	// Stream a's clock goes back by an hour between its entries: its order stays, and b's batches find their place by time.
	in := []batcher.Batch{
		batch("b", 1, 0, at(30)), batch("a", 3, 0, at(-3600)), batch("a", 2, 1, at(20)), batch("a", 2, 0, at(20)), batch("b", 2, 0, at(10)), batch("a", 1, 0, at(0)),
	}
	want := []string{"a-1-0", "a-2-0", "a-2-1", "a-3-0", "b-1-0", "b-2-0"}
	if diff := cmp.Diff(want, ids(trigger.Group{Batches: Oldest(in)})); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if in[0].ID != "b-1-0" {
		t.Error("the argument was changed")
	}
}

// TestProperties drives groups as dispatch does: batches of some keys and streams arrive out of order while time passes, deadlines are kept or
// missed, bounds change, and at the end every group is closed.
func TestProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bounds := drawBounds(t)
		open := map[string]*trigger.Group{}
		arrived, fired, inRun := 0, map[string]string{}, map[string]bool{}
		now := t0
		fire := func(g trigger.Group) {
			if inRun[g.ID] {
				t.Fatalf("group %q was closed twice", g.ID)
			}
			inRun[g.ID] = true
			var events, bytes int64
			last := map[ingest.Stream]batcher.Batch{}
			for _, b := range g.Batches {
				if other, ok := fired[b.ID]; ok {
					t.Fatalf("batch %q is in %q and in %q", b.ID, other, g.ID)
				}
				fired[b.ID] = g.ID
				events, bytes = events+b.Events, bytes+b.Bytes
				if p, ok := last[b.Stream]; ok && (p.Seq > b.Seq || p.Seq == b.Seq && p.Cut >= b.Cut) {
					t.Fatalf("group %q: %q comes after %q", g.ID, b.ID, p.ID)
				}
				last[b.Stream] = b
			}
			if events != g.Events || bytes != g.Bytes || len(g.Batches) == 0 || g.Closed == "" {
				t.Fatalf("group %+v says %d events and %d bytes, has %d and %d", g, g.Events, g.Bytes, events, bytes)
			}
			if max := bounds.MaxBatches; g.Closed == MaxBatches && len(g.Batches) < min(max, trigger.MaxGroup) {
				t.Fatalf("group %q was closed by max_batches with %d of %d", g.ID, len(g.Batches), max)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-1, 8).Draw(t, "seconds")) * time.Second)
			if rapid.IntRange(0, 19).Draw(t, "edit") == 0 {
				bounds = drawBounds(t)
			}
			key := rapid.SampledFrom([]string{"", "de", "fr"}).Draw(t, "key")
			s := Spec{Rule: "d/r", Key: key, Bounds: &bounds}
			if g := open[key]; g != nil && rapid.Bool().Draw(t, "timer") {
				if reason := s.Due(*g, now); reason != "" {
					fire(Close(*g, reason))
					open[key] = nil
				}
				continue
			}
			arrived++
			b := batch(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "stream"), int64(rapid.IntRange(1, 9).Draw(t, "seq")), arrived, now)
			closed, g := s.Add(open[key], b, now)
			for _, c := range closed {
				fire(c)
			}
			open[key] = g
			if g != nil && s.Due(*g, now) != "" {
				t.Fatalf("group %q stays open, due because of %s", g.ID, s.Due(*g, now))
			}
			if d := s.Deadline(cmpOr(g)); g != nil && !d.IsZero() && s.Due(*g, d) == "" {
				t.Fatalf("group %q is not due at its deadline %v", g.ID, d)
			}
		}
		for _, g := range open {
			if g != nil {
				fire(Close(*g, RuleChanged))
			}
		}
		if len(fired) != arrived {
			t.Fatalf("%d batches arrived, %d were fired", arrived, len(fired))
		}
	})
}

func cmpOr(g *trigger.Group) trigger.Group {
	if g == nil {
		return trigger.Group{}
	}
	return *g
}

func drawBounds(t *rapid.T) trigger.Coalesce {
	c := trigger.Coalesce{
		MaxBatches: rapid.SampledFrom([]int{0, 1, 2, 5}).Draw(t, "max_batches"),
		MaxEvents:  rapid.SampledFrom([]int64{0, 10, 35}).Draw(t, "max_events"),
		MaxBytes:   rapid.SampledFrom([]int64{0, 400}).Draw(t, "max_bytes"),
		Quiet:      rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(t, "quiet"),
		MaxWait:    rapid.SampledFrom([]time.Duration{0, 9 * time.Second}).Draw(t, "max_wait"),
	}
	if c == (trigger.Coalesce{}) {
		c.MaxBatches = 3
	}
	return c
}
