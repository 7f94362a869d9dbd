package mesosexec

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"millrace/scheduler/mesos"
)

// Detector knows where masters are.
type Detector interface {
	// Masters returns the base addresses of masters, such as http://10.0.0.1:5050, those to be tried first first; at least one. It may wait
	// until there is one. changed is closed when the answer is out of date, nil if that is never said. Errors: ctx, or anything that may pass.
	Masters(ctx context.Context) (masters []string, changed <-chan struct{}, err error)
}

// List is a [Detector] that knows all masters: any of them sends on to the one that leads.
type List []string

// NewList reads addresses of masters: http or https, host and port; without a scheme http, without a port 5050.
func NewList(masters ...string) (List, error) {
	var out List
	var errs []error
	for _, text := range masters {
		u, err := masterURL(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, u)
	}
	if len(masters) == 0 {
		errs = append(errs, errors.New("there is no master: give at least one, like http://10.0.0.1:5050"))
	}
	return out, errors.Join(errs...)
}

func masterURL(text string) (string, error) {
	const want = "want one like http://10.0.0.1:5050"
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the address of a master: %w; %s", err, want)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the address of a master is %q, with the scheme %q; %s", text, u.Scheme, want)
	case u.Hostname() == "":
		return "", fmt.Errorf("the address of a master is %q, without a host; %s", text, want)
	case u.User != nil:
		return "", fmt.Errorf("the address of the master %s has credentials in it; give them apart", u.Host)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("the address of a master is %q, with more than host and port; %s", text, want)
	}
	if u.Port() == "" {
		u.Host += ":5050"
	}
	return u.Scheme + "://" + u.Host, nil
}

// Masters implements [Detector].
func (l List) Masters(context.Context) ([]string, <-chan struct{}, error) { return l, nil, nil }

// maxRedirects bounds how often a subscription is sent on: masters that disagree on who leads may send in circles.
const maxRedirects = 5

// redirected returns where an answer with a Location sends to. Mesos leaves out the scheme.
func redirected(from *url.URL, location string) (*url.URL, error) {
	if location == "" {
		return nil, fmt.Errorf("%s sends on without saying where: %w", from.Host, ErrNotMesos)
	}
	ref, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("%s sends on to %q: %w", from.Host, location, ErrNotMesos)
	}
	to := from.ResolveReference(ref)
	switch {
	case to.Scheme != from.Scheme:
		// Never from https to http: the credentials would go in clear.
		return nil, fmt.Errorf("%s sends on to %s, from %s to %s: %w", from.Host, to.Host, from.Scheme, to.Scheme, ErrNotMesos)
	case !strings.HasSuffix(to.Path, mesos.SchedulerPath) || to.Host == "":
		return nil, fmt.Errorf("%s sends on to %q: %w", from.Host, location, ErrNotMesos)
	}
	to.User = nil
	return to, nil
}
