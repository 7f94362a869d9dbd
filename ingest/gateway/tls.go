package gateway

import (
	"crypto/tls"
	"net"
)

// tlsConn is a connection of TLS. net/http asks it for its state, and so knows that requests came by TLS, which it can not see through a conn.
// A state before the handshake is empty; that it is there is what counts.
type tlsConn struct{ *conn }

// ConnectionState is what net/http looks for.
func (c tlsConn) ConnectionState() tls.ConnectionState {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.ConnectionState()
	}
	return tls.ConnectionState{}
}

// shown is the connection as net/http gets it.
func (c *conn) shown() net.Conn {
	if _, ok := c.Conn.(*tls.Conn); ok {
		return tlsConn{c}
	}
	return c
}
