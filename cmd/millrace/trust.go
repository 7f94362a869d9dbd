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

// httpClient returns a client for a listener at base. On the server's own machine it also trusts the certificates that the configuration names,
// and the one that `dev --tls` has made in the data directory.
func (g *global) httpClient(base *url.URL) *http.Client {
	if base.Scheme != "https" || !isLocal(base.Hostname()) {
		return &http.Client{}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: g.localRoots()}
	transport.MaxIdleConnsPerHost = 64 // send has many at a time
	return &http.Client{Transport: transport}
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// localRoots are the authorities of the system, and the certificates of this machine's server as far as they can be read.
func (g *global) localRoots() *x509.CertPool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	l, err := g.load(configs.Default())
	if err != nil {
		return roots
	}
	for _, path := range []string{l.Data(app.SelfSignedCert), l.Path(l.Ingest.TLS.Cert), l.Path(l.Console.TLS.Cert)} {
		if cert, err := os.ReadFile(path); err == nil {
			roots.AppendCertsFromPEM(cert)
		}
	}
	return roots
}
