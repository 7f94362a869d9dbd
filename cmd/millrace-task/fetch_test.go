package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/batcher/batchertest"
	"millrace/batcher/s3store"
	"millrace/ingest"
)

// body is an object that is larger than a few buffers.
var body = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

const objectKey = "t/s/dt=2026-11-24/hr=01/s-00000-0.ndjson.gz"

func batchOf(uri string, body []byte) object {
	return object{ID: "b1", Key: objectKey, URI: uri, Bytes: int64(len(body)), Checksum: fmt.Sprintf("crc32c:%08x", crc32.Checksum(body, castagnoli))}
}

// server serves body at /o as package http does it, unless fault answers; it keeps the headers of requests.
type server struct {
	*httptest.Server
	mu    sync.Mutex // guards the rest
	seen  []http.Header
	fault func(n int, w http.ResponseWriter) bool
}

func serve(t *testing.T, fault func(n int, w http.ResponseWriter) bool) *server {
	t.Helper()
	s := &server{fault: fault}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, r.Header.Clone())
		w.Header().Set("ETag", `"one"`)
		if s.fault == nil || !s.fault(len(s.seen)-1, w) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// ranges returns what the requests asked for.
func (s *server) ranges() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, h := range s.seen {
		out = append(out, h.Get("Range"))
	}
	return out
}

// cut answers with the head of a body, and ends the connection.
func cut(w http.ResponseWriter, part []byte, size int) bool {
	w.Header().Set("Content-Length", fmt.Sprint(size))
	_, _ = w.Write(part)
	panic(http.ErrAbortHandler)
}

func fetch(t *testing.T, dir string, batches ...object) error {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f := &fetcher{root: root, open: (&stores{pathStyle: true}).open, pause: time.Microsecond, stall: patience}
	return f.all(t.Context(), batches)
}

func TestFetchHTTP(t *testing.T) {
	t.Parallel()
	half := len(body) / 2
	rest := fmt.Sprintf("bytes=%d-", half)
	down := func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusServiceUnavailable); return true }
	other := bytes.ToUpper(body)
	for _, tt := range []struct {
		name  string
		fault func(n int, w http.ResponseWriter) bool
		want  []string // ranges of the requests
		err   string
	}{
		{"sound", nil, []string{""}, ""},
		{"goes on where it broke off", func(n int, w http.ResponseWriter) bool { return n == 0 && cut(w, body[:half], len(body)) }, []string{"", rest}, ""},
		{"the server is down for a while", func(n int, w http.ResponseWriter) bool { return n < fetchTries-1 && down(w) }, slices.Repeat([]string{""}, fetchTries), ""},
		{"the server stays down", func(_ int, w http.ResponseWriter) bool { return down(w) }, slices.Repeat([]string{""}, fetchTries), "503"},
		{"another object after the break", func(n int, w http.ResponseWriter) bool {
			if n == 0 {
				w.Header().Set("ETag", `"zero"`)
				return cut(w, other[:half], len(body))
			}
			return false
		}, []string{"", rest, ""}, ""},
		{"no tag to go on by", func(n int, w http.ResponseWriter) bool {
			w.Header().Del("ETag")
			return n == 0 && cut(w, body[:half], len(body))
		}, []string{"", ""}, ""},
		{"changed on the way", func(n int, w http.ResponseWriter) bool {
			if n == 0 {
				_, _ = w.Write(other)
			}
			return n == 0
		}, []string{"", ""}, ""},
		{"changed for good", func(_ int, w http.ResponseWriter) bool { _, _ = w.Write(other); return true }, slices.Repeat([]string{""}, fetchTries), "its checksum is"},
		{"too short", func(_ int, w http.ResponseWriter) bool { _, _ = w.Write(nil); return true }, slices.Repeat([]string{""}, fetchTries), "it ended after 0 bytes of"},
		{"gone", func(_ int, w http.ResponseWriter) bool { w.WriteHeader(http.StatusNotFound); return true }, []string{""}, "can never be fetched: the server says 404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, dir := serve(t, tt.fault), t.TempDir()
			err := fetch(t, dir, batchOf(s.URL+"/o?signature=secret", body))
			got, _ := os.ReadFile(filepath.Join(dir, objectKey))
			if tt.err == "" && (err != nil || !bytes.Equal(got, body)) {
				t.Errorf("got %v and %d bytes, want the object", err, len(got))
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") || got != nil) {
				t.Errorf("got %v and %d bytes, want an error with %q, no signature and no file", err, len(got), tt.err)
			}
			if ranges := s.ranges(); !slices.Equal(ranges, tt.want) {
				t.Errorf("asked for the ranges %q, want %q", ranges, tt.want)
			}
		})
	}
}

// TestFetchOnce: what is there and right is not fetched again; what is there and wrong is.
func TestFetchOnce(t *testing.T) {
	t.Parallel()
	s, dir := serve(t, nil), t.TempDir()
	b := batchOf(s.URL+"/o", body)
	for range 2 {
		if err := fetch(t, dir, b); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.ranges()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
	if err := os.WriteFile(filepath.Join(dir, objectKey), body[1:], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := fetch(t, dir, b); err != nil || len(s.ranges()) != 2 {
		t.Errorf("got %v and %d requests, want another one for a wrong file", err, len(s.ranges()))
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, key, uri, want string }{
		{"a key that leads out", "../../etc/passwd", "file:///dev/null", "can not be read"},
		{"an absolute key", "/etc/passwd", "file:///dev/null", "can not be read"},
		{"a scheme", "k", "gs://bucket/k", "no way is known to fetch gs://"},
		{"another machine", "k", "file://there/k", "another machine, there"},
		{"a file that is not there", "k", "file:///no/such/object", "mounted here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := fetch(t, t.TempDir(), object{ID: "b1", Key: tt.key, URI: tt.uri})
			if !errors.Is(err, errNever) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want errNever with %q", err, tt.want)
			}
		})
	}
}

// TestFetchS3: against a real server, behind a proxy that cuts the first body.
func TestFetchS3(t *testing.T) { // not parallel: the SDK's settings are in the environment
	v := batchertest.StartVersity(t)
	t.Setenv("AWS_ENDPOINT_URL", v.Endpoint)
	t.Setenv("AWS_ACCESS_KEY_ID", v.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", v.SecretKey)
	bucket := v.NewBucket(t)
	store, err := s3store.Open(t.Context(), s3store.Options{
		Bucket: bucket, Endpoint: v.Endpoint, PathStyle: true, AccessKey: ingest.Secret(v.AccessKey), SecretKey: ingest.Secret(v.SecretKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutIfAbsent(t.Context(), objectKey, body, nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := batchOf("s3://"+bucket+"/"+objectKey, body)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	inner, calls := &stores{pathStyle: true}, 0
	f := &fetcher{root: root, pause: time.Microsecond, stall: patience}
	f.open = func(ctx context.Context, uri *url.URL, offset int64, tag string) (body io.ReadCloser, newTag string, err error) {
		calls++
		body, newTag, err = inner.open(ctx, uri, offset, tag)
		if calls == 1 && err == nil {
			body = &broken{ReadCloser: body, left: 100_000}
		}
		return body, newTag, err
	}
	if err := f.all(t.Context(), []object{b}); err != nil || calls != 2 {
		t.Fatalf("got %v after %d calls, want the object after 2", err, calls)
	}
	if got, err := os.ReadFile(filepath.Join(dir, objectKey)); !bytes.Equal(got, body) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	b.URI += ".not"
	b.Key = "not"
	if err := fetch(t, dir, b); !errors.Is(err, errNever) {
		t.Errorf("an object that is not there: got %v, want errNever", err)
	}
}

// broken is a body that breaks off.
type broken struct {
	io.ReadCloser
	left int
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("connection reset")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// TestFetched is the whole way: the program finds the objects, void batches have none.
func TestFetched(t *testing.T) {
	t.Parallel()
	s, dir := serve(t, nil), t.TempDir()
	plain := filepath.Join(t.TempDir(), "o")
	if err := os.WriteFile(plain, body, 0o644); err != nil {
		t.Fatal(err)
	}
	second := batchOf("file://"+plain, body)
	second.ID, second.Key = "b2", "second"
	doc, err := json.Marshal(map[string]any{"batches": []object{batchOf(s.URL+"/o", body), second, {ID: "b3", Key: "void", Void: "why"}}})
	if err != nil {
		t.Fatal(err)
	}
	a := begin(t, []string{"MILLRACE_INPUT_DATA=" + string(doc), "MILLRACE_FETCH=" + dir}, "--", "sh", "-c", `cd "$MILLRACE_FETCHED" && find . -type f | sort && cksum < second`)
	code, out := a.run()
	if want := "./second\n./" + objectKey + "\n"; code != 0 || !strings.HasPrefix(out, want) {
		t.Errorf("got %d and %q, want %q", code, out, want)
	}
}

func TestFetchFails(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int, w http.ResponseWriter) bool { w.WriteHeader(http.StatusGone); return true })
	doc, err := json.Marshal(map[string]any{"batches": []object{batchOf(s.URL+"/o", body)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, input string
		code        int
		want        string
	}{
		{"gone", string(doc), exitUsage, "batch b1 (" + s.URL + "/o): can never be fetched"},
		{"not a document", `[1]`, exitUsage, "decode the input document"},
		{"none", "", exitRefused, "nothing to fetch without an input document"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := begin(t, []string{"MILLRACE_INPUT_DATA=" + tt.input}, "--fetch", t.TempDir(), "--", "echo", "started")
			if code, out := a.run(); code != tt.code || !strings.Contains(out, tt.want) || strings.Contains(out, "started") {
				t.Errorf("got %d and %q, want %d and %q", code, out, tt.code, tt.want)
			}
		})
	}
}

// TestSignalWhileFetching: the program is not started any more.
func TestSignalWhileFetching(t *testing.T) {
	t.Parallel()
	asked, end := make(chan struct{}, 16), make(chan struct{})
	s := serve(t, func(int, http.ResponseWriter) bool { asked <- struct{}{}; <-end; return false })
	t.Cleanup(func() { close(end) }) // before the server is closed
	doc, err := json.Marshal(map[string]any{"batches": []object{batchOf(s.URL+"/o", body)}})
	if err != nil {
		t.Fatal(err)
	}
	a := begin(t, []string{"MILLRACE_INPUT_DATA=" + string(doc)}, "--fetch", t.TempDir(), "--", "echo", "started")
	a.start()
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("it asked for nothing")
	}
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 128+15 || strings.Contains(a.out.String(), "started") {
		t.Errorf("got %d and %q, want the end by SIGTERM before the start", code, a.out.String())
	}
}
