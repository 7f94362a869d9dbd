package configs

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"time"

	"millrace/ingest"
)

// Roles of a process.
const (
	RoleIngest   = "ingest"
	RoleBatch    = "batch"
	RoleSchedule = "schedule"
)

var kinds = map[string][]string{
	"log.kind":             {"wal"},
	"objects.kind":         {"dir", "s3"},
	"bus.kind":             {"embedded", "nats"},
	"store.kind":           {"sqlite"},
	"objects.s3.checksums": {"when_supported", "when_required"},
}

// maxEvent bounds ingest.max_event: in the log, where it is stored as JSON text, an event may take six times as much, and 64 MiB at most.
const maxEvent Size = 10 << 20

// MaxRecord is the longest record that the log must take: an event of which every byte is escaped in JSON, with what describes it.
func (i Ingest) MaxRecord() int { return max(8<<20, 6*int(i.MaxEvent)+256<<10) }

// Validate reports all that is wrong, and all that cannot work together.
func (c *Config) Validate() error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	for path, got := range map[string]string{
		"log.kind": c.Log.Kind, "objects.kind": c.Objects.Kind, "bus.kind": c.Bus.Kind, "store.kind": c.Store.Kind,
		"objects.s3.checksums": c.Objects.S3.Checksums,
	} {
		if !slices.Contains(kinds[path], got) {
			bad(path, "is %q, this version knows %q", got, kinds[path])
		}
	}
	for path, addr := range map[string]string{"ingest.listen": c.Ingest.Listen, "console.listen": c.Console.Listen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad(path, "is %q, want host:port", addr)
		}
	}
	if c.DataDir == "" {
		bad("data_dir", "is empty")
	}
	if c.Objects.Kind == "s3" && c.Objects.S3.Bucket == "" {
		bad("objects.s3.bucket", "is empty")
	}
	if c.Bus.Kind == "nats" && c.Bus.NATS.URL == "" {
		bad("bus.nats.url", "is empty")
	}
	if n := c.Executors.Local.Slots; n < 1 || n > 100_000 {
		bad("executors.local.slots", "is %d, want 1 to 100000", n)
	}
	if c.Ingest.MaxEvent < 1<<10 || c.Ingest.MaxRequest < c.Ingest.MaxEvent {
		bad("ingest", "max_event must be at least 1KiB and max_request not below max_event")
	}
	if c.Ingest.MaxEvent > maxEvent {
		bad("ingest.max_event", "is %s, the log takes at most %s", c.Ingest.MaxEvent, maxEvent)
	}
	if c.Ingest.MaxInflight < c.Ingest.MaxRequest {
		bad("ingest.max_inflight", "is %s, less than one request of max_request %s", c.Ingest.MaxInflight, c.Ingest.MaxRequest)
	}
	if r := c.Store.Retention; r != 0 && r < 24*time.Hour {
		bad("store.retention", "is %v, want at least 24h, or 0 for ever", r)
	}
	if c.Log.WAL.Segment < 1<<20 || c.Log.WAL.MaxBytes < 2*c.Log.WAL.Segment {
		bad("log.wal", "segment must be at least 1MiB and max_bytes at least two segments")
	}
	errs = append(errs, c.validateRoles(), c.validateSources())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w:\n%w", ErrInvalid, err)
	}
	return nil
}

// validateRoles refuses what can not work apart.
func (c *Config) validateRoles() error {
	var errs []error
	for _, r := range c.Roles {
		if !slices.Contains([]string{RoleIngest, RoleBatch, RoleSchedule}, r) {
			errs = append(errs, fmt.Errorf("roles: %q is not one of ingest, batch, schedule", r))
		}
	}
	if c.Log.Kind == "wal" && c.HasRole(RoleIngest) != c.HasRole(RoleBatch) {
		errs = append(errs, errors.New("roles: with log.kind wal, ingest and batch must be in one process: the log is on its disk"))
	}
	if c.Bus.Kind == "embedded" && c.HasRole(RoleBatch) != c.HasRole(RoleSchedule) {
		errs = append(errs, errors.New("roles: with bus.kind embedded, batch and schedule must be in one process; use bus.kind nats"))
	}
	if c.Objects.Kind == "dir" && c.HasRole(RoleBatch) != c.HasRole(RoleSchedule) {
		errs = append(errs, errors.New("roles: with objects.kind dir, batch and schedule must be on one host; use objects.kind s3"))
	}
	return errors.Join(errs...)
}

func (c *Config) validateSources() error {
	errs := []error{c.Batch.Policy().Validate()}
	keys := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		s := c.Sources[name]
		at := "sources." + name
		errs = append(errs, wrap(at, ingest.CheckName(name)), wrap(at+".batch", s.Batch.over(c.Batch).Policy().Validate()))
		if s.Tenant != "" {
			errs = append(errs, wrap(at+".tenant", ingest.CheckName(s.Tenant)))
		}
		errs = append(errs, wrap(at, s.check()))
		for _, key := range s.WriteKeys {
			if other, taken := keys[key]; taken {
				errs = append(errs, fmt.Errorf("%s: write key is also that of source %s", at, other))
			}
			keys[key] = name
		}
	}
	return errors.Join(errs...)
}

func (s *Source) check() error {
	switch {
	case s.Kind == ingest.KindClickstream && len(s.WriteKeys) == 0:
		return errors.New("a clickstream source needs write_keys")
	case s.Kind == ingest.KindWebhook && s.Scheme == "":
		return errors.New("a webhook source needs a scheme; to accept unsigned posts write `scheme: none`")
	case s.Kind == ingest.KindWebhook && s.Scheme != "none" && len(s.Secrets) == 0:
		return fmt.Errorf("scheme %s needs secrets", s.Scheme)
	case s.Kind == ingest.KindEvents:
		return errors.New("kind events is not supported by this version")
	case s.Kind != ingest.KindClickstream && s.Kind != ingest.KindWebhook:
		return fmt.Errorf("kind is %q, want clickstream or webhook", s.Kind)
	}
	return nil
}

func wrap(at string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", at, err)
}

// SourceList returns the sources with their secrets resolved, by name. dir is where relative secret files are.
func (c *Config) SourceList(dir string) ([]ingest.Source, error) {
	var out []ingest.Source
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		s := c.Sources[name]
		src := ingest.Source{
			Tenant: s.Tenant, Name: name, Kind: s.Kind, WriteKeys: s.WriteKeys, Scheme: s.Scheme,
			Origins: s.Origins, MaxLanes: s.MaxLanes,
		}
		if src.Tenant == "" {
			src.Tenant = ingest.DefaultTenant
		}
		for _, key := range slices.Sorted(maps.Keys(s.Lanes)) {
			src.LaneKeys = append(src.LaneKeys, ingest.LaneKey{Name: key, Path: s.Lanes[key]})
		}
		for _, ref := range s.Secrets {
			secret, err := ref.Resolve(dir)
			errs = append(errs, wrap("sources."+name+".secrets", err))
			src.Secrets = append(src.Secrets, secret)
		}
		for _, ref := range s.Tokens {
			secret, err := ref.Resolve(dir)
			errs = append(errs, wrap("sources."+name+".tokens", err))
			src.Tokens = append(src.Tokens, secret)
		}
		out = append(out, src)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w:\n%w", ErrInvalid, err)
	}
	return out, nil
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
