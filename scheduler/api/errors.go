package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// Errors of the console itself.
var (
	errToken    = errors.New("no valid token")
	errPassword = errors.New("password is not the token")
	errOrigin   = errors.New("cross-origin request")
	errHost     = errors.New("unknown host")
	errNotHere  = errors.New("not in this process")
	errBusy     = errors.New("busy")
	errTooLong  = errors.New("body too long")
	errPanic    = errors.New("panic")

	// What a process does not have for want of a role; the text says which role has it.
	errNoSchedule = fmt.Errorf("%w: batches, DAGs and runs are kept by the process with the role schedule; ask the console of that one", errNotHere)
	errNoObjects  = fmt.Errorf("%w: chain and objects are read by processes with the role batch or schedule; ask the console of one of them", errNotHere)
)

// ErrNotHeld is what Deps.Resume returns for a ledger that is not on hold.
var ErrNotHeld = errors.New("dispatch is not on hold")

// invalid is a request that can not be carried out; the text is for the client.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", scheduler.ErrInvalid, fmt.Sprintf(format, args...))
}

// fault is what a client is told about an error.
type fault struct {
	status int
	// code is stable: programs compare it.
	code  string
	title string
	// detail says that the error's own text was written for the client.
	detail bool
}

// faults says what each error is answered with; the first that matches counts.
var faults = []struct {
	err error
	fault
}{
	{errToken, fault{http.StatusUnauthorized, "unauthorized", "the console's token is missing or not valid", false}},
	{errPassword, fault{http.StatusUnauthorized, "unauthorized", "the password is not the console's token; any user name will do", false}},
	{errOrigin, fault{http.StatusForbidden, "cross_origin", "another site may not do this", false}},
	{errHost, fault{http.StatusMisdirectedRequest, "wrong_host", "the console does not answer to this host name; see console.hosts", false}},
	{errNotHere, fault{http.StatusNotImplemented, "not_here", "this process does not have the role for it; ask one that has", true}},
	{errBusy, fault{http.StatusConflict, "busy", "the same is going on already", false}},
	{ErrNotHeld, fault{http.StatusConflict, "not_held", "dispatch is not on hold: there was no restore, or it was resumed", false}},
	{trigger.ErrUnavailable, fault{http.StatusServiceUnavailable, "unavailable", "the scheduler or a chain is not ready for it; try again", true}},
	{errTooLong, fault{http.StatusRequestEntityTooLarge, "too_large", "the body is larger than the console takes", false}},
	{scheduler.ErrNotFound, fault{http.StatusNotFound, "not_found", "there is no such thing", true}},
	{batcher.ErrNotFound, fault{http.StatusNotFound, "not_found", "the object does not exist", false}},
	{scheduler.ErrInvalid, fault{http.StatusUnprocessableEntity, "invalid", "the request can not be carried out as it stands", true}},
	{scheduler.ErrDecided, fault{http.StatusConflict, "decided", "somebody has decided already", true}},
	{scheduler.ErrConflict, fault{http.StatusConflict, "conflict", "it was changed by another; look again", false}},
	{scheduler.ErrUnavailable, fault{http.StatusServiceUnavailable, "unavailable", "the store or an executor does not answer; try again", false}},
	{batcher.ErrDamaged, fault{http.StatusBadGateway, "damaged",
		"the object store has the object, and other bytes than were put: restore it from a copy; 'millrace verify' names all that are damaged", false}},
	{batcher.ErrUnavailable, fault{http.StatusServiceUnavailable, "unavailable", "the object store does not answer; try again", false}},
	{batcher.ErrUnknownVersion, fault{http.StatusNotImplemented, "unknown_version", "it was written by a newer version", false}},
	{context.DeadlineExceeded, fault{http.StatusGatewayTimeout, "timeout", "it took too long", false}},
	{echo.ErrNotFound, fault{http.StatusNotFound, "not_found", "there is nothing here", false}},
	{echo.ErrMethodNotAllowed, fault{http.StatusMethodNotAllowed, "method", "this route does not take this method", false}},
}

// internal is the fault of all other errors.
var internal = fault{http.StatusInternalServerError, "internal", "something went wrong here; the log of the server says what", false}

func faultOf(err error) fault {
	for _, row := range faults {
		if errors.Is(err, row.err) {
			return row.fault
		}
	}
	return internal
}

// problem is the body of an error, RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// fail answers with the fault of err: a problem document below /api, what Airflow has below /api/v2, else a page.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed { // A stream that broke: there is no way to say so but to end it.
		s.o.Logger.Debug("answer broken off", "path", c.Path(), "err", err)
		return
	}
	f := faultOf(err)
	if f == internal && !errors.Is(err, context.Canceled) {
		s.o.Logger.Error("console request failed", "path", c.Path(), "err", err)
	}
	p := problem{Type: "about:blank", Title: f.title, Status: f.status, Code: f.code}
	if f.detail {
		p.Detail = err.Error()
	}
	h := c.Response().Header()
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="millrace"`)
	}
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "2")
	}
	if speaksAirflow(c.Request().URL.Path) {
		airflowFault(c, p)
		return
	}
	if !strings.HasPrefix(c.Request().URL.Path, "/api/") {
		s.pages.fault(c, p)
		return
	}
	h.Set(echo.HeaderContentType, "application/problem+json")
	c.Response().WriteHeader(f.status)
	_ = json.NewEncoder(c.Response()).Encode(p) // The client is gone; there is nobody to tell.
}

// logWriter takes what echo says of its own.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("http framework", "text", strings.TrimSpace(string(p)))
	return len(p), nil
}
