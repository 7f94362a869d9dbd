package app

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"millrace/configs"
	"millrace/ingest/gateway"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
	"millrace/trigger/dispatch"
	"millrace/trigger/triggertest"
)

// TestBatchingAwaitsLedger: nothing is cut before a new ledger has recorded its start, for it would count as the past.
func TestBatchingAwaitsLedger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ledger := triggertest.NewLedger(triggertest.NewRules())
		recorded, release := false, make(chan struct{})
		ledger.Fault = func(op string) error {
			if op == "start" {
				<-release
				recorded = true
			}
			return nil
		}
		d := dispatch.New(triggertest.NewChain(), ledger, ledger, triggertest.NewRules(), dispatch.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended, began := make(chan struct{}), make(chan bool)
		go func() { defer close(ended); _ = d.Run(ctx) }()
		a := &app{schedule: &scheduling{dispatch: d, hold: new(hold)}}
		go func() { began <- a.awaitLedger(ctx) }()
		synctest.Wait()
		select {
		case <-began:
			t.Error("batching begins while the ledger has not recorded its start")
		default:
		}
		close(release)
		if !<-began || !recorded {
			t.Errorf("batching does not begin after the start was recorded")
		}
		cancel()
		<-ended
		if (&app{schedule: &scheduling{dispatch: dispatch.New(nil, nil, nil, nil, dispatch.Options{}), hold: new(hold)}}).awaitLedger(ctx) {
			t.Error("batching begins though the process ends")
		}
		if !(&app{}).awaitLedger(ctx) {
			t.Error("a process without scheduler waits for one")
		}
	})
}

// TestLargestEvent: the log takes what the gateway lets through, however large the configuration permits events to be and whatever JSON makes
// of them.
func TestLargestEvent(t *testing.T) {
	t.Parallel()
	l := &configs.Loaded{Config: configs.Dev()}
	l.Ingest.MaxEvent, l.Ingest.MaxRequest = 10<<20+1, 16<<20
	if l.Validate() == nil {
		t.Errorf("max_event %s is permitted: the test must try the largest that is", l.Ingest.MaxEvent)
	}
	l.Ingest.MaxEvent--
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	log, err := wal.Open("log", wal.Options{FS: vfs.NewMem(), MaxRecord: configs.MaxRecord})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	sources, err := l.SourceList(".")
	if err != nil {
		t.Fatal(err)
	}
	gw, err := gateway.New(log, sources, gateway.Options{
		Limits: gateway.Limits{MaxEvent: int(l.Ingest.MaxEvent), MaxRequest: int(l.Ingest.MaxRequest)},
	})
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("\n", int(l.Ingest.MaxEvent)) // twice as long in JSON
	w := httptest.NewRecorder()
	gw.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/hooks/demo", io.NopCloser(strings.NewReader(body))))
	if w.Code != http.StatusOK {
		t.Errorf("an event of %d bytes got %d %s", len(body), w.Code, w.Body)
	}
	if limit := configs.MaxRecord; limit < 6*int(l.Ingest.MaxEvent) || (wal.Options{MaxRecord: limit}).Validate() != nil {
		t.Errorf("records of %d bytes: less than an event of which every byte is escaped, or more than the log can take", limit)
	}
}
