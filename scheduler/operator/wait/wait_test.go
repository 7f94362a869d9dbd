package wait

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// flaky fails the first looks.
type flaky struct {
	batcher.ObjectStore
	faults int
}

func (f *flaky) Stat(ctx context.Context, key string) (batcher.ObjectInfo, error) {
	if f.faults > 0 {
		f.faults--
		return batcher.ObjectInfo{}, fmt.Errorf("stat: %w", batcher.ErrUnavailable)
	}
	return f.ObjectStore.Stat(ctx, key)
}

func opened(s batcher.ObjectStore) func(context.Context) (batcher.ObjectStore, error) {
	return func(context.Context) (batcher.ObjectStore, error) { return s, nil }
}

func TestWaitsUntilTheObjectIsThere(t *testing.T) {
	t.Parallel()
	for _, byURI := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem := memstore.New(memstore.Options{})
			object := "a/day=1/done"
			if byURI {
				object = mem.URI(object)
			}
			go func() { // ends with its put, which For waits for
				time.Sleep(10 * time.Minute)
				if err := mem.PutIfAbsent(t.Context(), "a/day=1/done", []byte("xyz"), nil); err != nil {
					t.Error(err)
				}
			}()
			var log bytes.Buffer
			begin := time.Now()
			raw, err := For(t.Context(), &scheduler.Wait{Object: object, Poll: 30 * time.Second}, Options{Store: opened(&flaky{mem, 2}), Log: &log})
			if err != nil {
				t.Fatal(err)
			}
			var found Found
			if err := json.Unmarshal(raw, &found); err != nil || found.Key != "a/day=1/done" || found.Bytes != 3 || found.URI != mem.URI(found.Key) {
				t.Errorf("got %s, %v", raw, err)
			}
			if took := time.Since(begin); took < 10*time.Minute || took > 10*time.Minute+30*time.Second {
				t.Errorf("took %v", took)
			}
			if n := strings.Count(log.String(), "not there after"); n != 9 || strings.Count(log.String(), "could not look") != 2 {
				t.Errorf("%d lines say that it is not there, want one a minute:\n%s", n, &log)
			}
		})
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var log bytes.Buffer
		_, err := For(ctx, &scheduler.Wait{Object: "never", Poll: time.Minute}, Options{Store: opened(memstore.New(memstore.Options{})), Log: &log})
		if operator.ExitOf(err) != scheduler.ExitAgain || !strings.Contains(err.Error(), "never was not there after 1h0m0s") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatCanNeverBeThere(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]string{"s3://elsewhere/x": "whose objects start with", "a//b": "can not be the key", "a b": "can not be the key"} {
		_, err := For(t.Context(), &scheduler.Wait{Object: object, Poll: time.Second}, Options{Store: opened(memstore.New(memstore.Options{})), Log: &bytes.Buffer{}})
		if operator.ExitOf(err) != scheduler.ExitNoRetry || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", object, err, want)
		}
	}
	_, err := For(t.Context(), &scheduler.Wait{Object: "x", Poll: time.Second}, Options{Log: &bytes.Buffer{},
		Store: func(context.Context) (batcher.ObjectStore, error) { return nil, errors.New("no bucket") }})
	if operator.ExitOf(err) != scheduler.ExitAgain || !strings.Contains(err.Error(), "no bucket") {
		t.Errorf("got %v", err)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a file")
	for _, object := range []string{path, "file://" + strings.ReplaceAll(path, " ", "%20")} {
		ctx, cancel := context.WithCancel(t.Context())
		var log bytes.Buffer
		if _, err := os.Stat(path); err == nil {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		go func() { // ends at once
			if err := os.WriteFile(path, []byte("1234"), 0o600); err != nil {
				t.Error(err)
				cancel()
			}
		}()
		raw, err := For(ctx, &scheduler.Wait{Object: object, Poll: time.Millisecond}, Options{Log: &log})
		var found Found
		if err != nil || json.Unmarshal(raw, &found) != nil || found.Key != "" || !strings.HasSuffix(found.URI, "/a%20file") {
			t.Errorf("%s: got %s, %v", object, raw, err)
		}
		cancel()
	}
}
