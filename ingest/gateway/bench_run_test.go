package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkRun is BenchmarkLoopback through Run, as a process serves.
func BenchmarkRun(b *testing.B) {
	for name, payload := range map[string][]byte{"single": track(), "batch100": batchOf(100)} {
		b.Run(name, func(b *testing.B) {
			s := newServer(b, nullLog{}, Options{Metrics: prometheus.NewRegistry()})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx, ln) }() // ends by cancel; received below
			path := map[string]string{"single": "track", "batch100": "batch"}[name]
			request := append(fmt.Appendf(nil, "POST /v1/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ZGV2Og==\r\nContent-Type: application/json\r\n"+
				"Content-Length: %d\r\n\r\n", path, len(payload)), payload...)
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) { exchangeAll(b, pb, ln.Addr().String(), request) })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}

func exchangeAll(b *testing.B, pb *testing.PB, addr string, request []byte) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	answer := make([]byte, 4096)
	for pb.Next() {
		if _, err := conn.Write(request); err != nil {
			b.Error(err)
			return
		}
		n, err := conn.Read(answer)
		if err != nil || !bytes.HasPrefix(answer[:n], fmt.Appendf(nil, "HTTP/1.1 %d", http.StatusOK)) {
			b.Errorf("got %q, %v, want 200", answer[:n], err)
			return
		}
	}
}
