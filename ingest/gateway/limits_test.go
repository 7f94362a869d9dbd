package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest"
)

// rig is a server with limits, a log and metrics.
type rig struct {
	t    *testing.T
	addr string
	log  *fakeLog
	reg  *prometheus.Registry
}

func rigOf(t *testing.T, l Limits) *rig {
	r := &rig{t: t, log: &fakeLog{}, reg: prometheus.NewRegistry()}
	r.addr, _ = start(t, newServer(t, r.log, Options{Limits: l, Metrics: r.reg}))
	return r
}

// ask writes text and returns what is answered: status, code of the body and Retry-After, as far as they are there; "closed" without any.
func (r *rig) ask(text string) string {
	r.t.Helper()
	conn := dial(r.t, r.addr, text)
	defer func() { _ = conn.Close() }()
	return answerOn(conn)
}

func answerOn(conn io.Reader) string {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "closed"
	}
	var body struct{ Code string }
	_ = json.NewDecoder(resp.Body).Decode(&body) // net/http's own answers are no JSON
	return strings.Join(strings.Fields(fmt.Sprint(resp.StatusCode, " ", body.Code, " ", resp.Header.Get("Retry-After"))), " ")
}

// want checks an answer, and that it was counted by its code if it is a refusal.
func (r *rig) want(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("got %q, want %q", got, want)
	}
	if part := strings.Fields(want); len(part) > 1 && gather(r.t, r.reg)["refusals_total "+part[1]] == 0 {
		r.t.Errorf("%q is not counted", want)
	}
}

// to makes a request; headers are whole lines, without their ends.
func to(path, body string, headers ...string) string {
	text := "POST " + path + " HTTP/1.1\r\nHost: x\r\nX-Write-Key: dev\r\nAuthorization: Bearer t0ken\r\n" + lengthOf(body)
	for _, h := range headers {
		text += h + "\r\n"
	}
	return text + "\r\n" + body
}

func padded(n int) string { return event + strings.Repeat(" ", n-len(event)) }

const gzipped = "Content-Encoding: gzip"

// reaches has, for each field of Limits, a test that stays within the limit, goes beyond it, and looks at the answer.
var reaches = map[string]func(t *testing.T){
	"MaxEvent": func(t *testing.T) {
		r := rigOf(t, Limits{MaxEvent: 100})
		for _, path := range []string{"/v1/track", "/hooks/demo"} {
			r.want(r.ask(to(path, padded(100))), "200")
			r.want(r.ask(to(path, padded(101))), "400 too_large")
		}
		r.want(r.ask(to("/bulk/load", strings.Repeat(padded(99)+"\n", 3))), "200")
		r.want(r.ask(to("/bulk/load", `{"a":"`+strings.Repeat("x", 100)+"\"}\n")), "400 bad_lines")
	},
	"MaxRequest": func(t *testing.T) {
		r := rigOf(t, Limits{MaxEvent: 100, MaxRequest: 150})
		r.want(r.ask(to("/v1/batch", `{"batch":[`+padded(138)+`]}`)), "200")
		r.want(r.ask(to("/v1/batch", `{"batch":[`+padded(139)+`]}`)), "400 too_large")
		r.want(r.ask(to("/v1/batch", zip(`{"batch":[`+padded(139)+`]}`), gzipped)), "400 too_large")
	},
	"MaxCompressed": func(t *testing.T) {
		body := zip(event)
		r := rigOf(t, Limits{MaxCompressed: len(body)})
		r.want(r.ask(to("/v1/track", body, gzipped)), "200")
		r.want(r.ask(to("/v1/track", zip(strings.Replace(event, "Paid", "Paid and more", 1)), gzipped)), "400 too_large")
		chunks := "POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Write-Key: dev\r\n" + gzipped + "\r\nTransfer-Encoding: chunked\r\n\r\n"
		r.want(r.ask(chunks+chunked(body)), "200")
		r.want(r.ask(chunks+chunked(zip(event[:9])+zip(event[9:]))), "400 too_large")
	},
	"MaxRatio": func(t *testing.T) {
		r := rigOf(t, Limits{MaxRatio: 10})
		within, beyond := `{"batch":[`+padded(fair-12)+`]}`, `{"batch":[`+padded(fair)+`]}`
		r.want(r.ask(to("/v1/batch", zip(within), gzipped)), "200")
		r.want(r.ask(to("/v1/batch", zip(beyond), gzipped)), "400 ratio")
		r.want(r.ask(to("/v1/batch", beyond)), "200")
		r.want(r.ask(to("/bulk/load", zip(strings.Repeat(event+"\n", 40_000)), gzipped)), "400 ratio")
		r.want(r.ask(to("/bulk/load", zstded(strings.Repeat(event+"\n", 40_000)), "Content-Encoding: zstd")), "400 ratio")
	},
	"MaxBulk": func(t *testing.T) {
		r := rigOf(t, Limits{MaxEvent: 100, MaxBulk: 200})
		r.want(r.ask(to("/bulk/load", strings.Repeat("{}\n", 66))), "200")
		r.want(r.ask(to("/bulk/load", strings.Repeat("{}\n", 67))), "400 too_large")
		r.want(r.ask(to("/bulk/load", zip(strings.Repeat("{}\n", 67)), gzipped)), "400 too_large")
	},
	"MaxHeaderBytes": func(t *testing.T) {
		r := rigOf(t, Limits{MaxHeaderBytes: 8 << 10})
		r.want(r.ask(to("/v1/track", event, "X: "+strings.Repeat("x", 7<<10))), "200")
		r.want(r.ask(to("/v1/track", event, "X: "+strings.Repeat("x", 8<<10))), "431")
	},
	"MaxHeaders": func(t *testing.T) {
		r := rigOf(t, Limits{MaxHeaders: 10})
		r.want(r.ask(to("/v1/track", event, strings.Fields(strings.Repeat("X:1 ", 7))...)), "200") // Host does not count
		r.want(r.ask(to("/v1/track", event, strings.Fields(strings.Repeat("X:1 ", 8))...)), "400 headers")
	},
	"HeaderTimeout": func(t *testing.T) {
		r := rigOf(t, Limits{HeaderTimeout: 300 * time.Millisecond})
		r.want(r.ask(line1+"Host: x\r\n"), "closed")
		if gather(t, r.reg)["refusals_total slow_headers"] != 1 {
			t.Error("slow headers are not counted")
		}
	},
	"BodyTimeout": func(t *testing.T) {
		r := rigOf(t, Limits{BodyTimeout: 300 * time.Millisecond})
		r.want(r.ask(line1+host+"Content-Length: 62\r\n\r\n{"), "503 slow_body 1")
	},
	"MinBodyRate": func(t *testing.T) {
		// 20 KB in more than a second are within 10 KB/s, though beyond BodyTimeout, and below 100 KB/s.
		for perSecond, want := range map[int]string{10_000: "200", 100_000: "503 slow_body 1"} {
			r := rigOf(t, Limits{BodyTimeout: 400 * time.Millisecond, MinBodyRate: perSecond})
			conn := dial(t, r.addr, line1+host+"Content-Length: 20000\r\n\r\n")
			tick := time.NewTicker(100 * time.Millisecond)
			for body := padded(20_000); body != ""; body = body[2000:] {
				if _, err := io.WriteString(conn, body[:2000]); err != nil {
					break // refused already
				}
				<-tick.C // a client is slow
			}
			tick.Stop()
			r.want(answerOn(conn), want)
		}
	},
	"IdleTimeout": func(t *testing.T) {
		r := rigOf(t, Limits{IdleTimeout: 200 * time.Millisecond})
		conn := dial(t, r.addr, to("/v1/track", event))
		in := bufio.NewReader(conn)
		r.want(answerOn(in), "200")
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("got %v, want the connection to be closed", err)
		}
	},
	"MaxConns": func(t *testing.T) {
		r := rigOf(t, Limits{MaxConns: 1})
		first := dial(t, r.addr, to("/v1/track", event))
		in := bufio.NewReader(first)
		if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		r.want(r.ask(to("/v1/track", event)), "503 connections 5")
		_ = first.Close()
		r.until("200")
		var held []io.Closer
		for range 1 + spare {
			held = append(held, dial(t, r.addr, "P"))
		}
		r.until("closed")
		for _, c := range held {
			_ = c.Close()
		}
		r.until("200")
	},
	"MaxConnsPerIP": func(t *testing.T) {
		r := rigOf(t, Limits{MaxConnsPerIP: 1})
		first := dial(t, r.addr, to("/v1/track", event))
		if resp, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		r.want(r.ask(to("/v1/track", event)), "429 connections 5")
		_ = first.Close()
		r.until("200")
	},
	"MaxInflight": func(t *testing.T) {
		// 700 of 800 bytes are everybody's, 400 bulk's, all 800 webhooks'.
		r := rigOf(t, Limits{MaxEvent: 600, MaxRequest: 600, MaxInflight: 800})
		begun, release := make(chan struct{}), make(chan struct{})
		r.log.before = func(_ context.Context, recs []ingest.Record) error {
			if strings.Contains(string(recs[0].Payload), "hold") {
				begun <- struct{}{}
				<-release
			}
			return nil
		}
		holder := dial(t, r.addr, to("/hooks/demo", "hold"+strings.Repeat(" ", 596)))
		<-begun
		r.want(r.ask(to("/v1/track", padded(100))), "200")
		r.want(r.ask(to("/v1/track", padded(101))), "503 busy 1")
		r.want(r.ask(to("/hooks/demo", padded(200))), "200")
		r.want(r.ask(to("/hooks/demo", padded(201))), "503 busy 1")
		r.want(r.ask(to("/bulk/load", "{}")), "503 busy 1")
		close(release)
		r.want(answerOn(holder), "200")
	},
	"SourceRate": func(t *testing.T) {
		r := rigOf(t, Limits{SourceRate: 1})
		batch := func(n int) string { return to("/v1/batch", `{"batch":[`+strings.Repeat(event+",", n-1)+event+`]}`) }
		r.want(r.ask(batch(8)), "200")
		r.want(r.ask(batch(5)), "429 rate 3") // of ten, two are left
		r.want(r.ask(batch(2)), "200")
		r.want(r.ask(to("/v1/track", event)), "429 rate 1")
		r.want(r.ask(to("/hooks/demo", event)), "200") // another source
		if gather(t, r.reg)["rate_limited_total web"] != 2 {
			t.Errorf("got %v, want both refusals counted by source", gather(t, r.reg))
		}
	},
	"TenantRate": func(t *testing.T) {
		r := rigOf(t, Limits{TenantRate: 1})
		r.want(r.ask(to("/v1/batch", `{"batch":[`+strings.Repeat(event+",", 500)+event+`]}`)), "200") // more than a bucket holds empties it
		r.want(r.ask(to("/v1/track", event)), "429 rate 1")
		r.want(r.ask(to("/hooks/demo", event)), "429 rate 1") // of the same tenant
	},
	"OrphanRate": func(t *testing.T) {
		r := rigOf(t, Limits{OrphanRate: 1, MaxEvent: 1000})
		unknown := strings.Replace(to("/v1/track", event), "X-Write-Key: dev", "X-Write-Key: who", 1)
		for range 1000 / len(event) {
			r.want(r.ask(unknown), "200")
		}
		r.want(r.ask(unknown), "400 unknown_key")
	},
}

// TestAddrOf: who shares a network shares the bound of connections.
func TestAddrOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:2": "192.0.2.7", "[2001:db8::1:2:3:4]:3": "2001:db8::", "[fe80::1%eth0]:4": "fe80::",
	} {
		if got := addrOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))).String(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// until asks until it is answered as wanted: only the server knows when a connection has ended.
func (r *rig) until(want string) {
	r.t.Helper()
	got := ""
	for end := time.Now().Add(10 * time.Second); got != want; got = r.ask(to("/v1/track", event)) {
		if time.Now().After(end) {
			r.t.Fatalf("got %q to the last, want %q", got, want)
		}
	}
}

// TestLimits reaches every limit there is; one that nobody reaches is a fault.
func TestLimits(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[Limits]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if reaches[name] == nil {
			t.Errorf("limit %s has no test that reaches it", name)
		}
	}
	for name, reach := range reaches {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, ok := fields.FieldByName(name); !ok {
				t.Fatal("there is no such limit")
			}
			reach(t)
		})
	}
}

// TestLimitsDoc holds docs/limits.md to the code: it has a row for every limit, under the key that it has in the configuration.
func TestLimitsDoc(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`[A-Z]+[a-z]*`)
	for f := range reflect.TypeFor[Limits]().Fields() {
		key := strings.ToLower(strings.Join(words.FindAllString(f.Name, -1), "_"))
		key = strings.Replace(key, "orphan_rate", "unknown_key_rate", 1) // what is called an orphan here
		if !strings.Contains(string(doc), "\n| `"+key+"` |") {
			t.Errorf("docs/limits.md has no row for %s", key)
		}
	}
}

// TestValidateLimits: each limit is checked, and the defaults are good.
func TestValidateLimits(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[Limits]()
	for i := range fields.NumField() {
		l := Limits{}
		reflect.ValueOf(&l).Elem().Field(i).SetInt(-1)
		if err := l.Validate(); (err == nil) != (fields.Field(i).Name == "OrphanRate") {
			t.Errorf("%s of -1: got %v", fields.Field(i).Name, err)
		}
	}
	if err := (Limits{}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestSetLimits: a change counts at once for requests, also on connections that are open, and for connections from the next one on, those of
// before ending when they are idle; limits with faults change nothing.
func TestSetLimits(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{})
	addr, stop := start(t, s)
	r := &rig{t: t, addr: addr, log: log, reg: prometheus.NewRegistry()}
	conn := dial(t, addr, to("/v1/track", padded(200)))
	in := bufio.NewReader(conn)
	next := func() int {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if got := next(); got != 200 {
		t.Fatalf("got %d, want 200", got)
	}
	if err := s.SetLimits(Limits{MaxEvent: 100}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetLimits(Limits{MaxEvent: -1}); err == nil {
		t.Error("got nil for a limit that can not be")
	}
	_, _ = io.WriteString(conn, to("/v1/track", padded(200))) // a fault shows in the answer
	if got := next(); got != 400 {
		t.Errorf("got %d with a lower limit, want 400", got)
	}
	if err := s.SetLimits(Limits{MaxHeaderBytes: 8 << 10}); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the idle connection of before to be closed", err)
	}
	r.want(r.ask(to("/v1/track", event, "X: "+strings.Repeat("x", 9<<10))), "431")
	r.want(r.ask(to("/v1/track", padded(200))), "200")
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestRatePaces: a bulk upload that is too fast is slowed down, not refused: its sender would begin again, and never come to an end.
func TestRatePaces(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := newServer(t, nullLog{}, Options{Limits: Limits{SourceRate: 10_000}, Metrics: reg})
	begun := time.Now()
	w := send(s, http.MethodPost, "/bulk/load", strings.Repeat(`{"pad":"`+strings.Repeat("x", 300)+"\"}\n", 105_000), bearer...)
	if got := result(t, w); w.Code != 200 || got.Accepted != 105_000 {
		t.Fatalf("got %d, %+v, want all lines", w.Code, got)
	}
	if took := time.Since(begun); took < 400*time.Millisecond { // the bucket holds 100,000, the rest takes half a second
		t.Errorf("took %v, want it to be paced", took)
	}
	if n := strconv.Itoa(int(gather(t, reg)["events_total load event"])); n != "105000" {
		t.Errorf("got %s events counted", n)
	}
}

// TestRatePauses: the time for which an upload is slowed down, or its log is slow, does not count against its sender.
func TestRatePauses(t *testing.T) {
	t.Parallel()
	r := rigOf(t, Limits{SourceRate: 1000, BodyTimeout: 1500 * time.Millisecond, MinBodyRate: 1 << 30})
	r.want(r.ask(to("/bulk/load", strings.Repeat(`{"pad":"`+strings.Repeat("x", 300)+"\"}\n", 13_000))), "200")
	if n := len(r.log.stored()); n != 13_000 {
		t.Errorf("got %d records, want 13000", n)
	}
}
