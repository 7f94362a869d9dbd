package dedupe

// Forget takes back the last n calls of Keep, as far as their records are still held: what was kept for a decision that somebody else made
// first. Nothing may have been kept since that is to stay.
func (x *Index) Forget(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for n > 0 && len(x.slabs) > 0 {
		last := len(x.slabs) - 1
		s := x.slabs[last]
		if s.n == 0 {
			x.slabs, x.spare = x.slabs[:last], s
			continue
		}
		s.n--
		x.live--
		n--
		// The newest record of a bucket is its head, whatever was split since; what it links to is the newest one before it.
		pos := x.first + uint32(last)<<slabBits + uint32(s.n)
		r := &s.recs[s.n]
		h := x.headOf(x.bucket(x.hash(&r.id)))
		if h.pos = r.next; r.next == pos {
			*h = head{pos: x.first - 1}
		}
	}
}
