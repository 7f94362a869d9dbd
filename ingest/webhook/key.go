package webhook

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"

	"millrace/ingest"
)

// hashes are the algorithms that make a MAC, by name.
var hashes = map[string]func() hash.Hash{"hmac-sha1": sha1.New, "hmac-sha256": sha256.New, "hmac-sha512": sha512.New}

// algorithms are what [ingest.Scheme].Algorithm may be.
var algorithms = []string{"hmac-sha1", "hmac-sha256", "hmac-sha512", "sha256", "ed25519", "ecdsa-p256", "token", "none"}

// privateKey begins Ed25519 keys that can sign, and not only verify. Source: the Standard Webhooks specification.
const privateKey = "whsk_"

// errCannotSign: only the sender can make this signature.
var errCannotSign = errors.New("only the sender has the key that signs")

// key is a secret of a source, made ready for its algorithm.
type key struct {
	algorithm string
	raw       []byte
	public    ed25519.PublicKey
	private   ed25519.PrivateKey // nil if the secret is a public key
	curve     *ecdsa.PublicKey
	sum       [sha256.Size]byte // of raw
	macs      *sync.Pool        // of *mac; one that was used knows what both pads hash to, which is half the work for a short body
}

// mac is an HMAC with room for its result.
type mac struct {
	hash.Hash
	out []byte
}

// newKey derives the key of a secret. Errors do not show the secret.
func newKey(s *ingest.Scheme, secret ingest.Secret) (key, error) {
	text, signs := secret.Reveal(), false
	if s.Algorithm == "ed25519" {
		text, signs = strings.CutPrefix(text, privateKey)
	}
	raw, err := decodeText(s.Key, strings.TrimPrefix(text, s.KeyPrefix))
	if err != nil || len(raw) == 0 {
		return key{}, fmt.Errorf("secret is empty or not %s", s.Key)
	}
	k := key{algorithm: s.Algorithm, raw: raw, sum: sha256.Sum256(raw)}
	k.macs = &sync.Pool{New: func() any { return &mac{Hash: newHash(s.Algorithm, raw)} }}
	switch s.Algorithm {
	case "ed25519":
		if len(raw) != ed25519.PublicKeySize {
			return key{}, fmt.Errorf("secret has %d bytes, an Ed25519 key has %d", len(raw), ed25519.PublicKeySize)
		}
		k.public = raw
		if signs {
			k.private = ed25519.NewKeyFromSeed(raw)
			k.public = k.private.Public().(ed25519.PublicKey)
		}
	case "ecdsa-p256":
		if k.curve, err = parseCurve(raw); err != nil {
			return key{}, err
		}
	}
	return k, nil
}

func parseCurve(raw []byte) (*ecdsa.PublicKey, error) {
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	parsed, err := x509.ParsePKIXPublicKey(raw)
	public, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("secret is no public key of the curve P-256")
	}
	return public, nil
}

// newHash returns what an algorithm computes: its HMAC, or else SHA-256.
func newHash(algorithm string, raw []byte) hash.Hash {
	if newHash := hashes[algorithm]; newHash != nil {
		return hmac.New(newHash, raw)
	}
	return sha256.New()
}

// mac returns the HMAC over data; with an algorithm that is no HMAC, that of SHA-256.
func (k *key) mac(data []byte) []byte {
	newHash := hashes[k.algorithm]
	if newHash == nil {
		newHash = sha256.New
	}
	m := hmac.New(newHash, k.raw)
	m.Write(data)
	return m.Sum(nil)
}

// matches reports whether one of signatures is that of r by k, in a time that does not depend on how much of it is right.
func (k *key) matches(r *request, signatures [][]byte, url string) bool {
	found := 0
	switch {
	case k.algorithm == "token":
		for _, s := range signatures {
			sum := sha256.Sum256(s)
			found |= subtle.ConstantTimeCompare(sum[:], k.sum[:])
		}
	case k.algorithm == "ed25519":
		signed := r.signed(k, url)
		for _, s := range signatures {
			if ed25519.Verify(k.public, signed, s) {
				found = 1
			}
		}
	case k.algorithm == "ecdsa-p256":
		sum := sha256.Sum256(r.signed(k, url))
		for _, s := range signatures {
			if ecdsa.VerifyASN1(k.curve, sum[:], s) {
				found = 1
			}
		}
	default:
		m := k.digest(r, url)
		for _, s := range signatures {
			found |= subtle.ConstantTimeCompare(s, m.out)
		}
		k.macs.Put(m)
	}
	return found == 1
}

// digest computes the signature of the algorithms that both sides compute. Give it back to k.macs.
func (k *key) digest(r *request, url string) *mac {
	m := k.macs.Get().(*mac)
	m.Reset()
	r.v.payload.writeTo(m, r, k, url)
	m.out = m.Sum(m.out[:0])
	return m
}

// sign returns the signature of r by k.
func (k *key) sign(r *request, url string) ([]byte, error) {
	switch {
	case k.algorithm == "token":
		return k.raw, nil
	case k.private != nil:
		return k.private.Sign(rand.Reader, r.signed(k, url), crypto.Hash(0))
	case k.public != nil || k.curve != nil:
		return nil, errCannotSign
	}
	return k.digest(r, url).out, nil
}

// decodeText decodes text as an encoding says; base64 may be of either alphabet, and padded or not.
func decodeText(encoding, text string) ([]byte, error) {
	switch encoding {
	case "hex":
		return hex.DecodeString(text)
	case "base64":
		text = strings.TrimRight(text, "=")
		if strings.ContainsAny(text, "-_") {
			return base64.RawURLEncoding.DecodeString(text)
		}
		return base64.RawStdEncoding.DecodeString(text)
	}
	return []byte(text), nil
}

func encodeText(encoding string, b []byte) string {
	switch encoding {
	case "hex":
		return hex.EncodeToString(b)
	case "base64":
		return base64.StdEncoding.EncodeToString(b)
	}
	return string(b)
}
