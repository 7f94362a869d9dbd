package verify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tidwall/gjson"

	"millrace/batcher"
	"millrace/batcher/dedupe"
	"millrace/batcher/encode"
)

// state is what was found at the key of a cut.
type state int

const (
	stateRows   state = iota // rows were read; problems may be among them
	stateAbsent              // nothing
	stateVoid                // an object without rows
	stateBad                 // something that is not the object of the cut, or is damaged
)

// found is what the check of one cut's object brought.
type found struct {
	entry    *batcher.Entry
	cut      *batcher.Cut
	state    state
	facts    batcher.Facts
	offsets  []int64 // of rows that belong to the cut, as they stand in the object
	rows     int64   // all rows, also strange ones
	bytes    int64
	problems []Problem
	strange  map[Kind]*strange
}

// strange counts rows of one kind, which may be very many, and keeps what to say of the first.
type strange struct {
	rows int64
	what string
}

func (f *found) problem(k Kind, rows int64, format string, args ...any) {
	f.problems = append(f.problems, Problem{
		Kind: k, Stream: f.entry.Stream, Seq: f.entry.Seq, Batch: f.cut.Batch, Key: f.cut.Object,
		First: f.cut.First, Last: f.cut.Last, Rows: rows, What: fmt.Sprintf(format, args...),
	})
}

// strangeRow counts a row that is not as it should be.
func (f *found) strangeRow(k Kind, format string, args ...any) {
	if f.strange == nil {
		f.strange = make(map[Kind]*strange)
	}
	s := f.strange[k]
	if s == nil {
		s = &strange{what: fmt.Sprintf(format, args...)}
		f.strange[k] = s
	}
	s.rows++
}

// object reads the object of a cut and its sidecar. An error says that the store could not be asked, or that this binary is too old.
func (w *walker) object(ctx context.Context, e *batcher.Entry, c *batcher.Cut) (*found, error) {
	f := &found{entry: e, cut: c}
	body, info, err := w.store.Get(ctx, c.Object)
	switch {
	case errors.Is(err, batcher.ErrNotFound):
		f.state = stateAbsent
		return f, nil
	case errors.Is(err, batcher.ErrDamaged): // and body is what there is of it
		f.state = stateBad
		f.problem(Damaged, 0, "%v", err)
	case err != nil:
		return nil, err
	}
	f.bytes = int64(len(body))
	f.facts, err = encode.FactsOf(info)
	switch {
	case errors.Is(err, encode.ErrNoFacts):
		if f.state != stateBad { // damaged metadata are none
			f.problem(Overwritten, 0, "object has no metadata of a batch")
		}
		f.state = stateBad
	case err != nil:
		return nil, err
	case f.facts.Void != "":
		f.state = stateVoid
		return f, w.void(ctx, f)
	default:
		f.compare(body)
	}
	if err := f.read(body); err != nil {
		return nil, err
	}
	for _, k := range []Kind{Damaged, Stray} {
		if s := f.strange[k]; s != nil {
			f.problem(k, s.rows, "%d rows; the first: %s", s.rows, s.what)
		}
	}
	return f, w.sidecar(ctx, f)
}

// compare checks what the object says of itself against the cut and against its bytes.
func (f *found) compare(body []byte) {
	m, told := &f.facts, f.state == stateBad
	switch {
	case m.Batch != f.cut.Batch:
		f.state = stateBad
		f.problem(Overwritten, 0, "object says that it is batch %s", m.Batch)
	case m.Records != f.cut.Records || m.Rows != f.cut.Count:
		f.state = stateBad
		f.problem(Overwritten, 0, "object says %d rows of digest %.12s, the entry %d of %.12s", m.Rows, m.Records, f.cut.Count, f.cut.Records)
	}
	if sum := encode.Checksum(body); sum != m.Checksum && !told {
		f.state = stateBad
		f.problem(Damaged, 0, "%d bytes have %s, the object says %s", len(body), sum, m.Checksum)
	}
}

// read reads the rows.
func (f *found) read(body []byte) error {
	r, err := encode.NewReader(f.cut.Codec, body)
	if errors.Is(err, batcher.ErrUnknownVersion) {
		return fmt.Errorf("read object %q: %w", f.cut.Object, err)
	}
	if err != nil {
		f.state = stateBad
		f.problem(Damaged, f.cut.Count, "%v", err)
		return nil
	}
	defer r.Close()
	short := f.entry.Stream.Short()
	buf := bufio.NewReaderSize(r, 64<<10)
	var long []byte
	for {
		row, err := buf.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, row...)
			continue
		}
		if len(long) > 0 {
			long = append(long, row...)
			row = long
		}
		if len(row) > 0 && err == nil {
			f.row(row, short)
		}
		long = long[:0]
		switch {
		case errors.Is(err, io.EOF) && len(row) == 0:
			return nil
		case err != nil:
			f.state = stateBad
			f.problem(Damaged, max(0, f.cut.Count-f.rows), "after %d rows: %v", f.rows, err)
			return nil
		}
	}
}

func (f *found) row(row []byte, short string) {
	f.rows++
	s, partition, offset, ok := encode.Mark(row)
	switch c := f.cut; {
	case !ok || !gjson.ValidBytes(row):
		f.strangeRow(Damaged, "row %d is no JSON object with a mark", f.rows)
	case s != short || partition != f.entry.Stream.Partition || offset < c.First || offset > c.Last:
		f.strangeRow(Stray, "row %d has the mark %s, %d, %d", f.rows, s, partition, offset)
	case within(c.Dups, offset):
		f.strangeRow(Stray, "row %d has offset %d, which the entry names as a duplicate", f.rows, offset)
	default:
		if n := len(f.offsets); n > 0 && offset < f.offsets[n-1] {
			f.strangeRow(Damaged, "row %d has offset %d after %d", f.rows, offset, f.offsets[n-1])
		}
		f.offsets = append(f.offsets, offset)
	}
}

func within(ranges []batcher.Range, offset int64) bool {
	return slices.ContainsFunc(ranges, func(r batcher.Range) bool { return r.First <= offset && offset <= r.Last })
}

// sidecar checks that the ids of the batch are there, row by row.
func (w *walker) sidecar(ctx context.Context, f *found) error {
	body, _, err := w.store.Get(ctx, batcher.IDsKey(f.cut.Batch))
	if errors.Is(err, batcher.ErrNotFound) {
		f.problem(Sidecar, f.cut.Count, "the id sidecar does not exist")
		return nil
	}
	if errors.Is(err, batcher.ErrDamaged) {
		f.problem(Sidecar, f.cut.Count, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	ids, err := dedupe.UnmarshalIDs(body)
	if errors.Is(err, batcher.ErrUnknownVersion) {
		return fmt.Errorf("read sidecar of batch %s: %w", f.cut.Batch, err)
	}
	if err != nil {
		f.problem(Sidecar, f.cut.Count, "%v", err)
		return nil
	}
	same := len(ids) == len(f.offsets)
	for i := 0; same && i < len(ids); i++ {
		same = ids[i].Offset == f.offsets[i]
	}
	if !same && f.state == stateRows && len(f.problems) == 0 {
		f.problem(Sidecar, f.cut.Count, "the id sidecar has %d rows, or other offsets than the object's %d", len(ids), len(f.offsets))
	}
	return nil
}

// void counts which raw records of a voided batch are in quarantine.
func (w *walker) void(ctx context.Context, f *found) error {
	prefix := batcher.PrefixQuarantine + f.cut.Batch + "/"
	raw := 0
	for _, err := range w.store.List(ctx, batcher.ListOptions{Prefix: prefix}) {
		if err != nil {
			return err
		}
		raw++
	}
	f.problem(Void, f.cut.Count, "void: %s; %d of %d raw records are below %s", f.facts.Void, raw, f.cut.Count, prefix)
	return nil
}
