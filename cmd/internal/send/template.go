package send

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/textproto"
	"path"
	"slices"
	"strings"
	"text/template"
	"time"

	"millrace/ingest"
)

// Templates are requests, as they travel: request line, headers, an empty line, body. {{…}} are filled in for each request.
//
//go:embed templates/*.http
var files embed.FS

// Templates returns the names of all templates, sorted. The part before the dot is the scheme, or the kind of the source.
func Templates() []string {
	entries, err := files.ReadDir("templates")
	if err != nil {
		return nil // embedded: it is there
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".http"))
	}
	slices.Sort(names)
	return names
}

// TemplatesFor returns those that suit a source, the usual one first.
func TemplatesFor(src *ingest.Source) []string {
	var names []string
	for _, name := range Templates() {
		if family, _, _ := strings.Cut(name, "."); family == familyOf(src) {
			names = append(names, name)
		}
	}
	if first := usual[familyOf(src)]; first != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return n == first })
		names = slices.Insert(names, 0, first)
	}
	return names
}

// usual is the template of a family that is taken if none is named; of the others it is the first.
var usual = map[string]string{
	"clickstream": "clickstream.track", "stripe": "stripe.charge", "github": "github.push", "shopify": "shopify.order", "slack": "slack.message",
}

// families are schemes that have no template of their own name, and are sent like another.
var families = map[string]string{"standard": "svix", "standard-ed25519": "svix", "gitlab-signed": "gitlab"}

func familyOf(src *ingest.Source) string {
	if src.Kind != ingest.KindWebhook {
		return string(src.Kind)
	}
	if f := families[src.Scheme]; f != "" {
		return f
	}
	for _, name := range Templates() {
		if family, _, _ := strings.Cut(name, "."); family == src.Scheme {
			return family
		}
	}
	return "generic"
}

// message is one request before it is signed.
type message struct {
	method, path string
	header       textproto.MIMEHeader
	body         []byte
	// id is what the body or a header names the event by, as far as the template says.
	id string
}

// filler is what a template can ask for.
type filler struct {
	// N counts the requests of one command from 1.
	N      int
	Source string
	now    time.Time
	id     string
}

// ID returns a provider's id of a prefix and n random characters; the first one is the event's own.
func (f *filler) ID(prefix string, n int) string {
	text := prefix + text(n, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	if f.id == "" {
		f.id = text
	}
	return text
}

// Digits returns n digits, the first of them not 0.
func (f *filler) Digits(n int) string { return text(1, "123456789") + text(n-1, "0123456789") }

// Hex returns n hexadecimal digits.
func (f *filler) Hex(n int) string { return text(n, "0123456789abcdef") }

// UUID returns a random UUID; the first one is the event's own id, if there is no other.
func (f *filler) UUID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	h := hex.EncodeToString(u[:])
	id := h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	if f.id == "" {
		f.id = id
	}
	return id
}

// Unix returns the time in seconds.
func (f *filler) Unix() int64 { return f.now.Unix() }

// Time returns the time as RFC 3339 with milliseconds, in UTC.
func (f *filler) Time() string { return f.now.UTC().Format("2006-01-02T15:04:05.000Z") }

// Between returns a random number of low to high.
func (f *filler) Between(low, high int64) int64 {
	n, err := rand.Int(rand.Reader, big.NewInt(high-low+1))
	if err != nil {
		return low
	}
	return low + n.Int64()
}

// Pick returns one of words.
func (f *filler) Pick(words ...string) string { return words[f.Between(0, int64(len(words)-1))] }

func text(n int, alphabet string) string {
	raw := make([]byte, n)
	rand.Read(raw)
	for i, b := range raw {
		raw[i] = alphabet[int(b)%len(alphabet)]
	}
	return string(raw)
}

// compiled is a template, ready to be filled in.
type compiled struct{ t *template.Template }

func compile(name string) (*compiled, error) {
	b, err := files.ReadFile(path.Join("templates", name+".http"))
	if err != nil {
		return nil, fmt.Errorf("no template %q", name)
	}
	t, err := template.New(name).Parse(string(b))
	if err != nil {
		return nil, fmt.Errorf("parse template %q: %w", name, err)
	}
	return &compiled{t}, nil
}

// fill makes request number n.
func (c *compiled) fill(n int, source string, now time.Time) (*message, error) {
	f := &filler{N: n, Source: source, now: now}
	var out bytes.Buffer
	if err := c.t.Execute(&out, f); err != nil {
		return nil, fmt.Errorf("fill in template %q: %w", c.t.Name(), err)
	}
	r := textproto.NewReader(bufio.NewReader(&out))
	line, err := r.ReadLine()
	if err != nil {
		return nil, fmt.Errorf("read template %q: %w", c.t.Name(), err)
	}
	m := &message{id: f.id}
	m.method, m.path, _ = strings.Cut(line, " ")
	if m.header, err = r.ReadMIMEHeader(); err != nil {
		return nil, fmt.Errorf("read headers of template %q: %w", c.t.Name(), err)
	}
	if m.body, err = io.ReadAll(r.R); err != nil {
		return nil, fmt.Errorf("read body of template %q: %w", c.t.Name(), err)
	}
	m.body = bytes.TrimRight(m.body, "\n")
	return m, nil
}
