package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// TestExplainJoin: a batch that waits for the other side says for which, and until when; one that waits for its turn says how far its chain is.
func TestExplainJoin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two, other := schedulertest.ExampleBatch(1), schedulertest.ExampleBatch(2), schedulertest.ExampleBatch(3)
	held := func(rule, reason, key string) trigger.Disposition {
		return trigger.Disposition{Rule: rule, Fate: trigger.FateHeld, Reason: reason, Key: key, At: one.CreatedAt.Add(time.Second)}
	}
	join := func(key string) trigger.Disposition {
		d := held("joined/both", trigger.HeldJoin, key)
		d.Sides = []string{"clicks"}
		return d
	}
	lines := []trigger.Disposition{join("a"), join("a"), join("b")}
	change := &scheduler.Change{Heads: []scheduler.DAGHead{{ID: "joined", Version: "v1", Paused: true}}, Cursors: []trigger.Cursor{{Stream: one.Stream, Seq: one.Seq - 1}}}
	for i, b := range []*trigger.Arrival{{Batch: one}, {Batch: two}, {Batch: other}} {
		b.Dispositions = []trigger.Disposition{lines[i], held("joined/clicks", trigger.HeldOrder, "")}
		for j := range b.Dispositions {
			b.Dispositions[j].Batch = b.Batch.ID
		}
		change.Arrivals = append(change.Arrivals, *b)
	}
	if err := r.store.Apply(r.Context(), change); err != nil {
		t.Fatal(err)
	}
	var got scheduler.BatchWhy
	if err := json.Unmarshal(r.get("/api/v1/explain/batches/"+one.ID).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	why := got.Rules[0].Why
	if until := one.CreatedAt.Add(24 * time.Hour); why.Code != scheduler.CodeJoining || !why.Until.Equal(until) || len(why.On) != 1 || why.On[0] != "joined/orders" {
		t.Errorf("got %+v, want joining, on joined/orders, until %v", why, until)
	}
	for _, want := range []string{`waits as a batch of rule clicks for one of rule orders with the key "a", with 1 more of its key; it expires at `, "but not while DAG joined is paused"} {
		if !strings.Contains(why.Text, want) {
			t.Errorf("%q does not say %q", why.Text, want)
		}
	}
	turn := got.Rules[1].Why
	if turn.Code != scheduler.CodeOrder || turn.Ahead != 1 || !strings.Contains(turn.Text, "the rule has order: fifo, and of chain "+one.Stream.String()) {
		t.Errorf("got %+v", turn)
	}
}

// TestExplainFull: what waits for a place in a concurrency group says in which, and who is there.
func TestExplainFull(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := schedulertest.ExampleBatch(1)
	g := trigger.Group{ID: "coal:k:" + b.ID, Rule: "full/clicks", Key: "k", OpenedAt: schedulertest.Epoch, LastAt: schedulertest.Epoch, Events: b.Events, Bytes: b.Bytes}
	d := trigger.Disposition{Batch: b.ID, Rule: g.Rule, Fate: trigger.FateCoalesced, Group: g.ID, At: b.CommittedAt}
	err := r.store.Apply(r.Context(), &scheduler.Change{
		Heads: []scheduler.DAGHead{{ID: "full", Version: "v1"}}, Groups: []trigger.Group{g},
		Arrivals: []trigger.Arrival{{Batch: b, Dispositions: []trigger.Disposition{d}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got scheduler.BatchWhy
	if err := json.Unmarshal(r.get("/api/v1/explain/batches/"+b.ID).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	why := got.Rules[0].Why
	if why.Code != scheduler.CodeCoalescing || why.Name != "full/k" || len(why.On) != 1 || !strings.Contains(why.Text, "waits alone in a group") ||
		!strings.Contains(why.Text, "; it waits for a place: it is taken by r1") {
		t.Errorf("got %+v", why)
	}
}
