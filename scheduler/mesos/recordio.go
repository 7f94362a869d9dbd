package mesos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxRecord bounds one record in bytes: the offers of some ten thousand agents.
const MaxRecord = 64 << 20

// ErrRecord says that what was read is not RecordIO, so that nothing after it can be read either.
var ErrRecord = errors.New("not a record of RecordIO")

// Reader reads records: the length of each in decimal, a line feed, and so many bytes. Chunks of HTTP have nothing to do with records.
type Reader struct{ in *bufio.Reader }

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReader(r)} }

// Next returns the next record, which is the caller's. io.EOF says that the stream ended between two records, io.ErrUnexpectedEOF that it ended
// within one.
func (r *Reader) Next() ([]byte, error) {
	size, err := r.size()
	if err != nil {
		return nil, err
	}
	record := make([]byte, size)
	if _, err := io.ReadFull(r.in, record); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return record, nil
}

func (r *Reader) size() (int, error) {
	size, digits := 0, 0
	for {
		c, err := r.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && digits > 0:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case c == '\n' && digits > 0:
			return size, nil
		case c < '0' || c > '9':
			return 0, fmt.Errorf("%w: its length has the byte %q", ErrRecord, c)
		}
		digits++
		if size = size*10 + int(c-'0'); size > MaxRecord {
			return 0, fmt.Errorf("%w: its length is above %d", ErrRecord, MaxRecord)
		}
	}
}

// AppendRecord appends a record to buf.
func AppendRecord(buf, record []byte) []byte {
	buf = strconv.AppendInt(buf, int64(len(record)), 10)
	return append(append(buf, '\n'), record...)
}
