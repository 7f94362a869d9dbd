//go:build linux

package localexec_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// shelf is an object store that may be away. Its URIs are no files unless dir is set.
type shelf struct {
	dir string

	mu     sync.Mutex // guards the rest
	bodies map[string][]byte
	away   int // so many calls fail
	puts   int
}

func (s *shelf) Put(_ context.Context, attempt string, body []byte, _ time.Time) (*scheduler.OutputRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.puts++; s.away > 0 {
		s.away--
		return nil, scheduler.ErrUnavailable
	}
	if strings.Contains(attempt, "refused") {
		return nil, errors.New("the store does not want it")
	}
	sum := sha256.Sum256(body)
	s.bodies[attempt] = body
	return &scheduler.OutputRef{Ref: attempt, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(body))}, nil
}

func (s *shelf) Get(_ context.Context, ref scheduler.OutputRef) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies[ref.Ref] == nil {
		return nil, scheduler.ErrNotFound
	}
	return s.bodies[ref.Ref], nil
}

func (s *shelf) URI(ref scheduler.OutputRef) string {
	if s.dir != "" {
		return "file://" + filepath.Join(s.dir, ref.Ref)
	}
	return "s3://bucket/" + ref.Ref
}

// TestLargeOutputs: what is too large for a report is put into the store before the report comes, what is far too large, or no JSON, is refused, and
// a store that is away holds up nobody else.
func TestLargeOutputs(t *testing.T) {
	t.Parallel()
	s := &shelf{bodies: map[string][]byte{}, away: 3}
	r := start(t, t.TempDir(), localexec.Options{Outputs: s})
	put := func(id, text string) scheduler.Launch {
		l := script(id, text)
		r.launch(l)
		return l
	}
	fill := `(printf '"'; head -c 5000000 /dev/zero | tr '\0' x; printf '"') > "$MILLRACE_OUTPUT"`
	large := put("r1.large.-1.1", fill)
	small := put("r1.small.-1.1", `echo 1 > "$MILLRACE_OUTPUT"`)
	huge := put("r1.huge.-1.1", `truncate -s 1G "$MILLRACE_OUTPUT"`)
	garbage := put("r1.garbage.-1.1", strings.ReplaceAll(fill, `printf '"'`, "true"))
	refused := put("r1.refused.-1.1", fill)
	failed := put("r1.failed.-1.1", fill+"; exit 3")
	if rep := r.await(small.ID); string(rep.Output) != "1\n" || rep.OutputRef != nil {
		t.Errorf("small: got %+v", rep)
	}
	rep := r.await(large.ID)
	if rep.OutputRef == nil || rep.OutputRef.Bytes != 5_000_002 || len(rep.Output) > 0 || rep.OutputError != "" || len(s.bodies[large.ID]) != 5_000_002 {
		t.Errorf("large: got %+v, %q", rep.OutputRef, rep.OutputError)
	}
	for id, want := range map[string]string{huge.ID: "has 1073741824 bytes, and 67108864", garbage.ID: "is not JSON", refused.ID: "does not want it"} {
		if rep := r.await(id); rep.OutputRef != nil || !strings.Contains(rep.OutputError, want) {
			t.Errorf("%s: got %+v, %q, want %q", id, rep.OutputRef, rep.OutputError, want)
		}
	}
	if rep := r.await(failed.ID); rep.Exit != 3 || rep.OutputRef != nil || rep.OutputError != "" {
		t.Errorf("failed: got %+v", rep)
	}
	if s.away != 0 || s.puts < 5 {
		t.Errorf("the store was asked %d times", s.puts)
	}
}

// TestPlaceOutput: tasks read the object itself if it is a file, else a copy, which goes when the run has ended.
func TestPlaceOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var ended sync.Map
	s := &shelf{bodies: map[string][]byte{"a": []byte("[1]")}}
	r := start(t, dir, localexec.Options{Outputs: s, Sweep: time.Millisecond,
		Ended: func(_ context.Context, run string) (bool, error) { _, ok := ended.Load(run); return ok, nil }})
	ref := scheduler.OutputRef{Ref: "a", SHA256: "aa", Bytes: 3}
	for range 2 {
		path, err := r.PlaceOutput(t.Context(), "r1", ref)
		if err != nil || !strings.HasPrefix(path, dir) {
			t.Fatalf("got %s, %v", path, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "[1]" {
			t.Errorf("got %s, %v", text, err)
		}
	}
	if _, err := r.PlaceOutput(t.Context(), "r1", scheduler.OutputRef{Ref: "none", SHA256: "bb", Bytes: 1}); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	ended.Store("r1", true)
	eventually(t, "the copy is removed", func() bool {
		_, err := os.Stat(filepath.Join(dir, "outputs", "r1"))
		return errors.Is(err, os.ErrNotExist)
	})
	s.dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(s.dir, "a"), []byte("[1]"), 0o600))
	if path, err := r.PlaceOutput(t.Context(), "r2", ref); err != nil || path != filepath.Join(s.dir, "a") {
		t.Errorf("got %s, %v, want the object itself", path, err)
	}
}
