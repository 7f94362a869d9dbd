package app

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"millrace/configs"
)

// certificate is what a listener shows, replaced while it serves.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// readCertificate reads the files of a listener; nil if it has none. section is "ingest" or "console".
func readCertificate(cfg *configs.Loaded, section string, files configs.TLS) (*tls.Certificate, error) {
	if !files.On() {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.Path(files.Cert), cfg.Path(files.Key))
	if err != nil {
		return nil, fmt.Errorf("%w: %s.tls: read %s and %s: %w", configs.ErrInvalid, section, cfg.Path(files.Cert), cfg.Path(files.Key), err)
	}
	return &cert, nil
}

// wrap makes ln speak TLS with the present certificate, if there is one. protocols are those of ALPN.
func (c *certificate) wrap(ln net.Listener, protocols ...string) net.Listener {
	if c.current.Load() == nil {
		return ln
	}
	return tls.NewListener(ln, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	})
}

// scheme is that of a listener's URL.
func (c *certificate) scheme() string {
	if c.current.Load() == nil {
		return "http"
	}
	return "https"
}
