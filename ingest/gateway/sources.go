package gateway

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"millrace/ingest"
	"millrace/ingest/clickstream"
	"millrace/ingest/webhook"
)

// source is a source with all that a request needs of it.
type source struct {
	ingest.Source
	target  *clickstream.Target // of a clickstream source
	origins origins             // of a clickstream source
	hook    *webhook.Verifier   // of a webhook
	lane    ingest.Lane         // of a webhook or a source of events
	tokens  [][sha256.Size]byte // hashes of those of a source of events
	count   *sourceCounters
}

// registry is the sources at one time; it never changes.
type registry struct {
	keys    map[string]*source // clickstream sources by write key
	hooks   map[string]*source // webhooks by name
	events  map[string]*source // sources of events by name
	targets map[*clickstream.Target]*source
	origins origins // those of all sources together
	listed  bool    // some source lists its origins
}

// Route implements clickstream.Router.
func (r *registry) Route(key []byte) *clickstream.Target {
	if src := r.keys[string(key)]; src != nil {
		return src.target
	}
	return nil
}

// SetSources replaces the sources; requests that are being served finish with the old ones. It reports all that is wrong with them, and then
// changes nothing.
func (s *Server) SetSources(sources []ingest.Source) error {
	old := s.sources.Load()
	next := &registry{keys: map[string]*source{}, hooks: map[string]*source{}, events: map[string]*source{}, targets: map[*clickstream.Target]*source{},
		origins: noOrigins()}
	names := map[string]bool{}
	var errs []error
	for _, def := range sources {
		if def.Tenant == "" {
			def.Tenant = ingest.DefaultTenant
		}
		if names[def.Name] {
			errs = append(errs, fmt.Errorf("source %q is there twice", def.Name))
		}
		names[def.Name] = true
		if err := next.add(def, old, s.metrics); err != nil {
			errs = append(errs, fmt.Errorf("use source %q: %w", def.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.sources.Store(next)
	return nil
}

func (r *registry) add(def ingest.Source, old *registry, m *metrics) error {
	if err := errors.Join(ingest.CheckName(def.Name), ingest.CheckName(def.Tenant)); err != nil {
		return err
	}
	src := &source{Source: def}
	switch def.Kind {
	case ingest.KindClickstream:
		src.count = m.source(def.Name, "segment")
		src.target = old.targetOf(&def)
		r.targets[src.target] = src
		return errors.Join(def.IP.Check(), r.addOrigins(src), r.addKeys(src))
	case ingest.KindWebhook:
		src.count = m.source(def.Name, "webhook")
		return r.addHook(src)
	case ingest.KindEvents:
		src.count = m.source(def.Name, "bulk")
		return r.addEvents(src)
	}
	return fmt.Errorf("kind %q is not one of clickstream, webhook, events", def.Kind)
}

func (r *registry) addKeys(src *source) error {
	if len(src.WriteKeys) == 0 {
		return errors.New("a clickstream source needs write_keys")
	}
	for _, key := range src.WriteKeys {
		if key == "" || r.keys[key] != nil {
			return fmt.Errorf("write key %q is empty or another source's", key)
		}
		r.keys[key] = src
	}
	return nil
}

func (r *registry) addHook(src *source) error {
	var err error
	if src.hook, err = webhook.New(&src.Source); err != nil {
		return err
	}
	if len(src.LaneKeys) > 0 {
		return errors.New("a webhook has no lane keys")
	}
	src.lane = ingest.EventLane(src.Tenant, src.Name)
	r.hooks[src.Name] = src
	return nil
}

func (r *registry) addEvents(src *source) error {
	if len(src.Tokens) == 0 {
		return errors.New("a source of events needs tokens")
	}
	if len(src.LaneKeys) > 0 {
		return errors.New("a source of events has no lane keys")
	}
	for _, token := range src.Tokens {
		if token == "" {
			return errors.New("a token is empty")
		}
		src.tokens = append(src.tokens, sha256.Sum256([]byte(token.Reveal())))
	}
	src.lane = ingest.EventLane(src.Tenant, src.Name)
	r.events[src.Name] = src
	return nil
}

func (r *registry) addOrigins(src *source) (err error) {
	src.origins, err = parseOrigins(src.Origins)
	r.origins.join(src.origins)
	r.listed = r.listed || src.origins.listed
	return err
}

// targetOf returns the target of a source that keeps the lanes in use of the one that it had before.
func (r *registry) targetOf(def *ingest.Source) *clickstream.Target {
	if r != nil {
		for target, src := range r.targets {
			if src.Name == def.Name && src.Tenant == def.Tenant {
				return target.With(def)
			}
		}
	}
	return clickstream.NewTarget(def)
}
