package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"millrace/ingest/vfs"
)

// minToken is the least length of a token, in characters.
const minToken = 16

// TokenFile is the name of the token's file in the data directory.
const TokenFile = "console.token"

// LoadToken returns the token in dir, and makes one at the first start. The file is for its owner alone: wider permissions are taken back.
func LoadToken(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(dir, path)
	}
	if err != nil {
		return "", fmt.Errorf("read console token: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", fmt.Errorf("protect console token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken {
		return "", fmt.Errorf("read console token %s: it has %d characters, want at least %d; remove the file to get a new one", path, len(token), minToken)
	}
	return token, nil
}

// makeToken puts the file there whole or not at all, and lets another process that does the same win.
func makeToken(dir, path string) (string, error) {
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails
	token := base64.RawURLEncoding.EncodeToString(raw)
	tmp, err := os.CreateTemp(dir, TokenFile+".*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("make console token: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(token + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", fmt.Errorf("write console token: %w", err)
	}
	err = os.Link(tmp.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return LoadToken(dir)
	}
	if err == nil {
		err = vfs.OS.SyncDir(dir)
	}
	if err != nil {
		return "", fmt.Errorf("write console token: %w", err)
	}
	return token, nil
}

// session is how long a login lasts.
const session = 30 * 24 * time.Hour

// auth knows who may ask. It keeps no state: a session is the time of its end, signed with the token, so a new token ends all sessions.
type auth struct {
	token  string
	cookie string
	path   string
	secure bool
	hosts  []string
	origin *http.CrossOriginProtection
}

func newAuth(o Options) *auth {
	a := &auth{token: o.Token, cookie: "millrace", path: o.BasePath, secure: o.TLS, hosts: o.Hosts, origin: http.NewCrossOriginProtection()}
	if o.TLS && o.BasePath == "/" {
		a.cookie = "__Host-millrace" // Browsers take this name only as secure, for one host, and for the path /.
	}
	return a
}

// admit is the guard before every route.
func (a *auth) admit(how access, r *http.Request) error {
	if how == open {
		return nil
	}
	if !a.hostKnown(r.Host) {
		return errHost
	}
	if err := a.origin.Check(r); err != nil {
		return errOrigin
	}
	if how != tokenless && !a.bearer(r) && !a.session(r, time.Now()) {
		return errToken
	}
	return nil
}

func (a *auth) bearer(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && a.valid(strings.TrimSpace(token))
}

// valid takes the same time for every wrong token.
func (a *auth) valid(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func (a *auth) sign(end string) string {
	mac := hmac.New(sha256.New, []byte(a.token))
	mac.Write([]byte("millrace console session\x00" + end))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (a *auth) session(r *http.Request, now time.Time) bool {
	c, err := r.Cookie(a.cookie)
	if err != nil {
		return false
	}
	end, sum, _ := strings.Cut(c.Value, ".")
	if !hmac.Equal([]byte(sum), []byte(a.sign(end))) {
		return false
	}
	seconds, err := strconv.ParseInt(end, 10, 64)
	return err == nil && now.Before(time.Unix(seconds, 0))
}

// login returns the cookie of a new session.
func (a *auth) login(now time.Time) *http.Cookie {
	end := strconv.FormatInt(now.Add(session).Unix(), 10)
	return &http.Cookie{
		Name: a.cookie, Value: end + "." + a.sign(end), Path: a.path, MaxAge: int(session / time.Second), HttpOnly: true, Secure: a.secure,
		SameSite: http.SameSiteLaxMode,
	}
}

// hostKnown is what keeps a name that an attacker points at this address from being this origin.
func (a *auth) hostKnown(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if loopback(host) {
		return true
	}
	for _, h := range a.hosts {
		h = strings.ToLower(h)
		if suffix, wild := strings.CutPrefix(h, "*"); host == h || wild && strings.HasPrefix(suffix, ".") && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
