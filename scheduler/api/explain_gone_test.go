package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/scheduler/schedulertest"
)

// TestExplainBatchThatIsGone: of a batch that the ledger has no more, its id says when it was, and the answer where it is.
func TestExplainBatchThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := batcher.BatchID(schedulertest.ExampleStream, 7, 0, time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	w := r.ask("GET", "/api/v1/explain/batches/"+id, "")
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "received on 2026-03-04 05:06:07 UTC") || !strings.Contains(w.Body.String(), "store.retention") {
		t.Errorf("got %d, %s", w.Code, w.Body)
	}
	if w := r.ask("GET", "/api/v1/explain/batches/none", ""); w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "received") {
		t.Errorf("what is no id: got %d, %s", w.Code, w.Body)
	}
}
