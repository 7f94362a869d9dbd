package batcher

import (
	"context"
	"time"

	"millrace/ingest"
)

// Batch is a lane's records of one partition from First to Last, as one object: the unit that is announced, and that runs consume. It is
// a cut of an entry together with the facts of its object.
type Batch struct {
	ID     string        `json:"id"`
	Tenant string        `json:"tenant"`
	Source string        `json:"source"`
	Lane   ingest.Lane   `json:"lane"`
	Stream ingest.Stream `json:"stream"`
	// Seq is the entry, Cut the index in its Cuts.
	Seq int64 `json:"seq"`
	Cut int   `json:"cut"`
	// Partition repeats the stream's.
	Partition int   `json:"partition"`
	First     int64 `json:"first"`
	Last      int64 `json:"last"`
	// Events is the number of rows; Bytes the object's stored size.
	Events      int64            `json:"events"`
	Bytes       int64            `json:"bytes"`
	RawBytes    int64            `json:"raw_bytes"`
	Key         string           `json:"key"`
	URI         string           `json:"uri"`
	Checksum    string           `json:"checksum"`
	Types       map[string]int64 `json:"types,omitempty"`
	ReceivedMin time.Time        `json:"received_min"`
	ReceivedMax time.Time        `json:"received_max"`
	EventMin    time.Time        `json:"event_min"`
	EventMax    time.Time        `json:"event_max"`
	// Watermark is the receive time up to which the lane's records of this stream are in this batch or an earlier one.
	Watermark   time.Time `json:"watermark"`
	CreatedAt   time.Time `json:"created_at"`
	CommittedAt time.Time `json:"committed_at"`
	Void        string    `json:"void,omitempty"`
	Trace       string    `json:"trace,omitempty"`
}

// BatchOf joins cut number i of e with the facts of its object. uri is where the store has the object.
func BatchOf(e *Entry, i int, f Facts, uri string) Batch {
	c := &e.Cuts[i]
	return Batch{
		ID: c.Batch, Tenant: c.Lane.Tenant(), Source: c.Lane.Source(), Lane: c.Lane,
		Stream: e.Stream, Seq: e.Seq, Cut: i, Partition: e.Stream.Partition, First: c.First, Last: c.Last,
		Events: f.Rows, Bytes: f.Bytes, RawBytes: f.RawBytes, Key: c.Object, URI: uri, Checksum: f.Checksum, Types: f.Types,
		ReceivedMin: f.ReceivedMin, ReceivedMax: f.ReceivedMax, EventMin: f.EventMin, EventMax: f.EventMax,
		Watermark: f.ReceivedMax, CreatedAt: c.CreatedAt, CommittedAt: f.CommittedAt, Void: f.Void, Trace: f.Trace,
	}
}

// Announcer takes the news that a batch exists. It is the hand-off to the next stage, and only a hint: whoever must see every batch reads
// the chain.
type Announcer interface {
	// Announce returns quickly and never waits for a broker that is away: it may drop the news, which it counts. Idempotent by b.ID.
	// Safe for concurrent use.
	Announce(ctx context.Context, b Batch)
}

// Catalogue reads chains; it is how everybody but the worker sees them.
type Catalogue interface {
	// Streams lists the streams that have a chain, in no particular order.
	Streams(ctx context.Context) ([]ingest.Stream, error)
	// Entry returns entry seq; ErrNotFound above the tail, ErrUnknownVersion, ErrUnavailable.
	Entry(ctx context.Context, s ingest.Stream, seq int64) (Entry, error)
	// Tail returns the newest entry, galloping from hint (0: from the start); ErrNotFound if there is no chain.
	Tail(ctx context.Context, s ingest.Stream, hint int64) (Entry, error)
	// Facts returns what the object of a cut says of itself, and its URI; ErrNotFound while it does not exist.
	Facts(ctx context.Context, c Cut) (Facts, string, error)
}

// Finder looks an event up by its dedupe id, where the index is at hand (the process that batches).
type Finder interface {
	// Find returns the stream and offset of the record that was kept for id within the index's window, and whether there is one.
	Find(ctx context.Context, id [16]byte) (s ingest.Stream, offset int64, ok bool)
}
