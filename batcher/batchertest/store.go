package batchertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
)

// TestStore checks that what open returns keeps the contract of [batcher.ObjectStore]. open is called once for each subtest, and returns an
// empty store each time. The subtests run in parallel.
func TestStore(t *testing.T, open func(t *testing.T) batcher.ObjectStore) {
	t.Helper()
	tests := []struct {
		name string
		run  func(t *testing.T, s batcher.ObjectStore)
	}{
		{"one winner", testOneWinner},
		{"exists is not touched", testExists},
		{"read after put", testReadAfterPut},
		{"metadata", testMetadata},
		{"absent", testAbsent},
		{"list", testList},
		{"list while putting", testListGrows},
		{"big object", testBig},
		{"refused", testRefused},
		{"identity", testIdentity},
		{"probe", testProbe},
		{"ended context", testContext},
		{"remove", testRemove},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, open(t))
		})
	}
}

// testOneWinner: of many puts of one key at once exactly one returns nil, and the object is the winner's, with the winner's metadata. A put may
// answer ErrUnavailable (S3's 409) and is then repeated, as its caller would.
func testOneWinner(t *testing.T, s batcher.ObjectStore) {
	const rounds, racers = 8, 12
	for round := range rounds {
		key := fmt.Sprintf("race/%02d/object", round)
		var wg sync.WaitGroup
		errs := make([]error, racers)
		for i := range racers {
			wg.Go(func() {
				for errs[i] = batcher.ErrUnavailable; errors.Is(errs[i], batcher.ErrUnavailable) && t.Context().Err() == nil; {
					body := []byte(strings.Repeat(fmt.Sprint(i), 100+i))
					errs[i] = s.PutIfAbsent(t.Context(), key, body, map[string]string{"who": fmt.Sprint(i)})
				}
			})
		}
		wg.Wait()
		winner := slices.Index(errs, nil)
		for i, err := range errs {
			if i != winner && !errors.Is(err, batcher.ErrExists) {
				t.Fatalf("racer %d got %v, want %v (winner %d)", i, err, batcher.ErrExists, winner)
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		body, info, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Repeat(fmt.Sprint(winner), 100+winner); string(body) != want || info.Meta["who"] != fmt.Sprint(winner) {
			t.Fatalf("racer %d won, object is %q of %v", winner, body, info.Meta)
		}
	}
}

func testExists(t *testing.T, s batcher.ObjectStore) {
	ctx := t.Context()
	put(t, s, "a/b", "first", map[string]string{"n": "1"})
	if err := s.PutIfAbsent(ctx, "a/b", []byte("second, longer"), map[string]string{"n": "2"}); !errors.Is(err, batcher.ErrExists) {
		t.Fatalf("second put: got %v, want %v", err, batcher.ErrExists)
	}
	if err := s.PutIfAbsent(ctx, "a/b", nil, nil); !errors.Is(err, batcher.ErrExists) {
		t.Fatalf("third put: got %v, want %v", err, batcher.ErrExists)
	}
	body, info, err := s.Get(ctx, "a/b")
	if err != nil || string(body) != "first" || info.Meta["n"] != "1" {
		t.Fatalf("object is %q of %v, %v", body, info.Meta, err)
	}
}

func testReadAfterPut(t *testing.T, s batcher.ObjectStore) {
	start := time.Now().Add(-2 * time.Second).Truncate(time.Second) // S3 keeps whole seconds
	for i, body := range []string{"", "x", strings.Repeat("0123456789", 1000)} {
		key := fmt.Sprintf("_millrace/chain/log/inc/0/%020d.json", i+1)
		put(t, s, key, body, nil)
		got, info, err := s.Get(t.Context(), key)
		if err != nil || string(got) != body {
			t.Fatalf("get: %d bytes, %v, want %d", len(got), err, len(body))
		}
		stat, err := s.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range []batcher.ObjectInfo{info, stat} {
			if in.Key != key || in.Size != int64(len(body)) || len(in.Meta) != 0 {
				t.Errorf("info %+v, want key %q, size %d, no metadata", in, key, len(body))
			}
			if in.ModTime.Before(start) || in.ModTime.After(time.Now().Add(2*time.Second)) || in.ModTime.Location() != time.UTC {
				t.Errorf("time %v, want now, in UTC", in.ModTime)
			}
		}
		if !info.ModTime.Equal(stat.ModTime) {
			t.Errorf("get says %v, stat says %v", info.ModTime, stat.ModTime)
		}
		for i := range got {
			got[i] = '!' // the caller's to change
		}
		if again, _, err := s.Get(t.Context(), key); err != nil || string(again) != body {
			t.Errorf("a body that was read is shared: %q, %v", again, err)
		}
	}
}

func testMetadata(t *testing.T, s batcher.ObjectStore) {
	big := map[string]string{"k": strings.Repeat("v", batcher.MaxMetaBytes-1)}
	tests := []map[string]string{
		{"batch": "01J", "rows": "17", "received-min": "2026-11-23T10:00:00.000001Z", "types": "p%2Ca%3A:3,track:2", "void": "refused: {\"a\": \\ 'b'}"},
		{"a-0": "~ !"},
		big,
	}
	for i, meta := range tests {
		key := fmt.Sprintf("meta/%d", i)
		put(t, s, key, "body", meta)
		info, err := s.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meta, info.Meta); diff != "" {
			t.Errorf("metadata by Stat (-put +got):\n%s", diff)
		}
		_, info, err = s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meta, info.Meta); diff != "" {
			t.Errorf("metadata by Get (-put +got):\n%s", diff)
		}
	}
}

func testAbsent(t *testing.T, s batcher.ObjectStore) {
	put(t, s, "there/object", "x", nil)
	for _, key := range []string{"absent", "there", "there/objec", "there/other", "no/such/dir"} {
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, batcher.ErrNotFound) {
			t.Errorf("stat %q: got %v, want %v", key, err, batcher.ErrNotFound)
		}
		if _, _, err := s.Get(t.Context(), key); !errors.Is(err, batcher.ErrNotFound) {
			t.Errorf("get %q: got %v, want %v", key, err, batcher.ErrNotFound)
		}
	}
}

// testList: keys come in byte order, in which '/' stands between '.' and '0', whatever a directory's order is.
func testList(t *testing.T, s batcher.ObjectStore) {
	keys := []string{
		"_millrace/chain/log/inc/0/00000000000000000001.json", "a/%41", "a/b-c", "a/b.c", "a/b/c", "a/b/d/e", "a/b0", "a/b=1/x", "a/bb", "a=1/b", "b",
	}
	for _, key := range keys {
		put(t, s, key, key, map[string]string{"k": "v"})
	}
	tests := []struct {
		opts batcher.ListOptions
		want []string
	}{
		{batcher.ListOptions{}, keys},
		{batcher.ListOptions{Prefix: "a"}, keys[1:10]},
		{batcher.ListOptions{Prefix: "a/b"}, keys[2:9]},
		{batcher.ListOptions{Prefix: "a/b/"}, keys[4:6]},
		{batcher.ListOptions{Prefix: "a/b/c"}, keys[4:5]},
		{batcher.ListOptions{Prefix: "nothing/here"}, nil},
		{batcher.ListOptions{Prefix: "../"}, nil},
		{batcher.ListOptions{After: "a/b/c"}, keys[5:]},
		{batcher.ListOptions{After: "a/b/"}, keys[4:]},
		{batcher.ListOptions{After: "a/b"}, keys[2:]},
		{batcher.ListOptions{After: "z"}, nil},
		{batcher.ListOptions{Prefix: "a/b", After: "a/b/d/e"}, keys[6:9]},
		{batcher.ListOptions{Prefix: "a/", After: "0"}, keys[1:9]},
		{batcher.ListOptions{Dirs: true}, []string{"_millrace/", "a/", "a=1/"}},
		{batcher.ListOptions{Dirs: true, After: "a/"}, []string{"a=1/"}},
		{batcher.ListOptions{Dirs: true, Prefix: "a/"}, []string{"a/b/", "a/b=1/"}},
		{batcher.ListOptions{Dirs: true, Prefix: "a/b"}, []string{"a/b/", "a/b=1/"}},
		{batcher.ListOptions{Dirs: true, Prefix: "a/", After: "a/b/"}, []string{"a/b=1/"}},
		{batcher.ListOptions{Dirs: true, Prefix: "a/b/c"}, nil},
	}
	for _, tt := range tests {
		var got []string
		for info, err := range s.List(t.Context(), tt.opts) {
			if err != nil {
				t.Fatalf("list %+v: %v", tt.opts, err)
			}
			got = append(got, info.Key)
			if !tt.opts.Dirs && (info.Size != int64(len(info.Key)) || info.ModTime.IsZero()) {
				t.Errorf("list %+v: info %+v", tt.opts, info)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("list %+v (-want +got):\n%s", tt.opts, diff)
		}
	}
	for info, err := range s.List(t.Context(), batcher.ListOptions{Prefix: "a/"}) {
		if err != nil || info.Key != keys[1] {
			t.Errorf("first of a list that is left: %q, %v", info.Key, err)
		}
		break
	}
}

// testListGrows: a list of more than one page yields each key once, and what was put before it began.
func testListGrows(t *testing.T, s batcher.ObjectStore) {
	const n = 1200 // S3's pages have 1,000 keys
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if err := s.PutIfAbsent(t.Context(), fmt.Sprintf("many/%06d", 2*i), nil, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen, last, added := 0, "", 0
	for info, err := range s.List(t.Context(), batcher.ListOptions{Prefix: "many/"}) {
		if err != nil {
			t.Fatal(err)
		}
		if info.Key <= last {
			t.Fatalf("%q after %q", info.Key, last)
		}
		last = info.Key
		if info.Key[len(info.Key)-1]%2 == 0 {
			seen++
		}
		if seen == 200*(added+1) {
			added++
			put(t, s, fmt.Sprintf("many/%06d", 2*seen+1001), "", nil)
		}
	}
	if seen != n {
		t.Fatalf("list has %d of %d keys", seen, n)
	}
}

func testBig(t *testing.T, s batcher.ObjectStore) {
	body := make([]byte, 17<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body) // never fails
	if err := s.PutIfAbsent(t.Context(), "big", body, nil); err != nil {
		t.Fatal(err)
	}
	got, info, err := s.Get(t.Context(), "big")
	if err != nil || !bytes.Equal(got, body) || info.Size != int64(len(body)) {
		t.Fatalf("read %d bytes, info %d, %v; want %d, the same", len(got), info.Size, err, len(body))
	}
}

func testRefused(t *testing.T, s batcher.ObjectStore) {
	tests := []struct {
		name, key string
		meta      map[string]string
	}{
		{"empty key", "", nil},
		{"leading slash", "/a", nil},
		{"trailing slash", "a/", nil},
		{"empty part", "a//b", nil},
		{"dot", "a/./b", nil},
		{"dot dot", "a/../../b", nil},
		{"space", "a b", nil},
		{"plus", "a+b", nil},
		{"not ASCII", "ä", nil},
		{"back slash", `a\b`, nil},
		{"too long", strings.Repeat("k/", 512) + "k", nil},
		{"metadata too large", "m", map[string]string{"k": strings.Repeat("v", batcher.MaxMetaBytes)}},
		{"metadata key in upper case", "m", map[string]string{"K": "v"}},
		{"metadata key with underscore", "m", map[string]string{"a_b": "v"}},
		{"metadata not ASCII", "m", map[string]string{"k": "ü"}},
		{"metadata with a line break", "m", map[string]string{"k": "a\nb"}},
		{"metadata with space at an end", "m", map[string]string{"k": "a "}},
	}
	for _, tt := range tests {
		if err := s.PutIfAbsent(t.Context(), tt.key, []byte("x"), tt.meta); !errors.Is(err, batcher.ErrRefused) {
			t.Errorf("%s: got %v, want %v", tt.name, err, batcher.ErrRefused)
		}
		if _, err := s.Stat(t.Context(), tt.key); !errors.Is(err, batcher.ErrNotFound) {
			t.Errorf("%s: stat gives %v, want %v", tt.name, err, batcher.ErrNotFound)
		}
	}
	for info, err := range s.List(t.Context(), batcher.ListOptions{}) {
		t.Errorf("refused puts left %q, %v", info.Key, err)
	}
}

func testIdentity(t *testing.T, s batcher.ObjectStore) {
	if home := s.Home(); home == "" || s.Home() != home {
		t.Errorf("home %q, then %q", home, s.Home())
	}
	uri := s.URI("a/b=c/d.gz")
	if !strings.Contains(uri, ":/") || !strings.HasSuffix(uri, "/a/b=c/d.gz") {
		t.Errorf("URI %q", uri)
	}
}

func testProbe(t *testing.T, s batcher.ObjectStore) {
	p, ok := s.(batcher.Prober)
	if !ok {
		return
	}
	for range 2 {
		if err := p.Probe(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func testContext(t *testing.T, s batcher.ObjectStore) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.PutIfAbsent(ctx, "k", nil, nil); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("put: got %v, want %v", err, batcher.ErrUnavailable)
	}
	if _, err := s.Stat(ctx, "k"); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("stat: got %v, want %v", err, batcher.ErrUnavailable)
	}
	if _, _, err := s.Get(ctx, "k"); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("get: got %v, want %v", err, batcher.ErrUnavailable)
	}
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, batcher.ErrNotFound) {
		t.Errorf("a put with an ended context: stat gives %v, want %v", err, batcher.ErrNotFound)
	}
}

func put(t *testing.T, s batcher.ObjectStore, key, body string, meta map[string]string) {
	t.Helper()
	if err := s.PutIfAbsent(t.Context(), key, []byte(body), meta); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}
