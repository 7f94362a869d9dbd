package api

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/tidwall/gjson"
)

// masked stands for a value that is not shown.
const masked = `"***"`

// secretNames are parts of field names, without punctuation, whose values are not shown.
var secretNames = []string{
	"password", "passwd", "pwd", "secret", "token", "apikey", "accesskey", "privatekey", "writekey", "authorization", "cookie", "signature",
	"credential", "creditcard", "cardnumber", "cvc", "cvv", "iban", "ssn",
}

// masker hides values by the names and paths of their fields. Everything else stays as it is, to the byte.
type masker struct {
	paths map[string]bool // "properties.email"
	names map[string]bool // "*.email": a field of this name, anywhere
}

func newMasker(paths []string) *masker {
	m := &masker{paths: map[string]bool{}, names: map[string]bool{}}
	for _, p := range paths {
		if name, ok := strings.CutPrefix(p, "*."); ok {
			m.names[name] = true
		} else {
			m.paths[p] = true
		}
	}
	return m
}

// hides reports whether the value of a field is not shown.
func (m *masker) hides(path, name string) bool {
	if m.paths[path] || m.names[name] {
		return true
	}
	plain := strings.NewReplacer("_", "", "-", "", ".", "", " ", "").Replace(strings.ToLower(name))
	for _, s := range secretNames {
		if strings.Contains(plain, s) {
			return true
		}
	}
	return false
}

// row returns a row of an object with what is secret masked. The body of a webhook is text: JSON or a form in it is masked inside.
func (m *masker) row(row []byte) []byte {
	var out bytes.Buffer
	m.value(&out, gjson.ParseBytes(row), "")
	return out.Bytes()
}

func (m *masker) value(out *bytes.Buffer, v gjson.Result, path string) {
	switch {
	case v.IsObject():
		sep := byte('{')
		v.ForEach(func(key, val gjson.Result) bool {
			out.WriteByte(sep)
			sep = ','
			out.WriteString(key.Raw)
			out.WriteByte(':')
			at := join(path, key.Str)
			switch {
			case m.hides(at, key.Str):
				out.WriteString(masked)
			case at == "body" && val.Type == gjson.String:
				out.Write(m.body(val.Str))
			default:
				m.value(out, val, at)
			}
			return true
		})
		if sep == '{' {
			out.WriteByte('{')
		}
		out.WriteByte('}')
	case v.IsArray():
		sep := byte('[')
		v.ForEach(func(_, val gjson.Result) bool {
			out.WriteByte(sep)
			sep = ','
			m.value(out, val, path)
			return true
		})
		if sep == '[' {
			out.WriteByte('[')
		}
		out.WriteByte(']')
	default:
		out.WriteString(v.Raw)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// body masks inside of a webhook's body and returns it as a JSON string.
func (m *masker) body(text string) []byte {
	switch trimmed := strings.TrimSpace(text); {
	case strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "["):
		if !gjson.Valid(text) {
			return []byte(masked) // it may have anything in it
		}
		var inner bytes.Buffer
		m.value(&inner, gjson.Parse(text), "body")
		text = inner.String()
	case strings.Contains(text, "="):
		text = m.form(text)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return []byte(masked)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// form masks fields of application/x-www-form-urlencoded.
func (m *masker) form(text string) string {
	fields := strings.Split(text, "&")
	for i, f := range fields {
		raw, _, found := strings.Cut(f, "=")
		name, err := url.QueryUnescape(raw)
		if err != nil {
			name = raw
		}
		if found && m.hides("body."+name, name) {
			fields[i] = raw + "=***"
		}
	}
	return strings.Join(fields, "&")
}
