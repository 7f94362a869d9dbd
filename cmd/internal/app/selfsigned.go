package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"millrace/configs"
)

// SelfSignedCert is the name of the certificate's file within the data directory: what clients must trust.
const SelfSignedCert = "tls/cert.pem"

// A certificate for longer is refused by some clients; one that ends soon is made anew at the start.
const (
	certLife  = 397 * 24 * time.Hour
	certRenew = 30 * 24 * time.Hour
)

// SelfSigned returns a self-signed certificate in the data directory dir, for this machine's names and addresses and those of listen. One that
// is there and still fits is kept, so that who trusts it need not do it again.
func SelfSigned(dir string, listen ...string) (configs.TLS, error) {
	files := configs.TLS{Cert: filepath.Join(dir, SelfSignedCert), Key: filepath.Join(dir, "tls/key.pem")}
	names, addrs := hostsOf(listen)
	if fits(files, names, addrs) {
		return files, nil
	}
	if err := os.MkdirAll(filepath.Dir(files.Cert), 0o700); err != nil {
		return files, fmt.Errorf("make certificate: %w", err)
	}
	cert, key, err := makeCertificate(names, addrs, time.Now())
	if err == nil {
		err = errors.Join(os.WriteFile(files.Key, key, 0o600), os.WriteFile(files.Cert, cert, 0o644))
	}
	if err != nil {
		return files, fmt.Errorf("make certificate: %w", err)
	}
	return files, nil
}

// hostsOf returns by what this machine can be called: a phone in the same network uses an address.
func hostsOf(listen []string) (names []string, addrs []net.IP) {
	names = []string{"localhost"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	addrs = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	own, _ := net.InterfaceAddrs()
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			addrs = append(addrs, n.IP)
		}
	}
	for _, addr := range listen {
		host, _, _ := net.SplitHostPort(addr)
		switch ip := net.ParseIP(host); {
		case ip != nil && !ip.IsUnspecified():
			addrs = append(addrs, ip)
		case ip == nil && host != "":
			names = append(names, host)
		}
	}
	return names, addrs
}

// fits reports whether the files have a pair that is good for a while and for all names and addresses.
func fits(files configs.TLS, names []string, addrs []net.IP) bool {
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil || time.Until(pair.Leaf.NotAfter) < certRenew {
		return false
	}
	for _, ip := range addrs {
		if !slices.ContainsFunc(pair.Leaf.IPAddresses, ip.Equal) {
			return false
		}
	}
	return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(pair.Leaf.DNSNames, n) })
}

// makeCertificate returns certificate and key in PEM. It is its own authority, so that it can be trusted as one, on phones too.
func makeCertificate(names []string, addrs []net.IP, now time.Time) (cert, key []byte, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	form := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "millrace dev on " + names[len(names)-1]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife - time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, DNSNames: names, IPAddresses: addrs,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, secret.Public(), secret)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return nil, nil, err
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
