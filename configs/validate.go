package configs

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"millrace/ingest"
	"millrace/ingest/webhook"
	"millrace/scheduler/registry"
)

// Roles of a process.
const (
	RoleIngest   = "ingest"
	RoleBatch    = "batch"
	RoleSchedule = "schedule"
)

// MaxRecord is the longest record that the log must take: the largest event that can be configured, also later, by a reload, with every byte
// escaped in JSON, and what describes it.
const MaxRecord = 6*(10<<20) + 256<<10

// checker collects faults of values.
type checker struct {
	*Loaded
	faults Faults
}

// bad notes a fault of the value at path, and shows where that stands, or the nearest key above it.
func (c *checker) bad(path, hint, format string, args ...any) {
	f := &Fault{File: c.File, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint}
	at := path
	for at != "" && c.Origin[at] == "" {
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	switch origin := c.Origin[at]; {
	case origin == originFile:
		f = c.document.fault(c.places[at], path, f.Msg, hint)
	case origin != "":
		f.Origin = strings.Replace(origin, "env ", "environment variable ", 1)
	}
	c.faults = append(c.faults, f)
}

// Validate reports all that is wrong with values, and all that cannot work together. The error is nil or [Faults].
func (l *Loaded) Validate() error {
	c := &checker{Loaded: l}
	c.values(reflect.ValueOf(l.Config), "", "")
	c.addresses()
	c.paths()
	c.sizes()
	c.pools()
	c.registries()
	c.mesos()
	c.docker()
	c.notifiers()
	c.dagValues()
	c.roles()
	c.sources()
	return c.faults.or()
}

// values checks what the tags say. A zero in a batch policy of a source stands for the value at the top.
func (c *checker) values(v reflect.Value, path string, tag reflect.StructTag) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if strings.HasPrefix(path, "sources.") && strings.HasSuffix(path, ".batch") && v.Field(i).IsZero() {
				continue
			}
			c.values(v.Field(i), join(path, f.Tag.Get("yaml")), f.Tag)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			c.values(v.MapIndex(k), join(path, k.String()), "")
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.values(v.Index(i), fmt.Sprintf("%s[%d]", path, i), tag)
		}
	case reflect.String:
		if enum := tag.Get("enum"); enum != "" {
			c.enum(v.String(), path, strings.Split(enum, ","))
		}
	case reflect.Int, reflect.Int64:
		c.bounds(v, path, tag)
	}
}

func (c *checker) enum(got, path string, known []string) {
	if slices.Contains(known, got) {
		return
	}
	known = slices.DeleteFunc(slices.Clone(known), func(k string) bool { return k == "" })
	want := strings.Join(known, ", ")
	if len(known) > 1 {
		want = "one of " + want
	}
	if got == "" {
		c.bad(path, "", "has no value, want %s", want)
		return
	}
	c.bad(path, didYouMean(got, known), "is %q, want %s", got, want)
}

func (c *checker) bounds(v reflect.Value, path string, tag reflect.StructTag) {
	low, high := tag.Get("min"), tag.Get("max")
	below, above := low != "" && v.Int() < parsed(low, v.Type()), high != "" && v.Int() > parsed(high, v.Type())
	if !below && !above {
		return
	}
	want := "want at least " + low
	if low != "" && high != "" {
		want = fmt.Sprintf("want %s to %s", low, high)
	} else if low == "" {
		want = "want at most " + high
	}
	c.bad(path, "", "is %v, %s", printable(v.Interface()), want)
}

// parsed reads a bound from a tag.
func parsed(text string, t reflect.Type) int64 {
	v := reflect.New(t).Elem()
	if msg, _ := parseScalar(text, v); msg != "" {
		panic("configs: bound " + text + ": " + msg)
	}
	return v.Int()
}

func (c *checker) addresses() {
	for _, l := range []struct{ path, addr string }{{"ingest.listen", c.Ingest.Listen}, {"console.listen", c.Console.Listen}} {
		_, port, err := net.SplitHostPort(l.addr)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			c.bad(l.path, `write it like "127.0.0.1:8080", or ":8080" for all addresses of this machine`, "%q is not host:port", l.addr)
		}
	}
	if host, _, err := net.SplitHostPort(c.Console.Listen); err == nil && !loopback(host) && !c.Console.TLS.On() && !c.Console.Insecure {
		c.bad("console.listen", "set console.tls, or console.insecure if the network is trusted", "%q can be reached from other machines, and the token would "+
			"travel in the clear", c.Console.Listen)
	}
	if c.Ingest.Listen == c.Console.Listen && !strings.HasSuffix(c.Ingest.Listen, ":0") {
		c.bad("console.listen", "choose another port", "is the address of ingest.listen, too")
	}
	for _, l := range []struct {
		path string
		tls  TLS
	}{{"ingest.tls", c.Ingest.TLS}, {"console.tls", c.Console.TLS}} {
		if (l.tls.Cert == "") != (l.tls.Key == "") {
			c.bad(l.path, "", "needs both cert and key, or neither")
		}
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *checker) paths() {
	if c.DataDir == "" {
		c.bad("data_dir", "", "is empty")
	}
	if c.Objects.Kind == "s3" && c.Objects.S3.Bucket == "" {
		c.bad("objects.s3.bucket", "", "is empty, and objects.kind is s3")
	}
	if c.Objects.Kind == "dir" && c.Objects.Dir.Path == "" {
		c.bad("objects.dir.path", "", "is empty")
	}
	if c.Bus.Kind == "nats" && c.Bus.NATS.URL == "" {
		c.bad("bus.nats.url", `write it like "nats://host:4222"`, "is empty, and bus.kind is nats")
	}
	if b := c.Console.BasePath; !strings.HasPrefix(b, "/") || strings.ContainsAny(b, "?#\"<>\\ ;,") {
		c.bad("console.base_path", `write it like "/" or "/millrace/"`, "%q is not a plain path", b)
	}
	if u, err := url.Parse(c.Ingest.PublicURL); c.Ingest.PublicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "") {
		c.bad("ingest.public_url", `write it like "https://ingest.example.com"`, "%q is not a URL of http or https without query", c.Ingest.PublicURL)
	}
	if (c.Objects.S3.AccessKey == "") != (c.Objects.S3.SecretKey == "") {
		c.bad("objects.s3", "", "needs both access_key and secret_key, or neither")
	}
}

func (c *checker) sizes() {
	if c.Ingest.MaxRequest < c.Ingest.MaxEvent {
		c.bad("ingest.max_request", "", "is %s, less than one event of max_event %s", c.Ingest.MaxRequest, c.Ingest.MaxEvent)
	}
	if c.Ingest.MaxInflight < c.Ingest.MaxRequest {
		c.bad("ingest.max_inflight", "", "is %s, less than one request of max_request %s", c.Ingest.MaxInflight, c.Ingest.MaxRequest)
	}
	if w := c.Log.WAL; w.MaxBytes < 2*w.Segment {
		c.bad("log.wal.max_bytes", "", "is %s, less than two segments of %s", w.MaxBytes, w.Segment)
	}
	if r := c.Store.Retention; r != 0 && r < 24*time.Hour {
		c.bad("store.retention", "write 0s to keep everything", "is %s, want at least 1d", FormatDuration(r))
	}
}

// registries checks the hosts that need no TLS.
func (c *checker) registries() {
	for i, host := range c.Images.Insecure {
		if err := registry.CheckHost(host); err != nil {
			c.bad(fmt.Sprintf("images.insecure[%d]", i), "", "%v", err)
		}
	}
}

// pools checks names, which DAG files repeat, and slots.
func (c *checker) pools() {
	for _, name := range slices.Sorted(maps.Keys(c.Pools)) {
		at := "pools." + name
		if !poolName.MatchString(name) {
			c.bad(at, "", "a pool's name must start with a letter or a digit and have at most 63 letters, digits, _ and -")
		}
		if n := c.Pools[name]; n < 1 || n > 100_000 {
			c.bad(at, "leave the pool out, and DAGs that name it say so", "is %d, want 1 to 100000", n)
		}
	}
}

// poolName is what scheduler/spec takes for an id.
var poolName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// roles refuses what can not work apart.
func (c *checker) roles() {
	if slices.ContainsFunc(c.Roles, func(r string) bool { return !slices.Contains([]string{RoleIngest, RoleBatch, RoleSchedule}, r) }) {
		return // that is said already
	}
	if c.Log.Kind == "wal" && c.HasRole(RoleIngest) != c.HasRole(RoleBatch) {
		c.bad("roles", "give this process both, or neither", "with log.kind wal, ingest and batch must be in one process: the log is on its disk")
	}
	if c.HasRole(RoleBatch) == c.HasRole(RoleSchedule) {
		return
	}
	if c.Bus.Kind == "embedded" {
		c.bad("roles", "use bus.kind nats", "with bus.kind embedded, batch and schedule must be in one process")
	}
	if c.Objects.Kind == "dir" {
		c.bad("roles", "use objects.kind s3", "with objects.kind dir, batch and schedule must be in one process")
	}
}

func (c *checker) sources() {
	keys := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		s := c.Sources[name]
		at := "sources." + name
		if err := ingest.CheckName(name); err != nil {
			c.bad(at, "", "%v", err)
		}
		if err := ingest.CheckName(s.Tenant); s.Tenant != "" && err != nil {
			c.bad(at+".tenant", "", "%v", err)
		}
		c.source(at, &s)
		for i, key := range s.WriteKeys {
			path := fmt.Sprintf("%s.write_keys[%d]", at, i)
			if other, taken := keys[key]; taken {
				c.bad(path, "each source needs keys of its own", "is also a key of source %s", other)
			}
			if key == "" {
				c.bad(path, "", "is empty")
			}
			keys[key] = name
		}
	}
}

// source checks what a source of its kind must have, and must not.
func (c *checker) source(at string, s *Source) {
	needs := func(have bool, key, hint string) {
		if !have {
			c.bad(at, hint, "a source of kind %s needs %s", s.Kind, key)
		}
	}
	useless := func(have bool, key string) {
		if have {
			c.bad(at+"."+key, "remove it", "a source of kind %s has no %s", s.Kind, key)
		}
	}
	switch s.Kind {
	case ingest.KindClickstream:
		needs(len(s.WriteKeys) > 0, "write_keys", "")
		useless(s.Scheme != "", "scheme")
		useless(len(s.Secrets) > 0, "secrets")
		useless(len(s.Tokens) > 0, "tokens")
	case ingest.KindEvents:
		needs(len(s.Tokens) > 0, "tokens", "write tokens: [env:NAME], with a secret that its senders know")
		useless(len(s.WriteKeys) > 0, "write_keys")
		useless(s.Scheme != "", "scheme")
		useless(len(s.Lanes) > 0, "lanes")
	case ingest.KindWebhook:
		needs(s.Scheme != "", "a scheme", "write scheme: github, or that of another provider; to accept unsigned posts write scheme: none")
		if s.Scheme != "" && s.Scheme != "none" {
			needs(len(s.Secrets) > 0, "secrets for scheme "+s.Scheme, "write secrets: [env:NAME], with what the sender gave you")
		}
		useless(len(s.WriteKeys) > 0, "write_keys")
		useless(len(s.Lanes) > 0, "lanes")
		useless(len(s.Tokens) > 0, "tokens")
		c.scheme(at, s)
	}
}

// scheme checks how a webhook is verified.
func (c *checker) scheme(at string, s *Source) {
	if s.Scheme == "" {
		return
	}
	_, name, _ := strings.Cut(at, ".")
	for _, f := range webhook.Check(&ingest.Source{Name: name, Kind: s.Kind, Scheme: s.Scheme, Verify: s.Verify, PublicURL: s.PublicURL}) {
		path, hint := at+"."+f.Field, ""
		if fieldOf(reflect.ValueOf(&s.Verify).Elem(), f.Field).IsValid() {
			path = at + ".verify." + f.Field
		}
		if f.Field == "scheme" {
			hint = didYouMean(s.Scheme, webhook.Names())
		}
		c.bad(path, hint, "%v", f.Err)
	}
}

// SourceList returns the sources with their secrets resolved, by name. dir is where relative secret files are. The error is nil or [Faults].
func (c *Config) SourceList(dir string) ([]ingest.Source, error) {
	l := &Loaded{Config: *c}
	return l.SourceList(dir)
}

// SourceList returns the sources with their secrets resolved, by name. dir is where relative secret files are. The error is nil or [Faults].
func (l *Loaded) SourceList(dir string) ([]ingest.Source, error) {
	c := &checker{Loaded: l}
	var out []ingest.Source
	for _, name := range slices.Sorted(maps.Keys(l.Sources)) {
		s := l.Sources[name]
		src := ingest.Source{
			Tenant: s.Tenant, Name: name, Kind: s.Kind, WriteKeys: s.WriteKeys, Scheme: s.Scheme,
			Verify: s.Verify, PublicURL: s.PublicURL, Origins: s.Origins, IP: s.IP, MaxLanes: s.MaxLanes,
		}
		if s.VerifyToken != "" {
			src.VerifyToken = c.secrets("sources."+name+".verify_token", dir, []SecretRef{s.VerifyToken})[0]
		}
		if src.Tenant == "" {
			src.Tenant = ingest.DefaultTenant
		}
		for _, key := range slices.Sorted(maps.Keys(s.Lanes)) {
			src.LaneKeys = append(src.LaneKeys, ingest.LaneKey{Name: key, Path: s.Lanes[key]})
		}
		src.Secrets = c.secrets("sources."+name+".secrets", dir, s.Secrets)
		src.Tokens = c.secrets("sources."+name+".tokens", dir, s.Tokens)
		if src.Kind == ingest.KindWebhook && len(c.faults) == 0 {
			if _, err := webhook.New(&src); err != nil {
				c.bad("sources."+name+".secrets", "", "%v", err)
			}
		}
		out = append(out, src)
	}
	if err := c.faults.or(); err != nil {
		return nil, err
	}
	return out, nil
}

// secrets resolves the references of a list.
func (c *checker) secrets(path, dir string, refs []SecretRef) []ingest.Secret {
	var out []ingest.Secret
	for i, ref := range refs {
		secret, err := ref.Resolve(dir)
		if err != nil {
			at := fmt.Sprintf("%s[%d]", path, i)
			if strings.HasSuffix(path, "_token") {
				at = path
			}
			c.bad(at, "", "%v", err)
		}
		out = append(out, secret)
	}
	return out
}

// BatchOf returns the batch settings of a source; those of the top level for one that is not configured.
func (c *Config) BatchOf(source string) Batch { return c.Sources[source].Batch.over(c.Batch) }

// Path returns p as it is meant: absolute, or below the configuration file's directory.
func (l *Loaded) Path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.Dir(), p)
}

// Data returns a path below the data directory; an absolute p is taken as it is.
func (l *Loaded) Data(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.Path(l.DataDir), p)
}
