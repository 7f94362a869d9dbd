package gateway

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// framing follows the HTTP/1 messages of one connection (RFC 9112) and finds those that two servers could divide differently, which is how
// requests are smuggled through a proxy. net/http refuses most of them; it takes, and by then a handler can not see it any more,
//
//	Content-Length beside Transfer-Encoding · lines that end with a bare LF · folded lines · the same Content-Length twice ·
//	Transfer-Encoding in a version that has none
//
// So the bytes are looked at before it gets them. It judges nothing else: what net/http refuses by itself may pass, since that ends the
// connection, and nothing after it is read. Not safe for concurrent use.
type framing struct {
	state frameState
	// line is the beginning of a line whose end was not read yet.
	line []byte
	// left is how many bytes of a body or chunk are still to come.
	left int64

	old, coded bool  // not HTTP/1.1; Transfer-Encoding was there
	length     int64 // Content-Length, or -1
}

type frameState uint8

const (
	atRequest  frameState = iota // the request line; empty lines before it do not count
	atHeader                     // a header line, or the empty one that ends them
	atBody                       // left bytes of it
	atChunk                      // the line with a chunk's size
	atChunkEnd                   // the line break after a chunk
	atTrailer                    // a trailer line, or the empty one that ends them
)

// errFraming is what a body is cut short with whose chunks are not well formed.
var errFraming = errors.New("framing of the request is not well formed")

// maxLine is the longest line that is kept to be judged; net/http refuses longer headers first.
const maxLine = maxFramed + 8<<10

// inHead reports whether a request has begun and its headers have not ended.
func (f *framing) inHead() bool {
	return f.state == atHeader || f.state == atRequest && len(f.line) > 0
}

// inBody reports whether the next bytes are of a body.
func (f *framing) inBody() bool { return f.state >= atBody }

// next looks at bytes of the connection and returns how many of them may pass. Fewer than all: a line that must not pass begins there.
func (f *framing) next(p []byte) (int, bool) {
	for i := 0; i < len(p); {
		if f.state == atBody {
			n := min(f.left, int64(len(p)-i))
			i += int(n)
			if f.left -= n; f.left == 0 {
				f.state = f.after()
			}
			continue
		}
		end := bytes.IndexByte(p[i:], '\n')
		if end < 0 {
			if len(f.line)+len(p)-i > maxLine || f.state == atChunkEnd && !(len(f.line) == 0 && string(p[i:]) == "\r") {
				return i, false // the second, before net/http sees what is no line break and takes the body for one that was cut short
			}
			f.line = append(f.line, p[i:]...)
			return len(p), true
		}
		line := p[i : i+end+1]
		if len(f.line) > 0 {
			f.line = append(f.line, line...)
			line = f.line
		}
		if !f.judge(line) {
			return i, false
		}
		f.line = f.line[:0]
		i += end + 1
	}
	return len(p), true
}

// after is the state behind a body or chunk.
func (f *framing) after() frameState {
	if f.coded {
		return atChunkEnd
	}
	return atRequest
}

// judge takes one whole line and reports whether it may pass.
func (f *framing) judge(line []byte) bool {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return false // a bare LF
	}
	line = line[:len(line)-2]
	switch f.state {
	case atRequest:
		if len(line) > 0 {
			*f = framing{state: atHeader, line: f.line, length: -1, old: !bytes.HasSuffix(line, []byte(" HTTP/1.1"))}
		}
		return true
	case atHeader:
		if len(line) == 0 {
			return f.head()
		}
		return f.header(line)
	case atChunk:
		return f.chunk(line)
	case atChunkEnd:
		f.state = atChunk
		return len(line) == 0
	}
	if len(line) == 0 { // the end of the trailers
		f.state = atRequest
	}
	return len(line) == 0 || !folded(line)
}

func folded(line []byte) bool { return line[0] == ' ' || line[0] == '\t' }

// header judges a header line.
func (f *framing) header(line []byte) bool {
	if folded(line) {
		return false
	}
	colon := bytes.IndexByte(line, ':')
	if colon < len("Content-Length") { // almost always: the two names that count are longer
		return true
	}
	switch colon {
	case len("Content-Length"):
		if !strings.EqualFold(string(line[:colon]), "Content-Length") {
			return true
		}
		n, ok := number(bytes.Trim(line[colon+1:], " \t"), 10)
		ok = ok && f.length < 0
		f.length = n
		return ok
	case len("Transfer-Encoding"):
		if strings.EqualFold(string(line[:colon]), "Transfer-Encoding") {
			ok := !f.coded && !f.old && strings.EqualFold(string(bytes.Trim(line[colon+1:], " \t")), "chunked")
			f.coded = true
			return ok
		}
	}
	return true
}

// head judges the headers together, at the empty line that ends them.
func (f *framing) head() bool {
	switch {
	case f.coded && f.length >= 0:
		return false
	case f.coded:
		f.state = atChunk
	case f.length > 0:
		f.state, f.left = atBody, f.length
	default:
		f.state = atRequest
	}
	return true
}

// chunk judges the line with a chunk's size.
func (f *framing) chunk(line []byte) bool {
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, ok := number(bytes.TrimRight(size, " \t"), 16)
	if !ok {
		return false
	}
	f.state, f.left = atBody, n
	if n == 0 {
		f.state = atTrailer
	}
	return true
}

// number reads digits, and nothing but digits, of a number below 2^60.
func number(text []byte, base int64) (n int64, ok bool) {
	for _, c := range text {
		d := int64(99)
		switch {
		case c >= '0' && c <= '9':
			d = int64(c - '0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			d = int64(c|0x20-'a') + 10
		}
		if d >= base || n >= 1<<56 {
			return 0, false
		}
		n = n*base + d
	}
	return n, len(text) > 0
}

// refusal is read by net/http in the place of a line that must not pass: no header has such a line, nor has a request, so it answers 400 and
// closes the connection, with all the care that this needs.
const refusal = "\x00\r\n\r\n"

// strict is a reader of a connection whose framing is followed.
type strict struct {
	from io.Reader
	framing
	// refused says that nothing more may pass; rest is what is left to read of the refusal, if the headers were to blame.
	refused bool
	rest    string
}

// Read reads what may pass.
func (s *strict) Read(p []byte) (int, error) {
	if s.refused {
		return s.refuse(p)
	}
	n, err := s.from.Read(p)
	pass, ok := s.next(p[:n])
	if ok {
		return n, err
	}
	s.refused = true
	if !s.inBody() {
		s.rest = refusal
	}
	if pass == 0 {
		return s.refuse(p)
	}
	return pass, nil
}

func (s *strict) refuse(p []byte) (int, error) {
	if s.rest == "" {
		return 0, errFraming
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
