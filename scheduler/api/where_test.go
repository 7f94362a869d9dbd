package api

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/sqlstore"
	"millrace/trigger"
)

func (r *rig) ask4(query string) where {
	r.Helper()
	var w where
	if err := json.Unmarshal([]byte(r.page("/api/v1/where/"+url.PathEscape(query))), &w); err != nil {
		r.Fatal(err)
	}
	return w
}

// TestWhere follows a receipt whose events went everywhere.
func TestWhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, run := r.fill() // rows at 100, 101 and 103
	s := b.Stream
	quarantine := schedulertest.ExampleBatch(1)
	quarantine.ID, quarantine.Lane = batcher.BatchID(s, 1, 1, schedulertest.Epoch), ingest.QuarantineLane("default", "web", "no_type")
	void := schedulertest.ExampleBatch(1)
	void.ID, void.Void = batcher.BatchID(s, 1, 2, schedulertest.Epoch), "refused"
	if err := r.store.Apply(t.Context(), &scheduler.Change{Arrivals: []trigger.Arrival{arrivalOf(quarantine), arrivalOf(void)}}); err != nil {
		t.Fatal(err)
	}
	r.put(batcher.IDsKey(quarantine.ID), sidecarOf("web", 104, "q"))
	r.put(batcher.IDsKey(void.ID), sidecarOf("web", 105, "v"))
	r.put(batcher.IDsKey("flying"), sidecarOf("web", 106, "f"))
	lane := ingest.EventLane("default", "web")
	r.chain.add(s, batcher.Entry{Low: 102, Cuts: []batcher.Cut{
		{Lane: lane, First: 100, Last: 103, Count: 3, Batch: b.ID, Object: b.Key, Dups: []batcher.Range{{First: 102, Last: 102}}},
	}})
	r.chain.add(s, batcher.Entry{Low: 108, Lost: []batcher.Range{{First: 107, Last: 107}}, Cuts: []batcher.Cut{
		{Lane: lane, First: 106, Last: 106, Count: 1, Batch: "flying", Object: "events/flying.ndjson.gz"},
	}})
	r.chain.add(s, batcher.Entry{Low: 109})
	got := r.ask4(ingest.Receipt{{Stream: s, First: 100, Last: 109}}.String())
	want := []string{
		whereBatched, whereBatched, whereDuplicate, whereBatched, whereQuarantined, whereVoid, whereInFlight, whereLost, whereUnknown, whereOpen,
	}
	var states []string
	for _, e := range got.Events {
		states = append(states, e.Status)
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Fatalf("states differ (-want +got):\n%s", diff)
	}
	third := whereEvent{
		Stream: s, Offset: 103, Status: whereBatched, Source: "web", Batch: b.ID, URI: b.URI, Row: 3, ReceivedAt: schedulertest.Epoch,
		Command: "millrace batches cat " + b.ID + " | sed -n 3p",
	}
	if diff := cmp.Diff(third, got.Events[3]); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
	if e := got.Events[4]; e.Reason != "no_type" {
		t.Errorf("got %+v, want the reason of the quarantine", e)
	}
	if len(got.Batches) != 3 || got.Batches[0].Batch.ID != b.ID || len(got.Batches[0].Dispositions) != 2 || len(got.Batches[0].Runs) != 1 {
		t.Fatalf("got %+v, want three batches, the first with two dispositions and a run", got.Batches)
	}
	if task := got.Batches[0].Runs[0].Tasks[0]; task.Command != "millrace runs logs "+run.ID+" --task check" {
		t.Errorf("got %+v, want the command for its log", task)
	}
}

// TestWhereID finds an event by the sender's id: in the index, or in sidecars.
func TestWhereID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, _ := r.fill()
	for _, id := range []string{"m1", "id/with %odd?chars"} {
		r.finder[ingest.DedupeID("web", id)] = ingest.Span{Stream: b.Stream, First: 101}
		got := r.ask4(id)
		if got.Kind != "id" || len(got.Events) != 1 || got.Events[0].Row != 2 || got.Events[0].Batch != b.ID {
			t.Errorf("%s in the index: got %+v, want row 2 of %s", id, got, b.ID)
		}
	}
	if w := r.get("/api/v1/where/m2?since=1m"); w.Code != 404 {
		t.Errorf("not that far back: got %d, want 404: %s", w.Code, w.Body)
	}
	fresh := schedulertest.ExampleBatch(9)
	fresh.CreatedAt = time.Now()
	if err := r.store.Apply(t.Context(), &scheduler.Change{Arrivals: []trigger.Arrival{arrivalOf(fresh)}}); err != nil {
		t.Fatal(err)
	}
	r.put(batcher.IDsKey(fresh.ID), sidecarOf("web", 900, "x", "m9"))
	if got := r.ask4("m9"); len(got.Events) != 1 || got.Events[0].Offset != 901 || got.Events[0].Row != 2 {
		t.Errorf("in a sidecar: got %+v, want offset 901, row 2", got)
	}
}

func TestWhereLargeReceipt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := schedulertest.ExampleStream
	got := r.ask4(ingest.Receipt{{Stream: s, First: 0, Last: 400}, {Stream: s, First: 500, Last: 5000}}.String())
	if len(got.Events) != maxWhere || !got.Truncated {
		t.Errorf("got %d events, truncated %v, want %d and true", len(got.Events), got.Truncated, maxWhere)
	}
	if got.Events[0].Status != whereOpen {
		t.Errorf("without a chain: got %s, want open", got.Events[0].Status)
	}
}

// BenchmarkWhere is one event of a batch of 50,000 rows among 20,000 batches, in SQLite; the sidecar comes from memory.
func BenchmarkWhere(b *testing.B) {
	store, err := sqlstore.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), sqlstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	const batches, rows = 20_000, 50_000
	for n := 0; n < batches; {
		c := &scheduler.Change{}
		for range 1000 {
			c.Arrivals = append(c.Arrivals, arrivalOf(schedulertest.ExampleBatch(n)))
			n++
		}
		if err := store.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	batch := schedulertest.ExampleBatch(batches / 2)
	n := schedulertest.ExampleRun(batch)
	if err := store.Apply(b.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}}); err != nil {
		b.Fatal(err)
	}
	objects := memstore.New(memstore.Options{})
	ids := make([]string, rows)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	if err := objects.PutIfAbsent(b.Context(), batcher.IDsKey(batch.ID), sidecarOf("web", batch.First, ids...), nil); err != nil {
		b.Fatal(err)
	}
	s, err := New(Deps{
		Store: store, Objects: objects, Codec: plainCodec{}, Catalogue: &fakeChain{},
		Executors: map[string]scheduler.Executor{"local": &fakeExecutor{}},
	}, Options{Token: testToken})
	if err != nil {
		b.Fatal(err)
	}
	at := batch.First + 77
	path := "/api/v1/where/" + ingest.Receipt{{Stream: batch.Stream, First: at, Last: at}}.String()
	for b.Loop() {
		req := request("GET", path, "")
		req.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, req); w.Code != 200 || !strings.Contains(w.Body.String(), `"row":78`) {
			b.Fatalf("got %d: %s", w.Code, w.Body)
		}
	}
}
