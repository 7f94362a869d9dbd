package batcher

import (
	"errors"
	"fmt"
	"time"
)

// Reason says why a lane was cut.
type Reason string

// The reasons for a cut, as in the metric millrace_batch_sealed_total.
const (
	ReasonEvents Reason = "events" // MaxEvents reached
	ReasonBytes  Reason = "bytes"  // MaxBytes reached
	ReasonAge    Reason = "age"    // MaxAge since the first record
	ReasonHour   Reason = "hour"   // the next record belongs to a later hour
	ReasonMemory Reason = "memory" // the worker's memory is full, or the lane holds the log back
	ReasonDrain  Reason = "drain"  // the stream has ended, or the process drains
)

// Policy says when a lane of a source is cut and how its rows are written. The zero value takes the defaults.
type Policy struct {
	// MaxEvents is the number of rows at which a batch is cut; default 50,000.
	MaxEvents int64 `yaml:"max_events"`
	// MaxBytes is the size of its rows before compression; default 64 MiB.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge is the time from the receipt of the first record to the cut; default 10 s, at most 1 h.
	MaxAge time.Duration `yaml:"max_age"`
	// Format is "ndjson". Compression is "gzip" (default) or "zstd".
	Format      string `yaml:"format"`
	Compression string `yaml:"compression"`
	// Window is how far back a repeated event is recognised; default 24 h.
	Window time.Duration `yaml:"dedupe_window"`
}

// WithDefaults fills what is zero.
func (p Policy) WithDefaults() Policy {
	def := func(have *int64, want int64) {
		if *have == 0 {
			*have = want
		}
	}
	def(&p.MaxEvents, 50_000)
	def(&p.MaxBytes, 64<<20)
	def((*int64)(&p.MaxAge), int64(10*time.Second))
	def((*int64)(&p.Window), int64(24*time.Hour))
	if p.Format == "" {
		p.Format = "ndjson"
	}
	if p.Compression == "" {
		p.Compression = "gzip"
	}
	return p
}

// Validate reports all that is wrong with p, after WithDefaults.
func (p Policy) Validate() error {
	var errs []error
	if p.MaxEvents < 1 {
		errs = append(errs, fmt.Errorf("max_events is %d, want at least 1", p.MaxEvents))
	}
	if p.MaxBytes < 1<<10 || p.MaxBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("max_bytes is %d, want 1 KiB to 1 GiB", p.MaxBytes))
	}
	if p.MaxAge < time.Millisecond || p.MaxAge > time.Hour {
		errs = append(errs, fmt.Errorf("max_age is %v, want 1ms to 1h", p.MaxAge))
	}
	if p.Window < 0 || p.Window > 30*24*time.Hour {
		errs = append(errs, fmt.Errorf("dedupe_window is %v, want 0 to 720h", p.Window))
	}
	if p.Format != "ndjson" {
		errs = append(errs, fmt.Errorf("format is %q, want ndjson", p.Format))
	}
	if p.Compression != "gzip" && p.Compression != "zstd" {
		errs = append(errs, fmt.Errorf("compression is %q, want gzip or zstd", p.Compression))
	}
	return errors.Join(errs...)
}

// Codec names how rows become bytes; it is also the extension of the object's key.
func (p Policy) Codec() string {
	if p.Compression == "zstd" {
		return p.Format + ".zst"
	}
	return p.Format + ".gz"
}

// OpenLane is what the decision to cut sees of a lane: the records that are in no cut yet.
type OpenLane struct {
	// Rows and Bytes count the records that would be kept; Bytes before compression.
	Rows, Bytes int64
	// FirstReceived is the receive time of the first record.
	FirstReceived time.Time
}

// Due returns the reason for which the lane must be cut now, or "" and the time at which age alone will be one. It is pure.
func (p Policy) Due(l OpenLane, now time.Time) (Reason, time.Time) {
	due := l.FirstReceived.Add(p.MaxAge)
	switch {
	case l.Rows >= p.MaxEvents:
		return ReasonEvents, due
	case l.Bytes >= p.MaxBytes:
		return ReasonBytes, due
	case !now.Before(due):
		return ReasonAge, due
	}
	return "", due
}

// Hour returns the start of t's hour in UTC: a batch is cut before the first record of a later hour than its first record's.
func Hour(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }
