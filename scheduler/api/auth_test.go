package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEveryRouteIsGuarded takes each line of the table of routes. A new route is here without a word.
func TestEveryRouteIsGuarded(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Deps, o *Options) { o.Pprof = true })
	b, run := r.fill()
	fill := strings.NewReplacer(":profile", "goroutine", ":batch", b.ID, ":run", run.ID, ":dag", "load", ":query", "m1", ":name", "style.css")
	for _, route := range r.routes {
		path := fill.Replace(route.path)
		send := func(change func(*http.Request)) int {
			req := request(route.method, path, "")
			change(req)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'self'") || strings.Contains(got, "unsafe") {
				t.Errorf("%s: got policy %q", path, got)
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("%s: got CORS for %q, want none", path, got)
			}
			return w.Code
		}
		unauthorized := http.StatusUnauthorized
		if route.access == tokenless && route.method == http.MethodGet {
			unauthorized = http.StatusOK
			if route.path != v2+"/version" && route.path != v2+"/monitor/health" {
				t.Errorf("%s asks for no token", route.path)
			}
		}
		bearer := func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+testToken) }
		if route.access == open {
			if route.path == "/api" || strings.HasPrefix(route.path, "/api/") {
				t.Errorf("%s is open", route.path)
			}
			if code := send(func(req *http.Request) { req.Host = "anything" }); code != http.StatusOK {
				t.Errorf("open %s: got %d, want 200", path, code)
			}
			continue
		}
		for name, tt := range map[string]struct {
			change func(*http.Request)
			want   int
		}{
			"nothing":      {func(*http.Request) {}, unauthorized},
			"wrong token":  {func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+testToken+"x") }, unauthorized},
			"basic":        {func(req *http.Request) { req.SetBasicAuth("x", testToken) }, unauthorized},
			"wrong cookie": {func(req *http.Request) { req.AddCookie(&http.Cookie{Name: "millrace", Value: testToken}) }, unauthorized},
			"bad host":     {func(req *http.Request) { bearer(req); req.Host = "attacker.example" }, 421},
		} {
			if got := send(tt.change); got != tt.want {
				t.Errorf("%s %s with %s: got %d, want %d", route.method, path, name, got, tt.want)
			}
		}
		if route.method != http.MethodGet {
			for _, header := range [][2]string{{"Origin", "https://attacker.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}} {
				code := send(func(req *http.Request) { req.AddCookie(r.auth.login(time.Now())); req.Header.Set(header[0], header[1]) })
				if code != http.StatusForbidden {
					t.Errorf("%s %s with %v: got %d, want 403", route.method, path, header, code)
				}
			}
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	a := newAuth(Options{Token: testToken, Hosts: []string{"Millrace.example", "*.internal", "10.0.0.7"}}.withDefaults())
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8081": true, "127.0.0.1:8081": true, "127.8.9.1": true, "[::1]:8081": true, "[::1]": true, "dev.localhost": true,
		"millrace.example": true, "MILLRACE.EXAMPLE:443": true, "millrace.example.": true, "a.internal": true, "a.b.internal:1": true, "10.0.0.7:80": true,
		"internal": false, "xinternal": false, "millrace.example.attacker.example": false, "localhost.attacker.example": false, "": false,
		"10.0.0.8": false, "0.0.0.0": false, "attacker.example:8081": false, "127.0.0.1.attacker.example": false,
	} {
		if got := a.hostKnown(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"/", "/millrace/"} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s tls %v", base, tls), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(_ *Deps, o *Options) { o.BasePath, o.TLS = base, tls })
				w := httptest.NewRecorder()
				link, err := url.Parse(r.LoginURL("http://localhost:8081/"))
				if err != nil {
					t.Fatal(err)
				}
				r.ServeHTTP(w, request("GET", link.RequestURI(), ""))
				cookies := w.Result().Cookies()
				if w.Code != http.StatusSeeOther || w.Header().Get("Location") != base || len(cookies) != 1 {
					t.Fatalf("got %d to %q with %v, want a redirect to %s with a cookie", w.Code, w.Header().Get("Location"), cookies, base)
				}
				c := cookies[0]
				wantName := "millrace"
				if tls && base == "/" {
					wantName = "__Host-millrace"
				}
				if c.Name != wantName || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != tls || c.Path != base || c.Domain != "" {
					t.Errorf("got %+v", c)
				}
				if strings.Contains(c.Value, testToken) {
					t.Error("the cookie has the token")
				}
				req := request("GET", base, "")
				req.AddCookie(c)
				w = httptest.NewRecorder()
				r.ServeHTTP(w, req)
				if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `href="`+base+`static/style.css"`) {
					t.Errorf("with the cookie: got %d, want the page with links below %s", w.Code, base)
				}
			})
		}
	}
	r := newRig(t)
	for _, path := range []string{"/?token=wrong", "/?token=", "/runs/x?token=" + testToken} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, request("GET", path, ""))
		if w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) != 0 || !strings.Contains(w.Body.String(), `name="token"`) {
			t.Errorf("%s: got %d, want 401 with a form", path, w.Code)
		}
	}
	req := request("GET", "/?token="+testToken, "")
	req.Host = "attacker.example"
	w := httptest.NewRecorder()
	if r.ServeHTTP(w, req); w.Code != http.StatusMisdirectedRequest || len(w.Result().Cookies()) != 0 {
		t.Errorf("login by another name: got %d, want 421 and no cookie", w.Code)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a, b := newAuth(Options{Token: testToken}), newAuth(Options{Token: testToken + "2"})
	valid := func(a *auth, c *http.Cookie, at time.Time) bool {
		r := request("GET", "/", "")
		r.AddCookie(c)
		return a.session(r, at)
	}
	c := a.login(now)
	longer := *c
	longer.Value = "9" + c.Value
	for name, tt := range map[string]struct{ got, want bool }{
		"now":             {valid(a, c, now), true},
		"to the end":      {valid(a, c, now.Add(session-time.Minute)), true},
		"after the end":   {valid(a, c, now.Add(session+time.Minute)), false},
		"another token":   {valid(b, c, now), false},
		"changed":         {valid(a, &longer, now), false},
		"without an end":  {valid(a, &http.Cookie{Name: "millrace", Value: "." + a.sign("")}, now), false},
		"without a value": {valid(a, &http.Cookie{Name: "millrace"}, now), false},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %v, want %v", name, tt.got, tt.want)
		}
	}
}

func TestLoadToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := LoadToken(dir)
	if err != nil || len(first) < 32 {
		t.Fatalf("got %q, %v, want a long token", first, err)
	}
	path := filepath.Join(dir, TokenFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v, %v, want mode 0600", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := LoadToken(dir)
	if err != nil || again != first {
		t.Errorf("again: got %q, %v, want the same", again, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600 again", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the one file", entries, err)
	}
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadToken(dir); err == nil {
		t.Errorf("short token: got %q, want an error", got)
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addr          string
		tls, insecure bool
		ok            bool
	}{
		{"127.0.0.1:8081", false, false, true}, {"localhost:0", false, false, true}, {"[::1]:8081", false, false, true},
		{":8081", false, false, false}, {"0.0.0.0:8081", false, false, false}, {"10.1.2.3:8081", false, false, false}, {"console.example:80", false, false, false},
		{":8081", false, true, true}, {"0.0.0.0:8081", true, false, true}, {"nonsense", true, true, false},
	} {
		if err := CheckListen(tt.addr, tt.tls, tt.insecure); (err == nil) != tt.ok {
			t.Errorf("%s tls %v insecure %v: got %v, want ok %v", tt.addr, tt.tls, tt.insecure, err, tt.ok)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := New(Deps{}, Options{Token: "x", BasePath: "/a?b", Hosts: []string{"http://x"}, Poll: -1})
	if err == nil {
		t.Fatal("got nil, want all faults")
	}
	for _, part := range []string{"token", "base_path", "host", "poll"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want it to name %s", err, part)
		}
	}
}
