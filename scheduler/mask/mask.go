package mask

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// MinLength is that of the shortest value that is masked, in bytes.
const MinLength = 4

// minLine is that of the shortest line which is masked alone, of a value that has several.
const minLine = 8

// stars is what stands in the place of a secret.
const stars = "***"

// Masker finds the forms of some secrets. It does not change, and is safe for concurrent use.
type Masker struct {
	// forms by their first two bytes, the longest first. pairs has a bit for each of these, and firsts for each first byte.
	forms  map[uint16][]string
	pairs  [1 << 16 / 64]uint64
	firsts [256]bool
	any    bool
	// reach is the length of the shortest form, at most maxReach. A form that begins at i, or behind it, does so at i+steps[h] at the earliest, h being
	// the hash of the two bytes before i+reach: those two stand in no form nearer to its beginning.
	reach int
	steps [1 << stepBits]uint8
}

const (
	stepBits = 12 // 4 KiB, which stay in the processor's nearest cache
	maxReach = 64
)

// stepOf is the hash of two bytes. Two pairs with the same hash only make a step shorter.
func stepOf(a, b byte) uint { return (uint(a)<<4 ^ uint(b)) & (1<<stepBits - 1) }

// New returns a masker of secrets; nil if none of them is long enough to be masked. A nil Masker masks nothing.
func New(secrets []string) *Masker {
	m := &Masker{forms: map[uint16][]string{}}
	seen := map[string]bool{}
	for _, secret := range secrets {
		if len(secret) < MinLength {
			continue
		}
		for _, form := range Forms(secret) {
			if len(form) >= MinLength && !seen[form] {
				seen[form] = true
				m.add(form)
			}
		}
	}
	if !m.any {
		return nil
	}
	m.learn()
	for _, list := range m.forms {
		slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	}
	return m
}

// learn fills in reach and steps, from all forms.
func (m *Masker) learn() {
	m.reach = maxReach
	for _, list := range m.forms {
		for _, form := range list {
			m.reach = min(m.reach, len(form))
		}
	}
	for h := range m.steps {
		m.steps[h] = uint8(m.reach - 1)
	}
	for _, list := range m.forms {
		for _, form := range list {
			for at := range m.reach - 1 {
				h := stepOf(form[at], form[at+1])
				m.steps[h] = min(m.steps[h], uint8(m.reach-2-at))
			}
		}
	}
}

func (m *Masker) add(form string) {
	p := uint16(form[0])<<8 | uint16(form[1])
	m.forms[p] = append(m.forms[p], form)
	m.pairs[p/64] |= 1 << (p % 64)
	m.firsts[form[0]] = true
	m.any = true
}

// Forms returns the texts in which a secret may be written, itself first.
func Forms(secret string) []string {
	out := []string{secret, strings.TrimRight(secret, "\r\n")}
	if lines := strings.Split(secret, "\n"); len(lines) > 1 {
		for _, line := range lines {
			if line = strings.TrimSpace(line); len(line) >= minLine {
				out = append(out, line)
			}
		}
		out = append(out, strings.ReplaceAll(secret, "\n", "\r\n"))
	}
	if text, err := json.Marshal(secret); err == nil {
		out = append(out, strings.Trim(string(text), `"`))
	}
	query, path := url.QueryEscape(secret), url.PathEscape(secret)
	out = append(out, query, path, strings.ReplaceAll(query, "+", "%20"))
	return append(out, base64Forms(secret)...)
}

// base64Forms returns what of the base64 of a text that has the secret within it depends on the secret alone: three texts, by where the secret
// begins, in both alphabets. A short secret would leave forms of a few letters, which are found everywhere; of those only the whole one stays.
func base64Forms(secret string) []string {
	var out []string
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		whole := enc.EncodeToString([]byte(secret))
		out = append(out, whole, strings.TrimRight(whole, "="))
		for before := range 3 {
			text := enc.EncodeToString([]byte(strings.Repeat("\x00", before) + secret))
			from := []int{0, 2, 3}[before]       // letters that the bytes before have a part in
			to := (before + len(secret)) * 8 / 6 // letters that nothing after has a part in
			if part := text[from:to]; len(part) >= minLine {
				out = append(out, part)
			}
		}
	}
	return out
}

// String returns text with all secrets masked.
func (m *Masker) String(text string) string {
	if m == nil || text == "" {
		return text
	}
	s := Stream{m: m}
	return string(s.End(s.Next(nil, []byte(text))))
}

// JSON is String for a JSON document, which stays one: a number that is a secret becomes "***". What is no JSON is masked as text.
func (m *Masker) JSON(doc []byte) []byte {
	if m == nil || len(doc) == 0 {
		return doc
	}
	masked := []byte(m.String(string(doc)))
	if string(masked) == string(doc) || json.Valid(masked) || !json.Valid(doc) {
		return masked
	}
	dec := json.NewDecoder(strings.NewReader(string(doc)))
	dec.UseNumber()
	var val any
	if dec.Decode(&val) != nil {
		return masked
	}
	raw, err := json.Marshal(m.value(val))
	if err != nil {
		return masked
	}
	return raw
}

// value masks the texts and numbers within a decoded document.
func (m *Masker) value(val any) any {
	switch val := val.(type) {
	case string:
		return m.String(val)
	case json.Number:
		if text := m.String(val.String()); text != val.String() {
			return text
		}
	case []any:
		for i := range val {
			val[i] = m.value(val[i])
		}
	case map[string]any:
		out := make(map[string]any, len(val))
		for k, v := range val {
			out[m.String(k)] = m.value(v)
		}
		return out
	}
	return val
}
