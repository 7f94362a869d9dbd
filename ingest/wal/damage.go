package wal

import (
	"fmt"

	"millrace/ingest"
)

// Damage is a stretch of a segment whose bytes were durable and do not check. As an error it is [ingest.ErrCorrupt].
type Damage struct {
	// Segment is the name of the segment's file.
	Segment string `json:"segment"`
	// From and To are the bytes of it, To excluded.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// First and Next are the offsets of the records that were there, Next excluded; equal if no record is lost.
	First int64 `json:"first"`
	Next  int64 `json:"next"`
	// Incarnation is the one that the segment belongs to.
	Incarnation string `json:"incarnation"`
	// Reason says what was found, for people.
	Reason string `json:"reason"`
}

// Error names the stretch.
func (d Damage) Error() string {
	records := fmt.Sprintf("records %d–%d", d.First, d.Next-1)
	if d.First == d.Next {
		records = fmt.Sprintf("no record, before record %d", d.First)
	}
	return fmt.Sprintf("%v: %s in segment %s, bytes %d–%d, %s", ingest.ErrCorrupt, d.Reason, d.Segment, d.From, d.To-1, records)
}

// Unwrap makes a Damage an [ingest.ErrCorrupt].
func (d Damage) Unwrap() error { return ingest.ErrCorrupt }

// before reports whether d ends below offset, so that a reader who begins there has nothing to do with it.
func (d Damage) before(offset int64) bool { return d.First < offset && d.Next <= offset }
