package schedulertest

import (
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

func testGroups(t *storeTest) {
	b1, b2, b3 := ExampleBatch(1), ExampleBatch(2), ExampleBatch(3)
	id := "coal:k:" + b1.ID
	in := func(b batcher.Batch, rule string) trigger.Arrival {
		return trigger.Arrival{Batch: b, Dispositions: []trigger.Disposition{
			{Batch: b.ID, Rule: rule, Fate: trigger.FateCoalesced, Group: id, At: Epoch},
			{Batch: b.ID, Rule: "h/held", Fate: trigger.FateHeld, Reason: "join", Key: "k", Sides: []string{"a", "b"}, At: Epoch},
		}}
	}
	// Two rules may have groups of the same id.
	g := trigger.Group{ID: id, Rule: "d/a", Key: "k", OpenedAt: Epoch, LastAt: Epoch.Add(time.Second), Events: 200, Bytes: 10_000}
	h := trigger.Group{ID: id, Rule: "d/b", Key: "k", OpenedAt: Epoch, LastAt: Epoch, Events: 100, Bytes: 5000}
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{in(b2, "d/a"), in(b1, "d/a"), in(b3, "d/b")}, Groups: []trigger.Group{h, g}})
	t.reopen()
	g.Batches, h.Batches = []batcher.Batch{b1, b2}, []batcher.Batch{b3}
	m := t.memory()
	t.same("groups", m.Groups, []trigger.Group{g, h})
	held := func(b batcher.Batch) trigger.Held {
		return trigger.Held{Batch: b, Reason: "join", Key: "k", Sides: []string{"a", "b"}, At: Epoch}
	}
	t.same("held", m.Held, map[string][]trigger.Held{"h/held": {held(b1), held(b2), held(b3)}})

	g.Events, h.Closed = 300, "quiet"
	t.apply(&scheduler.Change{Groups: []trigger.Group{g, h}})
	t.same("groups after closing one", t.memory().Groups, []trigger.Group{g})
}
