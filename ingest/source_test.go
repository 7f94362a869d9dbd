package ingest_test

import (
	"testing"

	"millrace/ingest"
)

func TestIPPolicy(t *testing.T) {
	t.Parallel()
	order := []ingest.IPPolicy{ingest.IPKeep, ingest.IPAnonymize, ingest.IPDrop}
	for i, p := range order {
		for j, q := range order {
			if got, want := p.Stricter(q), order[max(i, j)]; got != want {
				t.Errorf("%s and %s: got %s, want %s", p, q, got, want)
			}
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
	if got := ingest.IPPolicy("").Stricter(""); got != ingest.IPKeep {
		t.Errorf("without a policy: got %s, want keep", got)
	}
	if err := ingest.IPPolicy("odd").Check(); err == nil {
		t.Error("got no error for a policy that there is not")
	}
}
