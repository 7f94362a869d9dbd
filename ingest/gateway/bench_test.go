package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// track is a track event of 544 bytes.
func track() []byte {
	ev := []byte(`{"type":"track","event":"Order Completed","messageId":"ajs-next-1763886711000-4b0c-9f21","anonymousId":"5c6d0a2e-7f3b-4d5e-8a9b-0123456789ab",` +
		`"userId":"user-7","timestamp":"2026-11-23T08:38:31.123Z","context":{"library":{"name":"analytics.js","version":"npm:next-1.84.1"},` +
		`"page":{"path":"/checkout","referrer":"","title":"Checkout","url":"https://shop.example.com/checkout"},"locale":"de-DE"},` +
		`"properties":{"order_id":"7","total":129.95,"currency":"EUR","products":[{"sku":"A-1","quantity":1,"price":99.95}],"coupon":"`)
	for len(ev) < 544-3 {
		ev = append(ev, 'x')
	}
	return append(ev, `"}}`...)
}

func batchOf(n int) []byte {
	body := append([]byte(`{"batch":[`), track()...)
	for range n - 1 {
		body = append(append(body, ','), track()...)
	}
	return append(body, `],"sentAt":"2026-11-23T08:38:32.000Z"}`...)
}

// quiet is a ResponseWriter that costs nothing, so that only the handler is measured.
type quiet struct {
	h    http.Header
	code int
}

func (q *quiet) Header() http.Header         { return q.h }
func (q *quiet) WriteHeader(code int)        { q.code = code }
func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }

type body struct{ bytes.Reader }

func (*body) Close() error { return nil }

func benchmarkHandler(b *testing.B, path string, payload []byte) {
	s := newServer(b, nullLog{}, Options{Metrics: prometheus.NewRegistry()})
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.Header.Set("Authorization", "Basic ZGV2Og==")
	r.ContentLength = int64(len(payload))
	w, from := &quiet{h: http.Header{}}, &body{}
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		from.Reset(payload)
		r.Body = from
		s.Handler().ServeHTTP(w, r)
		if w.code != http.StatusOK {
			b.Fatalf("got %d, want 200", w.code)
		}
	}
}

func BenchmarkHandlerSingle(b *testing.B)   { benchmarkHandler(b, "/v1/track", track()) }
func BenchmarkHandlerBatch100(b *testing.B) { benchmarkHandler(b, "/v1/batch", batchOf(100)) }

// BenchmarkLoopback compares a bare handler, which reads the body and answers 200, with the gateway over a log that costs nothing, on a real
// listener with 64 connections. Client and server share the cores, so the quotient of the two is what counts.
func BenchmarkLoopback(b *testing.B) {
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
	})
	gateway := newServer(b, nullLog{}, Options{Metrics: prometheus.NewRegistry()}).Handler()
	for name, h := range map[string]http.Handler{"bare": bare, "gateway": gateway} {
		b.Run(name, func(b *testing.B) { loopback(b, h, track()) })
	}
}

func loopback(b *testing.B, h http.Handler, payload []byte) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	request := append(fmt.Appendf(nil, "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ZGV2Og==\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n", len(payload)), payload...)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		answer := make([]byte, 4096)
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			n, err := conn.Read(answer)
			if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
				b.Errorf("got %q, %v, want 200", answer[:n], err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
