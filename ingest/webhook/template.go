package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// segment is a piece of a template: text, or a variable of a request.
type segment struct {
	text     string
	bytes    []byte // of text
	variable string
	place    place
}

// template is a compiled template of an [ingest.Scheme].
type template []segment

// variable is how a variable looks; braces around anything else are text, as in JSON.
var variable = regexp.MustCompile(`\{([a-z0-9_]+)(:[^{}"]*)?\}`)

// variables without a place, and those that take one: as it is, or an HMAC over its value.
var (
	plainVariables  = []string{"body", "ts", "id", "method", "url", "url_decoded", "form", "secret", "verify_token"}
	placedVariables = []string{"header", "query", "json"}
	macVariables    = []string{"hmac_hex", "hmac_base64"}
)

func parseTemplate(text string) (template, error) {
	var t template
	at := 0
	for _, m := range variable.FindAllStringSubmatchIndex(text, -1) {
		if m[0] > at {
			t = append(t, literal(text[at:m[0]]))
		}
		seg, err := parseVariable(text[m[2]:m[3]], text[m[0]+1:m[1]-1])
		if err != nil {
			return nil, fmt.Errorf("template %q: %w", text, err)
		}
		t = append(t, seg)
		at = m[1]
	}
	if at < len(text) {
		t = append(t, literal(text[at:]))
	}
	return t, nil
}

func literal(text string) segment { return segment{text: text, bytes: []byte(text)} }

func parseVariable(name, whole string) (segment, error) {
	_, at, placed := strings.Cut(whole, ":")
	switch {
	case !placed && slices.Contains(plainVariables, name):
		return segment{variable: name}, nil
	case placed && slices.Contains(placedVariables, name):
		p, err := parsePlace(whole)
		return segment{variable: "place", place: p}, err
	case placed && slices.Contains(macVariables, name):
		p, err := parsePlace(at)
		return segment{variable: name, place: p}, err
	}
	return segment{}, fmt.Errorf("variable {%s} is none of %q, header:, query:, json:, hmac_hex:, hmac_base64:", whole, plainVariables)
}

// uses reports whether t has one of names.
func (t template) uses(names ...string) bool {
	return slices.ContainsFunc(t, func(s segment) bool { return slices.Contains(names, s.variable) })
}

// writeTo writes what is signed. A hash takes it without a copy of the body.
func (t template) writeTo(w io.Writer, r *request, k *key, url string) {
	for i := range t {
		switch s := &t[i]; s.variable {
		case "":
			w.Write(s.bytes)
		case "body":
			w.Write(r.Body)
		case "form":
			r.writeForm(w)
		case "url":
			io.WriteString(w, url)
		case "url_decoded":
			io.WriteString(w, decodeURL.Replace(url))
		default:
			io.WriteString(w, r.variable(s, k))
		}
	}
}

// variable returns the value of a short variable.
func (r *request) variable(s *segment, k *key) string {
	switch s.variable {
	case "ts":
		return r.first(r.v.timestamp)
	case "id":
		return r.id()
	case "method":
		return r.Method
	case "secret":
		return string(k.raw)
	case "verify_token":
		return r.v.verifyToken
	case "place":
		return r.value(s.place)
	case "hmac_hex":
		return hex.EncodeToString(k.mac([]byte(r.value(s.place))))
	case "hmac_base64":
		return base64.StdEncoding.EncodeToString(k.mac([]byte(r.value(s.place))))
	}
	return ""
}

// text returns a reply; the values in it are escaped as in a JSON string if it is JSON.
func (t template) text(r *request, escape bool) string {
	k := &key{}
	if len(r.v.keys) > 0 {
		k = &r.v.keys[0]
	}
	var b strings.Builder
	for i := range t {
		s := &t[i]
		if s.variable == "" {
			b.WriteString(s.text)
			continue
		}
		value := r.variable(s, k)
		if escape {
			quoted, _ := json.Marshal(value) // a string can always be marshalled
			value = string(quoted[1 : len(quoted)-1])
		}
		b.WriteString(value)
	}
	return b.String()
}

// writeForm writes every parameter of a form, sorted by name: the name, then its values, sorted and each once. So do Twilio's libraries.
func (r *request) writeForm(w io.Writer) {
	form := r.params()
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(form[name]))) {
			io.WriteString(w, name)
			io.WriteString(w, value)
		}
	}
}

// decodeURL undoes the escapes that HubSpot decodes before it signs. Source: HubSpot's "Validating requests", version 3.
var decodeURL = strings.NewReplacer("%3A", ":", "%2F", "/", "%3F", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'", "%28", "(",
	"%29", ")", "%2A", "*", "%2C", ",", "%3B", ";")

// url returns the URL that the sender called.
func (v *Verifier) url(d *Delivery) string {
	switch {
	case v.publicURL == "":
		return d.URL
	case d.RawQuery == "":
		return v.publicURL
	}
	return v.publicURL + "?" + d.RawQuery
}

// otherPorts returns url without its port, and with the one that its scheme has by default: which of the two Twilio signs depends on which of
// its services calls.
func otherPorts(whole string) []string {
	u, err := url.Parse(whole)
	if err != nil || u.Host == "" {
		return nil
	}
	port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	bare := strings.TrimSuffix(u.Host, ":"+u.Port())
	before, after, _ := strings.Cut(whole, u.Host)
	return []string{before + bare + after, before + bare + port + after}
}
