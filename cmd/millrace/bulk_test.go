package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// bulkConfig has a source for bulk uploads and one for webhooks, and batches that are cut at once.
const bulkConfig = `
batch: {max_age: 200ms}
sources:
  load: {kind: events, tokens: [t0ken]}
  web: {kind: clickstream, write_keys: [dev]}
`

func bulkServer(t *testing.T) *server {
	t.Helper()
	config := filepath.Join(t.TempDir(), "millrace.yaml")
	if err := os.WriteFile(config, []byte(bulkConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "serve", "--config", config, "--log-level", "error")
	s.start()
	return s
}

// request posts a body with headers and returns status and answer.
func (s *server) request(path string, body []byte, headers ...string) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+s.ingest+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func gzipOf(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBulkUpload sends a file of 20,000 lines three times with one key, with kill -9 between: each line is one row, under the id of its place,
// and every answer was the same.
func TestBulkUpload(t *testing.T) {
	t.Parallel()
	s := bulkServer(t)
	const lines = 20_000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, `{"n":%d,"pad":"%x"}`+"\n", i, i*7919)
	}
	body := gzipOf(t, text.String())
	var first string
	for try := range 3 {
		status, answer, err := s.request("/bulk/load", body, "Authorization", "Bearer t0ken", "Content-Encoding", "gzip", "Idempotency-Key", "file-1")
		if err != nil || status != http.StatusOK || !strings.Contains(answer, fmt.Sprintf(`"accepted":%d`, lines)) {
			t.Fatalf("try %d: got %d %s, %v; the server said:\n%s", try, status, answer, err, s.stderr)
		}
		if first == "" {
			first = answer
		}
		if answer != first {
			t.Errorf("try %d: got %s, want %s as at first", try, answer, first)
		}
		s.kill()
		s.start()
	}
	s.drained()
	s.stop()
	seen := map[string]int{}
	err := eachRow(filepath.Join(s.dir, "objects", "events"), func(line []byte) error {
		var row struct{ ID, Body string }
		if err := json.Unmarshal(line, &row); err != nil {
			return err
		}
		seen[row.ID+" "+row.Body]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		if n := seen[fmt.Sprintf(`file-1#%d {"n":%d,"pad":"%x"}`, i+1, i, i*7919)]; n != 1 {
			t.Fatalf("line %d is in %d rows", i+1, n)
		}
	}
	if len(seen) != lines {
		t.Errorf("got %d rows, want %d", len(seen), lines)
	}
}

// TestHostileBodies is row 22 of docs/faults.md: bombs, deep nesting and bodies with 95,000 names, 20 at a time. Each gets a 400,
// or is set aside with the reason; memory stays bounded and the server serves others.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	s := bulkServer(t)
	var names strings.Builder
	for i := range 95_000 {
		fmt.Fprintf(&names, `"%x":1,`, i)
	}
	batch := func(text string) []byte { return []byte(`{"batch":[` + text + `]}`) }
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	bearer := []string{"Authorization", "Bearer t0ken"}
	zipped := []string{"Content-Encoding", "gzip"}
	for _, tt := range []struct {
		name, path string
		body       []byte
		headers    []string
		want       int
	}{
		{"bomb of spaces", "/v1/batch", gzipOf(t, strings.Repeat(" ", 64<<20)), zipped, 400},
		{"bomb of a bomb", "/v1/batch", gzipOf(t, string(gzipOf(t, strings.Repeat(" ", 64<<20)))), zipped, 400},
		{"bulk bomb", "/bulk/load", gzipOf(t, strings.Repeat(" ", 64<<20)), append(zipped, bearer...), 400},
		{"bulk line without end", "/bulk/load", gzipOf(t, `{"a":"`+strings.Repeat("y", 64<<20)), append(zipped, bearer...), 400},
		{"deep", "/v1/track", []byte(deep), nil, 200},
		{"deep in a batch", "/v1/batch", batch(deep), nil, 200},
		{"deep, and no end", "/v1/batch", batch(strings.Repeat("[", 1<<20)), nil, 400},
		{"names", "/v1/track", []byte(`{"userId":"u","event":"e","properties":{` + names.String() + `"z":1}}`), nil, 200},
		{"a million events", "/v1/batch", batch(strings.Repeat("1,", 1_000_000) + "1"), nil, 400},
	} {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				status, answer, err := s.request(tt.path, tt.body, append([]string{"X-Write-Key", "dev"}, tt.headers...)...)
				if err != nil || status != tt.want && status != http.StatusServiceUnavailable {
					t.Errorf("%s: got %d %.200s, %v, want %d", tt.name, status, answer, err, tt.want)
				}
			})
		}
		wg.Wait()
		if status, _, err := s.track("other-" + tt.name); err != nil || status != http.StatusOK {
			t.Errorf("%s: another client got %d, %v", tt.name, status, err)
		}
	}
	rss := s.usage().rss
	t.Logf("measured: %d MiB of memory after hostile bodies", rss>>20)
	if rss > 600<<20 {
		t.Errorf("%d MiB of memory", rss>>20)
	}
}

// eachRow calls yield for every line of the objects below a directory.
func eachRow(dir string, yield func(line []byte) error) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".ndjson.gz") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		z, err := gzip.NewReader(f)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		lines := bufio.NewScanner(z)
		for lines.Scan() {
			if err := yield(lines.Bytes()); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return lines.Err()
	})
}
