package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestTLS: requests that come by TLS are known to have done so, which signatures over URLs and the settings document need.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS() // for its certificate, and the client that trusts it
	defer cert.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, &fakeLog{}, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, tls.NewListener(ln, &tls.Config{Certificates: cert.TLS.Certificates})) }() // ends by cancel
	resp, err := cert.Client().Get("https://" + ln.Addr().String() + "/v1/projects/dev/settings")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"protocol":"https"`) {
		t.Errorf("got %d %s, %v, want the protocol https", resp.StatusCode, body, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
