package mask

import "strings"

// Stream masks one stream, piece by piece. It is for one goroutine.
type Stream struct {
	m *Masker
	// held is what may be the beginning of a secret; its first covered bytes are the end of one that is masked already.
	held    []byte
	covered int
}

// NewStream returns one that has seen nothing. m is not nil.
func NewStream(m *Masker) *Stream { return &Stream{m: m} }

// Resume returns one that goes on where another stood: the next piece begins with what that one held back, of which it had covered so many bytes. Both
// are what [Stream.Held] and [Stream.Covered] said of it. m masks the same secrets.
func Resume(m *Masker, covered int) *Stream { return &Stream{m: m, covered: covered} }

// Next takes the next piece, and appends to dst what can be said by now. dst must not be piece.
func (s *Stream) Next(dst, piece []byte) []byte {
	buf := piece
	if len(s.held) > 0 {
		s.held = append(s.held, piece...)
		buf = s.held
	}
	dst, rest := s.scan(dst, buf, false)
	s.held = append(s.held[:0], buf[rest:]...)
	return dst
}

// End appends what was held back. Nothing follows.
func (s *Stream) End(dst []byte) []byte {
	buf := s.held
	s.held = nil
	dst, _ = s.scan(dst, buf, true)
	s.covered = 0
	return dst
}

// Held returns how many bytes are held back.
func (s *Stream) Held() int { return len(s.held) }

// Covered returns how many of the bytes that are held back are the end of a secret that was masked.
func (s *Stream) Covered() int { return s.covered }

// scan appends buf masked to dst, up to rest, from where on it may be the beginning of a secret; with final, that is its end. Secrets that overlap
// are one: else what is left of the second would be shown.
func (s *Stream) scan(dst, buf []byte, final bool) (_ []byte, rest int) {
	from := 0  // buf[from:] is not in dst yet
	until := 0 // buf[:until] from the beginning of a secret on is masked, its stars are in dst
	if s.covered > 0 {
		from, until = min(s.covered, len(buf)), s.covered // after [Resume] it may be more than has come by now
	}
	for i := s.m.skip(buf, 0); i < len(buf); i = s.m.skip(buf, i+1) {
		longest, more := s.m.match(buf[i:])
		if more && !final {
			if i > from {
				dst = append(dst, buf[from:i]...)
			}
			s.covered = max(0, until-i)
			return dst, i
		}
		if longest == 0 {
			continue
		}
		if i >= until {
			dst = append(append(dst, buf[from:i]...), stars...)
		}
		until = max(until, i+longest)
		from = until
	}
	s.covered = max(0, until-len(buf))
	if from < len(buf) {
		dst = append(dst, buf[from:]...)
	}
	return dst, len(buf)
}

// skip returns the first place from i on at which a form may begin, by its first two bytes, or len(b). It looks at the end of what the shortest form
// would cover, and goes on as far as what it finds there permits (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994): most bytes are
// never looked at.
func (m *Masker) skip(b []byte, i int) int {
	for end := i + m.reach - 1; end < len(b); {
		step := int(m.steps[stepOf(b[end-1], b[end])])
		if step == 0 {
			i = end - m.reach + 1
			if p := uint(b[i])<<8 | uint(b[i+1]); m.pairs[p>>6]&(1<<(p&63)) != 0 {
				return i
			}
			step = 1
		}
		end += step
		i = end - m.reach + 1
	}
	for ; i+1 < len(b); i++ { // what is left may be the beginning of one
		if p := uint(b[i])<<8 | uint(b[i+1]); m.pairs[p>>6]&(1<<(p&63)) != 0 {
			return i
		}
	}
	if i < len(b) && m.firsts[b[i]] {
		return i
	}
	return len(b)
}

// match returns the length of the longest form with which b begins, and whether b may be the beginning of a longer one.
func (m *Masker) match(b []byte) (longest int, more bool) {
	if len(b) == 1 {
		return 0, true // skip has looked
	}
	for _, form := range m.forms[uint16(b[0])<<8|uint16(b[1])] {
		switch {
		case len(form) > len(b):
			more = more || strings.HasPrefix(form, string(b))
		case longest == 0 && string(b[:len(form)]) == form:
			longest = len(form)
		}
	}
	return longest, more
}
