package sqlstore

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// TestRecords: what an executor keeps is there after a restart, by executor and key; only what is over can be pruned.
func TestRecords(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s, err := Open(ctx, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	put := func(list ...scheduler.Record) {
		t.Helper()
		if err := s.PutRecords(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	put()
	put(scheduler.Record{Executor: "mesos", Key: "b", Body: []byte("{}")}, scheduler.Record{Executor: "mesos", Key: "a", Body: []byte("1")},
		scheduler.Record{Executor: "other", Key: "a", Body: []byte("other")})
	put(scheduler.Record{Executor: "mesos", Key: "a", Body: []byte("2"), Over: at}, scheduler.Record{Executor: "mesos", Key: "c", Body: []byte("3"), Over: at.Add(time.Hour)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(ctx, path, Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if n, err := s.PruneRecords(ctx, "mesos", at.Add(time.Second)); n != 1 || err != nil {
		t.Errorf("pruned %d, %v, want the one that was over before", n, err)
	}
	for name, want := range map[string][]scheduler.Record{
		"mesos": {{Executor: "mesos", Key: "b", Body: []byte("{}")}, {Executor: "mesos", Key: "c", Body: []byte("3"), Over: at.Add(time.Hour)}},
		"other": {{Executor: "other", Key: "a", Body: []byte("other")}},
		"none":  nil,
	} {
		got, err := s.Records(ctx, name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("records of %s: %v\n%s", name, err, diff)
		}
	}
}
