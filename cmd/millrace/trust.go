package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"

	"millrace/cmd/internal/app"
	"millrace/configs"
)

// httpClient returns a client for the console at base. On the server's own machine it also trusts the certificate that `dev --tls` has made in
// the data directory.
func (g *global) httpClient(base *url.URL) *http.Client {
	ip := net.ParseIP(base.Hostname())
	if base.Scheme != "https" || base.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return &http.Client{}
	}
	l, err := g.load(configs.Default())
	if err != nil {
		return &http.Client{}
	}
	cert, err := os.ReadFile(l.Data(app.SelfSignedCert))
	if err != nil {
		return &http.Client{}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(cert)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: transport}
}
