package memstore

import (
	"slices"
)

// LateKeys returns the keys of the puts that are under way, in the order of their calls.
func (s *Store) LateKeys() []string {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	keys := make([]string, len(s.place.late))
	for i, l := range s.place.late {
		keys[i] = l.key
	}
	return keys
}

// Land applies late put number i of [Store.LateKeys], if its key is still free, and reports whether it was. Puts may so overtake each other.
func (s *Store) Land(i int) bool {
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.late[i]
	p.late = slices.Delete(p.late, i, i+1)
	return p.put(l.key, l.body, l.meta) == nil
}

// Keys returns all keys in byte order.
func (s *Store) Keys() []string {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	return slices.Clone(s.place.keys)
}

// Body returns the object's body, or nil, asking no hook.
func (s *Store) Body(key string) []byte {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	return s.place.objects[key].body
}

// Delete removes an object, as a person with access to the store can.
func (s *Store) Delete(key string) {
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.objects, key)
	if i, ok := slices.BinarySearch(p.keys, key); ok {
		p.keys = slices.Delete(p.keys, i, i+1)
	}
}

// Overwrite replaces an object or creates it, as a person with access to the store can.
func (s *Store) Overwrite(key string, body []byte, meta map[string]string) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.set(key, body, meta)
}
