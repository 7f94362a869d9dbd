package clickstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

var update = flag.Bool("update", false, "write golden files anew")

var received = time.Date(2026, 11, 23, 8, 38, 35, 123456000, time.UTC)

// keys routes "dev" to the source web and "app" to app.
type keys map[string]*Target

func (k keys) Route(key []byte) *Target { return k[string(key)] }

func newKeys() keys {
	return keys{"dev": NewTarget(&ingest.Source{Tenant: "default", Name: "web"}), "app": NewTarget(&ingest.Source{Tenant: "acme", Name: "app"})}
}

func decode(t testing.TB, body string, typ Type, key string) []ingest.Record {
	t.Helper()
	d := NewDecoder(Limits{})
	if err := d.Scan([]byte(body), typ); err != nil {
		t.Fatalf("scan %s: %v", body, err)
	}
	in := Input{Received: received, Key: []byte(key), Orphan: func(int) bool { return true }}
	if key == "" {
		in.Key = d.WriteKey()
	}
	recs, err := d.Records(newKeys(), in)
	if err != nil {
		t.Fatalf("records of %s: %v", body, err)
	}
	return recs
}

// TestRows compares the rows of each body in testdata/rows with its golden file: per record its lane, type, event time, routing key and row.
func TestRows(t *testing.T) {
	t.Parallel()
	bodies, err := filepath.Glob("testdata/rows/*.json")
	if err != nil || len(bodies) < 20 {
		t.Fatalf("got %d bodies, %v, want at least 20", len(bodies), err)
	}
	for _, file := range bodies {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var typ Type
			if kind, _, _ := strings.Cut(name, "_"); kind != "batch" {
				typ = typeOf([]byte(kind))
			}
			var got bytes.Buffer
			for _, r := range decode(t, string(body), typ, "") {
				checkRecord(t, &r)
				row := uuids.ReplaceAll(r.Payload, []byte("<uuid>"))
				event := "-"
				if !r.EventAt.IsZero() {
					event = r.EventAt.Format(time.RFC3339Nano)
				}
				fmt.Fprintf(&got, "%s type=%q event=%s routing=%q\n%s\n", r.Lane, r.Type, event, uuids.ReplaceAllString(r.RoutingKey, "<uuid>"), row)
			}
			golden := strings.TrimSuffix(file, ".json") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("rows differ (-want +got):\n%s", diff)
			}
		})
	}
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// checkRecord holds for every record, whatever came in.
func checkRecord(t testing.TB, r *ingest.Record) {
	t.Helper()
	if err := r.Validate(); err != nil {
		t.Errorf("record of %s: %v", r.Payload, err)
	}
	if !json.Valid(r.Payload) || bytes.ContainsAny(r.Payload, "\r\n") || !bytes.Equal(r.Payload, bytes.ToValidUTF8(r.Payload, nil)) {
		t.Errorf("payload is not JSON in UTF-8 on one line: %q", r.Payload)
	}
	if r.Dedupe == [16]byte{} || r.RoutingKey == "" || r.ReceivedAt != received {
		t.Errorf("got dedupe %x, routing %q, received %v, want all set", r.Dedupe, r.RoutingKey, r.ReceivedAt)
	}
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth)
	for _, tt := range []struct {
		name, body string
		typ        Type
		want       error
	}{
		{"empty", "", Track, ErrBadBody},
		{"white space", " \n", Track, ErrBadBody},
		{"no JSON", "hello", Track, ErrBadBody},
		{"two values", `{"userId":"1"} {}`, Track, ErrBadBody},
		{"cut off", `{"userId":"1"`, Track, ErrBadBody},
		{"control character in a string", "{\"userId\":\"a\nb\"}", Track, ErrBadBody},
		{"NUL in a string", "{\"userId\":\"a\x00b\"}", Track, ErrBadBody},
		{"byte order mark", "\ufeff{\"userId\":\"1\"}", Track, ErrBadBody},
		{"batch is no object", `[{"userId":"1"}]`, 0, ErrBadBody},
		{"batch without events", `{"sentAt":"2026-11-23T08:38:32Z"}`, 0, ErrBadBody},
		{"batch is null", `{"batch":null}`, 0, ErrBadBody},
		{"batch cut off in an event", `{"batch":[{"userId":"1"},{"user`, 0, ErrBadBody},
		{"batch cut off in a string with brackets", `{"batch":[{"userId":"1"},{"user":"]}`, 0, ErrBadBody},
		{"batch with bad neighbours", `{"batch":[],"context":tru}`, 0, ErrBadBody},
		{"batch-level context too deep", `{"batch":[],"context":` + deep + `}`, 0, ErrBadBody},
		{"too many events", `{"batch":[` + strings.Repeat("1,", 10_000) + `1]}`, 0, ingest.ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := NewDecoder(Limits{}).Scan([]byte(tt.body), tt.typ); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestDepth: an event may nest MaxDepth deep, itself included; one deeper is set aside whole.
func TestDepth(t *testing.T) {
	t.Parallel()
	nest := func(n int) string {
		return `{"userId":"1","event":"e","p":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"
	}
	for _, tt := range []struct {
		name, body string
		typ        Type
		want       []string
	}{
		{"single at the limit", nest(MaxDepth), Track, []string{""}},
		{"single beyond", nest(MaxDepth + 1), Track, []string{"too_deep"}},
		{"one of a batch beyond", `{"batch":[` + strings.Replace(nest(MaxDepth), "{", `{"type":"track",`, 1) + "," + nest(MaxDepth+1) + "]}", 0,
			[]string{"", "too_deep"}},
		{"far beyond", nest(1_000_00), Track, []string{"too_deep"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, r := range decode(t, tt.body, tt.typ, "dev") {
				checkRecord(t, &r)
				got = append(got, r.Lane.Value("reason"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("reasons differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTooLarge: an event of a batch beyond MaxEvent is set aside, its neighbours are not, and what is kept of it is cut between characters.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	d := NewDecoder(Limits{MaxEvent: 100})
	good := `{"type":"page","userId":"1"}`
	if err := d.Scan([]byte(`{"batch":[`+good+`,{"type":"page","userId":"`+strings.Repeat("é", 60)+`"},`+good+`]}`), 0); err != nil {
		t.Fatal(err)
	}
	recs, err := d.Records(newKeys(), Input{Received: received, Key: []byte("dev")})
	if err != nil || len(recs) != 3 {
		t.Fatalf("got %d records, %v, want 3", len(recs), err)
	}
	for i, want := range []string{"", "too_large", ""} {
		checkRecord(t, &recs[i])
		if got := recs[i].Lane.Value("reason"); got != want {
			t.Errorf("record %d: got reason %q, want %q", i, got, want)
		}
	}
	var aside struct{ Raw string }
	if err := json.Unmarshal(recs[1].Payload, &aside); err != nil || len(aside.Raw) > 100 || len(aside.Raw) < 98 || strings.Contains(aside.Raw, "\ufffd") {
		t.Errorf("got raw %q, %v, want 98 to 100 bytes of whole characters", aside.Raw, err)
	}
}

// TestDefaultsAreBounded: a batch's context is repeated in each row, so a small body could ask for a lot of memory.
func TestDefaultsAreBounded(t *testing.T) {
	t.Parallel()
	d := NewDecoder(Limits{MaxRows: 1 << 20})
	item := `{"type":"page","userId":"1"},`
	body := `{"context":{"a":"` + strings.Repeat("x", 10_000) + `"},"batch":[` + strings.Repeat(item, 200) + `1]}`
	if err := d.Scan([]byte(body), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Records(newKeys(), Input{Received: received, Key: []byte("dev")}); !errors.Is(err, ingest.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ingest.ErrTooLarge)
	}
}

// TestDedupe: what a sender sends again has the same id, whatever else it says and however it is written; what another source sends has not.
func TestDedupe(t *testing.T) {
	t.Parallel()
	id := func(body, key string) [16]byte { return decode(t, body, Page, key)[0].Dedupe }
	first := id(`{"messageId":"m1","userId":"1"}`, "dev")
	for name, body := range map[string]string{
		"later":      `{"messageId":"m1","userId":"1","sentAt":"2026-11-23T09:38:32Z"}`,
		"escaped":    `{"message\u0049d":"\u006d1","userId":"1"}`,
		"with space": `{"messageId":" m1\t","userId":"1"}`,
		"doubled":    `{"messageId":"m0","userId":"1","messageId":"m1"}`,
	} {
		if got := id(strings.ReplaceAll(body, "\t", `\t`), "dev"); got != first {
			t.Errorf("%s: got %x, want %x", name, got, first)
		}
	}
	if first != ingest.DedupeID("web", "m1") {
		t.Errorf("got %x, want the id of the source and the messageId", first)
	}
	for name, other := range map[string][16]byte{
		"other source": id(`{"messageId":"m1","userId":"1"}`, "app"),
		"other id":     id(`{"messageId":"m2","userId":"1"}`, "dev"),
		"no id":        id(`{"userId":"1"}`, "dev"),
		"null":         id(`{"messageId":null,"userId":"1"}`, "dev"),
		"blank":        id(`{"messageId":" ","userId":"1"}`, "dev"),
		"set aside":    id(`{"messageId":"m1"}`, "dev"),
		"unknown key":  id(`{"messageId":"m1","userId":"1"}`, "nobody"),
	} {
		if other == first {
			t.Errorf("%s: got the same id, want another", name)
		}
	}
	if once, again := id(`{"messageId":"m1"}`, "dev"), id(`{"messageId":"m1"}`, "dev"); once != again {
		t.Error("an event that was set aside has another id when it is repeated, want the same")
	}
	if one, other := id(`{"userId":"1"}`, "dev"), id(`{"userId":"1"}`, "dev"); one == other {
		t.Error("two events without id have the same, want random ones")
	}
}

// TestRoutes: the key of the request goes before those of the events; tallies say what came to whom.
func TestRoutes(t *testing.T) {
	t.Parallel()
	body := `{"batch":[{"type":"page","userId":"1","writeKey":"dev"},{"type":"track","userId":"1","writeKey":"app"},` +
		`{"type":"page","userId":"1"},{"type":"page","userId":"1","writeKey":"dev"}]}`
	for _, tt := range []struct {
		name, key string
		orphans   bool
		want      []ingest.Lane
	}{
		{"each its own", "", true, []ingest.Lane{"events/tenant=default/source=web", "quarantine/tenant=acme/source=app/reason=no_event",
			"quarantine/tenant=default/source=_unknown/reason=unknown_key", "events/tenant=default/source=web"}},
		{"no room for orphans", "", false, []ingest.Lane{"events/tenant=default/source=web", "quarantine/tenant=acme/source=app/reason=no_event",
			"events/tenant=default/source=web"}},
		{"the request's", "app", true, []ingest.Lane{"events/tenant=acme/source=app", "quarantine/tenant=acme/source=app/reason=no_event",
			"events/tenant=acme/source=app", "events/tenant=acme/source=app"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, targets := NewDecoder(Limits{}), newKeys()
			if err := d.Scan([]byte(body), 0); err != nil {
				t.Fatal(err)
			}
			recs, err := d.Records(targets, Input{Received: received, Key: []byte(tt.key), Orphan: func(int) bool { return tt.orphans }})
			if err != nil {
				t.Fatal(err)
			}
			var got []ingest.Lane
			for i := range recs {
				got = append(got, recs[i].Lane)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lanes differ (-want +got):\n%s", diff)
			}
			sum := 0
			for _, tally := range d.Tallies() {
				for _, n := range append(tally.Accepted[:], tally.Rejected[:]...) {
					sum += n
				}
			}
			if sum != 4 {
				t.Errorf("tallies count %d events, want 4", sum)
			}
		})
	}
}
