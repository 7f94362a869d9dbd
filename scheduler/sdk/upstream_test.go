package sdk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLargeUpstream: an output that is not in the document is read from its file when it is asked for.
func TestLargeUpstream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := filepath.Join(dir, "large.json")
	doc := `{"v": 1, "task": "t", "upstream": {"small": 1}, "upstream_refs": {"large": {"ref": "k", "uri": "s3://b/k", "path": "` + large + `"},
		"file": {"ref": "k", "uri": "file://` + large + `"}, "far": {"ref": "k", "uri": "s3://b/k"}, "gone": {"ref": "k", "path": "/no/such/file"}}}`
	for name, text := range map[string]string{large: `[1, 2, 3]`, filepath.Join(dir, "in.json"): doc} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := readAttempt(func(name string) string {
		return map[string]string{"MILLRACE_INPUT": filepath.Join(dir, "in.json")}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	for task, want := range map[string]string{"small": "1", "large": "[1, 2, 3]", "file": "[1, 2, 3]"} {
		if got, err := a.output(task); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", task, got, err, want)
		}
	}
	for task, want := range map[string]string{"far": "s3://b/k, which this executor has not fetched", "gone": "no such file", "none": "is no parent"} {
		if _, err := a.output(task); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", task, err, want)
		}
	}
	list, err := (&Step[[]int]{&task{id: "large"}}).Of(a)
	if err != nil || len(list) != 3 {
		t.Errorf("got %v, %v", list, err)
	}
}
