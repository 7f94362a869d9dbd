package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest/vfs"
)

// Defaults of [Options].
const (
	DefaultSegmentBytes = 64 << 20
	DefaultMaxDelay     = 2 * time.Millisecond
	DefaultMaxBytes     = 10 << 30
	DefaultMaxRecord    = 8 << 20
	// DefaultReserve is the free space that the log leaves on its disk, if it is less than 5 % of the disk.
	DefaultReserve = 1 << 30
)

// Options tune a log. The zero value works.
type Options struct {
	// Partition is the number that the log goes by; fixed at the first Open of a directory. Default 0.
	Partition int
	// SegmentBytes is the size to which a segment is preallocated. Default 64 MiB, at least 4 KiB.
	SegmentBytes int64
	// MaxDelay bounds how long a group waits for company before it is synced, when the last group had company. Default 2 ms; negative: not
	// at all.
	MaxDelay time.Duration
	// MaxBytes bounds what the log holds; beyond it Append returns ErrFull. Default 10 GiB, at least two segments.
	MaxBytes int64
	// MaxRecord bounds the stored form of one record, in bytes. Default 8 MiB, at most 64 MiB.
	MaxRecord int
	// ReserveBytes is the free space on the disk below which Append returns ErrFull. Default: 1 GiB, or 5 % of the disk if that is less;
	// negative: none.
	ReserveBytes int64
	// FS is where the log lives. Default [vfs.OS].
	FS vfs.FS
	// Logger gets state changes. Default: discard.
	Logger *slog.Logger
	// Registerer gets the metrics millrace_wal_*, until Close. Default: none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	setDefault(&o.SegmentBytes, DefaultSegmentBytes)
	setDefault(&o.MaxDelay, DefaultMaxDelay)
	setDefault(&o.MaxBytes, max(DefaultMaxBytes, 2*o.SegmentBytes))
	setDefault(&o.MaxRecord, DefaultMaxRecord)
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate reports all faults, joined. Zero fields count as their defaults.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Partition >= 0, "partition %d is negative", o.Partition)
	check(o.SegmentBytes >= 4<<10, "segment size %d is below 4 KiB", o.SegmentBytes)
	check(o.MaxBytes >= 2*o.SegmentBytes, "max bytes %d is below two segments of %d", o.MaxBytes, o.SegmentBytes)
	check(o.MaxRecord > 0 && o.MaxRecord <= maxPayload, "max record %d is not in 1–%d", o.MaxRecord, maxPayload)
	check(o.MaxDelay <= time.Second, "max delay %v is above 1 s", o.MaxDelay)
	return errors.Join(errs...)
}

// reserve returns the free space to leave on a disk of total bytes.
func (o Options) reserve(total int64) int64 {
	if o.ReserveBytes != 0 {
		return max(0, o.ReserveBytes)
	}
	return min(DefaultReserve, total/20)
}
