package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// spare is how many connections beyond Limits.MaxConns, or one address beyond MaxConnsPerIP, are still answered, with 503. What comes beyond
// these is closed.
const spare = 64

// conns counts the open connections of a listener and hands them on to the http.Server that is in charge. Safe for concurrent use.
type conns struct {
	limits  *atomic.Pointer[Limits]
	metrics *metrics

	mu   sync.Mutex // guards what follows
	open int
	byIP map[netip.Addr]int
}

// admit counts a connection from addr. It reports how it is to be treated: served, told that there are too many and closed, or just closed,
// which was then not counted.
func (c *conns) admit(addr netip.Addr) (over *refusedConn, ok bool) {
	l := c.limits.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch n := c.byIP[addr]; {
	case c.open >= l.MaxConns+spare, l.MaxConnsPerIP > 0 && n >= l.MaxConnsPerIP+min(spare, l.MaxConnsPerIP):
		return nil, false
	case c.open >= l.MaxConns:
		over = tooManyConns
	case l.MaxConnsPerIP > 0 && n >= l.MaxConnsPerIP:
		over = tooManyOfAddr
	}
	c.open++
	c.byIP[addr]++
	return over, true
}

func (c *conns) release(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.byIP[addr]--; c.byIP[addr] <= 0 {
		delete(c.byIP, addr)
	}
}

func (c *conns) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// refusedConn says why no request of a connection is served.
type refusedConn struct{ err error }

var (
	errConns      = errors.New("too many connections")
	errConnsOfIP  = errors.New("too many connections from one address")
	tooManyConns  = &refusedConn{errConns}
	tooManyOfAddr = &refusedConn{errConnsOfIP}
)

// overKey is the key, in the context of a connection's requests, of its *refusedConn.
type overKey struct{}

// conn is a connection that is counted, and whose framing is followed.
type conn struct {
	net.Conn
	strict
	owner *conns
	// life ends with the drain, or with the connection. Each connection has its own, since all requests wait for its end beside that of their
	// append, and the lock of one channel for all of them took a tenth of the requests.
	life   context.Context
	end    context.CancelFunc
	addr   netip.Addr
	over   *refusedConn
	slow   bool // that it was too slow is counted
	closed sync.Once
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	before := c.refused
	n, err := c.strict.Read(p)
	switch {
	case c.refused && !before:
		c.owner.metrics.refused("framing")
	case err != nil && !c.slow && c.inHead() && errors.Is(err, os.ErrDeadlineExceeded):
		c.slow = true
		c.owner.metrics.refused("slow_headers")
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() {
		c.owner.release(c.addr)
		c.end()
	})
	return err
}

// CloseWrite lets net/http end a connection so that the client can still read the answer.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// addrOf returns whose connection it is: its peer's address, or for IPv6, where a host has as many as it likes, the network of 64 bits.
func addrOf(peer net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(peer.String())
	addr := at.Addr().Unmap().WithZone("")
	if err != nil || addr.Is4() {
		return addr
	}
	network, _ := addr.Prefix(64) // of IPv6 there always is one
	return network.Addr()
}

// accept accepts connections of ln and sends them to out, until ln is closed. It returns why.
func (c *conns) accept(ctx context.Context, ln net.Listener, out chan<- net.Conn) error {
	for pause := time.Duration(0); ; {
		raw, err := ln.Accept()
		if passing(err) {
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
			}
		}
		if err != nil {
			return err
		}
		pause = 0
		addr := addrOf(raw.RemoteAddr())
		over, ok := c.admit(addr)
		if over != nil || !ok {
			c.metrics.refused("connections")
		}
		if !ok {
			_ = raw.Close() // without a word: whoever has so many would not read it
			continue
		}
		counted := &conn{Conn: raw, strict: strict{from: raw}, owner: c, addr: addr, over: over}
		counted.life, counted.end = context.WithCancel(ctx)
		select {
		case out <- counted.shown():
		case <-ctx.Done():
			_ = counted.Close()
			return ctx.Err()
		}
	}
}

// passing reports whether accept may work again by itself: the client left early, or there are no descriptors or buffers just now.
func passing(err error) bool {
	for _, e := range []syscall.Errno{syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// handed is a net.Listener of connections that were accepted elsewhere.
type handed struct {
	addr net.Addr
	from <-chan net.Conn
	done chan struct{} // closed by Close
	once sync.Once
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case <-h.done: // first, so that what comes after Close is left to others
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-h.from:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; what feeds it goes on.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }
