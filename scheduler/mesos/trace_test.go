package mesos

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// line is one of a trace: testdata/traces/README.md says what they are.
type line struct {
	Kind string          `json:"kind"`
	Conn int             `json:"conn"`
	Path string          `json:"path"`
	Text string          `json:"text"`
	JSON json.RawMessage `json:"json"`
}

func traces(t *testing.T) map[string][]line {
	t.Helper()
	names, err := filepath.Glob("testdata/traces/*.jsonl")
	if err != nil || len(names) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	out := map[string][]line{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for text := range bytes.Lines(data) {
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			out[filepath.Base(name)] = append(out[filepath.Base(name)], l)
		}
	}
	return out
}

// again decodes a message strictly into v, encodes that, and returns both as plain JSON.
func again(t *testing.T, message json.RawMessage, v any) (got, want any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(message))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, message)
	}
	body, err := json.Marshal(v)
	if err := errors.Join(err, json.Unmarshal(body, &got), json.Unmarshal(message, &want)); err != nil {
		t.Fatal(err)
	}
	return got, want
}

// TestEventsOfTraces: every event that a real master was seen to send is taken without loss.
func TestEventsOfTraces(t *testing.T) {
	t.Parallel()
	n := 0
	for name, lines := range traces(t) {
		for i, l := range lines {
			if l.Kind != "event" {
				continue
			}
			n++
			got, want := again(t, l.JSON, new(Event))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s line %d: event differs (-seen +ours)\n%s", name, i+1, diff)
			}
		}
	}
	if n < 400 {
		t.Errorf("got %d events, want those of the traces, more than 400", n)
	}
}

// TestCallsOfTraces: every call that a real master was seen to take can be said.
func TestCallsOfTraces(t *testing.T) {
	t.Parallel()
	n := 0
	for name, lines := range traces(t) {
		if name == "08-errors.jsonl" {
			continue // Its calls are wrong on purpose.
		}
		for i, l := range lines {
			if l.Kind != "request" || !strings.HasSuffix(l.Path, SchedulerPath) || len(l.JSON) == 0 || wrong(l.JSON) {
				continue
			}
			n++
			got, want := again(t, l.JSON, new(Call))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s line %d: call differs (-seen +ours)\n%s", name, i+1, diff)
			}
		}
	}
	if n < 400 {
		t.Errorf("got %d calls, want those of the traces, more than 400", n)
	}
}

// wrong: two more are.
func wrong(call []byte) bool {
	return bytes.Contains(call, []byte(`"wibble"`)) || bytes.Contains(call, []byte(`"!!notbase64"`))
}

// TestRecordsOfTraces: the chunks of each answer, put together, are the records that were seen.
func TestRecordsOfTraces(t *testing.T) {
	t.Parallel()
	records := 0
	for name, lines := range traces(t) {
		streams, want := map[int]*bytes.Buffer{}, map[int][]json.RawMessage{}
		for _, l := range lines {
			switch {
			case l.Kind == "chunk" && streams[l.Conn] == nil:
				streams[l.Conn] = bytes.NewBufferString(l.Text)
			case l.Kind == "chunk":
				streams[l.Conn].WriteString(l.Text)
			case l.Kind == "event":
				want[l.Conn] = append(want[l.Conn], l.JSON)
			}
		}
		for conn, events := range want {
			r := NewReader(byteByByte{streams[conn]})
			for _, event := range events {
				record, err := r.Next()
				if err != nil {
					t.Fatalf("%s connection %d: %v", name, conn, err)
				}
				var got, seen any
				if err := errors.Join(json.Unmarshal(record, &got), json.Unmarshal(event, &seen)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(seen, got); diff != "" {
					t.Errorf("%s connection %d: record differs (-seen +ours)\n%s", name, conn, diff)
				}
				records++
			}
		}
	}
	if records < 400 {
		t.Errorf("got %d records, want more than 400", records)
	}
}

// byteByByte is the worst of connections.
type byteByByte struct{ r io.Reader }

func (r byteByByte) Read(p []byte) (int, error) { return r.r.Read(p[:min(1, len(p))]) }
