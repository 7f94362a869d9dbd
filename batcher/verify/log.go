package verify

import (
	"context"
	"errors"
	"fmt"

	"millrace/batcher"
	"millrace/ingest"
)

// readBytes is how much of the log is read at a time.
const readBytes = 1 << 20

// logView is one incarnation of a log that is compared with its chain.
type logView struct {
	first, next int64 // offsets of the incarnation; next is -1 for the live one
	low         int64 // what was in the log at the start
	tail        batcher.Entry
	cover       *cover
	named       *named
}

// openLogs notes where each log began before the chains were read.
func (w *walker) openLogs(ctx context.Context) error {
	for _, p := range w.o.Log {
		low, _, err := p.Bounds(ctx)
		if err != nil {
			return fmt.Errorf("bounds of partition %d: %w", p.ID(), err)
		}
		for _, inc := range p.Incarnations() {
			w.logs[inc.Stream] = &logView{first: inc.First, next: inc.Next, low: max(low, inc.First)}
		}
	}
	return nil
}

// compareLog looks up each record that the log holds.
func (w *walker) compareLog(ctx context.Context, p ingest.Partition) error {
	if w.report.Log == nil {
		w.report.Log = &LogReport{}
	}
	low, end, err := p.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("bounds of partition %d: %w", p.ID(), err)
	}
	var buf []ingest.Stored
	var dec ingest.Decoder
	for from := low; from < end; {
		var next int64
		buf, next, err = p.Read(ctx, from, readBytes, buf)
		if errors.Is(err, ingest.ErrTrimmed) {
			// Trimmed meanwhile: what is gone now is done, and was compared by count.
			if next, _, err = p.Bounds(ctx); err == nil && next <= from {
				err = fmt.Errorf("%w: it starts at %d, and this is gone", ingest.ErrCorrupt, next)
			}
			buf = nil
		}
		if errors.Is(err, ingest.ErrCorrupt) { // nobody can tell where it goes on
			stream, _ := w.viewOf(p, from)
			w.add(Problem{
				Kind: Damaged, Stream: stream, First: from, Last: end - 1,
				What: fmt.Sprintf("log of partition %d does not read at offset %d, and is compared up to there only: %v", p.ID(), from, err),
			})
			return nil
		}
		if err != nil {
			return fmt.Errorf("read partition %d from %d: %w", p.ID(), from, err)
		}
		if next <= from {
			return nil
		}
		for _, rec := range buf {
			if rec.Offset < end {
				w.record(p, &dec, rec)
			}
		}
		from = next
	}
	return nil
}

// record finds out what became of one record.
func (w *walker) record(p ingest.Partition, dec *ingest.Decoder, rec ingest.Stored) {
	l := w.report.Log
	l.Records++
	r, err := dec.Decode(rec.Bytes)
	if err != nil {
		w.add(Problem{Kind: Damaged, First: rec.Offset, Last: rec.Offset, Rows: 1, What: fmt.Sprintf("record in the log: %v", err)})
		l.SetAside++
		return
	}
	stream, v := w.viewOf(p, rec.Offset)
	if v == nil || v.cover == nil || rec.Offset < v.low {
		l.NotCut++ // a new incarnation, or one without a chain
		return
	}
	switch fate := v.named.fate(r.Lane, rec.Offset); {
	case v.cover.has(rec.Offset):
		l.InObjects++
	case fate == fateDuplicate:
		l.Duplicates++
	case fate == fateInFlight:
		l.InFlight++
	case fate == fateSetAside:
		l.SetAside++
	case rec.Offset >= v.tail.NextOf(r.Lane):
		l.NotCut++
	default:
		l.Lost++
		w.add(Problem{
			Kind: Lost, Stream: stream, First: rec.Offset, Last: rec.Offset, Rows: 1,
			What: fmt.Sprintf("acknowledged record of %s is in no object, and %d is next", r.Lane, v.tail.NextOf(r.Lane)),
		})
	}
}

// viewOf returns the incarnation that has an offset.
func (w *walker) viewOf(p ingest.Partition, offset int64) (ingest.Stream, *logView) {
	for _, inc := range p.Incarnations() {
		if offset >= inc.First && (inc.Live() || offset < inc.Next) {
			return inc.Stream, w.logs[inc.Stream]
		}
	}
	return ingest.Stream{}, nil
}
