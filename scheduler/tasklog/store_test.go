package tasklog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/scheduler"
)

const attempt = "r1.load.-1.2"

// small cuts logs into parts of ten bytes.
func small(objects batcher.ObjectStore) *Store { return &Store{objects, 10} }

func put(t *testing.T, s *Store, text, missing string) Archived {
	t.Helper()
	got, err := s.Put(t.Context(), attempt, strings.NewReader(text), int64(len(text)), missing)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func read(t *testing.T, s *Store, offset int64) string {
	t.Helper()
	r, err := s.Open(t.Context(), attempt, offset)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func keys(t *testing.T, objects batcher.ObjectStore) []string {
	t.Helper()
	var out []string
	for info, err := range objects.List(t.Context(), batcher.ListOptions{Prefix: batcher.PrefixMeta + "logs/"}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimPrefix(info.Key, Prefix))
	}
	return out
}

// TestParts: logs of all lengths around the borders of parts come back whole, from every offset.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 9, 10, 11, 19, 20, 21, 45} {
		text := strings.Repeat("0123456\n\xff\x00", 5)[:n]
		s, id := small(memstore.New(memstore.Options{})), fmt.Sprintf("r%d.load.-1.2", n)
		done, err := s.Put(t.Context(), id, strings.NewReader(text), int64(n), "")
		if err != nil || done.Bytes != int64(n) || done.Missing != "" || !strings.HasSuffix(done.URI, fmt.Sprintf("_millrace/logs/r%d/load.-1.2/log.gz", n)) {
			t.Errorf("%d bytes: got %+v, %v", n, done, err)
		}
		if again, err := s.Stat(t.Context(), id); err != nil || again != done {
			t.Errorf("%d bytes: stat %+v, %v, want %+v", n, again, err, done)
		}
		for offset := -1; offset < n+2; offset++ {
			r, err := s.Open(t.Context(), id, int64(offset))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if want := text[min(max(offset, 0), n):]; err != nil || string(got) != want {
				t.Errorf("%d bytes from %d: got %q, %v, want %q", n, offset, got, err, want)
			}
		}
		r, err := s.Open(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, []byte(text)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestPutAgain: the first archive of an attempt is the one, whatever else comes.
func TestPutAgain(t *testing.T) {
	t.Parallel()
	objects := memstore.New(memstore.Options{})
	s := small(objects)
	first := put(t, s, "a log of some parts\nwith lines\n", "")
	before := keys(t, objects)
	if len(before) != 4 || before[3] != "r1/load.-1.2/log.gz" {
		t.Errorf("got objects %q, want three parts and the last", before)
	}
	for _, other := range []string{"a log of some parts\nwith lines\n", "short", "another log of many, many parts\n", ""} {
		if got := put(t, s, other, "why"); got != first {
			t.Errorf("got %+v, want %+v", got, first)
		}
	}
	if got := read(t, s, 2); got != "log of some parts\nwith lines\n" {
		t.Errorf("got %q", got)
	}
	if after := keys(t, objects); !slices.Equal(after, before) {
		t.Errorf("got objects %q, want %q", after, before)
	}
	if _, err := s.Open(t.Context(), "r1.other.-1.1", 0); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("another attempt: got %v, want ErrNotFound", err)
	}
}

// TestMissing: why a log is not whole comes back, however long and odd it is.
func TestMissing(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"it burns", " ü\n= ", strings.Repeat("äöü%& ", 2000), "\xff"} {
		s := small(memstore.New(memstore.Options{}))
		put(t, s, "x", why)
		got, err := s.Stat(t.Context(), attempt)
		want := strings.TrimSuffix(got.Missing, "…")
		if err != nil || want == "" || !strings.HasPrefix(strings.ToValidUTF8(why, "\uFFFD"), want) || len(why) < 100 && got.Missing != strings.ToValidUTF8(why, "\uFFFD") {
			t.Errorf("got %q, %v, want %q", got.Missing, err, why)
		}
	}
}

// TestFaults puts a log into a store that fails at the n-th call, in each way, until it is put: it is whole, and nobody sees a part of it.
func TestFaults(t *testing.T) {
	t.Parallel()
	text := "a log of four parts that is put again and"
	for _, fault := range []memstore.Fault{memstore.Drop, memstore.Lose, memstore.Late} {
		for n := 1; ; n++ {
			objects := memstore.New(memstore.Options{})
			calls := 0
			s := small(objects.View(func(memstore.Op, string) memstore.Fault {
				if calls++; calls == n {
					return fault
				}
				return memstore.None
			}))
			_, err := s.Put(t.Context(), attempt, strings.NewReader(text), int64(len(text)), "")
			failed := err != nil
			if failed && !errors.Is(err, scheduler.ErrUnavailable) {
				t.Fatalf("fault %d at call %d: got %v, want ErrUnavailable", fault, n, err)
			}
			if r, err := small(objects).Open(t.Context(), attempt, 0); err == nil {
				if got, err := io.ReadAll(r); err != nil || string(got) != text {
					t.Errorf("fault %d at call %d: got %q, %v", fault, n, got, err)
				}
			} else if !errors.Is(err, scheduler.ErrNotFound) || !failed {
				t.Errorf("fault %d at call %d: open: %v", fault, n, err)
			}
			put(t, small(objects), text, "")
			if got := read(t, small(objects), 0); got != text {
				t.Errorf("fault %d at call %d: got %q", fault, n, got)
			}
			if !failed {
				break
			}
		}
	}
}

// shrunk is a log that has become shorter.
type shrunk struct{}

func (shrunk) ReadAt(b []byte, off int64) (int, error) {
	return strings.NewReader("0123456").ReadAt(b, off)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	objects := memstore.New(memstore.Options{})
	s := small(objects)
	if _, err := s.Put(t.Context(), attempt, shrunk{}, 30, ""); err == nil || len(keys(t, objects)) != 0 {
		t.Errorf("got %v, %q", err, keys(t, objects))
	}
	if _, err := s.Put(t.Context(), "r1.ä", shrunk{}, 1, ""); !errors.Is(err, batcher.ErrRefused) || errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	put(t, s, "0123456789abc", "")
	r, err := s.Open(t.Context(), attempt, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := objects.Remove(t.Context(), Prefix+keys(t, objects)[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("a part is gone: got %v, want ErrNotFound", err)
	}
	for _, meta := range []map[string]string{nil, {"bytes": "-1", "part-bytes": "10"}, {"bytes": "3", "part-bytes": "0"}, {"bytes": "3", "part-bytes": "10", "missing": "%"}} {
		id := fmt.Sprintf("r2.a%d.-1.1", rand.Uint64())
		if err := objects.PutIfAbsent(t.Context(), prefix(id)+lastName, []byte("x"), meta); err != nil {
			t.Fatal(err)
		}
		_, openErr := s.Open(t.Context(), id, 0)
		_, statErr := s.Stat(t.Context(), id)
		if openErr == nil || statErr == nil {
			t.Errorf("metadata %v was taken", meta)
		}
	}
	down := small(objects.View(func(memstore.Op, string) memstore.Fault { return memstore.Drop }))
	if _, err := down.Open(t.Context(), attempt, 0); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// TestSweep removes the logs of runs that are not kept, and of no other.
func TestSweep(t *testing.T) {
	t.Parallel()
	objects := memstore.New(memstore.Options{})
	s := small(objects)
	const runs = 450
	kept := func(_ context.Context, ids []string) (map[string]bool, error) {
		out := map[string]bool{}
		for _, id := range ids {
			out[id] = id >= "r300"
		}
		return out, nil
	}
	text := []byte("a log of two parts")
	for n := range runs {
		for _, task := range []string{"a.-1.1", "b.0.2"} {
			if _, err := s.Put(t.Context(), fmt.Sprintf("r%03d.%s", n, task), bytes.NewReader(text), int64(len(text)), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := objects.PutIfAbsent(t.Context(), batcher.PrefixMeta+"outputs/r001/x", nil, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(-time.Hour), kept); n != 0 || err != nil || len(keys(t, objects)) != 4*runs {
		t.Errorf("young ones: got %d, %v", n, err)
	}
	later := time.Now().Add(time.Hour)
	broken := errors.New("broken")
	if _, err := s.Sweep(t.Context(), later, func(context.Context, []string) (map[string]bool, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if n, err := s.Sweep(t.Context(), later, kept); n != 300 || err != nil {
		t.Errorf("got %d, %v, want 300", n, err)
	}
	left := keys(t, objects)
	if len(left) != 4*(runs-300) || !strings.HasPrefix(left[0], "r300/") {
		t.Errorf("got %d objects, the first %s", len(left), left[0])
	}
	if n, err := s.Sweep(t.Context(), later, kept); n != 0 || err != nil {
		t.Errorf("again: got %d, %v", n, err)
	}
	if _, err := objects.Stat(t.Context(), batcher.PrefixMeta+"outputs/r001/x"); err != nil {
		t.Error(err)
	}
}
