// Package memstore keeps objects in memory, for tests and for the simulation of the chain.
//
// It keeps the contract of [batcher.ObjectStore] and, where a [Hook] says so, breaks its promises the way a network does: a put that never
// arrives, one that arrives although its answer is lost, one that arrives much later. Several workers share one [Store] through views
// ([Store.View]), each with a hook of its own. Nothing survives the process.
package memstore

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/batcher"
)

// Op names the call that a hook is asked about.
type Op string

// The calls of the store.
const (
	OpPut  Op = "put"
	OpGet  Op = "get"
	OpStat Op = "stat"
	OpList Op = "list"
)

// Fault is what becomes of a call.
type Fault int

// The faults. Drop, Lose and Late concern puts; for other calls they all mean Drop.
const (
	// None: the call does what it should.
	None Fault = iota
	// Drop: nothing is done; the caller gets ErrUnavailable.
	Drop
	// Lose: the put is applied; the caller gets ErrUnavailable.
	Lose
	// Late: the caller gets ErrUnavailable, and the put is applied when [Store.Land] is called, if the key is still free then.
	Late
	// Refuse: nothing is done; the caller gets ErrRefused.
	Refuse
)

// Hook decides the fate of a call before it is made. It may block, or end the worker by a panic of its own; no lock is held. It is called by
// whoever calls the store, so possibly concurrently.
type Hook func(op Op, key string) Fault

// Options are the tunables of [New]; the zero value works.
type Options struct {
	// Hook is asked before each call; nil means None always.
	Hook Hook
	// Now gives objects their ModTime; nil means time.Now.
	Now func() time.Time
}

// Store is one place with objects, or a view of one. It implements [batcher.ObjectStore]. Safe for concurrent use.
type Store struct {
	place *place
	hook  Hook
}

// place is what all views share.
type place struct {
	mu      sync.Mutex // guards all below
	objects map[string]object
	keys    []string // sorted
	late    []latePut
	now     func() time.Time
}

type object struct {
	body []byte
	info batcher.ObjectInfo
}

type latePut struct {
	key  string
	body []byte
	meta map[string]string
}

// New returns an empty place.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{place: &place{objects: make(map[string]object), now: o.Now}, hook: o.Hook}
}

// View returns a store of the same objects with another hook (nil: no faults).
func (s *Store) View(h Hook) *Store { return &Store{place: s.place, hook: h} }

func (s *Store) fault(ctx context.Context, op Op, key string) (Fault, error) {
	if err := ctx.Err(); err != nil {
		return Drop, fmt.Errorf("%s %q: %w: %w", op, key, batcher.ErrUnavailable, err)
	}
	if s.hook == nil {
		return None, nil
	}
	f := s.hook(op, key)
	switch {
	case f == None:
		return None, nil
	case f == Refuse:
		return f, fmt.Errorf("%s %q: %w", op, key, batcher.ErrRefused)
	}
	return f, fmt.Errorf("%s %q: %w", op, key, batcher.ErrUnavailable)
}

// PutIfAbsent implements [batcher.ObjectStore].
func (s *Store) PutIfAbsent(ctx context.Context, key string, body []byte, meta map[string]string) error {
	if err := batcher.CheckPut(key, meta); err != nil {
		return err
	}
	f, err := s.fault(ctx, OpPut, key)
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f {
	case None:
		return p.put(key, body, meta)
	case Lose:
		_ = p.put(key, body, meta) // the answer is what gets lost
	case Late:
		p.late = append(p.late, latePut{key, slices.Clone(body), maps.Clone(meta)})
	}
	return err
}

func (p *place) put(key string, body []byte, meta map[string]string) error {
	if _, ok := p.objects[key]; ok {
		return fmt.Errorf("put %q: %w", key, batcher.ErrExists)
	}
	p.set(key, body, meta)
	return nil
}

func (p *place) set(key string, body []byte, meta map[string]string) {
	if i, ok := slices.BinarySearch(p.keys, key); !ok {
		p.keys = slices.Insert(p.keys, i, key)
	}
	meta = maps.Clone(meta)
	if meta == nil {
		meta = map[string]string{}
	}
	info := batcher.ObjectInfo{Key: key, Size: int64(len(body)), ModTime: p.now().UTC(), Meta: meta}
	p.objects[key] = object{body: slices.Clone(body), info: info}
}

// Get implements [batcher.ObjectStore]. The body is the caller's.
func (s *Store) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	o, err := s.read(ctx, OpGet, key)
	return slices.Clone(o.body), o.info, err
}

// Stat implements [batcher.ObjectStore].
func (s *Store) Stat(ctx context.Context, key string) (batcher.ObjectInfo, error) {
	o, err := s.read(ctx, OpStat, key)
	return o.info, err
}

func (s *Store) read(ctx context.Context, op Op, key string) (object, error) {
	if _, err := s.fault(ctx, op, key); err != nil {
		return object{}, err
	}
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	o, ok := s.place.objects[key]
	if !ok {
		return object{}, fmt.Errorf("%s %q: %w", op, key, batcher.ErrNotFound)
	}
	o.info.Meta = maps.Clone(o.info.Meta)
	return o, nil
}

// List implements [batcher.ObjectStore]: it sees each key as of the moment when it comes to it.
func (s *Store) List(ctx context.Context, opts batcher.ListOptions) iter.Seq2[batcher.ObjectInfo, error] {
	return func(yield func(batcher.ObjectInfo, error) bool) {
		if _, err := s.fault(ctx, OpList, opts.Prefix); err != nil {
			yield(batcher.ObjectInfo{}, err)
			return
		}
		for after, info := opts.After, (batcher.ObjectInfo{}); ; after = info.Key {
			var ok bool
			if info, ok = s.place.next(after, opts); !ok || !yield(info, nil) {
				return
			}
		}
	}
}

// next returns what List yields after the given key or prefix.
func (p *place) next(after string, opts batcher.ListOptions) (batcher.ObjectInfo, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := max(after, opts.Prefix)
	if opts.Dirs && strings.HasSuffix(after, "/") {
		from = max(after[:len(after)-1]+"0", opts.Prefix) // '0' comes after '/': all of that directory is behind us
	}
	i, _ := slices.BinarySearch(p.keys, from)
	for ; i < len(p.keys) && strings.HasPrefix(p.keys[i], opts.Prefix); i++ {
		key := p.keys[i]
		info := p.objects[key].info
		if dir, _, ok := strings.Cut(key[len(opts.Prefix):], "/"); opts.Dirs && ok {
			info = batcher.ObjectInfo{Key: opts.Prefix + dir + "/"}
		} else if opts.Dirs {
			continue
		}
		if cmp.Compare(info.Key, after) > 0 {
			info.Meta = nil
			return info, true
		}
	}
	return batcher.ObjectInfo{}, false
}

// Home implements [batcher.ObjectStore].
func (s *Store) Home() string { return "mem" }

// URI implements [batcher.ObjectStore].
func (s *Store) URI(key string) string { return "mem:///" + key }
