// Package registry asks the registries of container images which digests their tags stand for, by the distribution specification of the Open
// Container Initiative: one HEAD of the manifest, after the exchange of credentials that the registry asks for.
//
// Credentials are those of Docker's configuration: config.json in the directory $DOCKER_CONFIG, or ~/.docker, with its credential helpers, or Podman's
// auth.json. It is read for each question, so that a login counts at once. Nothing of an image is fetched, and nothing is remembered here: who asks
// twice gets two answers, which differ if the tag was moved between them.
//
// It speaks TLS with verified certificates, except to hosts that the configuration names, and to loopback addresses: whoever is between us and a
// registry could say what is run, and would be shown the credentials.
package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"millrace/scheduler"
)

var _ scheduler.Registry = (*Client)(nil)

// Options are the client's tunables; zero values are filled in.
type Options struct {
	// Insecure are registries, each "host" or "host:port", that are spoken to without TLS if they do not have it.
	Insecure []string
	// Timeout is how long one question may take. 0: 10 s.
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return o
}

// CheckHost reports why a text is no host of [Options.Insecure].
func CheckHost(host string) error {
	if _, err := name.NewRegistry(host, name.StrictValidation); err != nil || strings.Contains(host, "/") {
		return fmt.Errorf("%q is no registry; write its host, with the port if it has one, like registry.internal:5000", host)
	}
	return nil
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	for _, host := range o.Insecure {
		errs = append(errs, CheckHost(host))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout is %v, want at least 0", o.Timeout))
	}
	return errors.Join(errs...)
}

// Client asks registries. Safe for concurrent use.
type Client struct {
	opts      Options
	transport *http.Transport
}

// New returns a client. It asks nobody yet.
func New(opts Options) (*Client, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("make the registry client: %w", err)
	}
	return &Client{opts: opts.withDefaults(), transport: remote.DefaultTransport.(*http.Transport).Clone()}, nil
}

// Digest implements scheduler.Registry. A registry that refuses to show an image, or has none of that name, is ErrNoImage; everything else, a
// registry that asks for patience (429) among it, may be tried again.
func (c *Client) Digest(ctx context.Context, image string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	host := scheduler.ImageHost(image)
	var opts []name.Option
	if c.plain(host) {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(image, opts...)
	if err != nil {
		return "", &refusal{fmt.Sprintf("%s is no reference of an image: %v", image, err)}
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, ref.Context())
	if err != nil {
		return "", fmt.Errorf("read the credentials for %s in Docker's configuration: %s", host, brief(err))
	}
	digest, err := c.head(ctx, ref, auth)
	if err == nil {
		return digest, nil
	}
	return "", c.explain(ctx, err, ref, host, auth)
}

// EngineAuth returns the credentials for the registry of an image as the header X-Registry-Auth of Docker's API has them, "" without any.
func (c *Client) EngineAuth(ctx context.Context, image string) (string, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", &refusal{fmt.Sprintf("%s is no reference of an image: %v", image, err)}
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, ref.Context())
	if err != nil {
		return "", fmt.Errorf("read the credentials for %s in Docker's configuration: %s", scheduler.ImageHost(image), brief(err))
	}
	if auth == authn.Anonymous {
		return "", nil
	}
	conf, err := authn.Authorization(ctx, auth)
	if err != nil {
		return "", fmt.Errorf("read the credentials for %s in Docker's configuration: %s", scheduler.ImageHost(image), brief(err))
	}
	body, err := json.Marshal(map[string]string{
		"username": conf.Username, "password": conf.Password, "identitytoken": conf.IdentityToken, "registrytoken": conf.RegistryToken,
		"serveraddress": ref.Context().RegistryStr(),
	})
	return base64.URLEncoding.EncodeToString(body), err
}

// head asks for the digest of a manifest, by GET if the registry does not say it otherwise. There is one try: whoever asks us has a plan for more.
func (c *Client) head(ctx context.Context, ref name.Reference, auth authn.Authenticator) (string, error) {
	with := []remote.Option{
		remote.WithContext(ctx), remote.WithAuth(auth), remote.WithUserAgent("millrace"),
		remote.WithTransport(guarded{c}), remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
	desc, err := remote.Head(ref, with...)
	if err == nil {
		return desc.Digest.String(), nil
	}
	if status := statusOf(err); ctx.Err() != nil || status == http.StatusNotFound || status == http.StatusUnauthorized || status == http.StatusForbidden ||
		status == http.StatusTooManyRequests || status == 0 && !headless(err) {
		return "", err
	}
	got, getErr := remote.Get(ref, with...)
	if getErr != nil {
		return "", getErr
	}
	return got.Digest.String(), nil
}

// headless reports whether a HEAD was answered without what it was made for.
func headless(err error) bool { return strings.Contains(err.Error(), "response did not include") }

// statusOf returns the status of the answer that err is about, 0 if there was none.
func statusOf(err error) int {
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// explain makes an error what a person can act on.
func (c *Client) explain(ctx context.Context, err error, ref name.Reference, host string, auth authn.Authenticator) error {
	who := "without credentials, since Docker's configuration has none for it"
	if auth != authn.Anonymous {
		who = "with the credentials of Docker's configuration"
	}
	switch status := statusOf(err); {
	case status == http.StatusNotFound:
		return &refusal{fmt.Sprintf("registry %s has no %s (404)", host, ref)}
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return &refusal{fmt.Sprintf("registry %s does not show %s to us, %s (%d)", host, ref, who, status)}
	case ctx.Err() != nil:
		return fmt.Errorf("registry %s did not answer within %v", host, c.opts.Timeout)
	case status == 0 && !c.plain(host) && (strings.Contains(err.Error(), plainText) || strings.Contains(err.Error(), http.ErrSchemeMismatch.Error())):
		return fmt.Errorf("registry %s does not speak TLS; if that is meant, add it to images.insecure in the configuration", host)
	}
	var answer *transport.Error
	if errors.As(err, &answer) {
		err = answer // without those of other ways that were tried
	}
	return fmt.Errorf("registry %s: %s", host, brief(err))
}

// maxText bounds what of a registry's words is shown: it may answer with a page.
const maxText = 300

// brief is an error in one line.
func brief(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// refusal is a registry's no.
type refusal struct{ text string }

// Error implements error.
func (r *refusal) Error() string { return r.text }

// Is reports that it is scheduler.ErrNoImage.
func (r *refusal) Is(target error) bool { return target == scheduler.ErrNoImage }

// plain reports whether a host may be spoken to without TLS.
func (c *Client) plain(host string) bool {
	if slices.Contains(c.opts.Insecure, host) {
		return true
	}
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	ip := net.ParseIP(bare)
	return bare == "localhost" || ip != nil && ip.IsLoopback()
}

const plainText = "is not spoken to without TLS"

// plainError says that a request would have gone to a host in the clear.
type plainError struct{ host string }

// Error implements error.
func (e *plainError) Error() string { return e.host + " " + plainText }

// guarded keeps requests from going out in the clear, also to where a registry leads them.
type guarded struct{ c *Client }

// RoundTrip implements http.RoundTripper.
func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.c.plain(req.URL.Host) {
		return nil, &plainError{req.URL.Host}
	}
	return g.c.transport.RoundTrip(req)
}
