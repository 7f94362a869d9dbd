package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
)

// traced is a line of a trace.
type traced struct {
	Kind   string          `json:"kind"`
	Path   string          `json:"path"`
	Status int             `json:"status"`
	JSON   json.RawMessage `json:"json"`
}

// TestTrace: what a real agent was asked is what we ask, and what it answered is understood.
func TestTrace(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../mesos/testdata/traces/01-basic.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	requests, answers := map[string]traced{}, map[string]traced{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for asked := ""; lines.Scan(); {
		var line traced
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		var call call
		switch {
		case line.Kind == "request" && line.Path == "/api/v1" && json.Unmarshal(line.JSON, &call) == nil:
			asked = call.Type
			requests[asked] = line
		case line.Kind == "response" && asked != "":
			answers[asked] = line
			asked = ""
		}
	}
	if len(answers) < 2 {
		t.Fatalf("the trace has answers to %d calls, want READ_FILE and LIST_FILES: %v", len(answers), lines.Err())
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var ours, theirs any
		var call call
		if err = errors.Join(err, json.Unmarshal(body, &ours), json.Unmarshal(body, &call)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		want := requests[call.Type]
		if err := json.Unmarshal(want.JSON, &theirs); err != nil || r.URL.Path != want.Path || !reflect.DeepEqual(ours, theirs) {
			t.Errorf("got %s %s, want %s %s", r.URL.Path, body, want.Path, want.JSON)
		}
		w.WriteHeader(answers[call.Type].Status)
		_, _ = w.Write(answers[call.Type].JSON)
	}))
	t.Cleanup(server.Close)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := newAgents(Options{}.withDefaults(), m)
	var list, file call
	if err := errors.Join(json.Unmarshal(requests["LIST_FILES"].JSON, &list), json.Unmarshal(requests["READ_FILE"].JSON, &file)); err != nil {
		t.Fatal(err)
	}
	files, err := a.list(t.Context(), &Task{Agent: server.URL, Dir: list.ListFiles.Path})
	if out := files["stdout"]; err != nil || len(files) != 2 || out.Size != 3 || !out.regular() || out.MTime.Nanoseconds != 1795407575000000000 || files["stderr"].Size != 627 {
		t.Errorf("got %+v, %v", files, err)
	}
	data, size, err := a.read(t.Context(), &Task{Agent: server.URL, Dir: strings.TrimSuffix(file.ReadFile.Path, "/stdout")}, "stdout", 0, 1000)
	if err != nil || string(data) != "hi\n" || size != 3 {
		t.Errorf("got %q of %d, %v", data, size, err)
	}
	for mode, want := range map[uint32]bool{0: true, 33188: true, 0o040755: false, 0o010600: false, 0o120777: false} {
		if got := (fileInfo{Mode: mode}).regular(); got != want {
			t.Errorf("mode %o: got %v, want %v", mode, got, want)
		}
	}
}
