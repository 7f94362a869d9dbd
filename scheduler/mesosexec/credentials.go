package mesosexec

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Secret returns a secret. It is asked again when a master has not accepted it, so that it can be replaced while we run.
type Secret func() (string, error)

// SecretFile returns the secret in a file, without white space around it.
func SecretFile(path string) Secret {
	return func() (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		if secret := strings.TrimSpace(string(text)); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("read secret: %s is empty", path)
	}
}

// Credentials say who we are. Safe for concurrent use; nil says nothing.
type Credentials struct {
	header func(secret string) string
	secret Secret

	mu   sync.Mutex // guards kept
	kept string     // the header, "" before the secret was read
}

// Basic returns credentials for Mesos's own authenticator.
func Basic(principal string, secret Secret) *Credentials {
	return &Credentials{secret: secret, header: func(s string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(principal+":"+s))
	}}
}

// Bearer returns credentials for authenticators that want a token.
func Bearer(token Secret) *Credentials {
	return &Credentials{secret: token, header: func(s string) string { return "Bearer " + s }}
}

// authorization returns the header of that name. used is the one that was not accepted: then the secret is read again, once for all who had it.
func (c *Credentials) authorization(used string) (string, error) {
	if c == nil {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept != "" && c.kept != used {
		return c.kept, nil
	}
	secret, err := c.secret()
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(secret, "\r\n") {
		return "", errors.New("the secret has more than one line")
	}
	c.kept = c.header(secret)
	return c.kept, nil
}

// TLS returns a configuration for masters with certificates of an own authority, from a PEM file; certificate and key are ours, "" without.
func TLS(authority, certificate, key string) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if authority != "" {
		out.RootCAs = x509.NewCertPool()
		if err := addAuthority(out.RootCAs, authority); err != nil {
			return nil, err
		}
	}
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read own certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// TrustAlso returns a configuration for masters and agents with certificates of the machine's authorities, or of one from a PEM file.
func TrustAlso(authority string) (*tls.Config, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // The machine has none.
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, addAuthority(roots, authority)
}

func addAuthority(pool *x509.CertPool, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read certificate authority: %w", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("read certificate authority: %s has no certificate in PEM", file)
	}
	return nil
}
