package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest"
)

// gather returns all values that are not 0, by name and labels; of histograms the count.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if v != 0 {
				got[strings.TrimPrefix(name, "millrace_ingest_")] = v
			}
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	log := &fakeLog{}
	s := newServer(t, log, Options{Metrics: reg})
	send(s, http.MethodPost, "/v1/batch", `{"batch":[`+event+`,`+event+`,{"type":"page","userId":"u"},7]}`, devKey...)
	send(s, http.MethodPost, "/v1/track", event)
	send(s, http.MethodPost, "/v1/track", "nonsense", devKey...)
	send(s, http.MethodPost, "/hooks/demo", "hello")
	send(s, http.MethodPost, "/hooks/stripe", "hello")
	send(s, http.MethodPost, "/hooks/stripe", "hello", "Stripe-Signature", signed("whsec_dev", "hello", time.Now().Add(-time.Hour)))
	for name, want := range map[string]float64{
		"requests_total 200 segment web":             1, // by code, protocol, source
		"requests_total 200 segment _unknown":        1,
		"requests_total 400 segment _unknown":        1, // not JSON: its key was not looked up
		"requests_total 200 webhook demo":            1,
		"requests_total 401 webhook stripe":          2,
		"events_total web track":                     2,
		"events_total web page":                      1,
		"events_total demo webhook":                  1,
		"events_rejected_total not_object web":       1,
		"events_rejected_total unknown_key _unknown": 1,
		"signature_failures_total unsigned stripe":   1,
		"signature_failures_total stale stripe":      1,
		"request_duration_seconds web":               1,
		"body_bytes stripe":                          2,
	} {
		if got := gather(t, reg)[name]; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// TestLabelsAreBounded: sources beyond the bound share their label.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	var sources []ingest.Source
	for i := range maxSources + 50 {
		sources = append(sources, ingest.Source{Name: fmt.Sprintf("s%d", i), Kind: ingest.KindClickstream, WriteKeys: []string{fmt.Sprintf("k%d", i)}})
	}
	reg := prometheus.NewRegistry()
	s, err := New(nullLog{}, sources, Options{Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sources {
		send(s, http.MethodPost, "/v1/track", event, "X-Write-Key", fmt.Sprintf("k%d", i))
	}
	got := gather(t, reg)
	if got["events_total s199 track"] != 1 || got["events_total s200 track"] != 0 || got["events_total other track"] != 50 {
		t.Errorf("got %v for the last, %v beyond, %v for other, want 1, 0, 50", got["events_total s199 track"], got["events_total s200 track"], got["events_total other track"])
	}
}

// TestAllocations: a request costs hardly any memory beyond net/http's own. Not parallel: allocations of other tests would count.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		return // the race detector makes sync.Pool forget at random
	}
	s := newServer(t, nullLog{}, Options{Metrics: prometheus.NewRegistry()})
	r, err := http.NewRequest(http.MethodPost, "/v1/batch", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Write-Key", "dev")
	payload := batchOf(100)
	w, from := &quiet{h: http.Header{}}, &body{}
	r.ContentLength = int64(len(payload))
	got := testing.AllocsPerRun(200, func() {
		from.Reset(payload)
		r.Body = from
		s.Handler().ServeHTTP(w, r)
	})
	if got > 8 || w.code != http.StatusOK {
		t.Errorf("got %v allocations for a batch of 100 (status %d), want at most 8", got, w.code)
	}
}
