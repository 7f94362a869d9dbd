package vars

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"millrace/ingest/vfs"
	"millrace/scheduler"
)

// KeyFile is the name of the file in the data directory that has the keys, unless the configuration says where else they are.
const KeyFile = "secrets.key"

const (
	keyBytes   = 32
	sealPrefix = "mr1"
)

// errKeyGone: a value is encrypted with a key that is not there.
var errKeyGone = errors.New("its key is not there")

// key is one key of the installation; id is a part of its hash, which stands beside what it has sealed.
type key struct {
	id   string
	text string
	aead cipher.AEAD
}

// Keyring has the keys of an installation. The first one seals, every one opens. Safe for concurrent use.
type Keyring struct {
	// path is the file; "" if the keys are somebody else's, and can not be changed here.
	path string

	mu   sync.Mutex // guards the rest
	keys []key
}

// OpenKeys reads the key file; one that does not exist is made when it is first needed.
func OpenKeys(path string) (*Keyring, error) {
	k := &Keyring{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of secrets: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("protect the keys of secrets: %w", err)
	}
	if k.keys, err = parseKeys(string(text)); err != nil {
		return nil, fmt.Errorf("read the keys of secrets in %s: %w", path, err)
	}
	return k, nil
}

// NewKeys returns a ring of keys that are kept elsewhere: 32 bytes in base64 each, one in a line or with commas between.
func NewKeys(text string) (*Keyring, error) {
	keys, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("read secret_key: %w", err)
	}
	return &Keyring{keys: keys}, nil
}

func parseKeys(text string) ([]key, error) {
	var out []key
	for i, word := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ' ' }) {
		k, err := newKey(word)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, errors.New(`there is none; "openssl rand -base64 32" makes one`)
	}
	return out, nil
}

// newKey never says the key in an error.
func newKey(word string) (key, error) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(word), "="))
	if err != nil || len(raw) != keyBytes {
		return key{}, errors.New(`want 32 bytes in base64, as "openssl rand -base64 32" prints them`)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return key{}, err
	}
	sum := sha256.Sum256(append([]byte("millrace key id:"), raw...))
	return key{id: hex.EncodeToString(sum[:4]), text: base64.StdEncoding.EncodeToString(raw), aead: aead}, nil
}

func makeKey() key {
	raw := make([]byte, keyBytes)
	_, _ = rand.Read(raw) // never fails
	k, err := newKey(base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		panic("vars: " + err.Error()) // 32 bytes are a key
	}
	return k
}

// write puts the keys into the file, whole or not at all, readable by nobody else.
func writeKeys(path string, keys []key) error {
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(k.text + "\n")
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), KeyFile+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the keys of secrets: %w", err)
	}
	defer os.Remove(tmp.Name()) // It has another name by then, or is of no use.
	_, err = tmp.WriteString(text.String())
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = vfs.OS.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write the keys of secrets: %w", err)
	}
	return nil
}

// Path returns the file, or "" if the keys are kept elsewhere.
func (k *Keyring) Path() string { return k.path }

// IDs returns the ids of the keys, the one that seals first.
func (k *Keyring) IDs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, one := range k.keys {
		out = append(out, one.id)
	}
	return out
}

// first returns the key that seals. Without any, it makes one, which is on the disk when this returns.
func (k *Keyring) first() (key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) == 0 {
		one := makeKey()
		if err := writeKeys(k.path, []key{one}); err != nil {
			return key{}, err
		}
		k.keys = []key{one}
	}
	return k.keys[0], nil
}

// add makes a new key the first one; the others stay. Only for a ring with a file.
func (k *Keyring) add() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := append([]key{makeKey()}, k.keys...)
	if err := writeKeys(k.path, keys); err != nil {
		return err
	}
	k.keys = keys
	return nil
}

// keepFirst forgets all keys but the first.
func (k *Keyring) keepFirst() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) < 2 {
		return nil
	}
	if err := writeKeys(k.path, k.keys[:1]); err != nil {
		return err
	}
	k.keys = k.keys[:1]
	return nil
}

// seal encrypts a text that belongs to a kind and a name: "mr1:<key id>:<base64 of nonce and ciphertext>".
func (k *Keyring) seal(kind, name, text string) (string, error) {
	one, err := k.first()
	if err != nil {
		return "", err
	}
	nonce := make([]byte, one.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	sealed := one.aead.Seal(nonce, nonce, []byte(text), []byte(kind+"\x00"+name))
	return sealPrefix + ":" + one.id + ":" + base64.StdEncoding.EncodeToString(sealed), nil
}

// open is the inverse of seal. errKeyGone.
func (k *Keyring) open(v *scheduler.StoredValue) (string, error) {
	if !v.Sealed {
		return v.Text, nil
	}
	fields := strings.Split(v.Text, ":")
	if len(fields) != 3 || fields[0] != sealPrefix {
		return "", fmt.Errorf("%s %s is encrypted in a way that this version does not know", v.Kind, v.Name)
	}
	raw, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return "", fmt.Errorf("%s %s is damaged in the store: %w", v.Kind, v.Name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range k.keys {
		n := one.aead.NonceSize()
		if one.id != fields[1] || len(raw) < n {
			continue
		}
		text, err := one.aead.Open(nil, raw[:n], raw[n:], []byte(v.Kind+"\x00"+v.Name))
		if err != nil {
			return "", fmt.Errorf("%s %s is damaged in the store, or was moved there from another name", v.Kind, v.Name)
		}
		return string(text), nil
	}
	where := k.path
	if where == "" {
		where = "secret_key"
	}
	return "", fmt.Errorf("%s %s is encrypted with key %s: %w (%s); put that key back as a further one, or set the value again",
		v.Kind, v.Name, fields[1], errKeyGone, where)
}
