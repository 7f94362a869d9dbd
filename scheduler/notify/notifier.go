package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"millrace/ingest"
	"millrace/scheduler"
)

// Kinds of notifiers.
const (
	KindHTTP    = "http"    // posts [scheduler.NoticeBody] as JSON
	KindSlack   = "slack"   // posts the form of Slack's incoming webhooks
	KindCommand = "command" // runs a program that gets the JSON on stdin
)

// DefaultTimeout bounds one try.
const DefaultTimeout = 10 * time.Second

// Notifier is one entry of the configuration's notify, with its secrets resolved.
type Notifier struct {
	Name, Kind string
	// URL is that of the kinds http and slack. It may be a secret as a whole, so it is shown nowhere.
	URL ingest.Secret
	// Headers are added to requests of the kind http.
	Headers map[string]ingest.Secret
	// Secret signs requests of the kind http, if it is set: see [Sign].
	Secret ingest.Secret
	// Run is argv of the kind command.
	Run []string
	// Timeout bounds one try; 0: [DefaultTimeout].
	Timeout time.Duration
}

// Validate reports all that is wrong with n.
func (n *Notifier) Validate() error {
	var errs []error
	switch n.Kind {
	case KindHTTP, KindSlack:
		u, err := url.Parse(n.URL.Reveal())
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" { // the error may have the URL in it
			errs = append(errs, errors.New("url is not an address of http or https"))
		}
	case KindCommand:
		if len(n.Run) == 0 || n.Run[0] == "" {
			errs = append(errs, errors.New("run names no program"))
		}
	default:
		errs = append(errs, fmt.Errorf("kind is %q, want http, slack or command", n.Kind))
	}
	if n.Secret != "" {
		if _, err := signingKey(n.Secret); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// again is a failure after which the receiver said when to come again.
type again struct {
	err   error
	after time.Duration
}

func (a *again) Error() string { return a.err.Error() }
func (a *again) Unwrap() error { return a.err }

// send makes one try. The error is a sentence for people, without secrets.
func (s *Service) send(ctx context.Context, n *Notifier, id string, body *scheduler.NoticeBody) error {
	timeout := n.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var err error
	if n.Kind == KindCommand {
		err = s.command(ctx, n, id, body)
	} else {
		err = s.post(ctx, n, id, body)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("not done within %v (timeout)", timeout)
	}
	return err
}
