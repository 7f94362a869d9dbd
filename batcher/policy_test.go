package batcher

import (
	"strings"
	"testing"
	"time"
)

func TestPolicyDefaults(t *testing.T) {
	t.Parallel()
	p := Policy{}.WithDefaults()
	want := Policy{
		MaxEvents: 50_000, MaxBytes: 64 << 20, MaxAge: 10 * time.Second, Format: "ndjson", Compression: "gzip", Window: 24 * time.Hour,
	}
	if p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if p.WithDefaults() != p || (Policy{MaxAge: time.Second}).WithDefaults().MaxAge != time.Second {
		t.Error("defaults must leave alone what is set")
	}
	if p.Codec() != "ndjson.gz" || (Policy{Format: "ndjson", Compression: "zstd"}).Codec() != "ndjson.zst" {
		t.Errorf("codec %q", p.Codec())
	}
}

// TestPolicyFaults: each fault is reported, and all at once.
func TestPolicyFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*Policy)
		want  string
	}{
		{"no events", func(p *Policy) { p.MaxEvents = -1 }, "max_events"},
		{"few bytes", func(p *Policy) { p.MaxBytes = 1023 }, "max_bytes"},
		{"many bytes", func(p *Policy) { p.MaxBytes = 1<<30 + 1 }, "max_bytes"},
		{"no age", func(p *Policy) { p.MaxAge = time.Microsecond }, "max_age"},
		{"old", func(p *Policy) { p.MaxAge = time.Hour + 1 }, "max_age"},
		{"negative window", func(p *Policy) { p.Window = -1 }, "dedupe_window"},
		{"long window", func(p *Policy) { p.Window = 31 * 24 * time.Hour }, "dedupe_window"},
		{"format", func(p *Policy) { p.Format = "parquet" }, "format"},
		{"compression", func(p *Policy) { p.Compression = "lz4" }, "compression"},
	}
	all := Policy{}.WithDefaults()
	for _, tt := range tests {
		p := Policy{}.WithDefaults()
		tt.spoil(&p)
		tt.spoil(&all)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one fault of %s", tt.name, err, tt.want)
		}
	}
	if err := all.Validate(); err == nil || strings.Count(err.Error(), "\n") != 5 {
		t.Errorf("six settings are wrong, got: %v", err)
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	p := Policy{MaxEvents: 10, MaxBytes: 1000, MaxAge: time.Minute}
	tests := []struct {
		name string
		lane OpenLane
		age  time.Duration
		want Reason
	}{
		{"young", OpenLane{Rows: 9, Bytes: 999}, time.Minute - 1, ""},
		{"events", OpenLane{Rows: 10, Bytes: 999}, 0, ReasonEvents},
		{"bytes", OpenLane{Rows: 9, Bytes: 1000}, 0, ReasonBytes},
		{"age", OpenLane{Rows: 1, Bytes: 1}, time.Minute, ReasonAge},
		{"only duplicates", OpenLane{}, time.Hour, ReasonAge},
		{"events first", OpenLane{Rows: 10, Bytes: 1000}, time.Hour, ReasonEvents},
		{"clock behind", OpenLane{Rows: 1, Bytes: 1}, -time.Hour, ""},
	}
	for _, tt := range tests {
		tt.lane.FirstReceived = noon
		got, due := p.Due(tt.lane, noon.Add(tt.age))
		if got != tt.want || !due.Equal(noon.Add(time.Minute)) {
			t.Errorf("%s: got %q, due %v, want %q", tt.name, got, due, tt.want)
		}
	}
}

func TestHour(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Time]time.Time{
		noon:                            noon,
		noon.Add(time.Hour - 1):         noon,
		noon.Add(-1):                    noon.Add(-time.Hour),
		noon.In(time.FixedZone("", 90)): noon,
		time.Date(2026, 11, 23, 14, 15, 0, 0, time.FixedZone("", 5*3600+45*60)): time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
	} {
		if got := Hour(in); got != want {
			t.Errorf("Hour(%v) = %v, want %v", in, got, want)
		}
	}
}
