package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/ingest"
)

// start runs s on a free port and returns its address, and stop, which ends it and returns what Run returned.
func start(t *testing.T, s *Server) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }() // ends by stop
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-done
	}
	t.Cleanup(func() { stop() })
	return ln.Addr().String(), stop
}

func post(t *testing.T, addr, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/v1/track", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Write-Key", "dev")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// dial sends text and leaves the connection open.
func dial(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // only so that a fault does not hang the test
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

const head = "POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Write-Key: dev\r\nContent-Length: %d\r\n\r\n%s"

// TestCutOff: a client that goes away, or goes on too slowly, in its headers or its body, with or without compression, has nothing stored, and
// does not disturb others.
func TestCutOff(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	addr, _ := start(t, newServer(t, log, Options{Limits: Limits{BodyTimeout: time.Second}}))
	zipped := zip(event)
	for name, tt := range map[string]struct {
		text  string
		leave bool
		want  string // what is answered, if it can be
	}{
		"leaves in the body":        {fmt.Sprintf(head, len(event), event[:len(event)-1]), true, ""},
		"leaves at the body":        {fmt.Sprintf(head, len(event), ""), true, ""},
		"leaves in a chunk":         {"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Write-Key: dev\r\nTransfer-Encoding: chunked\r\n\r\n3e\r\n" + event + "\r\n", true, ""},
		"leaves compressed":         {strings.Replace(fmt.Sprintf(head, len(zipped), zipped[:len(zipped)-1]), "Host", "Content-Encoding: gzip\r\nHost", 1), true, ""},
		"leaves in a bulk upload":   {to("/bulk/load", event+"\n")[:len(to("/bulk/load", event+"\n"))-1], true, ""},
		"leaves in a bulk, chunked": {"POST /bulk/load HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n", true, ""},
		"leaves in the headers":     {"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Wri", true, ""},
		"is too slow in the body":   {fmt.Sprintf(head, len(event), event[:len(event)-1]), false, "503 Service Unavailable"},
		"is too slow compressed":    {strings.Replace(fmt.Sprintf(head, len(zipped), zipped[:9]), "Host", "Content-Encoding: gzip\r\nHost", 1), false, "503 Service Unavailable"},
		"is too slow in the header": {"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Wri", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, addr, tt.text)
			if tt.leave {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := io.ReadAll(conn) // until the server closes
			if err != nil {
				t.Fatalf("the connection was not closed: %v", err)
			}
			if strings.Contains(string(answer), " 200 ") || !strings.Contains(string(answer), tt.want) {
				t.Errorf("got %q, want %q", answer, tt.want)
			}
			if resp := post(t, addr, "{"); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("got %d for another client, want 400", resp.StatusCode)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(log.stored()); n != 0 {
			t.Errorf("got %d records, want none", n)
		}
	})
}

// blockingLog says when an append begins and lets it end when told to.
func blockingLog() (log *fakeLog, begun chan struct{}, release chan struct{}) {
	begun, release = make(chan struct{}, 100), make(chan struct{})
	log = &fakeLog{before: func(ctx context.Context, _ []ingest.Record) error {
		begun <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	return log, begun, release
}

// TestLeaves: a client that is gone before its answer, as a page that is closed, has its event stored all the same.
func TestLeaves(t *testing.T) {
	t.Parallel()
	log, begun, release := blockingLog()
	s := newServer(t, log, Options{})
	requests := make(chan context.Context, 1)
	s.routes.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			requests <- c.Request().Context()
			return next(c)
		}
	})
	addr, stop := start(t, s)
	conn := dial(t, addr, fmt.Sprintf(head, len(event), event))
	<-begun
	conn.Close()
	<-(<-requests).Done() // the server saw it
	close(release)
	if err := stop(); err != nil || len(log.stored()) != 1 {
		t.Errorf("got %v and %d records, want nil and 1", err, len(log.stored()))
	}
}

// TestDrain: when its ctx ends, Run takes no more connections and is not ready, but the request that it has is finished with its 200.
func TestDrain(t *testing.T) {
	t.Parallel()
	log, begun, release := blockingLog()
	s := newServer(t, log, Options{})
	addr, stop := start(t, s)
	conn := dial(t, addr, fmt.Sprintf(head, len(event), event))
	<-begun
	result := make(chan error, 1)
	go func() { result <- stop() }() // ends when Run does
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break // the listener is closed
		}
		c.Close()
	}
	if err := s.Ready(); err == nil {
		t.Error("ready while draining, want not")
	}
	select {
	case err := <-result:
		t.Fatalf("Run returned %v before the request ended", err)
	default:
	}
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("got %+v, %v, want 200 and Connection: close", resp, err)
	}
	if err := <-result; err != nil || len(log.stored()) != 1 {
		t.Errorf("got %v and %d records, want nil and 1", err, len(log.stored()))
	}
}

// TestDrainDeadline: a request that does not end in time is cut off; Run still waits until its handler has returned.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	log, begun, _ := blockingLog()
	s := newServer(t, log, Options{Drain: time.Millisecond})
	addr, stop := start(t, s)
	conn := dial(t, addr, fmt.Sprintf(head, len(event), event))
	<-begun
	if err := stop(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if n := s.metrics.inflight.Load(); n != 0 || len(log.stored()) != 0 {
		t.Errorf("got %d requests in flight and %d records after Run, want none", n, len(log.stored()))
	}
	if answer, _ := io.ReadAll(conn); strings.Contains(string(answer), " 200 ") {
		t.Errorf("got %q, want no success", answer)
	}
}

func TestRunWithoutListener(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := newServer(t, nullLog{}, Options{}).Run(context.Background(), ln); err == nil {
		t.Error("got nil, want an error")
	}
}

// TestInflight: beyond MaxInflight requests are refused at once; when the others are answered, there is room again.
func TestInflight(t *testing.T) {
	t.Parallel()
	log, begun, release := blockingLog()
	s := newServer(t, log, Options{Limits: Limits{MaxEvent: 100, MaxRequest: 100, MaxInflight: 150}})
	addr, _ := start(t, s)
	first := make(chan int, 1)
	go func() { // ends with its answer
		first <- send(s, http.MethodPost, "/v1/track", event+strings.Repeat(" ", 100-len(event)), devKey...).Code
	}()
	<-begun
	resp := post(t, addr, event)
	if got := resp.Header.Get("Retry-After"); resp.StatusCode != http.StatusServiceUnavailable || got != "1" {
		t.Errorf("got %d, Retry-After %q, want 503 and 1", resp.StatusCode, got)
	}
	close(release)
	if got := <-first; got != http.StatusOK {
		t.Errorf("got %d for the first, want 200", got)
	}
	if resp := post(t, addr, event); resp.StatusCode != http.StatusOK {
		t.Errorf("got %d afterwards, want 200", resp.StatusCode)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	var fail error
	log := &pressedLog{}
	log.before = func(context.Context, []ingest.Record) error { return fail }
	s := newServer(t, log, Options{})
	for _, step := range []struct {
		name   string
		append error // what the append before the question returned
		wait   time.Duration
		code   int
		reason string
	}{
		{"at first", nil, 0, 200, ""},
		{"full", ingest.ErrFull, 0, 503, "log_full"},
		{"room again", nil, 0, 200, ""},
		{"full by its own word", nil, time.Second, 503, "log_full"},
		{"unavailable", ingest.ErrUnavailable, 0, 503, "log_unavailable"},
		{"back", nil, 0, 200, ""},
		{"too large says nothing of the log", ingest.ErrTooLarge, 0, 200, ""},
		{"a client that left says nothing of the log", context.Canceled, 0, 200, ""},
		{"failed", ingest.ErrFailed, 0, 503, "log_failed"},
		{"failed for good", nil, 0, 503, "log_failed"},
	} {
		fail, log.wait = step.append, step.wait
		send(s, http.MethodPost, "/v1/track", event, devKey...)
		w := send(s, http.MethodGet, "/readyz?verbose", "")
		var got struct {
			Ready    bool
			Reason   string
			LogBytes int64 `json:"log_bytes"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != step.code || got.Reason != step.reason || got.Ready != (step.code == 200) || got.LogBytes != 7 {
			t.Errorf("%s: got %d %s, %v, want %d %q", step.name, w.Code, w.Body, err, step.code, step.reason)
		}
		if got := send(s, http.MethodGet, "/readyz", "").Code; got != step.code {
			t.Errorf("%s: got %d without verbose, want %d", step.name, got, step.code)
		}
	}
	if got := send(s, http.MethodGet, "/livez", "").Code; got != http.StatusOK {
		t.Errorf("livez: got %d, want 200", got)
	}
}

// TestReadyAgain: one failed append keeps the gateway unready for a while only, because without traffic no append could make it ready again.
func TestReadyAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &fakeLog{before: func(context.Context, []ingest.Record) error { return ingest.ErrUnavailable }}
		s := newServer(t, log, Options{})
		send(s, http.MethodPost, "/v1/track", event, devKey...)
		<-time.After(unreadyFor - time.Millisecond) // by the clock of the bubble
		if err := s.Ready(); !errors.Is(err, ingest.ErrUnavailable) {
			t.Errorf("got %v just before, want %v", err, ingest.ErrUnavailable)
		}
		<-time.After(time.Millisecond)
		if err := s.Ready(); err != nil {
			t.Errorf("got %v, want ready", err)
		}
	})
}

// TestDrainDelay: first the server says that it is not ready, on new connections too, and ends each connection with its next answer; it still
// takes what comes. After the delay it accepts no more.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{DrainDelay: time.Second})
	addr, stop := start(t, s)
	kept := dial(t, addr, fmt.Sprintf(head, len(event), event))
	in := bufio.NewReader(kept)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Close {
		t.Fatalf("got %v, %v, want 200 and to go on", resp, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	begun, result := time.Now(), make(chan error, 1)
	go func() { result <- stop() }() // ends when Run does
	for s.Ready() == nil {
	}
	if _, err := in.ReadByte(); err != io.EOF { // it was idle
		t.Errorf("got %v, want the idle connection to be closed", err)
	}
	probe := dial(t, addr, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(probe), nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
		t.Errorf("got %v, %v, want 503 and Connection: close", resp, err)
	}
	late := dial(t, addr, fmt.Sprintf(head, len(event), event))
	if resp, err := http.ReadResponse(bufio.NewReader(late), nil); err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("got %v, %v, want 200 and Connection: close", resp, err)
	}
	if err := <-result; err != nil || time.Since(begun) < time.Second || len(log.stored()) != 2 {
		t.Errorf("got %v after %v and %d records, want nil after the delay and 2", err, time.Since(begun), len(log.stored()))
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it still accepts")
	}
}
