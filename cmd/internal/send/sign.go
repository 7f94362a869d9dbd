package send

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"millrace/ingest"
	"millrace/ingest/webhook"
)

// ErrCannotSign is returned for a source whose signatures only the provider can make; the text says why.
var ErrCannotSign = webhook.ErrCannotSign

// authorizer returns what adds to a request the proof that the source asks of its senders.
func authorizer(src *ingest.Source) (func(r *http.Request, body []byte, now time.Time) error, error) {
	switch src.Kind {
	case ingest.KindClickstream:
		if len(src.WriteKeys) == 0 {
			return nil, errors.New("source " + src.Name + " has no write key")
		}
		return func(r *http.Request, _ []byte, _ time.Time) error {
			r.SetBasicAuth(src.WriteKeys[0], "")
			return nil
		}, nil
	case ingest.KindEvents:
		if len(src.Tokens) == 0 {
			return nil, errors.New("source " + src.Name + " has no token")
		}
		return func(r *http.Request, _ []byte, _ time.Time) error {
			r.Header.Set("Authorization", "Bearer "+src.Tokens[0].Reveal())
			return nil
		}, nil
	}
	v, err := webhook.New(src)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", src.Name, err)
	}
	return func(r *http.Request, body []byte, now time.Time) error {
		proof, err := v.Sign(&webhook.Delivery{
			Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Header: r.Header, Body: body, URL: r.URL.String(), Received: now.UTC(),
		})
		if err != nil {
			return fmt.Errorf("sign for source %s: %w", src.Name, err)
		}
		maps.Copy(r.Header, proof)
		return nil
	}, nil
}
