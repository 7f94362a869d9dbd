package chain_test

import (
	"errors"
	"fmt"
	"testing"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/memstore"
)

// TestCopy copies all but probes, goes on after a break, and refuses a place that has something else.
func TestCopy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from, to := memstore.New(memstore.Options{}), memstore.New(memstore.Options{})
	put := func(s *memstore.Store, key, body string, meta map[string]string) {
		t.Helper()
		if err := s.PutIfAbsent(ctx, key, []byte(body), meta); err != nil {
			t.Fatal(err)
		}
	}
	const n = 40
	for i := range n {
		put(from, fmt.Sprintf("events/source=web/%d.ndjson.gz", i), fmt.Sprint("rows ", i), map[string]string{"batch": fmt.Sprint(i)})
	}
	put(from, batcher.PrefixMeta+"chain/log/aaa/0/00000000000000000001.json", "{}", nil)
	put(from, batcher.PrefixMeta+"probe/x", "first", nil)
	put(to, "events/source=web/7.ndjson.gz", "rows 7", map[string]string{"batch": "7"})
	var bytes int64
	sum, err := chain.Copy(ctx, from, to, func(b int64) { bytes += b })
	if err != nil || sum.Objects != n+1 || sum.Present != 1 || sum.Bytes != bytes || bytes == 0 {
		t.Fatalf("got %+v, %v, want %d objects of %d bytes, one of them there", sum, err, n+1, bytes)
	}
	for info, err := range from.List(ctx, batcher.ListOptions{Prefix: "events/"}) {
		if err != nil {
			t.Fatal(err)
		}
		want, wantInfo, _ := from.Get(ctx, info.Key)
		got, gotInfo, err := to.Get(ctx, info.Key)
		if err != nil || string(got) != string(want) || gotInfo.Meta["batch"] != wantInfo.Meta["batch"] {
			t.Errorf("%s: got %q %v, %v, want %q %v", info.Key, got, gotInfo.Meta, err, want, wantInfo.Meta)
		}
	}
	if _, err := to.Stat(ctx, batcher.PrefixMeta+"probe/x"); !errors.Is(err, batcher.ErrNotFound) {
		t.Errorf("a probe was copied: %v", err)
	}
	if sum, err := chain.Copy(ctx, from, to, nil); err != nil || sum.Present != n+1 {
		t.Errorf("again: got %+v, %v, want all to be there", sum, err)
	}
	for name, meta := range map[string]map[string]string{"other rows": {"batch": "1"}, "rows": {"batch": "2"}} {
		other := memstore.New(memstore.Options{})
		put(other, "events/source=web/1.ndjson.gz", name, meta)
		if _, err := chain.Copy(ctx, from, other, nil); !errors.Is(err, chain.ErrDiffers) {
			t.Errorf("into a store that has %q %v: %v, want %v", name, meta, err, chain.ErrDiffers)
		}
	}
}
