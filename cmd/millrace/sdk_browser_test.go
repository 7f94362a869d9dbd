package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sdkPage is a page of an application's own server, which loads the SDK and sends events to millrace: another origin.
type sdkPage struct {
	proxy  *faultyProxy
	url    string
	result sdkResult
	done   chan struct{} // closed when the page has been left, or could not go on; then result is complete
}

// newPage prepares the page of a run, which sends its events once it is opened.
func (k sdkKit) newPage(t *testing.T, p *faultyProxy, r *sdkRun) *sdkPage {
	b := &sdkPage{proxy: p, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(k.source)))
	mux.Handle("/sdk/", http.StripPrefix("/sdk/", http.FileServer(http.Dir(k.bundles()))))
	mux.HandleFunc("POST /given", b.given)
	mux.HandleFunc("POST /left", b.left)
	mux.HandleFunc("POST /failed", b.left)
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)

	page := func(events int, next string) string {
		return "page.html?" + url.Values{"key": {r.key}, "host": {p.host()}, "protocol": {"http"}, "as": {r.page},
			"count": {strconv.Itoa(events)}, "next": {next}}.Encode()
	}
	next := "left.html"
	if p.lasting { // until the page is left; the next one loads the SDK, and sends nothing of its own
		next = page(0, next)
	}
	b.url = site.URL + "/" + page(r.events, next)
	return b
}

// given takes what a page has given to the SDK. It answers when the page may be left, and how many answers the page must have seen by then: when
// all is delivered, or when a fault that lasts has met all. The page after that one ends such a fault: it is the one that delivers.
func (b *sdkPage) given(w http.ResponseWriter, r *http.Request) {
	again := b.result.Given != nil
	b.tell(r)
	if again {
		b.proxy.mend()
	}
	ready := func(e passage) bool { return e.answered > 0 }
	if b.proxy.lasts() {
		ready = func(e passage) bool { return e.met == len(b.proxy.plan) }
	}
	if !b.proxy.wait(b.result.Given, ready) {
		b.proxy.problem("the SDK does not deliver; it was given %v", b.result.Given)
	}
	_ = json.NewEncoder(w).Encode(map[string]int{"answers": b.proxy.answers()})
}

// left takes what the SDK has stored for the next page, or why the page could not go on.
func (b *sdkPage) left(w http.ResponseWriter, r *http.Request) {
	b.tell(r)
	w.WriteHeader(http.StatusNoContent)
	close(b.done)
}

// tell adds what the pages tell, which come one after the other.
func (b *sdkPage) tell(r *http.Request) {
	var told struct {
		sdkResult
		Stored []string
	}
	if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
		b.proxy.problem("%s: %v", r.URL, err)
	}
	if b.result.Given == nil {
		b.result.Given = told.Given
	}
	b.result.Errors = append(b.result.Errors, told.Errors...)
	for _, id := range told.Stored {
		b.result.Errors = append(b.result.Errors, "I still hold "+id)
	}
}

// browser is a Chromium that opens each page in a tab of its own.
type browser struct {
	pages chan string
	log   *lockedBuffer
}

// newBrowser starts a browser that ends with the test, which then shows what the pages wrote to their consoles.
func (k sdkKit) newBrowser(t *testing.T) *browser {
	t.Helper()
	b := &browser{pages: make(chan string), log: &lockedBuffer{}}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(k.source)))
	mux.HandleFunc("/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case page := <-b.pages:
			_, _ = io.WriteString(w, page)
		case <-r.Context().Done(): // the browser has ended
		}
	})
	tabs := httptest.NewServer(mux)
	t.Cleanup(tabs.Close)
	profile, err := os.MkdirTemp("", "millrace-test-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(k.chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir="+profile,
		"--no-first-run", "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-breakpad",
		"--disable-extensions", "--disable-popup-blocking", "--renderer-process-limit=2", "--disable-background-timer-throttling",
		"--disable-renderer-backgrounding", "--enable-logging=stderr", tabs.URL+"/tabs.html")
	cmd.Stdout, cmd.Stderr = b.log, b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = os.RemoveAll(profile)
		for line := range strings.Lines(b.log.String()) {
			if t.Failed() && strings.Contains(line, "CONSOLE") {
				t.Logf("browser: %s", strings.TrimSpace(line))
			}
		}
	})
	return b
}

// open opens a page and returns when it has been left.
func (b *browser) open(t *testing.T, page *sdkPage) sdkResult {
	t.Helper()
	limit := time.After(patience)
	select {
	case b.pages <- page.url:
	case <-limit:
		t.Fatalf("no page was opened; the browser said:\n%s", b.log)
	}
	select {
	case <-page.done:
		return page.result
	case <-limit:
		t.Fatal("the page was not left")
	}
	return sdkResult{}
}
