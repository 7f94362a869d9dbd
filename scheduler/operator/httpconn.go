package operator

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// connOrigin stands before the url of a request that goes to a connection while nobody knows where that is. Nobody has this name.
const connOrigin = "http://connection.invalid"

// CheckHTTPConnection reports whether the connection of a request can stand in a DAG file.
func CheckHTTPConnection(text string) error {
	name, named := strings.CutPrefix(text, scheduler.ConnPrefix)
	switch {
	case expr.HasExpr(text):
		return errors.New("${{ }} can not stand in connection: a value could choose who gets the request, and with which credentials")
	case !named || name == "":
		return errors.New("connection has to be conn:NAME ('millrace conns set NAME https://login:password@host/path' makes one)")
	}
	return scheduler.CheckValueName(name)
}

// CheckPath reports what is wrong with the URL of a request that goes to a connection: it begins behind what the connection says. "" is that alone.
func CheckPath(text string) error {
	if text != "" && !strings.HasPrefix(text, "/") {
		return fmt.Errorf("url %q does not start with /: the connection says which host it is on, and what comes before", text)
	}
	_, err := splitURL(connOrigin + text)
	return err
}

// checkTarget is CheckURL or CheckPath.
func checkTarget(h *scheduler.HTTP) error {
	if h.Connection == "" {
		return CheckURL(h.URL)
	}
	return errors.Join(CheckHTTPConnection(h.Connection), CheckPath(h.URL))
}

// HTTPBase is what a connection says of the requests that go to it.
type HTTPBase struct {
	// URL has no / at its end: paths that begin with one are appended.
	URL     string
	Headers map[string]string
	// Secrets are the values that nobody should see.
	Secrets []string
}

// ReadHTTPBase takes the URI of a connection apart: http or https, the host, login and password for the Authorization header unless the URI has one, the
// path before all paths, and the query, whose values are headers. The error has no part of the text.
func ReadHTTPBase(text string) (HTTPBase, error) {
	u, err := url.Parse(text)
	if err != nil {
		return HTTPBase{}, errors.New("is no URI that can be read")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return HTTPBase{}, fmt.Errorf("is of type %s; a request needs one of type http or https", u.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Hostname() == "" {
		return HTTPBase{}, errors.New("is no URI with a host, and perhaps a query whose values are headers")
	}
	b := HTTPBase{URL: u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), Headers: map[string]string{}}
	if u.User != nil {
		password, _ := u.User.Password()
		plain := u.User.Username() + ":" + password
		b.Headers["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(plain))
		b.Secrets = append(b.Secrets, b.Headers["Authorization"], password)
	}
	for name, vals := range query {
		val := vals[len(vals)-1]
		if err := CheckHeader(name, val); err != nil {
			return HTTPBase{}, fmt.Errorf("has a query whose values are to be headers, and one can not be: its name, or a control character in it, "+
				"or it belongs to the transport (%s)", strings.Join(ownHeaders, ", "))
		}
		b.Headers[http.CanonicalHeaderKey(name)] = val
		if scheduler.Sensitive(name) {
			b.Secrets = append(b.Secrets, val)
		}
	}
	return b, nil
}

// uriOf returns the URI of the connection conn:NAME, "" if text is none.
func uriOf(text string, eval scheduler.Eval) (uri string, err error) {
	name, ok := strings.CutPrefix(text, scheduler.ConnPrefix)
	if !ok {
		return "", nil
	}
	if uri, err = eval.Text(scheduler.ConnText(name), nil); err != nil {
		return "", fmt.Errorf("connection %s: %w", name, err)
	}
	return uri, nil
}

// address evaluates the url, and puts a connection where env:NAME finds it: so it stands in no message about the settings.
func address(h *scheduler.HTTP, eval scheduler.Eval) (vars []string, err error) {
	if h.Connection == "" {
		h.URL, err = fillURL("", h.URL, eval)
		return nil, err
	}
	if h.URL, err = fillURL(connOrigin, h.URL, eval); err != nil {
		return nil, err
	}
	h.URL = strings.TrimPrefix(h.URL, connOrigin)
	uri, err := uriOf(h.Connection, eval)
	if err != nil {
		return nil, err
	}
	if _, err := ReadHTTPBase(uri); err != nil {
		return nil, fmt.Errorf("connection %s %w", strings.TrimPrefix(h.Connection, scheduler.ConnPrefix), err)
	}
	h.Connection = "env:" + connVar
	return []string{connVar + "=" + uri}, nil
}
