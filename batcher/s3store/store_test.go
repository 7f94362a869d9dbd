package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"millrace/batcher"
	"millrace/batcher/batchertest"
	"millrace/ingest"
)

// TestConformance runs the suite against a real server, with either way of checksums and with and without a prefix.
func TestConformance(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	for _, tt := range []struct{ name, prefix, checksums string }{
		{"checksums when supported", "", ChecksumsSupported},
		{"checksums when required, prefix", "some/where", ChecksumsRequired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			batchertest.TestStore(t, func(t *testing.T) batcher.ObjectStore {
				return open(t, v, v.Endpoint, func(o *Options) { o.Prefix, o.Checksums = tt.prefix, tt.checksums })
			})
		})
	}
}

func open(t testing.TB, v *batchertest.Versity, endpoint string, more func(*Options)) *Store {
	t.Helper()
	o := Options{
		Bucket: v.NewBucket(t), Endpoint: endpoint, PathStyle: true,
		AccessKey: ingest.Secret(v.AccessKey), SecretKey: ingest.Secret(v.SecretKey),
	}
	if more != nil {
		more(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// proxy stands between client and server; fault decides about each request, and returns true if it has answered.
type proxy struct {
	url   string
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool]
	calls atomic.Int64
}

func newProxy(t testing.TB, v *batchertest.Versity) *proxy {
	t.Helper()
	target, err := url.Parse(v.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // what was signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p := &proxy{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		if f := p.fault.Load(); f != nil && (*f)(w, r, pass) {
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *proxy) set(f func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool) {
	p.fault.Store(&f)
	p.calls.Store(0)
}

// times returns a fault that hits the first n requests only.
func times(n int64, f http.HandlerFunc) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	var count atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if count.Add(1) > n {
			return false
		}
		f(w, r)
		return true
	}
}

func answer(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>injected</Message></Error>`, code)
		}
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// TestLostAnswer: the put arrives and its answer does not. The SDK repeats it and gets 412, which is ErrExists; the object is ours, and asking
// for it shows that. With one attempt, the outcome is unknown.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	for _, tt := range []struct {
		attempts int
		want     error
	}{{1, batcher.ErrUnavailable}, {3, batcher.ErrExists}} {
		s := open(t, v, p.url, func(o *Options) { o.MaxAttempts = tt.attempts })
		var first atomic.Bool
		p.set(func(_ http.ResponseWriter, r *http.Request, pass http.Handler) bool {
			if r.Method != http.MethodPut || first.Swap(true) {
				return false
			}
			rec := httptest.NewRecorder()
			pass.ServeHTTP(rec, r)
			if rec.Code != http.StatusOK {
				t.Errorf("put answered %d", rec.Code)
			}
			hangUp(nil, nil)
			return true
		})
		if err := s.PutIfAbsent(t.Context(), "k", []byte("mine"), map[string]string{"batch": "b"}); !errors.Is(err, tt.want) {
			t.Errorf("%d attempts: got %v, want %v", tt.attempts, err, tt.want)
		}
		if body, info, err := s.Get(t.Context(), "k"); err != nil || string(body) != "mine" || info.Meta["batch"] != "b" {
			t.Errorf("%d attempts: object %q %v, %v", tt.attempts, body, info.Meta, err)
		}
	}
}

// TestTruncatedBody: a body that is cut off on the way is refused by the server, whichever checksum travels with it, and nothing is stored.
func TestTruncatedBody(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	p.set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool {
		if r.Method != http.MethodPut {
			return false
		}
		part, _ := io.ReadAll(io.LimitReader(r.Body, 19_596))
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body = io.NopCloser(bytes.NewReader(part))
		r.ContentLength = int64(len(part))
		r.Header.Set("Content-Length", fmt.Sprint(len(part)))
		pass.ServeHTTP(w, r)
		return true
	})
	for _, checksums := range []string{ChecksumsSupported, ChecksumsRequired} {
		s := open(t, v, p.url, func(o *Options) { o.Checksums, o.MaxAttempts = checksums, 1 })
		err := s.PutIfAbsent(t.Context(), "k", bytes.Repeat([]byte("0123456789"), 20_000), nil)
		if err == nil || errors.Is(err, batcher.ErrExists) {
			t.Errorf("%s: got %v, want a refusal", checksums, err)
		}
		if info, err := s.Stat(t.Context(), "k"); !errors.Is(err, batcher.ErrNotFound) {
			t.Errorf("%s: stat gives %+v, %v, want %v", checksums, info, err, batcher.ErrNotFound)
		}
	}
}

// TestAnswers: what becomes of each answer, and how often the server is asked.
func TestAnswers(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	s := open(t, v, p.url, func(o *Options) { o.MaxAttempts = 2 })
	const always = 1000
	tests := []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, http.Handler) bool
		want  error
		calls int64
		text  string
	}{
		{"slow down once", times(1, answer(503, "SlowDown")), nil, 2, ""},
		{"slow down", times(always, answer(503, "SlowDown")), batcher.ErrUnavailable, 2, ""},
		{"internal error", times(always, answer(500, "InternalError")), batcher.ErrUnavailable, 2, ""},
		{"too many requests", times(always, answer(429, "TooManyRequests")), batcher.ErrUnavailable, 1, ""},
		{"conflict", times(always, answer(409, "ConditionalRequestConflict")), batcher.ErrUnavailable, 1, ""},
		{"precondition", times(always, answer(412, "PreconditionFailed")), batcher.ErrExists, 1, ""},
		{"no answer", times(always, hangUp), batcher.ErrUnavailable, 2, ""},
		{"denied", times(always, answer(403, "AccessDenied")), batcher.ErrUnavailable, 1, "s3:ListBucket"},
		{"wrong secret", times(always, answer(403, "SignatureDoesNotMatch")), batcher.ErrUnavailable, 1, "secret key"},
		{"no bucket", times(always, answer(404, "NoSuchBucket")), batcher.ErrUnavailable, 1, "create the bucket"},
		{"not implemented", times(always, answer(501, "NotImplemented")), batcher.ErrUnavailable, 1, "If-None-Match"},
		{"too large", times(always, answer(400, "EntityTooLarge")), batcher.ErrRefused, 1, ""},
		{"too large for a proxy", times(always, answer(413, "")), batcher.ErrRefused, 1, ""},
		{"key too long", times(always, answer(400, "KeyTooLongError")), batcher.ErrRefused, 1, ""},
		{"invalid argument", times(always, answer(400, "InvalidArgument")), batcher.ErrRefused, 1, ""},
		{"wrong checksum once", times(1, answer(400, "BadDigest")), nil, 2, ""},
		{"wrong checksum", times(always, answer(400, "BadDigest")), batcher.ErrRefused, corruptTries, ""},
		{"unknown 400", times(always, answer(400, "SomethingNew")), batcher.ErrUnavailable, 1, ""},
	}
	for i, tt := range tests {
		p.set(tt.fault)
		err := s.PutIfAbsent(t.Context(), fmt.Sprintf("put/%d", i), []byte("x"), nil)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if got := p.calls.Load(); got != tt.calls {
			t.Errorf("%s: %d requests, want %d", tt.name, got, tt.calls)
		}
		if err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %q does not say %q", tt.name, err, tt.text)
		}
	}
	reads := map[string]struct {
		fault func(http.ResponseWriter, *http.Request, http.Handler) bool
		want  error
	}{
		"stat 403": {times(always, answer(403, "")), batcher.ErrUnavailable},
		"stat 404": {times(always, answer(404, "")), batcher.ErrNotFound},
		"stat 500": {times(always, answer(500, "")), batcher.ErrUnavailable},
	}
	for name, tt := range reads {
		p.set(tt.fault)
		if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

// TestBrokenRead: a body that breaks off, or that is not what was put, is no object; one that changed on the way only is asked for again.
func TestBrokenRead(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	s := open(t, v, p.url, func(o *Options) { o.MaxAttempts = 1 })
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := s.PutIfAbsent(t.Context(), "k", body, nil); err != nil {
		t.Fatal(err)
	}
	p.set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool {
		rec := httptest.NewRecorder()
		pass.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		hangUp(nil, nil)
		return true
	})
	if _, _, err := s.Get(t.Context(), "k"); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("body that breaks off: got %v, want %v", err, batcher.ErrUnavailable)
	}
	for _, tt := range []struct {
		name    string
		changed int // so many times
		want    error
		calls   int64
	}{
		{"body that changes on the way, twice", corruptTries - 1, nil, corruptTries},
		{"body that is changed", 1000, batcher.ErrDamaged, corruptTries},
	} {
		left := tt.changed
		p.set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool {
			rec := httptest.NewRecorder()
			pass.ServeHTTP(rec, r)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			if left > 0 {
				left--
				rec.Body.Bytes()[len(body)/2] ^= 1
			}
			_, _ = w.Write(rec.Body.Bytes())
			return true
		})
		got, info, err := s.Get(t.Context(), "k")
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || p.calls.Load() != tt.calls {
			t.Errorf("%s: got %v after %d tries, want %v after %d", tt.name, err, p.calls.Load(), tt.want, tt.calls)
		}
		if len(got) != len(body) || bytes.Equal(got, body) != (err == nil) || info.Size != int64(len(body)) {
			t.Errorf("%s: %d bytes, info %+v", tt.name, len(got), info)
		}
		if err != nil && !errors.Is(err, batcher.ErrUnavailable) {
			t.Errorf("%s: %v is not %v, for which loops wait", tt.name, err, batcher.ErrUnavailable)
		}
	}
}

// TestDamagedAtRest: a bit that flips on the server's disk is found, with the object's name.
func TestDamagedAtRest(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	s := open(t, v, v.Endpoint, nil)
	if err := s.PutIfAbsent(t.Context(), "a/b", []byte("0123456789"), map[string]string{"batch": "b"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(v.Dir, s.o.Bucket, "a", "b"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("x"), 5)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	body, info, err := s.Get(t.Context(), "a/b")
	if !errors.Is(err, batcher.ErrDamaged) || !strings.Contains(fmt.Sprint(err), `"a/b"`) {
		t.Errorf("got %v, want %v and the key", err, batcher.ErrDamaged)
	}
	if string(body) != "01234x6789" || info.Meta["batch"] != "b" {
		t.Errorf("what is left: %q with %v", body, info.Meta)
	}
}

// TestProbeRefuses: a place that does not honour the precondition, or takes a wrong checksum, is not safe; one that is away is unavailable.
func TestProbeRefuses(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	s := open(t, v, p.url, func(o *Options) { o.MaxAttempts = 1 })
	// The proxies below answer puts themselves, because a header cannot be taken away from a signed request.
	var stored atomic.Pointer[[]byte]
	tests := []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool
		want  error
		text  string
	}{
		{"nothing wrong", func(http.ResponseWriter, *http.Request, http.Handler) bool { return false }, nil, ""},
		{"no precondition", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.Method == http.MethodPut {
				b, _ := io.ReadAll(r.Body)
				stored.Store(&b)
				w.WriteHeader(http.StatusOK)
			}
			return r.Method == http.MethodPut
		}, batcher.ErrNotSafe, "If-None-Match"},
		{"no checksum", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.Method == http.MethodPut && r.Header.Get("X-Amz-Checksum-Crc32c") == crcText([]byte("other")) {
				w.WriteHeader(http.StatusOK)
				return true
			}
			return false
		}, batcher.ErrNotSafe, "CRC-32C"},
		{"refuses metadata", times(1000, answer(400, "InvalidArgument")), batcher.ErrNotSafe, ""},
		{"away", times(1000, hangUp), batcher.ErrUnavailable, ""},
	}
	for _, tt := range tests {
		p.set(tt.fault)
		err := s.Probe(t.Context())
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %q does not say %q", tt.name, err, tt.text)
		}
	}
}

func TestProbeLifecycle(t *testing.T) {
	t.Parallel()
	const chain = "lake/_millrace/"
	days := &types.LifecycleExpiration{Days: aws.Int32(30)}
	rule := func(prefix string, f func(*types.LifecycleRule)) types.LifecycleRule {
		r := types.LifecycleRule{
			ID: aws.String("r"), Status: types.ExpirationStatusEnabled, Expiration: days, Filter: &types.LifecycleRuleFilter{Prefix: &prefix},
		}
		if f != nil {
			f(&r)
		}
		return r
	}
	tests := []struct {
		name    string
		rule    types.LifecycleRule
		touches bool
	}{
		{"everything", rule("", nil), true},
		{"above", rule("lake/", nil), true},
		{"partly", rule("lake/_mill", nil), true},
		{"below", rule("lake/_millrace/ids/", nil), true},
		{"beside", rule("lake/events/", nil), false},
		{"old form", rule("", func(r *types.LifecycleRule) {
			//lint:ignore SA1019 what old rules carry
			r.Filter, r.Prefix = nil, aws.String("lake/")
		}), true},
		{"off", rule("", func(r *types.LifecycleRule) { r.Status = types.ExpirationStatusDisabled }), false},
		{"by tag", rule("", func(r *types.LifecycleRule) { r.Filter = &types.LifecycleRuleFilter{Tag: &types.Tag{}} }), false},
		{"by size", rule("", func(r *types.LifecycleRule) {
			r.Filter = &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Prefix: aws.String(""), ObjectSizeGreaterThan: aws.Int64(1)}}
		}), true},
		{"uploads only", rule("", func(r *types.LifecycleRule) { r.Expiration = nil }), false},
		{"archive", rule("", func(r *types.LifecycleRule) {
			r.Expiration, r.Transitions = nil, []types.Transition{{StorageClass: types.TransitionStorageClassGlacier}}
		}), true},
		{"cheaper class", rule("", func(r *types.LifecycleRule) {
			r.Expiration, r.Transitions = nil, []types.Transition{{StorageClass: types.TransitionStorageClassStandardIa}}
		}), false},
	}
	for _, tt := range tests {
		if got := touches(tt.rule, chain); (got != "") != tt.touches {
			t.Errorf("%s: got %q, want touched %v", tt.name, got, tt.touches)
		}
	}
	// The whole way, with a server that has such a rule.
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	p.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !r.URL.Query().Has("lifecycle") {
			return false
		}
		fmt.Fprint(w, `<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>`+
			`<Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>`)
		return true
	})
	if err := open(t, v, p.url, nil).Probe(t.Context()); !errors.Is(err, batcher.ErrNotSafe) || !strings.Contains(fmt.Sprint(err), `"old"`) {
		t.Errorf("got %v, want %v and the name of the rule", err, batcher.ErrNotSafe)
	}
}

// TestServerKilled: while the server is away everything is ErrUnavailable; when it is back, what was acknowledged is there.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	s := open(t, v, v.Endpoint, func(o *Options) { o.MaxAttempts = 1 })
	if err := s.PutIfAbsent(t.Context(), "k", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	v.Stop(t)
	if err := s.PutIfAbsent(t.Context(), "l", nil, nil); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("put: got %v, want %v", err, batcher.ErrUnavailable)
	}
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("stat: got %v, want %v", err, batcher.ErrUnavailable)
	}
	for _, err := range s.List(t.Context(), batcher.ListOptions{}) {
		if !errors.Is(err, batcher.ErrUnavailable) {
			t.Errorf("list: got %v, want %v", err, batcher.ErrUnavailable)
		}
	}
	v.Restart(t)
	if body, _, err := s.Get(t.Context(), "k"); err != nil || string(body) != "x" {
		t.Errorf("after the restart: %q, %v", body, err)
	}
}

// TestHang: a server that does not answer costs no more than the time-out.
func TestHang(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	p := newProxy(t, v)
	s := open(t, v, p.url, func(o *Options) { o.Timeout = 50 * time.Millisecond })
	p.set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		<-r.Context().Done()
		return true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Stat(ctx, "k"); !errors.Is(err, batcher.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("got %v, want %v long before %v", err, batcher.ErrUnavailable, ctx.Err())
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    Options
		ok   bool
	}{
		{"bucket alone", Options{Bucket: "b"}, true},
		{"none", Options{}, false},
		{"directory bucket", Options{Bucket: "b--use1-az4--x-s3"}, false},
		{"prefix", Options{Bucket: "b", Prefix: "a/b/"}, true},
		{"prefix from above", Options{Bucket: "b", Prefix: "/a"}, false},
		{"checksums", Options{Bucket: "b", Checksums: "never"}, false},
		{"half a key", Options{Bucket: "b", AccessKey: "a"}, false},
		{"attempts", Options{Bucket: "b", MaxAttempts: -1}, false},
	}
	for _, tt := range tests {
		if err := tt.o.Validate(); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want valid %v", tt.name, err, tt.ok)
		}
	}
	s, err := Open(t.Context(), Options{Bucket: "b", Prefix: "lake", AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Home() != "s3://b/lake/" || s.URI("k/l") != "s3://b/lake/k/l" {
		t.Errorf("home %q, URI %q", s.Home(), s.URI("k/l"))
	}
}

// TestObjectsAreFiles: what a person does to a file of versitygw's directory is what S3 shows; other tests count on it.
func TestObjectsAreFiles(t *testing.T) {
	t.Parallel()
	v := batchertest.StartVersity(t)
	s := open(t, v, v.Endpoint, nil)
	if err := s.PutIfAbsent(t.Context(), "a/b", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(v.Dir, s.o.Bucket, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "a/b"); !errors.Is(err, batcher.ErrNotFound) {
		t.Errorf("got %v, want %v", err, batcher.ErrNotFound)
	}
}
