package clickstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/ingest"
)

// depth returns how deep valid JSON nests.
func depth(text []byte) (deepest int) {
	level := 0
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			level++
			deepest = max(deepest, level)
		case json.Delim('}'), json.Delim(']'):
			level--
		}
	}
}

// FuzzScanner: the scanner takes what encoding/json takes, up to MaxDepth, and sees every line break.
func FuzzScanner(f *testing.F) {
	for _, text := range []string{
		`{"a":[1,-0.5e+7,true,false,null,"x\"\\\/\b\f\n\r\t\u00e9"]}`, `"\ud800"`, "[1,\n2]", `{"a":1,}`, `01`, `-`, `1.`, `1e`, `"\x"`, `"\u12g4"`,
		"\"\x1f\"", "\"aaaaaaaa\x00\"", "\"\x80\"", strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65),
		"\"\x1faaaaaaaaaaaaaaaa\"", "\"aaaaaaaaa\x1faaaaaaaaaaaaaa\"", `{"a"}`, `{1:2}`, `tru`, `nulll`, `[1 2]`, "\"1234567\\\"8\"", "{\"\":\"\"}", " [ ] ", "{ }",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := scanner{buf: text}
		end := s.value(s.space(0), 0)
		got := end != bad && s.space(end) == len(text)
		want := json.Valid(text)
		if want && depth(text) > MaxDepth {
			want = false
		}
		if got != want {
			t.Fatalf("got %v, want %v for %q", got, want, text)
		}
		if got && s.multiline != bytes.ContainsAny(text, "\r\n") {
			t.Errorf("got multiline %v for %q", s.multiline, text)
		}
	})
}

// FuzzDecoder: whatever comes, the decoder does not panic; if it takes the body, it gives as many records as there are events, each one valid
// JSON on one line; and a body that is JSON and small enough is taken if it is of the right shape.
func FuzzDecoder(f *testing.F) {
	files, err := filepath.Glob("testdata/rows/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("got no bodies, %v", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, byte(0), false)
		f.Add(body, byte(Track), true)
	}
	for _, context := range []string{`{"ip":"10.1.2.3","direct":true}`, `{"\u0069p":null,"ip":" "}`, `null`, `7`, `{ }`, `{"ip":{"ip":[]}}`} {
		f.Add([]byte(`{"userId":"1","event":"e","context":`+context+`,"z":1}`), byte(Track), true)
		f.Add([]byte(`{"context":`+context+`,"batch":[{"userId":"1","type":"page","context":{"ip":"::1"},"context":`+context+`}]}`), byte(0), true)
	}
	var targets [3]*Target
	for i, policy := range []ingest.IPPolicy{ingest.IPKeep, ingest.IPAnonymize, ingest.IPDrop} {
		targets[i] = NewTarget(&ingest.Source{Tenant: "default", Name: "web", IP: policy, LaneKeys: []ingest.LaneKey{{Name: "v", Path: "context.v"}}})
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte, known bool) {
		typ := Type(kind % byte(NumTypes))
		d := NewDecoder(Limits{MaxEvents: 100})
		if err := d.Scan(body, typ); err != nil {
			if !errors.Is(err, ErrBadBody) && !errors.Is(err, ingest.ErrTooLarge) {
				t.Fatalf("got %v, want a sentinel", err)
			}
			if n := eventsOf(body, typ); n >= 0 && n <= 100 && depth(body) <= MaxDepth {
				t.Fatalf("refused a good body: %v", err)
			}
			return
		}
		router := anyKey{targets[int(kind)%len(targets)]}
		if !known {
			router.t = nil
		}
		recs, err := d.Records(router, Input{Received: received, Orphan: func(int) bool { return true },
			Sender: Sender{IP: phone, Agent: "Mozilla/5.0", Server: kind > 100}})
		if err != nil {
			t.Fatal(err)
		}
		if n := eventsOf(body, typ); n >= 0 && n != len(recs) || len(recs) != len(d.items) {
			t.Errorf("got %d records of %d items, want %d", len(recs), len(d.items), n)
		}
		for i := range recs {
			checkRecord(t, &recs[i])
			if known && kind%3 == 2 && !recs[i].Lane.Quarantine() {
				checkNoAddress(t, recs[i].Payload)
			}
		}
	})
}

// checkNoAddress: a row of a source that drops addresses has none in its context, by whatever name.
func checkNoAddress(t *testing.T, row []byte) {
	t.Helper()
	var fields, context map[string]json.RawMessage // maps, because structs take names of any case
	if err := json.Unmarshal(row, &fields); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(fields["context"], &context) // one that is no object has none
	if _, ok := context["ip"]; ok {
		t.Errorf("got an address in %s, want none", row)
	}
}

// eventsOf returns how many events the standard library sees in a body, or -1 if it is none.
func eventsOf(body []byte, typ Type) int {
	if typ != 0 {
		if json.Valid(body) {
			return 1
		}
		return -1
	}
	// Decoded by hand, because encoding/json matches names without regard to case.
	var env map[string]json.RawMessage
	var events []json.RawMessage
	if json.Unmarshal(body, &env) != nil || json.Unmarshal(env["batch"], &events) != nil || events == nil {
		return -1
	}
	return len(events)
}
