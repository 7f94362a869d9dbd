//go:build linux

package chaintest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"millrace/ingest"
)

// acked is a record that the log has acknowledged.
type acked struct {
	uid    int
	id     [16]byte
	lane   ingest.Lane
	stream ingest.Stream
}

// writer goes on appending to a log: three sources with two lanes and one for quarantine each, and one record in five repeats an earlier one of its
// source, sometimes in another lane, sometimes in the same request.
type writer struct {
	log ingest.Appender
	rng *rand.Rand
	uid int
	ids map[string][]string // by source

	mu    sync.Mutex // guards acked
	acked map[int64]acked
}

func newWriter(log ingest.Appender, seed uint64) *writer {
	return &writer{log: log, rng: rand.New(rand.NewPCG(seed, 99)), ids: map[string][]string{}, acked: map[int64]acked{}}
}

// run appends until ctx ends. Then nothing is under way.
func (w *writer) run(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		recs := make([]ingest.Record, 1+w.rng.IntN(6))
		uids := make([]int, len(recs))
		for i := range recs {
			recs[i] = w.record()
			uids[i] = w.uid
		}
		receipt, err := w.log.Append(context.WithoutCancel(ctx), recs)
		if err != nil {
			t.Errorf("append: %v", err)
			return
		}
		w.note(receipt, recs, uids)
	}
}

func (w *writer) record() ingest.Record {
	w.uid++
	source := []string{"web", "app", "shop"}[w.rng.IntN(3)]
	key := fmt.Sprint("m-", w.uid)
	if known := w.ids[source]; len(known) > 0 && w.rng.IntN(5) == 0 {
		back := min(len(known), []int{3, 300, len(known)}[w.rng.IntN(3)])
		key = known[len(known)-1-w.rng.IntN(back)]
	} else {
		w.ids[source] = append(known, key)
	}
	lane := ingest.EventLane("default", source, ingest.KeyValue{Key: "country", Value: []string{"de", "fr"}[w.rng.IntN(2)]})
	if w.rng.IntN(20) == 0 {
		lane = ingest.QuarantineLane("default", source, "bad_json")
	}
	return ingest.Record{
		Lane: lane, Type: "track", Dedupe: ingest.DedupeID(source, key), ReceivedAt: time.Now().UTC(),
		Payload: fmt.Appendf(nil, `{"messageId":%q,"u":%d}`, key, w.uid), RoutingKey: source,
	}
}

// note takes an acknowledgement.
func (w *writer) note(receipt ingest.Receipt, recs []ingest.Record, uids []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := 0
	for _, span := range receipt {
		for offset := span.First; offset <= span.Last; offset++ {
			w.acked[offset] = acked{uids[i], recs[i].Dedupe, recs[i].Lane, span.Stream}
			i++
		}
	}
}
