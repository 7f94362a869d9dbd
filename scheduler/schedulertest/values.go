package schedulertest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// Values is a scheduler.ValueStore in memory. The zero value is empty.
type Values struct {
	mu     sync.Mutex // guards the rest
	rows   []scheduler.StoredValue
	audits []scheduler.Audit
	// fail is returned by the next PutValues, which changes nothing then.
	fail error
}

var _ scheduler.ValueStore = (*Values)(nil)

// Fail lets the next PutValues fail.
func (v *Values) Fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fail = err
}

// Values implements scheduler.ValueStore.
func (v *Values) Values(context.Context) ([]scheduler.StoredValue, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.rows), nil
}

func sameValue(a, b scheduler.StoredValue) bool { return a.Kind == b.Kind && a.Name == b.Name }

// PutValues implements scheduler.ValueStore.
func (v *Values) PutValues(_ context.Context, put, remove []scheduler.StoredValue, audit []scheduler.Audit) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.fail; err != nil {
		v.fail = nil
		return err
	}
	for _, one := range slices.Concat(put, remove) {
		v.rows = slices.DeleteFunc(slices.Clone(v.rows), func(old scheduler.StoredValue) bool { return sameValue(old, one) })
	}
	for _, one := range put {
		if slices.ContainsFunc(remove, func(r scheduler.StoredValue) bool { return sameValue(r, one) }) {
			continue
		}
		one.UpdatedAt = kept(one.UpdatedAt)
		v.rows = append(v.rows, one)
	}
	slices.SortFunc(v.rows, func(a, b scheduler.StoredValue) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	for _, a := range audit {
		a.At = kept(a.At)
		v.audits = append(v.audits, a)
	}
	return nil
}

// Audits implements scheduler.ValueStore.
func (v *Values) Audits(_ context.Context, limit int) ([]scheduler.Audit, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := slices.Clone(v.audits)
	slices.Reverse(out)
	return out[:min(limit, len(out))], nil
}

// TestValues is the conformance suite of scheduler.ValueStore. open opens the same store again and again; what it returned before is closed then
// or not used any more.
func TestValues(t *testing.T, open func(t *testing.T) scheduler.ValueStore) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	one := scheduler.StoredValue{Kind: scheduler.ValueVariable, Name: "region", Text: "eu", Description: "where", UpdatedAt: at, UpdatedBy: "ann"}
	two := scheduler.StoredValue{Kind: scheduler.ValueSecret, Name: "stripe", Text: "mr1:x:y", Sealed: true, UpdatedAt: at}
	three := scheduler.StoredValue{Kind: scheduler.ValueConnection, Name: "region", Text: "mr1:x:z", Sealed: true, UpdatedAt: at}
	lines := []scheduler.Audit{
		{At: at, By: "ann", Action: "set", Kind: one.Kind, Name: one.Name}, {At: at, Action: "set", Kind: two.Kind, Name: two.Name},
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(s scheduler.ValueStore, want []scheduler.StoredValue, audits []scheduler.Audit) {
		t.Helper()
		got, err := s.Values(t.Context())
		must(err)
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("values (-want +got):\n%s", d)
		}
		trail, err := s.Audits(t.Context(), 2)
		must(err)
		if d := gocmp.Diff(audits, trail); d != "" {
			t.Errorf("audit (-want +got):\n%s", d)
		}
	}
	s := open(t)
	check(s, nil, nil)
	must(s.PutValues(t.Context(), []scheduler.StoredValue{one, two, three}, nil, lines))
	s = open(t)
	check(s, []scheduler.StoredValue{three, two, one}, []scheduler.Audit{lines[1], lines[0]})
	one.Text, one.UpdatedBy = "us", ""
	last := scheduler.Audit{At: at, By: "bob", Action: "remove", Kind: two.Kind, Name: two.Name}
	must(s.PutValues(t.Context(), []scheduler.StoredValue{one}, []scheduler.StoredValue{two, {Kind: two.Kind, Name: "no such"}}, []scheduler.Audit{last}))
	s = open(t)
	check(s, []scheduler.StoredValue{three, one}, []scheduler.Audit{last, lines[1]})
}
