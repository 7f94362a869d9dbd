package gateway

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"millrace/ingest"
)

// FuzzBulk: whatever comes, in whatever coding and with whatever key, the answer is one of the table's; all that it says was taken was stored,
// as valid rows of distinct ids that hold the lines as they came; what it does not name was not; and nothing stays charged.
func FuzzBulk(f *testing.F) {
	lines := "{\"id\":1,\"a\":[true]}\n\n{\"id\":\"x\\u0000\",\"id\":\"y\"}\r\n7\n{\"s\":\"\\ud800\"}\nno"
	f.Add([]byte(lines), "", "", false)
	f.Add([]byte(lines), "", "key", true)
	f.Add([]byte(zip(lines)), "gzip", "k\r\nX: y", false)
	f.Add([]byte(zip(lines))[:30], "gzip", `"k"`, false)                                                            // half a gzip
	f.Add([]byte(zip(lines)+"garbage"), "gzip", "", true)                                                           // and more
	f.Add([]byte(zstded(lines)), "zstd", "", true)                                                                  //
	f.Add([]byte(zstded(lines))[:20], "zstd", "", true)                                                             // half a zstd
	f.Add([]byte(zip(strings.Repeat(`{"p":"`+strings.Repeat("x", 1500)+"\"}\n", 1000))), "gzip", "bomb", false)     // a bomb
	f.Add([]byte(zstded(strings.Repeat(" ", 3<<20))), "zstd", "bomb", false)                                        // another
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00{}"), "zstd", "", false)                                      // a frame with a window of 3.75 TiB
	f.Add([]byte(strings.Repeat("[", 70)+strings.Repeat("]", 70)+"\n"+strings.Repeat("{\"a\":", 65)), "", "", true) // deep
	f.Add([]byte(strings.Repeat("x", 3000)+"\n{}"), "identity", "", false)                                          // a long line
	f.Fuzz(func(t *testing.T, body []byte, coding, key string, chunked bool) {
		log := &fakeLog{}
		s := newServer(t, log, Options{Limits: Limits{MaxEvent: 2000, MaxRequest: 2000, MaxBulk: 2 << 20, MaxRatio: 20}})
		r := httptest.NewRequest(http.MethodPost, "/bulk/load", bytes.NewReader(body))
		r.Header["Authorization"] = []string{"Bearer t0ken"}
		r.Header["Content-Encoding"] = []string{coding}
		if key != "" {
			r.Header["Idempotency-Key"] = []string{key}
		}
		if chunked {
			r.ContentLength = -1
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		a := result(t, w)
		if w.Code != 200 && w.Code != 400 || (w.Code == 200) != (a.Code == "") || w.Code == 200 && a.Lines != a.DurableLines {
			t.Fatalf("got %d with %+v", w.Code, a)
		}
		recs := log.stored()
		if a.Accepted != len(recs) || len(a.FailedRecords) != min(a.Failed, maxFailures) || a.Accepted+a.Failed > a.Lines || a.DurableLines > a.Lines {
			t.Fatalf("got %d records, and %+v", len(recs), a)
		}
		if held := s.held.Load(); held != 0 {
			t.Fatalf("got %d bytes charged at the end", held)
		}
		plain, known := unpacked(body, coding)
		checkRows(t, recs, key, strings.Split(plain, "\n"))
		if known && w.Code == 200 && a.Lines != countLines(plain) {
			t.Fatalf("got %d lines, want %d", a.Lines, countLines(plain))
		}
	})
}

// checkRows: each record holds one of the lines, in order.
func checkRows(t *testing.T, recs []ingest.Record, key string, lines []string) {
	if n := len(key); n > 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	at := 0
	for i, line := range func() (l []string) { l, _ = bodies(t, recs); return }() {
		if !json.Valid([]byte(line)) || !utf8.ValidString(line) || line[0] != '{' {
			t.Fatalf("got %q taken", line)
		}
		if err := recs[i].Validate(); err != nil {
			t.Fatal(err)
		}
		for at < len(lines) && strings.Trim(lines[at], " \t\r") != line {
			at++
		}
		if at == len(lines) {
			t.Fatalf("got line %q, which nobody sent in this place", line)
		}
		if key != "" && recs[i].Dedupe != ingest.DedupeID("load", key+"#"+strconv.Itoa(at+1)) {
			t.Fatalf("line %d has not the id of its place", at+1)
		}
		at++
	}
}

func countLines(text string) int {
	n := strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") && text != "" {
		n++
	}
	return n
}

// unpacked decodes with the standard library as far as it can, at most a little more than the limit.
func unpacked(body []byte, coding string) (text string, whole bool) {
	var from io.Reader = bytes.NewReader(body)
	switch coding {
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			return "", false
		}
		from = z
	case "zstd":
		z, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return "", false
		}
		defer z.Close()
		from = z
	}
	plain, err := io.ReadAll(io.LimitReader(from, 3<<20))
	return string(plain), err == nil
}
