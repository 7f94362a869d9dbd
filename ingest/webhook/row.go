package webhook

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"millrace/ingest"
)

// Type is the type of records whose sender gave none.
const Type = "webhook"

// row is the line of an object. Body is the text of the request if it is plain text, as all JSON is; otherwise BodyBase64 has its bytes.
type row struct {
	ID          string              `json:"id"`
	Source      string              `json:"source"`
	Type        string              `json:"type"`
	ReceivedAt  string              `json:"receivedAt"`
	Method      string              `json:"method"`
	Path        string              `json:"path"`
	Query       map[string][]string `json:"query"`
	Headers     map[string]string   `json:"headers"`
	ContentType string              `json:"contentType"`
	Body        *string             `json:"body,omitempty"`
	BodyBase64  []byte              `json:"bodyBase64,omitempty"`
	Verified    bool                `json:"verified"`
}

// Row returns the record of a delivery that src's verifier let through.
func Row(src *ingest.Source, v *Verifier, d *Delivery, lane ingest.Lane) (ingest.Record, error) {
	id, typ := v.Identify(d)
	if id == "" {
		id = newID()
	}
	if typ == "" {
		typ = Type
	}
	query, err := url.ParseQuery(d.RawQuery)
	if err != nil && query == nil {
		query = url.Values{}
	}
	r := row{
		ID: id, Source: src.Name, Type: typ, ReceivedAt: d.Received.UTC().Format("2006-01-02T15:04:05.000Z"), Method: d.Method, Path: d.Path,
		Query: query, Headers: safeHeaders(d.Header), ContentType: d.Header.Get("Content-Type"), Verified: v.Signed(),
	}
	v.redact(&r, d)
	if plain(d.Body) {
		text := string(d.Body)
		r.Body = &text
	} else {
		r.BodyBase64 = d.Body
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&r); err != nil {
		return ingest.Record{}, fmt.Errorf("write row of webhook %q: %w", src.Name, err)
	}
	return ingest.Record{
		Lane: lane, Type: cut(typ, ingest.MaxType), Dedupe: ingest.DedupeID(src.Name, id), ReceivedAt: d.Received,
		Payload: bytes.TrimSuffix(out.Bytes(), []byte("\n")), RoutingKey: src.Tenant + "/" + src.Name,
	}, nil
}

// safeHeaders returns the headers by lower-case name, without those that carry credentials or signatures. Values of the same name are joined
// by ", ", which means the same (RFC 9110, section 5.3).
func safeHeaders(h http.Header) map[string]string {
	safe := make(map[string]string, len(h))
	for name, values := range h {
		if name = strings.ToLower(name); !secretHeader(name) {
			safe[name] = strings.Join(values, ", ")
		}
	}
	return safe
}

// redact takes from the row what the scheme reads its signatures from, wherever in the head of the request that is.
func (v *Verifier) redact(r *row, d *Delivery) {
	for _, p := range v.signature {
		switch p.kind {
		case "header":
			start, many := strings.CutSuffix(strings.ToLower(p.name), "*")
			maps.DeleteFunc(r.Headers, func(name, _ string) bool { return name == start || many && strings.HasPrefix(name, start) })
		case "query":
			delete(r.Query, p.name)
		case "path":
			if d.Rest != "" {
				r.Path = strings.TrimSuffix(strings.TrimSuffix(r.Path, "/"), "/"+d.Rest)
			}
		}
	}
}

func secretHeader(name string) bool {
	for _, part := range [...]string{"authorization", "cookie", "signature", "token", "secret", "api-key", "write-key"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// plain reports whether body survives as a JSON string and stays readable there: UTF-8 without control characters but tab and line breaks.
func plain(body []byte) bool {
	for _, c := range body {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid(body)
}

// cut returns at most n bytes of text, whole characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%s-%s-%s-%s-%s", hex.EncodeToString(u[:4]), hex.EncodeToString(u[4:6]), hex.EncodeToString(u[6:8]),
		hex.EncodeToString(u[8:10]), hex.EncodeToString(u[10:]))
}
