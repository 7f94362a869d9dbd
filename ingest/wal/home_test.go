package wal

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

// TestMoveHome: the note changes only after the move, and only for chains that were in the old place.
func TestMoveHome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newManifest(0)
	m.begin()
	for i, home := range []string{"old", "", "new"} {
		m.Incarnations[len(m.Incarnations)-1].Home, m.Incarnations[len(m.Incarnations)-1].Next = home, int64(i+1)
		m.begin()
	}
	if err := writeManifest(vfs.OS, dir, m); err != nil {
		t.Fatal(err)
	}
	homes := func() (out []string) {
		t.Helper()
		got, err := readManifest(vfs.OS, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, inc := range got.Incarnations {
			out = append(out, inc.Home)
		}
		return out
	}
	broken := errors.New("broken off")
	move := func(err error) func(context.Context, map[ingest.Stream]ingest.ChainHint) error {
		return func(_ context.Context, hints map[ingest.Stream]ingest.ChainHint) error {
			if len(hints) != 2 {
				t.Errorf("got %v, want the two chains that were begun", hints)
			}
			if _, lockErr := vfs.OS.Lock(dir + "/" + lockName); !errors.Is(lockErr, vfs.ErrLocked) {
				t.Errorf("the log is not locked while its objects move: %v", lockErr)
			}
			return err
		}
	}
	for _, tt := range []struct {
		from string
		err  error
		want error
		home string
	}{{"old", broken, broken, "old"}, {"other", nil, ErrElsewhere, "old"}, {"old", nil, nil, "new"}, {"old", nil, nil, "new"}} {
		if err := MoveHome(t.Context(), nil, dir, tt.from, "new", move(tt.err)); !errors.Is(err, tt.want) {
			t.Errorf("from %s: got %v, want %v", tt.from, err, tt.want)
		}
		if got := homes(); got[0] != tt.home || got[1] != "" || got[2] != "new" {
			t.Errorf("from %s: got homes %q, want the first to be %s", tt.from, got, tt.home)
		}
	}
	if err := MoveHome(t.Context(), nil, t.TempDir(), "old", "new", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a log: %v, want %v", err, fs.ErrNotExist)
	}
}
