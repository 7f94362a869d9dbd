package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	// bulkChunk is about how many bytes of lines are made durable at a time.
	bulkChunk = 256 << 10
	// zstdWindow is the largest window of a zstd frame that is taken, which is what its decoder needs of memory.
	zstdWindow = 8 << 20
	// maxFailures is how many failed lines an answer lists.
	maxFailures = 1000
)

// bulk answers /bulk/{source}: NDJSON of any length, in memory that does not depend on it.
//
//	body ─▶ gzip, zstd ─▶ lines of a chunk ─▶ Append ─▶ the next chunk … ─▶ 200 with what became of the lines
//
// Unlike all else it is not all or nothing: when the answer is not 200, the lines up to the one that it names are durable. A sender who gives
// an Idempotency-Key sends all of it again; line i is folded with what it was before by its id, which is the key, '#' and i.
func (s *Server) bulk(x *exchange) error {
	src := s.sources.Load().events[x.name]
	if src == nil {
		return errNoBulk
	}
	x.count = src.count
	if !src.opens(x.r.Header.Get("Authorization")) {
		return errToken
	}
	key, err := idempotencyKey(x.r.Header)
	if err != nil {
		return err
	}
	from, closeFrom, err := x.unpack()
	if err != nil {
		return err
	}
	defer closeFrom()
	up := &upload{x: x, src: src, key: key, from: from}
	up.begin()
	if err := up.run(); err != nil {
		x.partly(up, err)
	} else {
		x.answerBulk(up)
	}
	return nil
}

// opens reports whether an Authorization header has a token of the source. It takes as long for a wrong token as for a right one.
func (src *source) opens(auth string) bool {
	scheme, token, _ := strings.Cut(auth, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum, found := sha256.Sum256([]byte(strings.TrimSpace(token))), 0
	for _, t := range src.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], t[:])
	}
	return found == 1
}

var (
	errNoBulk = errors.New("no such source of events")
	errKey    = errors.New("idempotency key")
	errLines  = errors.New("no line was taken")
)

// idempotencyKey returns the request's Idempotency-Key, or "": up to 200 visible characters, in quotes or not.
func idempotencyKey(h http.Header) (string, error) {
	values := h["Idempotency-Key"]
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	ok := len(values) == 1 && len(key) > 0 && len(key) <= 200
	for _, c := range []byte(key) {
		ok = ok && c > ' ' && c < 0x7f
	}
	if !ok {
		return "", fmt.Errorf("read Idempotency-Key of %d bytes: %w", len(values[0]), errKey)
	}
	return key, nil
}

// unpack returns the body without its coding.
func (x *exchange) unpack() (io.Reader, func(), error) {
	x.wire = wire{x: x, from: x.r.Body}
	nothing := func() {}
	coding := strings.ToLower(x.r.Header.Get("Content-Encoding"))
	switch coding {
	case "", "identity":
		if x.r.ContentLength > x.limits.MaxBulk {
			return nil, nil, fmt.Errorf("read bulk of %d bytes: %w", x.r.ContentLength, errTooLong)
		}
		return &x.wire, nothing, nil
	case "gzip", "x-gzip":
		if err := x.unzip.Reset(&x.wire); err != nil {
			return nil, nil, x.unpacked(err)
		}
		return &x.unzip, nothing, nil
	case "zstd":
		if !x.charge(zstdWindow) {
			return nil, nil, errBusy
		}
		z, err := zstd.NewReader(&x.wire, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, x.unpacked(err)
		}
		return z, z.Close, nil
	}
	return nil, nil, fmt.Errorf("read bulk with coding %q: %w", coding, errCoding)
}

// bulkAnswer is the body of an answer to a bulk upload.
type bulkAnswer struct {
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Lines is how many of the body were looked at, blank ones too; up to DurableLines nothing need be sent again.
	Lines        int `json:"lines"`
	DurableLines int `json:"durable_lines"`
	Accepted     int `json:"accepted"`
	Failed       int `json:"failed"`
	// FailedRecords lists the first maxFailures of those that failed.
	FailedRecords []badLine `json:"failed_records"`
}

func (u *upload) answer() bulkAnswer {
	return bulkAnswer{
		Success: u.failed == 0, Lines: u.line, DurableLines: u.durable, Accepted: u.accepted, Failed: u.failed, FailedRecords: u.failures,
	}
}

// answerBulk answers 200 if any line was taken, or there was none.
func (x *exchange) answerBulk(u *upload) {
	a := u.answer()
	x.status = http.StatusOK
	if u.accepted == 0 && u.failed > 0 {
		f := faultOf(errLines)
		x.status, a.Error, a.Code, a.Message = f.status, f.message, f.code, f.message
		x.s.metrics.refused(f.code)
	}
	x.writeBulk(u, a, 0)
}

// partly answers an upload that broke off, with what is durable of it.
func (x *exchange) partly(u *upload, err error) {
	a, f := u.answer(), faultOf(err)
	x.status, a.Success, a.Error, a.Code, a.Message = f.status, false, f.message, f.code, f.message
	if f.code == internal.code {
		x.s.opts.Log.Error("bulk upload failed", "source", u.src.Name, "err", err)
	}
	x.s.metrics.refused(f.code)
	x.writeBulk(u, a, x.s.retryAfter(f, err))
}

func (x *exchange) writeBulk(u *upload, a bulkAnswer, retry int) {
	h := x.w.Header()
	h["Content-Type"] = jsonType
	if len(u.receipt) > 0 {
		h["X-Millrace-Receipt"] = []string{u.receipt.String()}
	}
	if retry > 0 {
		h["Retry-After"] = []string{strconv.Itoa(retry)}
	}
	x.w.WriteHeader(x.status)
	_ = json.NewEncoder(x.w).Encode(&a) // a client that is gone does not read it
}
