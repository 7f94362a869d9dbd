package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/labstack/echo/v4"

	"millrace/ingest"
	"millrace/ingest/clickstream"
)

// maxKept is the size of buffers beyond which an exchange is not used again, so that a few large requests do not hold memory for ever.
const maxKept = 1 << 20

// exchange is one request and its answer, with buffers that are used again by later ones.
type exchange struct {
	s          *Server
	limits     *Limits // when the request began
	decoder    *clickstream.Decoder
	keepOrphan func(bytes int) bool

	w        http.ResponseWriter
	r        *http.Request
	name     string // the path's source
	received time.Time
	count    *sourceCounters
	status   int
	held     int // what the body was charged with
	share    int // how many eighths of Limits.MaxInflight may be held when this body is charged

	body    []byte
	key     []byte
	auth    string // the last Authorization whose user was read
	user    []byte // that user
	wire    wire
	unzip   gzip.Reader
	receipt [1]string
}

func (s *Server) newExchange(l *Limits) *exchange {
	x := &exchange{s: s, limits: l, decoder: clickstream.NewDecoder(l.decode())}
	x.keepOrphan = func(bytes int) bool { return s.orphans.Load().AllowN(time.Now(), bytes) }
	return x
}

// exchange returns one with the limits of now.
func (s *Server) exchange() *exchange {
	x, l := s.pool.Get().(*exchange), s.limits.Load()
	if x.limits != l {
		return s.newExchange(l)
	}
	return x
}

// The shares of Limits.MaxInflight, in eighths. Who will not come again is shed last.
const (
	shareBulk    = 4
	shareSDK     = 7
	shareWebhook = 8
)

// handle makes a handler of work, which answers by itself or returns why not.
func (s *Server) handle(share int, work func(*exchange) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		x := s.exchange()
		x.w, x.r, x.name, x.share = c.Response(), c.Request(), "", share
		if names := c.ParamValues(); len(names) > 0 {
			x.name = names[0]
		}
		x.received = time.Now().UTC().Truncate(time.Microsecond)
		x.count, x.status = s.metrics.unknown, 0
		s.metrics.inflight.Add(1)
		s.serving.RLock()
		defer x.end()
		if err := work(x); err != nil {
			x.refuse(err)
		}
		return nil
	}
}

// end closes an exchange, also one that panicked: that one gets 500, if nothing was answered yet, and its buffers are not used again.
func (x *exchange) end() {
	s := x.s
	problem := recover()
	if problem != nil {
		s.opts.Log.Error("request panicked", "err", problem, "stack", string(debug.Stack()))
		if x.status == 0 {
			x.refuse(errPanic)
		}
	}
	x.count.request(x.status, time.Since(x.received), len(x.body))
	s.held.Add(int64(-x.held))
	s.metrics.inflight.Add(-1)
	s.serving.RUnlock()
	if problem == nil && cap(x.body)+x.decoder.Footprint() <= maxKept {
		x.w, x.r, x.count, x.wire, x.held, x.body = nil, nil, nil, wire{}, 0, x.body[:0]
		s.pool.Put(x)
	}
}

// charge counts n more bytes of this body against its share of Limits.MaxInflight and reports whether there is room.
func (x *exchange) charge(n int) bool {
	x.held += n
	return x.s.held.Add(int64(n)) <= int64(x.limits.MaxInflight)/8*int64(x.share)
}

// read reads the body as it is, at most limit bytes of it, into x.body.
func (x *exchange) read(limit int) error {
	if x.r.ContentLength > int64(limit) {
		return fmt.Errorf("read body of %d bytes: %w", x.r.ContentLength, errTooLong)
	}
	// What a client announces is not yet worth its memory.
	if want := min(int(x.r.ContentLength)+1, 64<<10); cap(x.body) < want {
		x.body = make([]byte, 0, want)
	}
	x.wire = wire{x: x, from: x.r.Body}
	return x.fill(&x.wire, limit)
}

// readPlain reads the body as read does, and decompresses it if it says that it is compressed.
func (x *exchange) readPlain(limit int) error {
	coding := ""
	if said := x.r.Header["Content-Encoding"]; len(said) > 0 {
		coding = strings.ToLower(said[0])
	}
	switch coding {
	case "", "identity":
		return x.read(limit)
	case "gzip", "x-gzip":
	default:
		return fmt.Errorf("read body with coding %q: %w", coding, errCoding)
	}
	if x.r.ContentLength > int64(x.limits.MaxCompressed) {
		return fmt.Errorf("read compressed body of %d bytes: %w", x.r.ContentLength, errTooLong)
	}
	x.wire = wire{x: x, from: x.r.Body, limit: int64(x.limits.MaxCompressed)}
	err := x.unzip.Reset(&x.wire)
	if err == nil {
		err = x.fill(&x.unzip, limit)
	}
	return x.unpacked(err)
}

// unpacked says whose fault it is that a compressed body could not be read: that of its bytes, unless they did not even come.
func (x *exchange) unpacked(err error) error {
	switch {
	case err == nil || errors.Is(err, errTooLong) || errors.Is(err, errBusy) || errors.Is(err, errRatio):
		return err
	case x.wire.err != nil:
		return fmt.Errorf("read compressed body: %w: %w", brokeOff(x.wire.err), err)
	}
	return fmt.Errorf("decompress body: %w: %w", errCoding, err)
}

// wire is the body as it comes. It gives a client that is slow, but not too slow, the time that its bytes need, and remembers why the body broke
// off, which a reader on top of it may tell otherwise.
type wire struct {
	x      *exchange
	from   io.Reader
	limit  int64 // 0: none
	n      int64
	looked time.Duration // how old the request was when its speed was looked at
	paused time.Duration // how long nobody read
	err    error
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if w.n += int64(n); w.limit > 0 && w.n > w.limit {
		err = errTooLong
	}
	if err != nil && err != io.EOF {
		w.err = err
	} else if err == nil && w.n > short {
		w.extend()
	}
	return n, err
}

const (
	// short is how long a body may be without its speed being looked at.
	short = 4 << 10
	// answerTime is how long a client may take to read its answer.
	answerTime = 30 * time.Second
)

// extend moves the deadline, which the http.Server has set, now and then.
func (w *wire) extend() {
	age := time.Since(w.x.received)
	if age < w.looked+w.x.limits.BodyTimeout/4 {
		return
	}
	w.looked = age
	w.setDeadline()
}

// pause says that nobody read for d, which was not the client's fault.
func (w *wire) pause(d time.Duration) {
	w.paused += d
	w.setDeadline()
}

// setDeadline sets the deadline to where the bytes that came have earned it.
func (w *wire) setDeadline() {
	l := w.x.limits
	until := w.x.received.Add(l.BodyTimeout + w.paused + time.Duration(float64(w.n)/float64(l.MinBodyRate)*float64(time.Second)))
	control := http.NewResponseController(w.x.w)
	// A ResponseWriter without deadlines is a test's.
	_ = control.SetReadDeadline(until)
	_ = control.SetWriteDeadline(until.Add(answerTime))
}

// brokeOff returns the error of the table for why a body did not come whole.
func brokeOff(err error) error {
	switch {
	case errors.Is(err, errTooLong), errors.Is(err, errFraming):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	}
	return errBody
}

// fill reads all of from into x.body, or fails when that is more than limit.
func (x *exchange) fill(from io.Reader, limit int) error {
	for {
		if len(x.body) == cap(x.body) {
			x.body = slices.Grow(x.body, max(len(x.body), 4<<10))
		}
		n, err := from.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		if len(x.body) > limit {
			return fmt.Errorf("read body of more than %d bytes: %w", limit, errTooLong)
		}
		if x.bomb(int64(len(x.body))) {
			return fmt.Errorf("decompress %d bytes to more than %d: %w", x.wire.n, len(x.body), errRatio)
		}
		if over := len(x.body) - x.held; over > 0 && !x.charge(over) {
			return errBusy
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read body: %w: %w", brokeOff(err), err)
		}
	}
}

// fair is how large a decompressed body may be whatever its ratio: events that repeat themselves compress well.
const fair = 1 << 20

// bomb reports whether plain bytes are too many for those that came.
func (x *exchange) bomb(plain int64) bool {
	return plain > fair && plain/int64(x.limits.MaxRatio) > x.wire.n
}

// append makes recs durable and answers.
func (x *exchange) append(recs []ingest.Record) error {
	receipt, err := x.store(recs)
	if err != nil {
		return err
	}
	x.accept(receipt)
	return nil
}

// store makes recs durable, if their sources may bring so many.
func (x *exchange) store(recs []ingest.Record) (ingest.Receipt, error) {
	if rates := x.s.rates.Load(); rates != nil {
		if err := rates.take(recs, time.Now()); err != nil {
			return nil, err
		}
	}
	receipt, err := x.s.log.Append(lifeOf(x.r.Context()), recs)
	if x.s.health.saw(err) {
		x.s.opts.Log.Warn("log does not take appends", "err", err)
	}
	if err != nil {
		return nil, fmt.Errorf("append %d records: %w", len(recs), err)
	}
	return receipt, nil
}

var (
	jsonType = []string{"application/json"}
	success  = []byte(`{"success":true}`)
)

// accept answers 200. WriteHeader copies the headers, so what they point to may be used again.
func (x *exchange) accept(receipt ingest.Receipt) {
	h := x.w.Header()
	h["Content-Type"] = jsonType
	x.setReceipt(receipt)
	x.status = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	x.w.Write(success)
}

// setReceipt names the records of the request in its answer.
func (x *exchange) setReceipt(receipt ingest.Receipt) {
	if len(receipt) > 0 {
		x.receipt[0] = receipt.String()
		x.w.Header()["X-Millrace-Receipt"] = x.receipt[:]
	}
}

// refuse answers as the table says.
func (x *exchange) refuse(err error) {
	f := faultOf(err)
	x.status = f.status
	if f.code == internal.code && !errors.Is(err, errPanic) {
		x.s.opts.Log.Error("request failed", "err", err)
	}
	x.s.metrics.refused(f.code)
	if f.code == "rate" {
		x.count.limited.Inc()
	}
	writeFault(x.w, f, x.s.retryAfter(f, err))
}

// trace returns the request's W3C traceparent (version 00), or "".
func (x *exchange) trace() string {
	t := x.r.Header["Traceparent"]
	if len(t) != 1 || len(t[0]) != 55 || t[0][:3] != "00-" {
		return ""
	}
	for i, c := range []byte(t[0]) {
		dash := i == 2 || i == 35 || i == 52
		if dash != (c == '-') || !dash && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return ""
		}
	}
	return t[0]
}
