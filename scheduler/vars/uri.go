package vars

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"millrace/scheduler"
)

var typeRule = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)

// address is a connection taken apart.
type address struct {
	kind, host, login, password, schema string
	port                                int
	extra                               map[string]string
	uri                                 string // the whole

}

// parse reads "type://login:password@host:port/schema?name=value", as Airflow writes connections: a type may have _ for -. Errors never say
// the text: it has a password.
func parse(text string) (address, error) {
	kind, rest, ok := strings.Cut(strings.TrimSpace(text), "://")
	kind = strings.ToLower(strings.ReplaceAll(kind, "_", "-"))
	if !ok || !typeRule.MatchString(kind) {
		return address{}, errors.New("a connection is written like postgres://login:password@host:5432/database?option=value")
	}
	u, err := url.Parse(kind + "://" + rest)
	if err != nil {
		return address{}, fmt.Errorf("the URI can not be read: %s; escape what is special in login and password, as %%40 for @", reasonOf(err))
	}
	a := address{kind: kind, host: u.Hostname(), schema: strings.TrimPrefix(u.Path, "/"), uri: kind + "://" + rest}
	if u.User != nil {
		a.login = u.User.Username()
		a.password, _ = u.User.Password()
	}
	if port := u.Port(); port != "" {
		if a.port, err = strconv.Atoi(port); err != nil || a.port < 1 || a.port > 65535 {
			return address{}, fmt.Errorf("the port is %q, want 1 to 65535", port)
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, errors.New("what stands behind ? can not be read: write it like name=value&name=value")
	}
	for name, vals := range query {
		if a.extra == nil {
			a.extra = map[string]string{}
		}
		a.extra[name] = vals[len(vals)-1]
	}
	if a.host == "" && a.schema == "" && len(a.extra) == 0 {
		return address{}, errors.New("the URI names no host")
	}
	return a, nil
}

// reasonOf leaves the text out of an error of package url.
func reasonOf(err error) string {
	var e *url.Error
	if !errors.As(err, &e) {
		return "it is no URI"
	}
	var escape url.EscapeError
	switch {
	case errors.As(e.Err, &escape):
		return "a % without two hex digits after it"
	case strings.Contains(e.Err.Error(), "port"):
		return "what stands behind the host's : is no port"
	}
	return "it is no URI"
}

// fields are those that expressions see; see [scheduler.Values].
func (a *address) fields() map[string]string {
	out := map[string]string{
		"type": a.kind, "host": a.host, "port": "", "login": a.login, "password": a.password, "schema": a.schema, "uri": a.uri,
	}
	if a.port > 0 {
		out["port"] = strconv.Itoa(a.port)
	}
	for name, val := range a.extra {
		out["extra."+name] = val
	}
	return out
}

// shown is the connection without its secrets.
func (a *address) shown() scheduler.Connection {
	c := scheduler.Connection{Type: a.kind, Host: a.host, Port: a.port, Login: a.login, Schema: a.schema}
	if a.password != "" {
		c.Password = scheduler.Hidden
	}
	for _, name := range slices.Sorted(maps.Keys(a.extra)) {
		if c.Extra == nil {
			c.Extra = map[string]string{}
		}
		if c.Extra[name] = a.extra[name]; scheduler.Sensitive(name) {
			c.Extra[name] = scheduler.Hidden
		}
	}
	return c
}

// CheckURI reports what is wrong with the URI of a connection. The error has no part of it.
func CheckURI(text string) error {
	_, err := parse(text)
	return err
}
