package app

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/configs"
)

// TestSelfSigned: a certificate is made once, for all that the machine is called; for another address, or if a file is damaged, anew.
func TestSelfSigned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(listen ...string) string {
		files, err := SelfSigned(dir, listen...)
		if err != nil {
			t.Fatal(err)
		}
		cfg := &configs.Loaded{Config: configs.Default()}
		cert, err := readCertificate(cfg, "ingest", files)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range append(listen, "localhost:1", "127.0.0.1:1", "[::1]:1") {
			host := strings.Trim(l[:strings.LastIndex(l, ":")], "[]")
			if err := cert.Leaf.VerifyHostname(host); host != "" && err != nil {
				t.Error(err)
			}
		}
		return cert.Leaf.SerialNumber.String()
	}
	serials := []string{read(), read(":8080"), read("192.0.2.7:443"), read("192.0.2.7:443"), read("shop.test:443")}
	if serials[0] != serials[1] || serials[1] == serials[2] || serials[2] != serials[3] || serials[3] == serials[4] {
		t.Errorf("got the serials %v, want a new one for each new name only", serials)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls/key.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := read(); slices.Contains(serials, again) {
		t.Error("a pair with a damaged key was kept")
	}
}

// TestCheckCertificates: a file that is missing, or is none, is a fault that names key and file.
func TestCheckCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := &configs.Loaded{Config: configs.Default(), File: filepath.Join(dir, "m.yaml"), Origin: map[string]string{}}
	cfg.Console.TLS = configs.TLS{Cert: "c.pem", Key: "k.pem"}
	for _, text := range []string{"", "no certificate"} {
		if text != "" {
			for _, name := range []string{"c.pem", "k.pem"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := Check(cfg)
		if !errors.Is(err, configs.ErrInvalid) || !strings.Contains(err.Error(), "console.tls") || !strings.Contains(err.Error(), filepath.Join(dir, "c.pem")) {
			t.Errorf("got %v, want a fault of console.tls that names the file", err)
		}
	}
}
