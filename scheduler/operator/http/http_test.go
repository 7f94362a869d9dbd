package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// asked is a request as a server saw it.
type asked struct {
	method, uri, body string
	header            http.Header
}

// server answers with what answer does, and remembers what it was asked.
func server(t *testing.T, answer http.HandlerFunc) (url string, seen func() []asked) {
	t.Helper()
	var got []asked
	mu := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu <- struct{}{}
		got = append(got, asked{r.Method, r.RequestURI, string(body), r.Header})
		<-mu
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []asked {
		mu <- struct{}{}
		defer func() { <-mu }()
		return append([]asked{}, got...)
	}
}

func envelope(method, url string) *operator.Envelope {
	return &operator.Envelope{AllowPrivate: true, HTTP: &scheduler.HTTP{
		Method: method, URL: url, Expect: []scheduler.StatusRange{{From: 200, To: 299}}, Timeout: time.Minute,
	}}
}

// do sends and returns the output, the log and the exit code.
func do(t *testing.T, e *operator.Envelope) (out, log string, err error) {
	t.Helper()
	var b bytes.Buffer
	environ := map[string]string{"MILLRACE_IDEMPOTENCY_KEY": "r1/a", "TRACEPARENT": "00-1-2-01", "AUTH": "Bearer s3cret"}
	raw, err := Do(t.Context(), e, Options{Log: &b, Agent: "millrace/test", Environ: func(name string) (string, bool) {
		val, ok := environ[name]
		return val, ok
	}})
	return string(raw), b.String(), err
}

func TestRequest(t *testing.T) {
	t.Parallel()
	url, seen := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id": 7}`) })
	e := envelope("POST", url+"/v1/x?key=hidden")
	e.HTTP.Headers = map[string]string{"Authorization": "env:AUTH", "X-A": "b"}
	e.HTTP.Body = json.RawMessage(`{"a": 1}`)
	out, log, err := do(t, e)
	if err != nil || out != `{"id": 7}` {
		t.Fatalf("got %s, %v", out, err)
	}
	got := seen()[0]
	for name, want := range map[string]string{
		"Authorization": "Bearer s3cret", "X-A": "b", "Content-Type": "application/json", "User-Agent": "millrace/test",
		"Idempotency-Key": "r1/a", "Traceparent": "00-1-2-01",
	} {
		if got.header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	if got.method != "POST" || got.uri != "/v1/x?key=hidden" || got.body != `{"a": 1}` {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(log, "POST "+url+"/v1/x?…, 8 bytes") || !strings.Contains(log, "200 OK in ") ||
		strings.Contains(log, "hidden") || strings.Contains(log, "s3cret") {
		t.Errorf("log:\n%s", log)
	}
}

func TestTextAndGet(t *testing.T) {
	t.Parallel()
	url, seen := server(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	e := envelope("PUT", url)
	e.HTTP.Body = json.RawMessage(`"a \"b\""`)
	if out, _, err := do(t, e); err != nil || out != "" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, _, err := do(t, envelope("GET", url)); err != nil {
		t.Error(err)
	}
	put, get := seen()[0], seen()[1]
	if put.body != `a "b"` || put.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("put: %+v", put)
	}
	if get.header.Get("Idempotency-Key") != "" || get.header.Get("Content-Type") != "" {
		t.Errorf("get: %+v", get)
	}
}

func TestStatusDecides(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status, exit int
		want         string
	}{
		{200, 0, ""}, {202, 0, ""}, {304, 64, ""}, {400, 64, "never tried again"}, {401, 64, "401 Unauthorized"}, {404, 64, "404 Not Found"}, {409, 64, ""},
		{408, 75, ""}, {425, 75, ""}, {429, 75, `Retry-After: "7"`}, {500, 75, ""}, {503, 75, "tried again if the task has retry"},
	}
	for _, tt := range tests {
		t.Run(http.StatusText(tt.status), func(t *testing.T) {
			t.Parallel()
			url, seen := server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tt.status)
				if tt.status != 304 {
					_, _ = io.WriteString(w, "because \x1b[31mof s3cret")
				}
			})
			e := envelope("POST", url+"/p")
			e.HTTP.Headers = map[string]string{"Authorization": "env:AUTH"}
			_, log, err := do(t, e)
			if operator.ExitOf(err) != tt.exit || len(seen()) != 1 {
				t.Fatalf("exit %d after %d requests, %v, want %d after one", operator.ExitOf(err), len(seen()), err, tt.exit)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), url+"/p")) {
				t.Errorf("got %v, want %q and the URL", err, tt.want)
			}
			if tt.exit != 0 && tt.status != 304 && !strings.Contains(log, "because ?[31mof ***") {
				t.Errorf("the log does not have the beginning of the answer, without secrets and escapes:\n%q", log)
			}
		})
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	large := `"` + strings.Repeat("x", operator.MaxOutput) + `"`
	for answer, want := range map[string]string{
		`[1]`: `[1]`, "  ": "", "<p>hello</p>": "", large: "", large[:operator.MaxOutput-1] + `"`: large[:operator.MaxOutput-1] + `"`,
	} {
		url, _ := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		out, log, err := do(t, envelope("GET", url))
		if err != nil || out != want {
			t.Errorf("%.20q of %d bytes: output of %d bytes, %v, want %d", answer, len(answer), len(out), err, len(want))
		}
		if strings.TrimSpace(answer) != "" && want == "" && !strings.Contains(log, "the task has no output") {
			t.Errorf("%.20q: the log does not say why there is no output:\n%s", answer, log)
		}
	}
}

func TestNetworkFaultsAreTriedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	cut, _ := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"a":`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	release := make(chan struct{})
	slow, _ := server(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	for name, e := range map[string]*operator.Envelope{
		"no answer after": envelope("GET", closed), "was cut off": envelope("GET", cut), "no answer within 50ms": envelope("POST", slow),
	} {
		if name == "no answer within 50ms" {
			e.HTTP.Timeout = 50 * time.Millisecond
		}
		if _, _, err := do(t, e); operator.ExitOf(err) != scheduler.ExitAgain || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, exit %d, want %q", err, operator.ExitOf(err), name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Do(ctx, envelope("GET", slow), Options{Log: io.Discard, Environ: func(string) (string, bool) { return "", false }})
	if operator.ExitOf(err) != scheduler.ExitAgain || !strings.Contains(err.Error(), "ended after") {
		t.Errorf("ended: got %v", err)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	inside, seen := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `"inside"`) })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(inside, "http://"))
	to := map[string]string{"/same": "/end", "/loop": "/loop", "/other": "http://localhost:" + port + "/", "/down": "ftp://127.0.0.1/"}
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if where, ok := to[r.URL.Path]; ok {
			http.Redirect(w, r, where, http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, `"end"`)
	})
	if out, _, err := do(t, envelope("GET", url+"/same")); err != nil || out != `"end"` {
		t.Errorf("within one host: got %s, %v", out, err)
	}
	for _, e := range []*operator.Envelope{envelope("GET", url+"/other"), envelope("POST", url+"/same"), envelope("GET", url+"/loop"), envelope("GET", url+"/down")} {
		_, _, err := do(t, e)
		if operator.ExitOf(err) != scheduler.ExitNoRetry || !strings.Contains(err.Error(), "302 Found and points to") {
			t.Errorf("%s %s: got %v", e.HTTP.Method, e.HTTP.URL, err)
		}
	}
	if got := seen(); len(got) != 0 {
		t.Errorf("another host was reached by a redirect: %+v", got)
	}
	wanted := envelope("GET", url+"/other")
	wanted.HTTP.Expect = []scheduler.StatusRange{{From: 302, To: 302}}
	if _, _, err := do(t, wanted); err != nil {
		t.Errorf("a redirect that is expected: %v", err)
	}
}

// The guard is asked by the dialer with the address that the name has become: here all of localhost's, and a second time by a redirect.
func TestGuardHoldsWhatIsDialled(t *testing.T) {
	t.Parallel()
	url, seen := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `"inside"`) })
	for _, address := range []string{url, strings.Replace(url, "127.0.0.1", "localhost", 1), strings.Replace(url, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		e := envelope("POST", address)
		e.AllowPrivate = false
		_, _, err := do(t, e)
		if operator.ExitOf(err) != scheduler.ExitNoRetry || !strings.Contains(err.Error(), "the address is loopback") ||
			!strings.Contains(err.Error(), "executors.local.allow_private") {
			t.Errorf("%s: got %v", address, err)
		}
	}
	if got := seen(); len(got) != 0 {
		t.Errorf("the server was reached: %+v", got)
	}
}

// A name that resolves to a public address when somebody looks, and to a private one when it is dialled, is caught: the check has no other
// look than the dial itself.
func TestGuardSeesEveryDial(t *testing.T) {
	t.Parallel()
	url, seen := server(t, func(http.ResponseWriter, *http.Request) {})
	var dials atomic.Int32
	public := guard(func() ([]net.Addr, error) { dials.Add(1); return nil, nil })
	d := &net.Dialer{Control: public}
	rebound := strings.TrimPrefix(url, "http://") // what the second look at the name yields
	for _, address := range []string{rebound, strings.Replace(rebound, "127.0.0.1", "127.0.0.2", 1), "0.0.0.0:80"} {
		conn, err := d.DialContext(t.Context(), "tcp", address)
		var b *blocked
		if conn != nil || !errors.As(err, &b) {
			t.Errorf("%s: got %v", address, err)
		}
	}
	if dials.Load() != 0 || len(seen()) != 0 {
		t.Errorf("%d addresses passed the first check, %d requests", dials.Load(), len(seen()))
	}
}

func TestNotPublic(t *testing.T) {
	t.Parallel()
	for _, ip := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.0.1", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:a00:1::",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
	} {
		if notPublic(netip.MustParseAddr(ip)) == "" {
			t.Errorf("%s counts as public", ip)
		}
	}
	for _, ip := range []string{"1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "192.169.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"} {
		if what := notPublic(netip.MustParseAddr(ip)); what != "" {
			t.Errorf("%s counts as %s", ip, what)
		}
	}
}

func TestGuardKnowsThisMachine(t *testing.T) {
	t.Parallel()
	control := guard(func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("8.8.8.8"), Mask: net.CIDRMask(24, 32)}}, nil
	})
	if err := control("tcp4", "8.8.8.8:443", nil); err == nil || !strings.Contains(err.Error(), "one of this machine") {
		t.Errorf("own address: got %v", err)
	}
	if err := control("tcp4", "8.8.8.9:443", nil); err != nil {
		t.Errorf("neighbour: got %v", err)
	}
}
