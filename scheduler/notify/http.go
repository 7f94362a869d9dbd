package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"millrace/ingest"
	"millrace/scheduler"
)

// maxAnswer bounds what is read of an answer, and what is shown of it.
const (
	maxAnswer  = 64 << 10
	maxExcerpt = 200
)

// maxRetryAfter bounds how long a receiver can ask us to stay away.
const maxRetryAfter = time.Hour

// post sends a notice to a URL. A redirect is not followed: who answers must not choose where secrets and signatures go, or which address of
// our network is called.
func (s *Service) post(ctx context.Context, n *Notifier, id string, body *scheduler.NoticeBody) error {
	doc := any(body)
	if n.Kind == KindSlack {
		doc = slackMessage(body)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode the notice: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL.Reveal(), bytes.NewReader(raw))
	if err != nil {
		return errors.New("url is not an address") // the error has the URL in it
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.opts.Agent)
	if n.Kind == KindHTTP {
		req.Header.Set("Idempotency-Key", id)
		req.Header.Set("X-Millrace-Event", body.Event)
		if err := Sign(req.Header, n.Secret, id, time.Now(), raw); err != nil {
			return err
		}
		for name, val := range n.Headers {
			req.Header.Set(name, val.Reveal())
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text has the URL
			err = ue.Err
		}
		return fmt.Errorf("no answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // read to the end, so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("answered %s", resp.Status)
	if resp.StatusCode/100 == 3 {
		err = fmt.Errorf("answered %s, and redirects are not followed: put the last address into url", resp.Status)
	}
	if shown := n.excerpt(text); shown != "" {
		err = fmt.Errorf("%w: %s", err, shown)
	}
	if seconds, perr := strconv.Atoi(resp.Header.Get("Retry-After")); perr == nil && seconds > 0 {
		return &again{err, min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)}
	}
	return err
}

// excerpt is the beginning of an answer in one line, without our secrets if the other side repeats them.
func (n *Notifier) excerpt(body []byte) string {
	text := string(body)
	secrets := []ingest.Secret{n.URL, n.Secret}
	for _, val := range n.Headers {
		secrets = append(secrets, val)
		if _, credentials, ok := strings.Cut(val.Reveal(), " "); ok { // Bearer x
			secrets = append(secrets, ingest.Secret(credentials))
		}
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret.Reveal(), "***")
		}
	}
	return oneLine(text)
}

// oneLine is the beginning of a text as it can be shown.
func oneLine(text string) string {
	cut := len(text) > maxExcerpt
	text = strings.ToValidUTF8(text[:min(len(text), maxExcerpt)], "?")
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)), " ")
	if cut {
		text += " …"
	}
	return text
}

// Sign adds the headers of the Standard Webhooks specification: webhook-id, webhook-timestamp and, if there is a secret, webhook-signature, which
// is "v1," and the base64 of the HMAC-SHA-256 of "<id>.<timestamp>.<body>".
//
// Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
func Sign(h http.Header, secret ingest.Secret, id string, now time.Time, body []byte) error {
	stamp := strconv.FormatInt(now.Unix(), 10)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	if secret == "" {
		return nil
	}
	key, err := signingKey(secret)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, stamp)
	_, _ = mac.Write(body)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return nil
}

// signingKey is what stands behind whsec_, in base64, as the specification has it: so that the receivers' libraries take it as it stands.
func signingKey(secret ingest.Secret) ([]byte, error) {
	text, ok := strings.CutPrefix(secret.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < minKey {
		return nil, fmt.Errorf("secret is not whsec_ with the base64 of at least %d bytes; 'echo whsec_$(openssl rand -base64 32)' makes one", minKey)
	}
	return key, nil
}

// minKey is the least length of a key that the specification recommends, in bytes.
const minKey = 24
