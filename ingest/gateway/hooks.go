package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"millrace/ingest"
	"millrace/ingest/webhook"
)

// hook answers /hooks/{source}: a handshake as the sender expects it; else the signature is checked over the bytes as they came, they become
// one record, and only then they are looked at.
func (s *Server) hook(x *exchange) error {
	src := s.sources.Load().hooks[x.name]
	if src == nil {
		return errNoSource
	}
	x.count = src.count
	if err := x.read(x.limits.MaxEvent); err != nil {
		return err
	}
	d := x.delivery(src)
	if answer, ok := src.hook.Greet(d, false); ok {
		x.reply(answer, nil)
		return nil
	}
	if err := src.hook.Verify(d); err != nil {
		src.count.badSignature(err)
		x.reject(src, err)
		return nil
	}
	if answer, ok := src.hook.Greet(d, true); ok {
		x.reply(answer, nil)
		return nil
	}
	rec, err := webhook.Row(&src.Source, src.hook, d, src.lane)
	if err != nil {
		return err
	}
	rec.Trace = x.trace()
	receipt, err := x.store([]ingest.Record{rec})
	if err != nil {
		return err
	}
	src.count.hook()
	x.reply(src.hook.Reply(d), receipt)
	return nil
}

// delivery is the request as package webhook sees it.
func (x *exchange) delivery(src *source) *webhook.Delivery {
	d := &webhook.Delivery{
		Method: x.r.Method, Path: x.r.URL.Path, RawQuery: x.r.URL.RawQuery, Header: x.r.Header, Body: x.body, Received: x.received,
		Rest: strings.Trim(strings.TrimPrefix(x.r.URL.Path, "/hooks/"+src.Name), "/"),
	}
	if src.hook.SignsURL() {
		d.URL = requestedURL(x.r, &x.s.opts.Front)
	}
	return d
}

// requestedURL is the URL that the client asked for: below the one that the listener is known by, if that is configured. What proxies say of
// it is believed as far back as they are ours: each appends to the list what it saw, so the entry that the outermost of ours wrote is the one
// that the client can not have invented.
func requestedURL(r *http.Request, front *Front) string {
	if front.PublicURL != "" {
		return strings.TrimSuffix(front.PublicURL, "/") + r.URL.RequestURI()
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if said := forwarded(r.Header, "X-Forwarded-Proto", front.TrustedProxies); said == "http" || said == "https" {
		scheme = said
	}
	if said := forwarded(r.Header, "X-Forwarded-Host", front.TrustedProxies); said != "" {
		host = said
	}
	return scheme + "://" + host + r.URL.RequestURI()
}

// forwarded returns the entry of a proxies' header that the outermost of n trusted proxies wrote, or the first, if there are fewer: many
// proxies replace the header rather than append to it.
func forwarded(h http.Header, name string, n int) string {
	if n <= 0 {
		return ""
	}
	return stepsBack(h.Values(name), n)
}

// reply answers a delivery or a handshake. The body may repeat what the sender said, so nobody may take it for a page.
func (x *exchange) reply(answer webhook.Reply, receipt ingest.Receipt) {
	h := x.w.Header()
	if len(receipt) > 0 {
		x.receipt[0] = receipt.String()
		h["X-Millrace-Receipt"] = x.receipt[:]
	}
	if answer.Body != "" {
		h.Set("Content-Type", answer.Type)
		h.Set("X-Content-Type-Options", "nosniff")
	}
	x.status = http.StatusOK // all success is counted as one code
	x.w.WriteHeader(answer.Status)
	if answer.Status != http.StatusNoContent {
		x.w.Write([]byte(answer.Body))
	}
}

// rejection is the body of a 401.
type rejection struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

// reject answers a delivery that is not believed. Code and message are the same for all reasons; error and reason are for the person who looks at the
// sender's log of deliveries. 401 is what all providers take for a fault of the endpoint's configuration, and what Xero insists on.
func (x *exchange) reject(src *source, err error) {
	f := faultOf(err)
	reason, detail := "", f.message
	for _, row := range signatureFaults {
		if errors.Is(err, row.err) {
			reason = row.reason
		}
	}
	var why *webhook.Rejection
	if errors.As(err, &why) {
		detail = why.Detail
	}
	h := x.w.Header()
	h["Content-Type"] = jsonType
	if challenge := src.hook.Challenge(); challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
	x.status = f.status
	x.s.metrics.refused(f.code)
	x.w.WriteHeader(f.status)
	// An answer that can not be written has nobody who waits for it.
	_ = json.NewEncoder(x.w).Encode(rejection{Error: detail, Code: f.code, Message: f.message, Reason: reason})
}
