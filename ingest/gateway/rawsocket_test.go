package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

// What is written to a socket: heads without the line of a body's length.
const (
	line1 = "POST /v1/track HTTP/1.1\r\n"
	host  = "Host: x\r\nX-Write-Key: dev\r\n"
)

// lengthOf makes the line of a Content-Length.
func lengthOf(body string) string { return "Content-Length: " + strconv.Itoa(len(body)) + "\r\n" }

// chunked codes a body.
func chunked(body string) string {
	return strings.ToUpper(strconv.FormatInt(int64(len(body)), 16)) + ";ext=1\r\n" + body + "\r\n0\r\n\r\n"
}

// inner is a request that somebody smuggles: it must never be served by itself, after its carrier.
const inner = "POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Write-Key: dev\r\nContent-Length: 2\r\n\r\n{}"

// rawRequests are what may come over a socket, and what is answered.
var rawRequests = []struct {
	name, text string
	want       string // statuses of all answers, in order
	records    int
}{
	// What is fine.
	{"a request", line1 + host + lengthOf(event) + "\r\n" + event, "200", 1},
	{"no body", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "200", 0},
	{"chunked", line1 + host + "Transfer-Encoding: chunked\r\n\r\n" + chunked(event), "200", 1},
	{"chunked, with a trailer", line1 + host + "Transfer-Encoding: Chunked\r\n\r\n3e\r\n" + event + "\r\n0\r\nX-Sum: 1\r\n\r\n", "200", 1},
	{"pipelining", strings.Repeat(line1+host+lengthOf(event)+"\r\n"+event, 3), "200 200 200", 3},
	{"pipelining, chunked and not", line1 + host + "Transfer-Encoding: chunked\r\n\r\n" + chunked(event) + line1 + host + lengthOf(event) + "\r\n" + event, "200 200", 2},
	{"empty lines before a request", line1 + host + lengthOf(event) + "\r\n" + event + "\r\n" + line1 + host + lengthOf(event) + "\r\n" + event, "200 200", 2},
	{"HTTP/1.0", "POST /v1/track HTTP/1.0\r\nX-Write-Key: dev\r\n" + lengthOf(event) + "\r\n" + event, "200", 1},
	{"HTTP/1.0 without length has no body", "POST /v1/track HTTP/1.0\r\nX-Write-Key: dev\r\n\r\n" + event, "400", 0},
	{"absolute form, of any host", "POST http://elsewhere.example/v1/track HTTP/1.1\r\n" + host + lengthOf(event) + "\r\n" + event, "200", 1},
	{"Expect", line1 + host + "Expect: 100-continue\r\n" + lengthOf(event) + "\r\n" + event, "100 200", 1},
	{"Expect, and too long", line1 + host + "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", "400", 0},
	// Where a request ends.
	{"Content-Length and Transfer-Encoding", line1 + host + lengthOf(event) + "Transfer-Encoding: chunked\r\n\r\n" + chunked(event), "400", 0},
	{"Transfer-Encoding and Content-Length", line1 + host + "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n" + inner, "400", 0},
	{"two Content-Lengths", line1 + host + "Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + inner, "400", 0},
	{"the same Content-Length twice", line1 + host + lengthOf(event) + lengthOf(event) + "\r\n" + event, "400", 0},
	{"a list of lengths", line1 + host + "Content-Length: 62, 62\r\n\r\n" + event, "400", 0},
	{"a length with a sign", line1 + host + "Content-Length: +62\r\n\r\n" + event, "400", 0},
	{"a negative length", line1 + host + "Content-Length: -1\r\n\r\n" + event, "400", 0},
	{"a length in hex", line1 + host + "Content-Length: 0x3e\r\n\r\n" + event, "400", 0},
	{"a length without digits", line1 + host + "Content-Length:\r\n\r\n" + inner, "400", 0},
	{"a length that overflows", line1 + host + "Content-Length: 18446744073709551616\r\n\r\n" + inner, "400", 0},
	{"a name with a space", line1 + host + "Content-Length : 62\r\n\r\n" + event, "400", 0},
	{"a coding that is not chunked", line1 + host + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(event), "400", 0},
	{"two codings", line1 + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked(event), "400", 0},
	{"a hidden coding", line1 + host + "Transfer-Encoding: \vchunked\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"a coding in HTTP/1.0", "POST /v1/track HTTP/1.0\r\nX-Write-Key: dev\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(event), "400", 0},
	{"a folded coding", line1 + host + "Transfer-Encoding:\r\n chunked\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	// Lines.
	{"bare LF after the request line", "POST /v1/track HTTP/1.1\n" + host + lengthOf(event) + "\r\n" + event, "400", 0},
	{"bare LF after a header", line1 + "Host: x\nX-Write-Key: dev\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"bare LF ends the headers", line1 + host + lengthOf(event) + "\n" + event, "400", 0},
	{"bare LF hides a header", line1 + host + "X: a\nContent-Length: 0\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"bare LF before a request", "\n" + line1 + host + lengthOf(event) + "\r\n" + event, "400", 0},
	{"bare CR in a header", line1 + host + "X: a\rContent-Length: 0\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"obs-fold", line1 + host + "X: a\r\n b\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"a fold as the first header", line1 + " Host: x\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"NUL in a value", line1 + host + "X: a\x00b\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"NUL in a name", line1 + host + "X\x00: a\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"no colon", line1 + host + "X\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"no name", line1 + host + ": a\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"CRLF in the target", "POST /v1/track%0d%0aX:%20a HTTP/1.1\r\n" + host + lengthOf(event) + "\r\n" + event, "404", 0},
	// Chunks.
	{"a chunk larger than a number", line1 + host + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + inner, "400", 0},
	{"a chunk of 2^63 bytes", line1 + host + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n" + inner, "400", 0},
	{"a chunk larger than the limit", line1 + host + "Transfer-Encoding: chunked\r\n\r\n40000000\r\n" + strings.Repeat(" ", 1<<20+1), "400", 0},
	{"a chunk without size", line1 + host + "Transfer-Encoding: chunked\r\n\r\n\r\n" + inner, "400", 0},
	{"a chunk's size with a sign", line1 + host + "Transfer-Encoding: chunked\r\n\r\n-3e\r\n" + event + "\r\n0\r\n\r\n", "400", 0},
	{"a chunk's size with 0x", line1 + host + "Transfer-Encoding: chunked\r\n\r\n0x3e\r\n" + event + "\r\n0\r\n\r\n", "400", 0},
	{"bare LF after a chunk's size", line1 + host + "Transfer-Encoding: chunked\r\n\r\n3e\n" + event + "\r\n0\r\n\r\n", "400", 0},
	{"a chunk longer than its size", line1 + host + "Transfer-Encoding: chunked\r\n\r\n3d\r\n" + event + "\r\n0\r\n\r\n", "400", 0},
	{"bare LF after the last chunk", line1 + host + "Transfer-Encoding: chunked\r\n\r\n" + "3e\r\n" + event + "\r\n0\n\n" + inner, "400", 0},
	// Methods and versions.
	{"TRACE", "TRACE /hooks/demo HTTP/1.1\r\nHost: x\r\n\r\n", "405", 0},
	{"CONNECT", "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", "405", 0},
	{"a method that nobody knows", "BREW /v1/track HTTP/1.1\r\nHost: x\r\n\r\n", "405", 0},
	{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "405", 0},
	{"HTTP/2 by upgrade is not taken", "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200", 0},
	{"HTTP/3.0", "GET /livez HTTP/3.0\r\nHost: x\r\n\r\n", "505", 0},
	{"HTTP/0.9", "GET /livez\r\n", "400", 0},
	{"no version", "POST /v1/track HTTP/1\r\n" + host + "\r\n", "400", 0},
	{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400", 0},
	{"no Host", line1 + "X-Write-Key: dev\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"two Hosts", line1 + "Host: y\r\n" + host + lengthOf(event) + "\r\n" + event, "400", 0},
	{"a Host that is none", line1 + "Host: a b\r\nX-Write-Key: dev\r\n" + lengthOf(event) + "\r\n" + event, "400", 0},
	{"too many header bytes", line1 + host + "X: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", "431", 0},
	{"a request line of 80 KB", "GET /" + strings.Repeat("a", 80<<10) + " HTTP/1.1\r\n" + host + "\r\n", "431", 0},
}

// TestRawSocket writes bytes that no client library would, and looks at all that comes back until the server closes. Every row is written once
// as a whole and once byte by byte: what a server thinks of a request must not depend on packets.
func TestRawSocket(t *testing.T) {
	t.Parallel()
	for _, tt := range rawRequests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, bytewise := range []bool{false, true} {
				if bytewise && len(tt.text) > 4<<10 {
					continue
				}
				got, records, err := onFreshServer(t, tt.text, bytewise)
				for range 10 { // a server that closes on what it has not read resets the connection, which can overtake its answer
					if got != "" || !errors.Is(err, syscall.ECONNRESET) || records > 0 {
						break
					}
					got, records, err = onFreshServer(t, tt.text, bytewise)
				}
				if got != tt.want {
					t.Errorf("byte by byte %v: got %s and %v, want %s", bytewise, got, err, tt.want)
				}
				if records != tt.records {
					t.Errorf("byte by byte %v: got %d records, want %d", bytewise, records, tt.records)
				}
			}
		})
	}
}

// onFreshServer returns the statuses that a new server answers to text, how many records it stored, and how its connection ended.
func onFreshServer(t *testing.T, text string, bytewise bool) (statuses string, records int, end error) {
	t.Helper()
	log := &fakeLog{}
	addr, stop := start(t, newServer(t, log, Options{}))
	answers, end := talk(t, addr, text, bytewise)
	if err := stop(); err != nil {
		t.Error(err)
	}
	return strings.Join(answers, " "), len(log.stored()), end
}

// talk writes text and returns the statuses of all that is answered until the server closes, and how the connection ended.
func talk(t *testing.T, addr, text string, bytewise bool) (statuses []string, end error) {
	t.Helper()
	conn := dial(t, addr, "")
	go func() { // ends when all is written, or the server closes
		for i := range len(text) {
			if !bytewise {
				_, _ = io.WriteString(conn, text)
				break
			}
			_, _ = io.WriteString(conn, text[i:i+1])
		}
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, err
		}
		statuses = append(statuses, strconv.Itoa(resp.StatusCode))
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

// TestFramingIsRead: what passes is what was sent, however it comes, and nothing of a request that is refused is read as another.
func TestFramingIsRead(t *testing.T) {
	t.Parallel()
	text := strings.Repeat(line1+host+lengthOf(event)+"\r\n"+event+line1+host+"Transfer-Encoding: chunked\r\n\r\n"+chunked(event), 3)
	for name, from := range map[string]io.Reader{
		"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text)),
		"with the end": iotest.DataErrReader(strings.NewReader(text)),
	} {
		if got, err := io.ReadAll(&strict{from: from}); err != nil || string(got) != text {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	s := &strict{from: strings.NewReader(line1 + host + "A: b\n" + inner)}
	got, err := io.ReadAll(s)
	if want := line1 + host + refusal; string(got) != want || !errors.Is(err, errFraming) {
		t.Errorf("got %q, %v, want %q and the error", got, err, want)
	}
}

// FuzzFraming: whatever net/http reads from a connection that is followed, in whatever pieces, it reads the same requests with the same bodies as
// from the bytes that passed, and never one that begins within a body of the other.
func FuzzFraming(f *testing.F) {
	f.Add([]byte(line1+host+lengthOf(event)+"\r\n"+event), byte(3))
	f.Add([]byte(line1+host+"Transfer-Encoding: chunked\r\n\r\n"+chunked(event)+inner), byte(7))
	f.Add([]byte(line1+host+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+inner), byte(1))
	f.Add([]byte(line1+host+"X: a\r\n b\nContent-Length: 1\r\n\r\n"), byte(2))
	f.Add([]byte("\r\n\r\nPOST / HTTP/1.0\r\n\r\n"+inner), byte(200))
	f.Fuzz(func(t *testing.T, text []byte, piece byte) {
		s := &strict{from: bytes.NewReader(text)}
		in := bufio.NewReader(pieces{s, int(piece) + 1})
		for read := 0; ; read++ {
			req, err := http.ReadRequest(in)
			if err != nil || s.refused && read > 1000 {
				return
			}
			if n := len(req.Header["Content-Length"]); n > 1 || n == 1 && len(req.TransferEncoding) > 0 {
				t.Fatalf("got a request with %d lengths and %v", n, req.TransferEncoding)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			if req.ContentLength >= 0 && int64(len(body)) != req.ContentLength {
				t.Fatalf("got a body of %d bytes, want %d", len(body), req.ContentLength)
			}
			// Both agree where the request ended: what was looked at beyond it is what net/http has not taken yet.
			if in.Buffered() == 0 && !s.refused && (s.inBody() || s.inHead()) {
				t.Fatalf("net/http is behind request %d, the framing in state %d with %d left of %q", read, s.state, s.left, text)
			}
		}
	})
}

// pieces reads at most n bytes at a time.
type pieces struct {
	from io.Reader
	n    int
}

func (p pieces) Read(b []byte) (int, error) { return p.from.Read(b[:min(len(b), p.n)]) }

// TestSlowSenders is row 19 of docs/faults.md: 500 clients that dribble their headers or their bodies are all cut off at their deadlines, and while
// they do, others are served.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{Limits: Limits{HeaderTimeout: 700 * time.Millisecond, BodyTimeout: time.Second, MinBodyRate: 1 << 20}})
	addr, _ := start(t, s)
	const slow = 500
	ended := make(chan string, slow)
	for i := range slow {
		go func() { // ends when the server closes, which all are waited for below
			text := line1 + host
			if i%2 == 0 {
				text += "Content-Length: 1000000\r\n\r\n{"
			}
			conn := dial(t, addr, text)
			done := make(chan struct{})
			defer close(done)
			go func() { // ends with the connection
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						_, _ = io.WriteString(conn, "x")
					case <-done:
						return
					}
				}
			}()
			answer, err := io.ReadAll(conn)
			if err != nil && len(answer) == 0 {
				answer = []byte("reset")
			}
			ended <- string(answer)
		}()
	}
	for range 20 {
		if resp := post(t, addr, event); resp.StatusCode != http.StatusOK {
			t.Errorf("got %d for another client, want 200", resp.StatusCode)
		}
	}
	for range slow {
		if answer := <-ended; strings.Contains(answer, " 200 ") {
			t.Errorf("got %q for a slow client, want no success", answer)
		}
	}
	if n := len(log.stored()); n != 20 {
		t.Errorf("got %d records, want those of the others, 20", n)
	}
}
