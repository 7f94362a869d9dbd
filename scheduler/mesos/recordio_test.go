package mesos

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRecordIO(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     []string
		err      error
	}{
		{"none", "", nil, io.EOF},
		{"one", "5\nhello", []string{"hello"}, io.EOF},
		{"two in one chunk", "2\n{}3\n[1]", []string{"{}", "[1]"}, io.EOF},
		{"empty", "0\n1\nx", []string{"", "x"}, io.EOF},
		{"cut in its length", "1", nil, io.ErrUnexpectedEOF},
		{"cut behind its length", "5\n", nil, io.ErrUnexpectedEOF},
		{"cut within", "5\nhel", nil, io.ErrUnexpectedEOF},
		{"no length", "\nhello", nil, ErrRecord},
		{"no number", "five\nhello", nil, ErrRecord},
		{"negative", "-1\n", nil, ErrRecord},
		{"too long", "99999999999999999999\n", nil, ErrRecord},
		{"an error page", "<html>", nil, ErrRecord},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := NewReader(byteByByte{strings.NewReader(test.in)})
			for _, want := range test.want {
				if got, err := r.Next(); err != nil || string(got) != want {
					t.Errorf("got %q and %v, want %q", got, err, want)
				}
			}
			if got, err := r.Next(); !errors.Is(err, test.err) {
				t.Errorf("got %q and %v, want %v", got, err, test.err)
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("5\nhello"))
	f.Add([]byte("2\n{}3\n[1]"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var out []byte
		for {
			record, err := r.Next()
			if err != nil {
				break
			}
			out = AppendRecord(out, record)
		}
		back := NewReader(bytes.NewReader(out)) // what was read can be written and read again
		for len(out) > 0 {
			if _, err := back.Next(); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("%q read back: %v", in, err)
				}
				break
			}
		}
	})
}
