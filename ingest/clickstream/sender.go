package clickstream

import (
	"bytes"
	"net/netip"

	"millrace/ingest"
)

// Sender is who sent a request, as far as the connection and its headers tell. The zero value: nobody knows.
type Sender struct {
	// IP is the sender's address. It becomes context.ip of events that have none of their own, or that ask for it by context.direct.
	IP netip.Addr
	// Policy is what the request asks to be done with addresses; of this and the source's the stricter one counts.
	Policy ingest.IPPolicy
	// Agent becomes context.userAgent of events that have none.
	Agent string
	// Server says that the sender is a program on a server, whose address is not that of a user: only context.direct makes it context.ip.
	Server bool
}

// MaxAgent is the longest Sender.Agent in bytes that is used; longer ones are cut.
const MaxAgent = 512

// rank orders the policies by how little they keep.
type rank uint8

const (
	keeps rank = iota
	masks
	drops
	numRanks
)

func rankOf(p ingest.IPPolicy) rank {
	switch p {
	case ingest.IPAnonymize:
		return masks
	case ingest.IPDrop:
		return drops
	}
	return keeps
}

// masked returns ip with its last 8 bits zero, or the last 80 if it is IPv6.
func masked(ip netip.Addr) netip.Addr {
	bits := 24
	if ip = ip.Unmap(); ip.Is6() {
		bits = 48
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return prefix.Addr()
}

// notes is what the scan of an event sees of its context, so that most rows can be written without another look.
type notes uint8

const (
	hasIP    notes = 1 << iota // an ip that is text, and not blank
	blankIP                    // an ip that is null or blank
	hasAgent                   // a userAgent
	isDirect                   // "direct": true
	isEmpty                    // {}
	isOdd                      // no object, or not the event's only context
)

// noteContext scans the event's context at i and returns the index behind it, or bad.
func (d *Decoder) noteContext(it *item, i int) int {
	s := &d.scan
	if it.vals[context].to > 0 {
		it.notes |= isOdd
	}
	if s.at(i) != '{' {
		it.notes |= isOdd
		return s.value(i, 1)
	}
	it.brace = int32(i + 1)
	if i = s.space(i + 1); s.at(i) == '}' {
		it.notes |= isEmpty
		return i + 1
	}
	for {
		from, escapes := i, s.escapes
		end, v := s.key(i)
		if v == bad {
			return bad
		}
		name := d.body[from+1 : end-1]
		if s.escapes != escapes {
			name = d.inside(name)
		}
		if i = s.value(v, 2); i == bad {
			return bad
		}
		it.notes |= d.note(name, span{int32(v), int32(i)})
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

// note returns what is to be remembered of one member of a context.
func (d *Decoder) note(name []byte, value span) notes {
	switch string(name) {
	case "ip":
		if d.body[value.from] == 'n' || d.body[value.from] == '"' && len(d.scalar(value)) == 0 {
			return blankIP
		}
		return hasIP
	case "userAgent":
		return hasAgent
	case "direct":
		if d.body[value.from] == 't' {
			return isDirect
		}
	}
	return 0
}

// lead is what is put at the front of a context: members, each with its comma, or nil.
type lead struct{ ip, agent []byte }

// plan returns what to put into the event's context, and whether its row can be written by just putting it there.
func (w *rows) plan(it *item, r rank) (l lead, simple bool) {
	n := it.notes
	if n&hasAgent == 0 {
		l.agent = w.agent
	}
	if n&(hasIP|blankIP) != 0 {
		return l, n&(blankIP|isDirect|isOdd) == 0 && r == keeps
	}
	if !w.in.Sender.Server || n&isDirect != 0 {
		l.ip = w.address(r)
	}
	return l, n&(isOdd|isEmpty) == 0 || l.ip == nil && l.agent == nil
}

// address returns the member for the sender's address, or nil if there is none to be written.
func (w *rows) address(r rank) []byte {
	if r == drops || !w.in.Sender.IP.IsValid() {
		return nil
	}
	if w.ips[r] == nil {
		ip := w.in.Sender.IP.Unmap().WithZone("")
		if r == masks {
			ip = masked(ip)
		}
		w.ips[r] = w.ipMember(ip)
	}
	return w.ips[r]
}

func (w *rows) ipMember(ip netip.Addr) []byte {
	d := w.d
	from := len(d.text)
	d.text = append(ip.AppendTo(append(d.text, `"ip":"`...)), `",`...)
	return d.text[from:len(d.text):len(d.text)]
}

// agentMember returns the member for the sender's user agent.
func (w *rows) agentMember() []byte {
	if w.in.Sender.Agent == "" {
		return nil
	}
	d, text := w.d, []byte(w.in.Sender.Agent)
	text = bytes.ToValidUTF8(text[:min(len(text), MaxAgent)], nil)
	from := len(d.text)
	d.text = append(appendQuoted(append(d.text, `"userAgent":`...), text), ',')
	return d.text[from:len(d.text):len(d.text)]
}

// context appends the event's context, written anew: the sender's facts, the batch's members, the event's own. It is for the few events for
// which plan is not simple.
func (w *rows) context(it *item, r rank) {
	d, own := w.d, w.d.raw(it.vals[context])
	if len(own) > 0 && own[0] != '{' && own[0] != 'n' {
		d.out = appendFlat(append(d.out, `,"context":`...), own, true)
		return
	}
	said := saying{}
	d.members(d.env.vals[context], said.note)
	d.members(it.vals[context], said.note)
	l, cut := w.mend(&said, r)
	if len(own) == 0 && len(d.defaults.field[context].list) == 0 && l.ip == nil && l.agent == nil {
		return
	}
	d.out = append(append(append(d.out, `,"context":{`...), l.ip...), l.agent...)
	d.eachMerged(it, context, func(name []byte, member span) {
		if !cut || string(name) != "ip" {
			d.out = append(appendFlat(d.out, d.raw(member), true), ',')
		}
	})
	if d.out[len(d.out)-1] == ',' {
		d.out = d.out[:len(d.out)-1]
	}
	d.out = append(d.out, '}')
}

// saying is what a context says about its sender, the last of doubled members counting.
type saying struct {
	ip, direct span
	agent      bool
}

func (s *saying) note(name []byte, _, value span) {
	switch string(name) {
	case "ip":
		s.ip = value
	case "direct":
		s.direct = value
	case "userAgent":
		s.agent = true
	}
}

// mend returns what to put at the front of a context that says this, and whether its own ip is to be left out.
func (w *rows) mend(said *saying, r rank) (l lead, cut bool) {
	d := w.d
	if !said.agent {
		l.agent = w.agent
	}
	if r == drops {
		return l, true
	}
	direct := len(d.raw(said.direct)) > 0 && d.raw(said.direct)[0] == 't'
	if len(d.raw(said.ip)) > 0 && d.note([]byte("ip"), said.ip) == hasIP && !(direct && w.address(r) != nil) {
		if r == keeps {
			return l, false
		}
		if ip, err := netip.ParseAddr(string(d.scalar(said.ip))); err == nil {
			l.ip = w.ipMember(masked(ip))
		}
		return l, true
	}
	if !w.in.Sender.Server || direct {
		l.ip = w.address(r)
	}
	return l, l.ip != nil
}
