package trigger

import (
	"strings"
	"time"

	"millrace/ingest"
)

// Marks are cursors of no chain: what a ledger keeps about itself. They travel with it through backup and restore, and never move back.
var (
	heldMark    = ingest.Stream{Log: "_held", Incarnation: "0"}
	resumedMark = ingest.Stream{Log: "_resumed", Incarnation: "0"}
)

// IsMark reports whether a cursor's stream is a mark. No log has such a name: those of a WAL have no "_", those of Kafka have a dot.
func IsMark(s ingest.Stream) bool {
	return strings.HasPrefix(s.Log, "_") && !strings.Contains(s.Log, ".")
}

// Hold is the mark of a ledger that was restored: it is older than the chains, so nothing is dispatched from it until a person has said from
// when on; see [Memory.HeldAt].
func Hold(at time.Time) Cursor { return Cursor{Stream: heldMark, Seq: at.UnixMicro()} }

// Resume is the mark that ends the hold which began at a time.
func Resume(heldAt time.Time) Cursor { return Cursor{Stream: resumedMark, Seq: heldAt.UnixMicro()} }

// HeldAt returns when the ledger was put on hold, and whether it still is.
func (m *Memory) HeldAt() (at time.Time, held bool) {
	var hold, resumed int64
	for _, c := range m.Cursors {
		switch c.Stream {
		case heldMark:
			hold = c.Seq
		case resumedMark:
			resumed = c.Seq
		}
	}
	return time.UnixMicro(hold).UTC(), hold > resumed
}
