package backfill

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// manyBatches is a ledger of n batches, one each second, that counts what is read of it.
type manyBatches struct {
	scheduler.Store
	list []batcher.Batch // the newest first
	read int
}

func (m *manyBatches) Batches(_ context.Context, q scheduler.BatchQuery) ([]batcher.Batch, string, error) {
	from, _ := slices.BinarySearchFunc(m.list, q.Before, func(b batcher.Batch, before string) int {
		if before == "" {
			return 0
		}
		return -strings.Compare(b.ID, before)
	})
	if q.Before != "" && from < len(m.list) && m.list[from].ID == q.Before {
		from++
	}
	if q.Before == "" {
		from = 0
	}
	page := m.list[from:min(from+q.Limit, len(m.list))]
	m.read += len(page)
	if from+len(page) == len(m.list) {
		return page, "", nil
	}
	return page, page[len(page)-1].ID, nil
}

// TestReceivedReadsNothingNewer: of 100,000 batches a time of receipt that is long ago reads those that are older than its end, or an hour later at most, and
// keeps those within.
func TestReceivedReadsNothingNewer(t *testing.T) {
	t.Parallel()
	const n, old = 100_000, 3_000
	w := newWorld(t)
	m := &manyBatches{Store: w.store}
	begin := schedulertest.Epoch
	for i := range n {
		b := schedulertest.ExampleBatch(5)
		b.Seq, b.ReceivedMin = int64(i+1), begin.Add(time.Duration(i)*time.Second)
		b.ReceivedMax = b.ReceivedMin
		b.ID = batcher.BatchID(b.Stream, b.Seq, 0, b.ReceivedMin)
		m.list = append(m.list, b)
	}
	slices.Reverse(m.list)
	d := &draft{Planner: New(m, fakeDAGs{w.dag}, fakeJudge{}, fakeChain{}), plan: &scheduler.BackfillPlan{}, rule: &w.dag.On[0]}
	d.plan.Backfill.Selection.Received = scheduler.Span{From: begin.Add((old - 500) * time.Second), To: begin.Add(old * time.Second)}
	list, err := d.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.read > old+3601 {
		t.Errorf("read %d of %d batches, want at most %d", m.read, n, old+3601)
	}
	if len(list) < 500 || len(list) > 501 {
		t.Errorf("got %d batches, want those of 500 s", len(list))
	}
}
