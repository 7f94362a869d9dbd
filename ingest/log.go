package ingest

import (
	"context"
	"errors"
	"time"
)

// Sentinel errors of the log seams. Every implementation returns them, wrapped; compare with errors.Is.
var (
	// ErrFull: the log has no room until the batcher has caught up. The sender must come back later (429 or 503 with Retry-After).
	ErrFull = errors.New("log full")
	// ErrTooLarge: this record can never be stored. The sender must not come back with it.
	ErrTooLarge = errors.New("record too large")
	// ErrUnavailable: the outcome is unknown or nothing was done; trying again may help.
	ErrUnavailable = errors.New("log unavailable")
	// ErrFailed: the log lost its disk's trust (a failed fsync) and takes nothing more; the process must stop and say why.
	ErrFailed = errors.New("log failed")
	// ErrTrimmed: the offset asked for is below what the log still holds.
	ErrTrimmed = errors.New("below the log's start")
	// ErrCorrupt: bytes that were durable do not check; the range is in the message. Nothing is cut off and nothing is served from there.
	ErrCorrupt = errors.New("log corrupt")
	// ErrClosed: the log was closed by its owner.
	ErrClosed = errors.New("log closed")
)

// Appender is the writing end of a log.
type Appender interface {
	// Append stores recs in order and returns where. It returns nil only when every record is on stable storage; after an error some of
	// recs may still be stored, and show up later. It does not keep recs or what they point to after it returns.
	//
	// Errors: ErrFull, ErrTooLarge, ErrUnavailable, ErrFailed, ErrClosed; ctx.Err() when ctx ends first, with unknown outcome.
	// Safe for concurrent use; concurrent calls share one sync of the disk.
	Append(ctx context.Context, recs []Record) (Receipt, error)
}

// Consumer is the reading end of a log.
type Consumer interface {
	// Consume calls work for each partition that this process owns, each in its own goroutine, with a ctx that ends when ownership ends. It
	// returns when ctx has ended and every call of work has returned, or with the first error of work, after ending the others.
	Consume(ctx context.Context, work func(ctx context.Context, p Partition) error) error
}

// Stored is one record in the log: its offset and the bytes that [Decoder.Decode] reads.
type Stored struct {
	Offset int64
	Bytes  []byte
}

// Incarnation is a stretch of one partition with one writer.
type Incarnation struct {
	Stream Stream
	// First is the first offset that the incarnation may hold.
	First int64
	// Next is one past its last offset, or -1 for the incarnation that is written now.
	Next int64
}

// Live reports whether the incarnation still grows.
func (i Incarnation) Live() bool { return i.Next < 0 }

// ChainHint is what a log remembers of the chain that was made from it. It is a hint for Seq, but a fact for Home: a first entry elsewhere
// must be refused.
type ChainHint struct {
	// Home is batcher.ObjectStore.Home of the store that has the chain; "" says that no chain was begun.
	Home string
	// Seq is an entry that existed; the tail is at it or above.
	Seq int64
}

// Partition is one partition of a log, as its owner reads it. Offsets rise over all incarnations of a partition; gaps are permitted and count
// as read. Only records that are durable can be seen. Safe for concurrent use.
type Partition interface {
	// ID is the partition's number.
	ID() int
	// Incarnations returns, oldest first, those that hold records or whose chain may be unfinished; the last one is live.
	Incarnations() []Incarnation
	// Bounds returns the lowest offset that is still held and the high watermark (one past the last durable record).
	Bounds(ctx context.Context) (low, next int64, err error)
	// Read returns durable records from offset from on, in order, of about maxBytes (at least one record if there is any), all of one
	// incarnation, appended to buf[:0]. It does not block: an empty result says that from is at the high watermark. The bytes are valid
	// until the next Read with the same buf. next is where to go on; it can pass gaps without a record.
	// Errors: ErrTrimmed, ErrCorrupt, ErrUnavailable, ErrClosed.
	Read(ctx context.Context, from int64, maxBytes int, buf []Stored) (recs []Stored, next int64, err error)
	// Wait blocks until the high watermark is above from, a new incarnation is known, or ctx ends (then ctx.Err()).
	Wait(ctx context.Context, from int64) error
	// Trim says that everything below low is committed, as of the chain of stream; the log may delete it, or keep it. A stream that is not
	// the live one is forgotten when low reaches its end. Idempotent; never moves back.
	Trim(ctx context.Context, stream Stream, low int64) error
	// Hint returns what SaveHint kept for stream, or the zero value. SaveHint is durable when it returns, if home changed; else lazy.
	Hint(ctx context.Context, stream Stream) (ChainHint, error)
	SaveHint(ctx context.Context, stream Stream, hint ChainHint) error
}

// Pressure is an optional power of an [Appender]: how full it is, for shedding load before ErrFull and for /readyz.
type Pressure interface {
	// Pressure returns bytes held, the bound on them, and for how long a sender should stay away when it is full (0: it is not).
	Pressure() (held, limit int64, retry time.Duration)
}

// LossReporter is an optional power of a [Partition]: what it held and lost, for the entry that names it in the chain.
type LossReporter interface {
	// Lost returns the offsets whose loss an operator accepted, in order of acceptance; Read passes them as gaps. Spans stay as long as the
	// log knows their incarnation.
	Lost() []Span
}
