package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/ingest"
)

// TestErrorTable goes through every row of the table: something makes the error, and the client gets the row.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	type request struct {
		method, path, body string
		headers            []string
	}
	track := request{http.MethodPost, "/v1/track", event, devKey}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	made := map[error]request{
		errTooLong:    {http.MethodPost, "/v1/track", event + strings.Repeat(" ", 1<<20), devKey},
		errCoding:     {http.MethodPost, "/v1/track", event, append(devKey, "Content-Encoding", "br")},
		errUnknownKey: {http.MethodPost, "/v1/track", event, nil},
		errNoSource:   {http.MethodPost, "/hooks/web", event, nil},
	}
	byCode := map[string]request{
		"bad_json":      {http.MethodPost, "/v1/batch", event, devKey},
		"bad_signature": {http.MethodPost, "/hooks/stripe", "{}", []string{"Stripe-Signature", "t=" + now + ",v1=00"}},
		"not_found":     {http.MethodPost, "/v1/nothing", event, devKey},
		"method":        {http.MethodGet, "/v1/track", "", devKey},
	}
	elsewhere := map[error]string{errBody: "TestCutOff", errBusy: "TestInflight"}
	for _, row := range faults {
		t.Run(row.err.Error(), func(t *testing.T) {
			t.Parallel()
			if elsewhere[row.err] != "" {
				return
			}
			log := &fakeLog{}
			req, ok := made[row.err]
			if !ok {
				if req, ok = byCode[row.code]; !ok {
					req = track
					log.before = func(context.Context, []ingest.Record) error { return fmt.Errorf("append to segment 7: %w", row.err) }
				}
			}
			w := send(newServer(t, log, Options{Limits: Limits{OrphanRate: -1}}), req.method, req.path, req.body, req.headers...)
			var got struct {
				Success              *bool
				Error, Code, Message string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Success == nil || *got.Success {
				t.Fatalf("got %s, %v, want success false", w.Body, err)
			}
			if w.Code != row.status || got.Code != row.code || got.Message != row.message || got.Error == "" || strings.Contains(w.Body.String(), "segment") {
				t.Errorf("got %d %+v, want %d %+v", w.Code, got, row.status, row.fault)
			}
			want := ""
			if row.retry > 0 {
				want = strconv.Itoa(row.retry)
			}
			if got := w.Header().Get("Retry-After"); got != want || row.status == 503 && got == "" {
				t.Errorf("got Retry-After %q, want %q", got, want)
			}
			if len(log.stored()) != 0 {
				t.Errorf("got %d records, want none", len(log.stored()))
			}
		})
	}
}

// TestStatuses: no row has a status that an SDK gets wrong.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, row := range faults {
		switch row.status {
		case http.StatusBadRequest, http.StatusServiceUnavailable, http.StatusTooManyRequests:
		case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed: // never on a clickstream route with POST
		default:
			t.Errorf("%v: got status %d", row.err, row.status)
		}
		if row.retry > maxRetryAfter || (row.retry > 0) != (row.status == http.StatusServiceUnavailable || row.status == http.StatusTooManyRequests) {
			t.Errorf("%v: got Retry-After %d with %d", row.err, row.retry, row.status)
		}
	}
}

// pressedLog is a log that says how full it is.
type pressedLog struct {
	fakeLog
	wait time.Duration
}

func (l *pressedLog) Pressure() (held, limit int64, wait time.Duration) { return 7, 10, l.wait }

func TestRetryAfterOfTheLog(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{0: "10", 1: "1", time.Second: "1", 2500 * time.Millisecond: "3", time.Hour: "300"} {
		log := &pressedLog{wait: wait}
		log.before = func(context.Context, []ingest.Record) error { return ingest.ErrFull }
		w := send(newServer(t, log, Options{}), http.MethodPost, "/v1/track", event, devKey...)
		if got := w.Header().Get("Retry-After"); w.Code != http.StatusServiceUnavailable || got != want {
			t.Errorf("wait %v: got %d, Retry-After %q, want 503, %q", wait, w.Code, got, want)
		}
	}
}
