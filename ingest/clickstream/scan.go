package clickstream

import (
	"encoding/binary"
	"math/bits"
)

// MaxDepth is how deep the arrays and objects of one event may nest, the event itself included. Deeper ones are valid JSON that hardly any
// reader of the objects can take, so they are set aside.
const MaxDepth = 64

// bad is what the methods of scanner return instead of an index.
const bad = -1

// scanner checks JSON (RFC 8259) in one pass. Each method takes the index of the first byte of its thing and returns the index behind it, or
// bad. It gives the verdicts of encoding/json.Valid, except that it stops at MaxDepth; it does not check UTF-8, as that does not either.
type scanner struct {
	buf []byte
	// multiline says that a line break was met since it was last cleared. Valid JSON has them only outside strings.
	multiline bool
	// deep says that the last bad was for depth.
	deep bool
	// escapes counts the escape sequences met, so that nobody has to look for them in a string that has none.
	escapes int
}

// space skips white space, of which there mostly is none.
func (s *scanner) space(i int) int {
	if i < len(s.buf) && s.buf[i] > ' ' {
		return i
	}
	return s.blank(i)
}

func (s *scanner) blank(i int) int {
	for i < len(s.buf) {
		switch s.buf[i] {
		case ' ', '\t':
		case '\n', '\r':
			s.multiline = true
		default:
			return i
		}
		i++
	}
	return i
}

// at returns the byte at i, or 0, which is not valid anywhere, at the end.
func (s *scanner) at(i int) byte {
	if i < len(s.buf) {
		return s.buf[i]
	}
	return 0
}

// value checks any value; depth is that of the things around it.
func (s *scanner) value(i, depth int) int {
	switch s.at(i) {
	case '"':
		return s.str(i)
	case '{':
		return s.object(i, depth+1)
	case '[':
		return s.array(i, depth+1)
	case 't':
		return s.word(i, "true")
	case 'f':
		return s.word(i, "false")
	case 'n':
		return s.word(i, "null")
	}
	return s.number(i)
}

func (s *scanner) object(i, depth int) int {
	if depth > MaxDepth {
		s.deep = true
		return bad
	}
	if i = s.space(i + 1); s.at(i) == '}' {
		return i + 1
	}
	for {
		_, v := s.key(i)
		if v == bad {
			return bad
		}
		if i = s.value(v, depth); i == bad {
			return bad
		}
		switch i = s.space(i); s.at(i) {
		case '}':
			return i + 1
		case ',':
			i = s.space(i + 1)
		default:
			return bad
		}
	}
}

func (s *scanner) array(i, depth int) int {
	if depth > MaxDepth {
		s.deep = true
		return bad
	}
	if i = s.space(i + 1); s.at(i) == ']' {
		return i + 1
	}
	for {
		if i = s.value(i, depth); i == bad {
			return bad
		}
		switch i = s.space(i); s.at(i) {
		case ']':
			return i + 1
		case ',':
			i = s.space(i + 1)
		default:
			return bad
		}
	}
}

// key checks a member's name and colon; it returns the index behind the name and that of the value.
func (s *scanner) key(i int) (end, value int) {
	if s.at(i) != '"' {
		return bad, bad
	}
	if end = s.str(i); end == bad {
		return bad, bad
	}
	if value = s.space(end); s.at(value) != ':' {
		return bad, bad
	}
	return end, s.space(value + 1)
}

// The bytes of a word in one go: every byte of ones is 1, of high 128.
const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// str checks a string from its opening quote. It looks at eight bytes at a time for the first one that is a quote, a backslash or a control
// character: (x-ones)&^x&high marks the zero bytes of x, and the lowest mark is always a true one (borrows only travel upwards).
func (s *scanner) str(i int) int {
	b := s.buf
	for i++; ; {
		if i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			quote, slash := x^(ones*'"'), x^(ones*'\\')
			stop := ((quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x) & high
			if stop == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(stop) / 8
		} else {
			for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
				i++
			}
		}
		switch s.at(i) {
		case '"':
			return i + 1
		case '\\':
			if i = s.escape(i); i == bad {
				return bad
			}
		default:
			return bad
		}
	}
}

// escape checks an escape sequence from its backslash.
func (s *scanner) escape(i int) int {
	s.escapes++
	switch s.at(i + 1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		for k := i + 2; k < i+6; k++ {
			if !isHex(s.at(k)) {
				return bad
			}
		}
		return i + 6
	}
	return bad
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (s *scanner) word(i int, w string) int {
	if end := i + len(w); end <= len(s.buf) && string(s.buf[i:end]) == w {
		return end
	}
	return bad
}

func (s *scanner) number(i int) int {
	if s.at(i) == '-' {
		i++
	}
	switch c := s.at(i); {
	case c == '0':
		i++
	case c >= '1' && c <= '9':
		i = s.digits(i)
	default:
		return bad
	}
	if s.at(i) == '.' {
		if i = s.digits(i + 1); i == bad {
			return bad
		}
	}
	if c := s.at(i); c == 'e' || c == 'E' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits checks one or more digits.
func (s *scanner) digits(i int) int {
	from := i
	for c := s.at(i); c >= '0' && c <= '9'; c = s.at(i) {
		i++
	}
	if i == from {
		return bad
	}
	return i
}

// item finds the end of an array's item that is not JSON, so that its neighbours can be used: the comma or closing bracket on the item's own
// level, brackets in strings not counted. It returns bad if there is none, and then the body as a whole means nothing.
func (s *scanner) item(i int) int {
	level := 0
	for ; i < len(s.buf); i++ {
		switch s.buf[i] {
		case '"':
			if i = s.loose(i); i == bad {
				return bad
			}
		case '{', '[':
			level++
		case '}', ']':
			if level == 0 {
				return i
			}
			level--
		case ',':
			if level == 0 {
				return i
			}
		}
	}
	return bad
}

// loose returns the index of the quote that ends a string, whatever is in it.
func (s *scanner) loose(i int) int {
	for i++; i < len(s.buf); i++ {
		switch s.buf[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return bad
}

// unescape appends the text of the inside of a valid JSON string. Lone surrogates become U+FFFD.
func unescape(dst, in []byte) []byte {
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			dst = append(dst, in[i])
			continue
		}
		i++
		switch c := in[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			var n int
			dst, n = unescapeRune(dst, in[i-1:])
			i += n - 2
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
