package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/ingest"
	"millrace/ingest/clickstream"
	"millrace/ingest/webhook"
)

// Errors of the gateway itself.
var (
	errTooLong    = errors.New("body too long")
	errCoding     = errors.New("body coding")
	errBody       = errors.New("body incomplete")
	errBusy       = errors.New("too many bytes in flight")
	errUnknownKey = errors.New("unknown write key")
	errNoSource   = errors.New("no such source")
	errPanic      = errors.New("panic")
	errRatio      = errors.New("body grows too much")
	errSlow       = errors.New("body too slow")
	errHeaders    = errors.New("too many headers")
	errMethod     = errors.New("method is not served")
	errToken      = errors.New("no such token")
)

// fault is what a client is told about an error.
type fault struct {
	status int
	code   string
	// message is for people. Nothing internal is in it.
	message string
	// retry is the Retry-After in seconds for faults that pass; 0 sends none.
	retry int
}

// faults says what each error is answered with; the first that matches counts. The statuses are those that every SDK gets right: 400 is the
// only rejection that none of them repeats for ever (analytics-swift posts a 401, 413 or 422 again and again), 503 is repeated by all, and
// Retry-After is read only as an integer.
var faults = []struct {
	err error
	fault
}{
	{ingest.ErrFull, fault{http.StatusServiceUnavailable, "log_full", "the log is full; come back later", 10}},
	{ingest.ErrTooLarge, fault{http.StatusBadRequest, "too_large", "the request is too large to be stored", 0}},
	{ingest.ErrUnavailable, fault{http.StatusServiceUnavailable, "log_unavailable", "the log can not be written now; come back later", 5}},
	{ingest.ErrFailed, fault{http.StatusServiceUnavailable, "log_failed", "the log can not be written; come back later", 30}},
	{ingest.ErrClosed, fault{http.StatusServiceUnavailable, "shutting_down", "the server is shutting down; come back later", 5}},
	{context.Canceled, fault{http.StatusServiceUnavailable, "cut_off", "the request was cut off; come back later", 5}},
	{context.DeadlineExceeded, fault{http.StatusServiceUnavailable, "timeout", "the log took too long; come back later", 5}},
	{clickstream.ErrBadBody, fault{http.StatusBadRequest, "bad_json", "the body is not JSON of this route", 0}},
	{errTooLong, fault{http.StatusBadRequest, "too_large", "the body is larger than the server takes", 0}},
	{errRatio, fault{http.StatusBadRequest, "ratio", "the body grows more than the server takes when it is decompressed (ingest.max_ratio); send it without compression", 0}},
	{errCoding, fault{http.StatusBadRequest, "bad_encoding", "the body is not what its Content-Encoding says, or that is not gzip (bulk: or zstd)", 0}},
	{errFraming, fault{http.StatusBadRequest, "framing", "the body's chunks are not well formed", 0}},
	{errHeaders, fault{http.StatusBadRequest, "headers", "the request has more header lines than the server takes", 0}},
	{errSlow, fault{http.StatusServiceUnavailable, "slow_body", "the body came too slowly; send it again, or in smaller parts", 1}},
	{errBody, fault{http.StatusServiceUnavailable, "incomplete", "the body did not come whole; send it again", 1}},
	{errBusy, fault{http.StatusServiceUnavailable, "busy", "the server has too much to do; come back later", 1}},
	{errRate, fault{http.StatusTooManyRequests, "rate", "the source or its tenant brings more events than it may; come back later", 1}},
	{errConns, fault{http.StatusServiceUnavailable, "connections", "the server has too many connections; come back later", 5}},
	{errConnsOfIP, fault{http.StatusTooManyRequests, "connections", "there are too many connections from this address; come back later", 5}},
	{errUnknownKey, fault{http.StatusBadRequest, "unknown_key", "no source has this write key", 0}},
	{errOrigin, fault{http.StatusBadRequest, "origin", "this source takes no events from pages of this origin; its owner can add it to the source's origins", 0}},
	{errNoSource, fault{http.StatusNotFound, "no_source", "no webhook has this name", 0}},
	{webhook.ErrUnsigned, fault{http.StatusUnauthorized, "bad_signature", "the signature is missing or not valid", 0}},
	{webhook.ErrMismatch, fault{http.StatusUnauthorized, "bad_signature", "the signature is missing or not valid", 0}},
	{webhook.ErrStale, fault{http.StatusUnauthorized, "bad_signature", "the signature is missing or not valid", 0}},
	{echo.ErrNotFound, fault{http.StatusNotFound, "not_found", "there is nothing here", 0}},
	{errNoBulk, fault{http.StatusNotFound, "no_source", "no source of kind events has this name", 0}},
	{errKey, fault{http.StatusBadRequest, "idempotency_key", "Idempotency-Key is one value of 1 to 200 visible characters", 0}},
	{errLines, fault{http.StatusBadRequest, "bad_lines", "no line of the body could be taken; failed_records says why", 0}},
	{errToken, fault{http.StatusUnauthorized, "bad_token", "the bearer token is missing or not one of this source's tokens", 0}},
	{errMethod, fault{http.StatusMethodNotAllowed, "method", "this route does not take this method", 0}},
	{echo.ErrMethodNotAllowed, fault{http.StatusMethodNotAllowed, "method", "this route does not take this method", 0}},
}

// internal is the fault of all other errors.
var internal = fault{http.StatusInternalServerError, "internal", "something went wrong here; come back later", 5}

func faultOf(err error) fault {
	for _, row := range faults {
		if errors.Is(err, row.err) {
			return row.fault
		}
	}
	return internal
}

// maxRetryAfter is the longest wait in seconds that SDKs follow.
const maxRetryAfter = 300

// retryAfter returns the seconds after which a fault may have passed: what the log says if it is full, when a bucket has room again, else what
// the table says.
func (s *Server) retryAfter(f fault, err error) int {
	var early *limited
	if errors.As(err, &early) {
		return seconds(early.wait)
	}
	p, ok := s.log.(ingest.Pressure)
	if !ok || f.code != "log_full" {
		return f.retry
	}
	_, _, wait := p.Pressure()
	if wait <= 0 {
		return f.retry
	}
	return seconds(wait)
}

// seconds rounds up to what SDKs read.
func seconds(wait time.Duration) int {
	return max(1, min(int((wait+time.Second-1)/time.Second), maxRetryAfter))
}

// writeFault answers with a fault. SDKs read different fields of its body: analytics-python breaks without code and message, analytics-ruby
// shows error.
func writeFault(w http.ResponseWriter, f fault, retry int) {
	h := w.Header()
	h["Content-Type"] = jsonType
	if retry > 0 {
		h["Retry-After"] = []string{strconv.Itoa(retry)}
	}
	w.WriteHeader(f.status)
	fmt.Fprintf(w, `{"success":false,"error":%q,"code":%q,"message":%q}`, f.message, f.code, f.message)
}
