package output

import (
	"context"
	"errors"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/scheduler"
)

func TestStore(t *testing.T) {
	t.Parallel()
	objects := memstore.New(memstore.Options{})
	s := NewStore(objects)
	now := time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)
	ref, err := s.Put(t.Context(), "r1.load.-1.2", []byte(`[1]`), now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Put(t.Context(), "r1.load.-1.2", []byte(`[1]`), now)
	if err != nil || *again != *ref {
		t.Errorf("put again: got %+v, %v, want %+v", again, err, ref)
	}
	if got, err := s.Get(t.Context(), *ref); err != nil || string(got) != `[1]` {
		t.Errorf("got %s, %v", got, err)
	}
	other := *ref
	other.SHA256 = "00"
	if _, err := s.Get(t.Context(), other); err == nil {
		t.Error("an object with another hash was taken")
	}
	other.Ref = batcher.PrefixChain + "x"
	if _, err := s.Get(t.Context(), other); err == nil || errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("a key elsewhere: got %v", err)
	}
	other.Ref = Prefix + "none"
	if _, err := s.Get(t.Context(), other); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	for fault, want := range map[memstore.Fault]bool{memstore.Drop: true, memstore.Lose: true, memstore.Refuse: false} {
		s := NewStore(objects.View(func(memstore.Op, string) memstore.Fault { return fault }))
		if _, err := s.Put(t.Context(), "a", []byte(`2`), now); err == nil || errors.Is(err, scheduler.ErrUnavailable) != want {
			t.Errorf("fault %v: got %v, want to be told to try again: %v", fault, err, want)
		}
	}
}

// TestSweep: what nobody names is removed once its day is over, and a sweep that was broken off is finished by the next.
func TestSweep(t *testing.T) {
	t.Parallel()
	objects := memstore.New(memstore.Options{})
	s := NewStore(objects)
	day := func(n int) time.Time { return time.Date(2026, 11, n, 12, 0, 0, 0, time.UTC) }
	refs := map[string]*scheduler.OutputRef{}
	for name, n := range map[string]int{"old": 1, "old-used": 1, "last": 9, "today": 10, "young": 11} {
		ref, err := s.Put(t.Context(), name, []byte(`1`), day(n))
		if err != nil {
			t.Fatal(err)
		}
		refs[name] = ref
	}
	if err := objects.PutIfAbsent(t.Context(), batcher.PrefixChain+"a", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	used := func(_ context.Context, list []string) (map[string]bool, error) {
		return map[string]bool{refs["old-used"].Ref: true}, nil
	}
	broken := NewStore(objects.View(func(op memstore.Op, key string) memstore.Fault {
		if op == memstore.OpRemove && key == refs["last"].Ref {
			return memstore.Drop
		}
		return memstore.None
	}))
	if n, err := broken.Sweep(t.Context(), day(10), used); n != 1 || !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("got %d, %v, want one and ErrUnavailable", n, err)
	}
	if n, err := s.Sweep(t.Context(), day(10), used); n != 1 || err != nil {
		t.Errorf("got %d, %v, want the rest", n, err)
	}
	for name, kept := range map[string]bool{"old": false, "old-used": true, "last": false, "today": true, "young": true} {
		if _, err := s.Get(t.Context(), *refs[name]); kept != (err == nil) {
			t.Errorf("%s: got %v, want kept: %v", name, err, kept)
		}
	}
	fails := func(context.Context, []string) (map[string]bool, error) { return nil, scheduler.ErrUnavailable }
	if n, err := s.Sweep(t.Context(), day(12), fails); n != 0 || !errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %d, %v of a store that does not say what is used", n, err)
	}
}
