// Package loopback finds addresses for servers that are started as processes of their own, and started again on the same address.
//
// A port that the kernel chose is free only as long as nobody connects anywhere: its range is the one from which every outgoing connection takes
// its own port, so that between two starts of a server some client's connection may hold it, and the server finds its address in use. The ports
// here lie below that range, and no process gives one out twice.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// The ports given out: above those of well-known servers, below those that Linux gives to outgoing connections
// (net.ipv4.ip_local_port_range is 32768–60999 unless somebody changed it).
const first, ports = 15_000, 17_000

// next starts anywhere, so that processes that run beside each other seldom ask for the same port.
var next = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(ports))
	return n
}()

// Free returns an address on the loopback interface, as host:port, on which nobody listens.
func Free() (string, error) {
	for range ports {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+int(next.Add(1)%ports)))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("every port of 127.0.0.1 from %d to %d is in use", first, first+ports-1)
}
