package batchertest

import (
	"errors"
	"testing"

	"millrace/batcher"
)

// testRemove: a store that can remove removes what is the scheduler's for a time, and nothing else. A removed key can be put again.
func testRemove(t *testing.T, s batcher.ObjectStore) {
	r, ok := s.(batcher.Remover)
	if !ok {
		return // the power is optional
	}
	ctx := t.Context()
	const key = batcher.PrefixMeta + "outputs/dt=2026-11-23/a-1.json"
	for _, body := range []string{"one", "two"} {
		if err := s.PutIfAbsent(ctx, key, []byte(body), map[string]string{"n": body}); err != nil {
			t.Fatalf("put %s: %v", body, err)
		}
		got, info, err := s.Get(ctx, key)
		if err != nil || string(got) != body || info.Meta["n"] != body {
			t.Fatalf("got %q, %+v, %v, want %q", got, info, err, body)
		}
		for range 2 {
			if err := r.Remove(ctx, key); err != nil {
				t.Fatalf("remove: %v", err)
			}
		}
		if _, err := s.Stat(ctx, key); !errors.Is(err, batcher.ErrNotFound) {
			t.Fatalf("stat after remove: got %v, want ErrNotFound", err)
		}
		for info, err := range s.List(ctx, batcher.ListOptions{Prefix: batcher.PrefixMeta + "outputs/"}) {
			t.Fatalf("listed %+v, %v after remove", info, err)
		}
	}
	for _, key := range []string{"tenant=t/source=s/x.ndjson.gz", batcher.PrefixChain + "l/i/0/1.json", batcher.PrefixMeta + "outputs/", batcher.PrefixMeta + "logs/", batcher.PrefixMeta + "logs", ""} {
		if err := r.Remove(ctx, key); !errors.Is(err, batcher.ErrRefused) {
			t.Errorf("remove %q: got %v, want ErrRefused", key, err)
		}
	}
}
