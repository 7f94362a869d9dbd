//go:build linux

package runner

import (
	"bufio"
	"errors"
	"net"
	"time"

	"millrace/scheduler"
)

const (
	// maxReports and maxReportBytes bound a batch of reports, the latter counting outputs only.
	maxReports     = 256
	maxReportBytes = 4 << 20
	// maxUnread is how many messages a client may leave unread before it counts as dead; writeTime how long one may take.
	maxUnread = 1024
	writeTime = 10 * time.Second
)

// client is a connection that has said hello, or is about to. Its fields belong to the loop.
type client struct {
	conn   net.Conn
	out    chan *Message // closed by the loop when the client is dropped
	seq    uint64
	closed bool   // out is
	flight []sent // the reports that wait for their acknowledgement
}

// sent remembers what a report has said, since the attempt may have ended in the meantime.
type sent struct {
	a     *attempt
	ended bool
}

// accept hands over connections until the listener is closed.
func (r *runner) accept() {
	for {
		conn, err := r.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select { // Out of descriptors, most likely.
			case <-time.After(100 * time.Millisecond):
				continue
			case <-r.done:
				return
			}
		}
		c := &client{conn: conn, out: make(chan *Message, maxUnread)}
		r.spawn(func() { r.read(c) })
		r.spawn(func() { r.write(c) })
	}
}

// read hands over messages until the connection ends.
func (r *runner) read(c *client) {
	in := bufio.NewReader(c.conn)
	for {
		m, err := ReadMessage(in)
		if err != nil {
			r.post(func() { r.drop(c, "") })
			_ = c.conn.Close()
			return
		}
		r.post(func() { r.handle(c, m) })
	}
}

// write sends messages until the loop closes the channel or the connection breaks.
func (r *runner) write(c *client) {
	defer c.conn.Close()
	for {
		select {
		case m, ok := <-c.out:
			if !ok {
				return
			}
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTime))
			if err := WriteMessage(c.conn, m); err != nil {
				return
			}
		case <-r.done:
			return
		}
	}
}

// send queues a message. A client that does not read is cut off; it will connect again if it lives.
func (r *runner) send(c *client, m *Message) {
	if c != r.client {
		return
	}
	m.Active = r.tab.active
	select {
	case c.out <- m:
	default:
		r.drop(c, "")
	}
}

// drop ends a client, with a last word if there is one. What it has not acknowledged is news again.
func (r *runner) drop(c *client, last string) {
	if c != r.client {
		c.close()
		return
	}
	if last != "" {
		select {
		case c.out <- &Message{Kind: last}:
		default:
		}
	}
	r.client = nil
	c.close()
	r.again(c)
}

// again makes news of what was sent and not taken. It goes out with what has happened since, in one batch.
func (r *runner) again(c *client) {
	for _, s := range c.flight {
		r.news(s.a)
	}
	c.flight = nil
}

func (m *Message) killed() string {
	if m.Kill == nil {
		return ""
	}
	return m.Kill.ID
}

func (c *client) close() {
	if !c.closed {
		c.closed = true
		close(c.out)
	}
}

func (r *runner) handle(c *client, m *Message) {
	if m.Kind == KindHello && m.Hello != nil && c != r.client && !c.closed {
		r.hello(c, m.Hello)
		return
	}
	if c != r.client {
		return // Not introduced, or replaced: what it asked for may come too late.
	}
	switch m.Kind {
	case KindLaunch:
		r.claim(c, m)
	case KindKill:
		if a := r.tab.all[m.killed()]; a != nil && a.active() {
			r.end(a, stopAsked, m.Kill.Grace)
		}
		r.send(c, &Message{Kind: KindDone, Seq: m.Seq})
	case KindReconcile:
		r.disown(c, m, scheduler.OutcomeLost, "the executor does not know this attempt and will not start it")
	case KindRefuse:
		r.disown(c, m, scheduler.OutcomeRefused, m.Error)
	case KindAck:
		r.acknowledged(c, m.Seq)
	case KindNack:
		if m.Seq == c.seq {
			r.again(c)
		}
	case KindBye:
		r.bye = true
		r.drop(c, "")
	default:
		r.send(c, &Message{Kind: KindDone, Seq: m.Seq, Error: "unknown request " + m.Kind})
	}
}

// hello makes c the client, in the place of the one before. A client of another build makes us become that build, when nothing is under way:
// the connection breaks, and the client that comes back finds its like.
func (r *runner) hello(c *client, h *Hello) {
	if r.client != nil {
		r.drop(r.client, KindReplaced)
	}
	if r.mustBecome(h) {
		r.upgrade = h.Argv
		if h.Proto != Proto || r.quiet() {
			c.close()
			return
		}
		// We understand each other: so there is time for that until nothing is under way.
	}
	r.client, r.bye = c, false
	w := &Welcome{Proto: Proto, PID: pid}
	if h.Proto != Proto {
		w.Error = "this runner speaks another version of the protocol and can not become the client's: journal or program do not permit it"
		r.send(c, &Message{Kind: KindWelcome, Welcome: w})
		r.drop(c, "")
		return
	}
	if h.MaxLog > 0 {
		r.maxLog = h.MaxLog
	}
	if h.Idle > 0 {
		r.idle, r.idleTimer = h.Idle, nil
	}
	r.send(c, &Message{Kind: KindWelcome, Welcome: w})
	for _, a := range r.tab.sorted() {
		r.news(a)
	}
}

// news makes sure that the client hears of a, once it was started or has ended.
func (r *runner) news(a *attempt) {
	if a.pending || a.hidden || a.start == nil && a.end == nil {
		return
	}
	a.pending = true
	r.pending = append(r.pending, a)
}

// flush sends the next batch of reports, unless the one before is not acknowledged: so a slow store makes larger batches.
func (r *runner) flush() {
	c := r.client
	if c == nil || len(c.flight) > 0 || len(r.pending) == 0 {
		return
	}
	var reports []scheduler.Report
	bytes := 0
	for len(r.pending) > 0 && len(reports) < maxReports && bytes < maxReportBytes {
		a := r.pending[0]
		r.pending = r.pending[1:]
		a.pending = false
		c.flight = append(c.flight, sent{a, a.end != nil})
		rep := r.report(a)
		reports = append(reports, rep)
		bytes += len(rep.Output)
	}
	c.seq++
	r.send(c, &Message{Kind: KindReports, Seq: c.seq, Reports: reports})
}

func (r *runner) report(a *attempt) scheduler.Report {
	if a.end != nil {
		return *a.end
	}
	rep := r.blank(a)
	rep.Outcome = scheduler.OutcomeRunning
	return rep
}

// acknowledged forgets the attempts whose end the client has committed.
func (r *runner) acknowledged(c *client, seq uint64) {
	if seq != c.seq {
		return
	}
	var recs []record
	var taken []*attempt
	for _, s := range c.flight {
		if s.ended && !s.a.taken {
			recs, taken = append(recs, record{ID: s.a.id, Taken: true}), append(taken, s.a)
		}
	}
	c.flight = nil
	if len(recs) > 0 {
		_ = r.note(recs...) // Losing it only repeats a report.
		r.discard(taken)
	}
}
