package configs

import (
	"fmt"
	"maps"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"millrace/ingest"
	"millrace/scheduler/notify"
)

// ownHeaders are set on requests of the kind http by the notifier itself.
var ownHeaders = []string{"Content-Type", "Content-Length", "Host", "Idempotency-Key", "X-Millrace-Event", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}

// notifiers checks what can be checked without the secrets.
func (c *checker) notifiers() {
	if u, err := url.Parse(c.Console.PublicURL); c.Console.PublicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "") {
		c.bad("console.public_url", `write it like "https://millrace.example.com"`, "%q is not a URL of http or https without query", c.Console.PublicURL)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Notify)) {
		n := c.Notify[name]
		at := "notify." + name
		if !poolName.MatchString(name) {
			c.bad(at, "", "a notifier's name must start with a letter or a digit and have at most 63 letters, digits, _ and -")
		}
		only := func(have bool, key string, kinds ...string) {
			if have && !slices.Contains(kinds, n.Kind) {
				c.bad(at+"."+key, "remove it", "a notifier of kind %s has no %s", n.Kind, key)
			}
		}
		only(n.URL != "", "url", notify.KindHTTP, notify.KindSlack)
		only(len(n.Headers) > 0, "headers", notify.KindHTTP)
		only(n.Secret != "", "secret", notify.KindHTTP)
		only(len(n.Run) > 0, "run", notify.KindCommand)
		switch {
		case n.Kind == notify.KindCommand && (len(n.Run) == 0 || n.Run[0] == ""):
			c.bad(at, `write run: ["program", "argument"]`, "a notifier of kind command needs run")
		case n.Kind != notify.KindCommand && n.Kind != "" && n.URL == "":
			c.bad(at, "write url: env:NAME, with an address of http or https", "a notifier of kind %s needs url", n.Kind)
		}
		for _, header := range slices.Sorted(maps.Keys(n.Headers)) {
			if slices.Contains(ownHeaders, textproto.CanonicalMIMEHeaderKey(header)) || strings.ContainsAny(header, " :\r\n") || header == "" {
				c.bad(at+".headers."+header, "", "%q can not be set", header)
			}
		}
	}
}

// Notifiers returns the notifiers with their secrets resolved, by name. dir is where relative secret files are. The error is nil or [Faults].
func (l *Loaded) Notifiers(dir string) ([]notify.Notifier, error) {
	c := &checker{Loaded: l}
	var out []notify.Notifier
	for _, name := range slices.Sorted(maps.Keys(l.Notify)) {
		n := l.Notify[name]
		at := "notify." + name
		resolve := func(key string, ref SecretRef) ingest.Secret {
			secret, err := ref.Resolve(dir)
			if err != nil {
				c.bad(at+"."+key, "", "%v", err)
			}
			return secret
		}
		one := notify.Notifier{Name: name, Kind: n.Kind, URL: resolve("url", n.URL), Secret: resolve("secret", n.Secret), Run: n.Run, Timeout: n.Timeout}
		for _, header := range slices.Sorted(maps.Keys(n.Headers)) {
			if one.Headers == nil {
				one.Headers = map[string]ingest.Secret{}
			}
			val := resolve("headers."+header, n.Headers[header])
			if strings.ContainsAny(val.Reveal(), "\r\n\x00") {
				c.bad(at+".headers."+header, "", "the value has a line end in it")
			}
			one.Headers[header] = val
		}
		if len(c.faults) == 0 {
			if err := one.Validate(); err != nil {
				c.bad(at, "", "%s", strings.ReplaceAll(fmt.Sprint(err), "\n", "; "))
			}
		}
		out = append(out, one)
	}
	if err := c.faults.or(); err != nil {
		return nil, err
	}
	return out, nil
}
