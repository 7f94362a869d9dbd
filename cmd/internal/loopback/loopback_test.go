package loopback

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestFree: no address twice, each can be listened on, and none is one that the kernel gives to a client's connection or that is held.
func TestFree(t *testing.T) {
	t.Parallel()
	low := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		low, _ = strconv.Atoi(strings.Fields(string(text))[0])
	}
	seen := map[string]bool{}
	for range 200 {
		following := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+int((next.Load()+1)%ports)))
		held, err := net.Listen("tcp", following)
		if err != nil {
			t.Logf("%s is somebody else's", following)
			next.Add(1)
			continue
		}
		addr, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		_ = held.Close()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if port := l.Addr().(*net.TCPAddr).Port; seen[addr] || addr == following || port >= low {
			t.Errorf("got %s, want an address below port %d that is not %s and was not given out before", addr, low, following)
		}
		seen[addr] = true
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) == 0 {
		t.Error("every address was somebody else's, so that nothing was shown")
	}
}
