package memstore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"millrace/batcher"
	"millrace/batcher/batchertest"
)

// TestFaults: each fault does to the objects, and tells the caller, what it says.
func TestFaults(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tests := []struct {
		fault Fault
		want  error
		kept  bool
		late  int
	}{
		{None, nil, true, 0},
		{Drop, batcher.ErrUnavailable, false, 0},
		{Lose, batcher.ErrUnavailable, true, 0},
		{Late, batcher.ErrUnavailable, false, 1},
		{Refuse, batcher.ErrRefused, false, 0},
	}
	for _, tt := range tests {
		clean := New(Options{})
		s := clean.View(func(Op, string) Fault { return tt.fault })
		if err := s.PutIfAbsent(ctx, "k", []byte("1"), nil); !errors.Is(err, tt.want) {
			t.Errorf("fault %d: got %v, want %v", tt.fault, err, tt.want)
		}
		if _, err := clean.Stat(ctx, "k"); (err == nil) != tt.kept {
			t.Errorf("fault %d: object there: %v, want %v", tt.fault, err == nil, tt.kept)
		}
		if got := len(clean.LateKeys()); got != tt.late {
			t.Errorf("fault %d: %d late puts, want %d", tt.fault, got, tt.late)
		}
		if _, err := s.Stat(ctx, "k"); tt.fault != None && !errors.Is(err, tt.want) {
			t.Errorf("fault %d: stat gives %v, want %v", tt.fault, err, tt.want)
		}
	}
}

// TestLand: a late put is applied when it lands, in any order, and loses against a key that was taken since.
func TestLand(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := New(Options{})
	slow := s.View(func(Op, string) Fault { return Late })
	for _, k := range []string{"a", "b", "c"} {
		if err := slow.PutIfAbsent(ctx, k, []byte("late"), nil); !errors.Is(err, batcher.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if err := s.PutIfAbsent(ctx, "b", []byte("first"), nil); err != nil {
		t.Fatal(err)
	}
	if !s.Land(2) || s.Land(1) || !slices.Equal(s.LateKeys(), []string{"a"}) {
		t.Fatalf("c must land, b must not, a must wait: %v", s.LateKeys())
	}
	if got := s.Keys(); !slices.Equal(got, []string{"b", "c"}) || string(s.Body("b")) != "first" {
		t.Fatalf("keys %v, b = %q", got, s.Body("b"))
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	batchertest.TestStore(t, func(*testing.T) batcher.ObjectStore { return New(Options{}) })
}
