package ingest_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

var stream = ingest.Stream{Log: "abcdefghijklmnopqrstuvwxyz", Incarnation: "k3v9", Partition: 7}

func TestStream(t *testing.T) {
	t.Parallel()
	const text = "abcdefghijklmnopqrstuvwxyz/k3v9/7"
	if got := stream.String(); got != text {
		t.Errorf("got %s, want %s", got, text)
	}
	if got, err := ingest.ParseStream(text); err != nil || got != stream {
		t.Errorf("got %v, %v, want %v", got, err, stream)
	}
	// printf %s abcdefghijklmnopqrstuvwxyz/k3v9/7 | sha256sum | cut -c1-10 | xxd -r -p | base32 | tr A-Z a-z
	if got, want := stream.Short(), "4yrbphxk"; got != want {
		t.Errorf("short: got %s, want %s", got, want)
	}
	if !(ingest.Stream{}).IsZero() || stream.IsZero() {
		t.Error("got the wrong stream for zero")
	}
	kafka := ingest.Stream{Log: "MkU3OEVBNTcwNTJENDM2Qk.millrace.events", Incarnation: "0"}
	if got, err := ingest.ParseStream(kafka.String()); err != nil || got != kafka {
		t.Errorf("got %v, %v, want %v", got, err, kafka)
	}
}

func TestStreamInJSON(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(map[string]ingest.Stream{"s": stream})
	if err != nil || string(data) != `{"s":"abcdefghijklmnopqrstuvwxyz/k3v9/7"}` {
		t.Fatalf("got %s, %v, want the stream as one string", data, err)
	}
	var got map[string]ingest.Stream
	if err := json.Unmarshal(data, &got); err != nil || got["s"] != stream {
		t.Errorf("got %v, %v, want %v", got, err, stream)
	}
	if err := json.Unmarshal([]byte(`{"s":"x"}`), &got); err == nil {
		t.Error("got no error for half a stream")
	}
}

func TestParseStreamRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "a", "a/b", "a/b/", "/b/1", "a//1", "a/b/-1", "a/b/x", "a/b/1/2", "a/b/99999999999999999999", "a/b/+1", "a/b/01", "a b/c/1", "a/ü/1",
	} {
		if got, err := ingest.ParseStream(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	other := stream
	other.Partition = 1
	receipt := ingest.Receipt{{Stream: stream, First: 5, Last: 5}, {Stream: other, First: 1 << 40, Last: 1<<40 + 99}}
	const text = "ASFhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ei9rM3Y5LzcFACFhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ei9rM3Y5LzGAgICAgCBj"
	if got := receipt.String(); got != text {
		t.Errorf("got %s, want %s: receipts are kept by senders", got, text)
	}
	got, err := ingest.ParseReceipt(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(receipt, got); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
}

func TestParseReceiptRefuses(t *testing.T) {
	t.Parallel()
	whole := ingest.Receipt{{Stream: stream, First: 5, Last: 900}}.String()
	texts := []string{"", "!", "Ag", "AQ", whole + "!", whole + "A", "AgAA"}
	for n := range whole {
		texts = append(texts, whole[:n])
	}
	for _, text := range texts {
		if got, err := ingest.ParseReceipt(text); !errors.Is(err, ingest.ErrBadReceipt) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, ingest.ErrBadReceipt)
		}
	}
}

func FuzzParseReceipt(f *testing.F) {
	f.Add(ingest.Receipt{{Stream: stream, First: 0, Last: 0}}.String())
	f.Add(ingest.Receipt{{Stream: stream, First: 1, Last: 2}, {Stream: stream, First: 1 << 61, Last: 1<<61 + 1}}.String())
	f.Add("AQABAQ")
	f.Fuzz(func(t *testing.T, text string) {
		receipt, err := ingest.ParseReceipt(text)
		if err != nil {
			if !errors.Is(err, ingest.ErrBadReceipt) {
				t.Fatalf("got %v, want %v", err, ingest.ErrBadReceipt)
			}
			return
		}
		for _, s := range receipt {
			if s.First < 0 || s.Last < s.First || s.Last == math.MaxInt64 {
				t.Fatalf("%q: got span %+v", text, s)
			}
		}
		again, err := ingest.ParseReceipt(receipt.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(receipt, again); diff != "" {
			t.Fatalf("second round (-first +second):\n%s", diff)
		}
	})
}

func FuzzParseStream(f *testing.F) {
	f.Add(stream.String())
	f.Add("a/0/0")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ingest.ParseStream(text); err == nil && s.String() != text {
			t.Fatalf("%q: got %v, which is written otherwise", text, s)
		}
	})
}
