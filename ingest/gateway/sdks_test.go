package gateway

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

var update = flag.Bool("update", false, "write golden files anew")

var (
	receivedTime  = regexp.MustCompile(`"receivedAt":"[^"]*"`)
	correctedTime = regexp.MustCompile(`"type":"(\w+)","timestamp":"[^"]*"`)
)

// TestSDKs serves what real SDKs send, and compares answer and rows with golden files; testdata/sdks/README.md says where the requests are from.
func TestSDKs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/sdks/*.http")
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d requests, %v, want at least 10", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			log := &fakeLog{}
			s, err := New(log, []ingest.Source{{Name: "web", Kind: ingest.KindClickstream, WriteKeys: []string{"dev"}, Origins: []string{"http://127.0.0.1:28091"}}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := exchanged(t, s, raw)
			for _, r := range log.stored() {
				row := receivedTime.ReplaceAll(r.Payload, []byte(`"receivedAt":"<received>"`))
				row = correctedTime.ReplaceAll(row, []byte(`"type":"$1","timestamp":"<timestamp>"`))
				got += fmt.Sprintf("\n%s type=%q routing=%q\n%s\n", r.Lane, r.Type, r.RoutingKey, row)
			}
			golden := strings.TrimSuffix(file, ".http") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("answer or rows differ (-want +got):\n%s", diff)
			}
		})
	}
}

// exchanged serves a request as it stands on the wire and returns its answer as text.
func exchanged(t *testing.T, s *Server, raw []byte) string {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", w.Code)
	for _, name := range slices.Sorted(maps.Keys(w.Header())) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(w.Header()[name], " | "))
	}
	return b.String() + "\n" + w.Body.String() + "\n"
}
