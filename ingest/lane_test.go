package ingest_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"millrace/ingest"
)

func TestLanes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		lane ingest.Lane
		want string
	}{
		{"no keys", ingest.EventLane("default", "web"), "events/tenant=default/source=web"},
		{
			"keys keep their order", ingest.EventLane("t", "s", ingest.KeyValue{Key: "z", Value: "1"}, ingest.KeyValue{Key: "a", Value: "2"}),
			"events/tenant=t/source=s/z=1/a=2",
		},
		{
			"a hostile value", ingest.EventLane("t", "s", ingest.KeyValue{Key: "k", Value: "../x=y"}),
			"events/tenant=t/source=s/k=..%2Fx%3Dy",
		},
		{"no value", ingest.EventLane("t", "s", ingest.KeyValue{Key: "k"}), "events/tenant=t/source=s/k=__null__"},
		{"quarantine", ingest.QuarantineLane("t", "s", "bad_json"), "quarantine/tenant=t/source=s/reason=bad_json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if string(tt.lane) != tt.want {
				t.Errorf("got %s, want %s", tt.lane, tt.want)
			}
			if got, err := ingest.ParseLane(string(tt.lane)); err != nil || got != tt.lane {
				t.Errorf("parse: got %q, %v, want it back", got, err)
			}
		})
	}
}

func TestLaneAccessors(t *testing.T) {
	t.Parallel()
	l := ingest.EventLane("acme", "web", ingest.KeyValue{Key: "country", Value: "de"})
	for got, want := range map[string]string{
		l.Tenant(): "acme", l.Source(): "web", l.Value("country"): "de", l.Value("count"): "", l.Value("events"): "",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if l.Quarantine() || !ingest.QuarantineLane("acme", "web", "x").Quarantine() {
		t.Error("got the wrong lane for quarantine")
	}
}

func TestParseLaneRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "/", "events", "events/", "events/tenant=t", "events/tenant=t/", "other/tenant=t/source=s", "events/source=s/tenant=t",
		"events/tenant=/source=s", "events/tenant=t/source=", "events/tenant=t/source=s/", "events/tenant=t/source=s//k=v",
		"events/tenant=t/source=s/k", "events/tenant=t/source=s/=v", "events/tenant=t/source=s/k=", "events/tenant=t/source=s/k=..",
		"events/tenant=t/source=s/k=a b", "events/tenant=t/source=s/k=a\x00", "events/tenant=t/source=s/k=a=b", "events/tenant=ü/source=s",
		"/events/tenant=t/source=s", "events//tenant=t/source=s", "tenant=t/source=s",
	} {
		if got, err := ingest.ParseLane(text); !errors.Is(err, ingest.ErrBadLane) || got != "" {
			t.Errorf("%q: got %q, %v, want %v", text, got, err, ingest.ErrBadLane)
		}
	}
}

func TestEncodeLaneValue(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 60)
	for value, want := range map[string]string{
		"":               "__null__",
		"de":             "de",
		"A.b_c-9":        "A.b_c-9",
		"_x":             "%5Fx",
		"__null__":       "%5F_null__",
		"__other__":      "%5F_other__",
		"a_":             "a_",
		".":              "%2E",
		"..":             "%2E.",
		"...":            "...",
		"a/b":            "a%2Fb",
		"100%":           "100%25",
		"ü":              "%C3%BC",
		"\x00":           "%00",
		long + "bcde":    long + "bcde",
		long + "bcdef":   long + "bcde",
		long + "b/":      long + "b%2F",
		long + "bc/":     long + "bc",
		long + "bcd/x":   long + "bcd",
		long + "/" + "F": long + "%2FF",
	} {
		if got := ingest.EncodeLaneValue(value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func FuzzEncodeLaneValue(f *testing.F) {
	for _, seed := range []string{"", ".", "..", "_", "__other__", "%", "a/b=c", strings.Repeat("é", 40), strings.Repeat("x", 63) + "/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := ingest.EncodeLaneValue(value)
		if len(got) == 0 || len(got) > ingest.MaxLaneValue {
			t.Fatalf("%q: got %d bytes, want 1–%d", value, len(got), ingest.MaxLaneValue)
		}
		if _, err := ingest.ParseLane("events/tenant=t/source=s/k=" + got); err != nil {
			t.Fatalf("%q: got %q, which no lane may have: %v", value, got, err)
		}
		if value == "" {
			return
		}
		if got == ingest.LaneNull || got == ingest.LaneOther {
			t.Fatalf("%q: got the reserved value %q", value, got)
		}
		if back, err := url.PathUnescape(got); err != nil || !strings.HasPrefix(value, back) || len(got) <= ingest.MaxLaneValue-3 && back != value {
			t.Fatalf("%q: got %q, which means %q, %v", value, got, back, err)
		}
	})
}

func FuzzParseLane(f *testing.F) {
	for _, seed := range []string{"events/tenant=t/source=s", "quarantine/tenant=t/source=s/reason=r", "events/tenant=t/source=s/a=b/c=d", "a/b/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ingest.ParseLane(text)
		if err != nil {
			return
		}
		if string(l) != text || l.Tenant() == "" || l.Source() == "" {
			t.Fatalf("%q: got %q with tenant %q and source %q", text, l, l.Tenant(), l.Source())
		}
		for _, part := range strings.Split(text, "/") {
			if part == "" || part == "." || part == ".." {
				t.Fatalf("%q: got a lane with the part %q", text, part)
			}
		}
	})
}
