package vars

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/scheduler"
)

// What the names of environment variables begin with that are values.
const (
	VarPrefix  = "MILLRACE_VAR_"
	ConnPrefix = "MILLRACE_CONN_"
)

// Backend reads secrets of another system. Safe for concurrent use.
type Backend interface {
	// Read returns the field key of the secret at path. scheduler.ErrNoValue, scheduler.ErrValueBusy.
	Read(ctx context.Context, path, key string) (string, error)
}

// Config is what an installation is configured with.
type Config struct {
	// Variables are texts, by name.
	Variables map[string]string
	// Secrets are references, by name: env:NAME, file:PATH (relative to Dir) or vault:path#key. Connections are URIs, or references to one.
	Secrets, Connections map[string]string
	Dir                  string
	// Vault reads what vault: refers to; nil: there is none. Path is where secrets are looked for that nobody names here, as Path/NAME#value; "":
	// nowhere.
	Vault Backend
	Path  string
}

// Options are the registry's tunables; zero values are filled in.
type Options struct {
	// Environ is the process's environment, as "NAME=value"; nil: os.Environ.
	Environ []string
	Logger  *slog.Logger
}

// Registry knows all values. Safe for concurrent use.
type Registry struct {
	store scheduler.ValueStore
	keys  *Keyring
	env   map[string]string
	log   *slog.Logger

	change sync.Mutex // held during a change: what is decided on is what is written

	mu   sync.RWMutex // guards the rest
	conf Config
	rows map[id]scheduler.StoredValue
}

// id names a stored value.
type id struct{ kind, name string }

var (
	_ scheduler.Values     = (*Registry)(nil)
	_ scheduler.ValueIndex = (*Registry)(nil)
)

// Open reads what the store has. A value whose key is gone is no error here: it is one for those who ask for it.
func Open(ctx context.Context, store scheduler.ValueStore, keys *Keyring, conf Config, opts Options) (*Registry, error) {
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{store: store, keys: keys, conf: conf, log: opts.Logger, env: map[string]string{}, rows: map[id]scheduler.StoredValue{}}
	for _, kv := range opts.Environ {
		name, val, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, VarPrefix) || strings.HasPrefix(name, ConnPrefix) {
			r.env[name] = val
		}
	}
	stored, err := store.Values(ctx)
	if err != nil {
		return nil, fmt.Errorf("read variables: %w", err)
	}
	for _, v := range stored {
		r.rows[id{v.Kind, v.Name}] = v
		if _, err := keys.open(&v); err != nil {
			r.log.Warn("a value of the store can not be read", "kind", v.Kind, "name", v.Name, "err", err)
		}
	}
	return r, nil
}

// Configure replaces what is configured.
func (r *Registry) Configure(conf Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conf = conf
}

func (r *Registry) config() Config {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.conf
}

func (r *Registry) row(kind, name string) (scheduler.StoredValue, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	v, ok := r.rows[id{kind, name}]
	return v, ok
}

// EnvName returns the environment variable that has the value with a name: in capitals, with _ for all that a variable can not have.
func EnvName(prefix, name string) string {
	return prefix + strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c == '-', c == '.':
			return '_'
		}
		return c
	}, name)
}

// fromEnv returns what the environment has, in capitals or as the name is written.
func (r *Registry) fromEnv(prefix, name string) (string, bool) {
	if val, ok := r.env[EnvName(prefix, name)]; ok {
		return val, true
	}
	val, ok := r.env[prefix+name]
	return val, ok
}

// source is a value that one source has.
type source struct {
	origin string
	text   string // a reference, for a configured secret or connection
	row    *scheduler.StoredValue
}

// sources returns who has a variable or a connection, the one that wins first.
func (r *Registry) sources(kind, name string) []source {
	conf := r.config()
	prefix, configured := VarPrefix, conf.Variables
	if kind == scheduler.ValueConnection {
		prefix, configured = ConnPrefix, conf.Connections
	}
	var out []source
	if text, ok := r.fromEnv(prefix, name); ok && kind != scheduler.ValueSecret {
		out = append(out, source{origin: scheduler.FromEnvironment, text: text})
	}
	if kind == scheduler.ValueSecret {
		configured = conf.Secrets
	}
	if text, ok := configured[name]; ok {
		out = append(out, source{origin: scheduler.FromConfiguration, text: text})
	}
	if row, ok := r.row(kind, name); ok {
		out = append(out, source{origin: scheduler.FromStore, row: &row})
	}
	return out
}

// text returns a variable's text as its first source has it.
func (r *Registry) text(s source) (string, error) {
	if s.row != nil {
		return r.keys.open(s.row)
	}
	return s.text, nil
}

// Variable implements scheduler.Values.
func (r *Registry) Variable(name string) (json.RawMessage, bool) {
	from := r.sources(scheduler.ValueVariable, name)
	if len(from) == 0 {
		return nil, false
	}
	text, err := r.text(from[0])
	if err != nil {
		r.log.Error("a variable can not be read", "name", name, "err", err)
		return nil, false
	}
	return decode(text), true
}

// Secret implements scheduler.Values.
func (r *Registry) Secret(ctx context.Context, name string) (string, error) {
	val, err := r.secret(ctx, name)
	if err != nil {
		return "", fmt.Errorf("secret %q: %w", name, err)
	}
	return val, nil
}

func (r *Registry) secret(ctx context.Context, name string) (string, error) {
	conf := r.config()
	if ref, ok := conf.Secrets[name]; ok {
		return conf.resolve(ctx, ref)
	}
	if conf.Vault != nil && conf.Path != "" {
		val, err := conf.Vault.Read(ctx, strings.TrimRight(conf.Path, "/")+"/"+name, "value")
		if !errors.Is(err, scheduler.ErrNoValue) {
			return val, err
		}
	}
	if row, ok := r.row(scheduler.ValueSecret, name); ok {
		return r.keys.open(&row)
	}
	if _, ok := r.row(scheduler.ValueVariable, name); ok {
		return "", fmt.Errorf("%w: it is a variable; write ${{ vars.%s }}, or set it with --secret", scheduler.ErrNoValue, name)
	}
	return "", fmt.Errorf("%w; set it with: millrace vars set --secret %s -", scheduler.ErrNoValue, name)
}

// IsReference reports whether a text of the configuration says where a value is, instead of being it.
func IsReference(text string) bool {
	for _, scheme := range []string{"env:", "file:", "vault:"} {
		if strings.HasPrefix(text, scheme) {
			return true
		}
	}
	return false
}

// CheckReference reports what is wrong with a reference, as far as can be seen.
func CheckReference(text string) error {
	if path, ok := strings.CutPrefix(text, "vault:"); ok {
		if at, key, ok := strings.Cut(path, "#"); !ok || at == "" || key == "" {
			return errors.New("want vault:path#key, where path has no mount: vault:apps/stripe#token")
		}
		return nil
	}
	if _, rest, ok := strings.Cut(text, ":"); !IsReference(text) || !ok || rest == "" {
		return errors.New("want env:NAME, file:PATH or vault:path#key: a secret itself does not belong into this file")
	}
	return nil
}

// resolve reads what a reference of the configuration refers to.
func (c *Config) resolve(ctx context.Context, ref string) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		val := os.Getenv(name) //layout:allow call it is what the configuration refers to, read when it is needed
		if val == "" {
			return "", fmt.Errorf("%w: the server's environment has no %s", scheduler.ErrNoValue, name)
		}
		return val, nil
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(c.Dir, path)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("%w: %w", scheduler.ErrNoValue, err)
		}
		if val := strings.TrimRight(string(raw), "\r\n"); val != "" {
			return val, nil
		}
		return "", fmt.Errorf("%w: %s is empty", scheduler.ErrNoValue, path)
	}
	path, field, _ := strings.Cut(strings.TrimPrefix(ref, "vault:"), "#")
	if c.Vault == nil {
		return "", fmt.Errorf("%w: it is %s, and the configuration has no vault.address", scheduler.ErrNoValue, ref)
	}
	return c.Vault.Read(ctx, path, field)
}

// Connection implements scheduler.Values.
func (r *Registry) Connection(ctx context.Context, name string) (map[string]string, error) {
	a, _, err := r.connection(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("connection %q: %w", name, err)
	}
	return a.fields(), nil
}

func (r *Registry) connection(ctx context.Context, name string) (address, string, error) {
	from := r.sources(scheduler.ValueConnection, name)
	if len(from) == 0 {
		return address{}, "", fmt.Errorf("%w; set it with: millrace conns set %s URI", scheduler.ErrNoValue, name)
	}
	first := from[0]
	text, err := r.text(first)
	if err == nil && first.origin == scheduler.FromConfiguration && IsReference(text) {
		conf := r.config()
		text, err = conf.resolve(ctx, text)
	}
	if err != nil {
		return address{}, first.origin, err
	}
	a, err := parse(text)
	return a, first.origin, err
}

// names returns all names of a kind, sorted.
func (r *Registry) names(kind string) []string {
	set := map[string]bool{}
	conf := r.config()
	configured := map[string]map[string]string{
		scheduler.ValueVariable: conf.Variables, scheduler.ValueSecret: conf.Secrets, scheduler.ValueConnection: conf.Connections,
	}[kind]
	for name := range configured {
		set[name] = true
	}
	r.mu.RLock()
	for at := range r.rows {
		if at.kind == kind {
			set[at.name] = true
		}
	}
	r.mu.RUnlock()
	prefix := map[string]string{scheduler.ValueVariable: VarPrefix, scheduler.ValueConnection: ConnPrefix}[kind]
	known := map[string]bool{}
	for name := range set {
		known[EnvName(prefix, name)] = true
	}
	for name := range r.env {
		if rest, ok := strings.CutPrefix(name, prefix); ok && prefix != "" && rest != "" && !known[name] && !set[rest] {
			set[strings.ToLower(rest)] = true
		}
	}
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Variables returns all variables and secrets as people see them, by name.
func (r *Registry) Variables() []scheduler.Variable {
	var out []scheduler.Variable
	for _, kind := range []string{scheduler.ValueVariable, scheduler.ValueSecret} {
		for _, name := range r.names(kind) {
			if v, ok := r.show(kind, name); ok {
				out = append(out, v)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b scheduler.Variable) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Lookup returns one variable, or the secret of that name. scheduler.ErrNotFound.
func (r *Registry) Lookup(name string) (*scheduler.Variable, error) {
	for _, kind := range []string{scheduler.ValueVariable, scheduler.ValueSecret} {
		if v, ok := r.show(kind, name); ok {
			return &v, nil
		}
	}
	return nil, fmt.Errorf("find variable %q: %w", name, scheduler.ErrNotFound)
}

func (r *Registry) show(kind, name string) (scheduler.Variable, bool) {
	from := r.sources(kind, name)
	if len(from) == 0 {
		return scheduler.Variable{}, false
	}
	v := scheduler.Variable{Name: name, Secret: kind == scheduler.ValueSecret, Origin: from[0].origin, Value: scheduler.Hidden}
	if !v.Secret && !scheduler.Sensitive(name) {
		text, err := r.text(from[0])
		if v.Value = text; err != nil {
			v.Value = ""
		}
	}
	if row := from[0].row; row != nil {
		v.Description, v.UpdatedAt, v.UpdatedBy = row.Description, row.UpdatedAt, row.UpdatedBy
	}
	for _, other := range from[1:] {
		v.Hides = append(v.Hides, other.origin)
	}
	return v, true
}

// connectionTime bounds a look at a connection whose URI another system keeps.
const connectionTime = 5 * time.Second

// Connections returns all connections as people see them, by name. One that can not be read has only its name, its origin and the reason as
// description.
func (r *Registry) Connections(ctx context.Context) []scheduler.Connection {
	ctx, cancel := context.WithTimeout(ctx, connectionTime)
	defer cancel()
	var out []scheduler.Connection
	for _, name := range r.names(scheduler.ValueConnection) {
		out = append(out, r.showConnection(ctx, name))
	}
	return out
}

// LookupConnection returns one. scheduler.ErrNotFound.
func (r *Registry) LookupConnection(ctx context.Context, name string) (*scheduler.Connection, error) {
	if len(r.sources(scheduler.ValueConnection, name)) == 0 {
		return nil, fmt.Errorf("find connection %q: %w", name, scheduler.ErrNotFound)
	}
	c := r.showConnection(ctx, name)
	return &c, nil
}

func (r *Registry) showConnection(ctx context.Context, name string) scheduler.Connection {
	a, origin, err := r.connection(ctx, name)
	c := a.shown()
	c.Name, c.Origin = name, origin
	if row, ok := r.row(scheduler.ValueConnection, name); ok && origin == scheduler.FromStore {
		c.Description, c.UpdatedAt, c.UpdatedBy = row.Description, row.UpdatedAt, row.UpdatedBy
	}
	if err != nil {
		c.Description = "can not be read: " + err.Error()
	}
	return c
}

// Known implements scheduler.ValueIndex.
func (r *Registry) Known(kind, name string) bool {
	conf := r.config()
	return len(r.sources(kind, name)) > 0 || kind == scheduler.ValueSecret && conf.Vault != nil && conf.Path != ""
}
