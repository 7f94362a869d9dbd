package seal

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// failing is a store that does not give the bytes of what is below a prefix, while it is on: it says so, or gives others.
type failing struct {
	batcher.ObjectStore
	prefix string
	silent bool
	on     atomic.Bool
}

func (s *failing) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	body, info, err := s.ObjectStore.Get(ctx, key)
	if err != nil || !s.on.Load() || !strings.HasPrefix(key, s.prefix) {
		return body, info, err
	}
	if !s.silent {
		return nil, batcher.ObjectInfo{}, fmt.Errorf("get %q: %w", key, batcher.ErrDamaged)
	}
	body = bytes.Clone(body)
	body[len(body)/2] ^= 1
	return body, info, nil
}

// TestDamagedObject: an object of the chain that is damaged in its store ends nothing, since events must be accepted meanwhile. The worker says
// which object it waits for and what to do, once, and goes on by itself when it is restored.
func TestDamagedObject(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		prefix string
		silent bool
	}{
		"sidecar": {batcher.PrefixIDs, false}, "entry": {batcher.PrefixChain, false},
		"sidecar, and the store does not know": {batcher.PrefixIDs, true}, // an entry has no checksum of its own
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				prefix := tt.prefix
				log, store := memlog.New(memlog.Options{}), &failing{ObjectStore: memstore.New(memstore.Options{}), prefix: prefix, silent: tt.silent}
				var text bytes.Buffer // written by the worker only, and read when that waits
				begin := func() (*Worker, func()) {
					w, err := New(store, policyOf(batcher.Policy{MaxAge: time.Second}), nil, Options{
						Log: slog.New(slog.NewTextHandler(&text, nil)), WayOut: func(loss *batcher.Range) string { return fmt.Sprintf("way out of %v", loss) },
					})
					if err != nil {
						t.Fatal(err)
					}
					return w, run(t, w, log.Partition(0))
				}
				put := func(n int) {
					t.Helper()
					if _, err := log.Append(t.Context(), []ingest.Record{record(ingest.EventLane("default", "web"), fmt.Sprint(n), n)}); err != nil {
						t.Fatal(err)
					}
					pass(time.Minute)
					synctest.Wait()
				}
				_, stop := begin()
				put(0)
				stop()
				store.on.Store(true)
				w, stop := begin()
				defer stop()
				put(1)
				s := w.Status()[0]
				if !strings.Contains(s.Stuck, prefix) || s.Next != "way out of <nil>" || s.Loss != nil {
					t.Errorf("status %+v, want stuck on an object below %s", s, prefix)
				}
				if n := strings.Count(text.String(), "batcher is stuck"); n != 1 || !strings.Contains(text.String(), "way out") {
					t.Errorf("said %d times that it is stuck, want once, with what to do:\n%s", n, &text)
				}
				store.on.Store(false)
				put(2)
				if s := w.Status()[0]; s.Stuck != "" || s.Next != "" || s.Lag != 0 {
					t.Errorf("status %+v after the object was restored, want all cut", s)
				}
			})
		})
	}
}
