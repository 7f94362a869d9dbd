package sdk

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type event struct {
	Type string `json:"type"`
	N    int    `json:"n"`
}

func gz(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

func TestRows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "rows 100%")
	file := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	two := "{\"type\":\"a\",\"n\":1}\n{\"type\":\"b\",\"n\":2}\n"
	path := file("two.ndjson.gz", gz(two))
	opened := func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(two)), nil }
	for _, tt := range []struct {
		name string
		a    *Attempt
		want []event
		err  string
	}{
		{name: "no batch", a: &Attempt{}},
		{name: "path", a: &Attempt{Batches: []Batch{{URI: path, Events: 2}}}, want: []event{{"a", 1}, {"b", 2}}},
		{name: "uri", a: &Attempt{Batches: []Batch{{URI: "file://" + strings.NewReplacer("%", "%25", " ", "%20").Replace(path), Events: 2}}},
			want: []event{{"a", 1}, {"b", 2}}},
		{name: "void", a: &Attempt{Batches: []Batch{{URI: "gone", Void: "why"}, {URI: path, Events: 2}}}, want: []event{{"a", 1}, {"b", 2}}},
		{name: "opener", a: &Attempt{Open: opened, Batches: []Batch{{URI: "s3://b/o", Events: 2}}}, want: []event{{"a", 1}, {"b", 2}}},
		{name: "elsewhere", a: &Attempt{Batches: []Batch{{URI: "s3://b/o", Events: 2}}}, err: "set Attempt.Open"},
		{name: "fetched", a: &Attempt{Fetched: dir, Batches: []Batch{{URI: "s3://b/o", Key: "two.ndjson.gz", Events: 2}}}, want: []event{{"a", 1}, {"b", 2}}},
		{name: "not fetched", a: &Attempt{Fetched: dir, Batches: []Batch{{URI: "s3://b/o", Key: "other/key", Events: 2}}}, err: "set Attempt.Open"},
		{name: "fetched, opener", a: &Attempt{Fetched: dir, Open: opened, Batches: []Batch{{URI: "s3://b/o", Key: "no", Events: 2}}}, want: []event{{"a", 1}, {"b", 2}}},
		{name: "another machine", a: &Attempt{Batches: []Batch{{URI: "file://there/o", Events: 2}}}, err: "another machine, there"},
		{name: "missing", a: &Attempt{Batches: []Batch{{URI: path + "x", Events: 2}}}, err: "no such file"},
		{name: "other number", a: &Attempt{Batches: []Batch{{ID: "b1", URI: path, Events: 3}}}, want: []event{{"a", 1}, {"b", 2}},
			err: "the object has 2 rows, the batch 3: run millrace verify"},
		{name: "cut", a: &Attempt{Batches: []Batch{{URI: file("cut", gz(strings.Repeat(two, 500))[:40]), Events: 2}}}, err: "unexpected EOF"},
		{name: "zstd", a: &Attempt{Batches: []Batch{{URI: file("z", []byte{0x28, 0xb5, 0x2f, 0xfd, 0}), Events: 2}}}, err: "compression: gzip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []event
			var last error
			for row, err := range Rows[event](tt.a) {
				if last != nil {
					t.Fatal("rows went on after an error")
				}
				if last = err; err == nil {
					got = append(got, row)
				}
			}
			if tt.err == "" && last != nil || tt.err != "" && (last == nil || !strings.Contains(last.Error(), tt.err)) {
				t.Errorf("got error %v, want %q", last, tt.err)
			}
			if tt.name != "cut" && !cmp.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run", "task")
	for _, tt := range []struct {
		name string
		next func() *State // as the next try has it
	}{
		{"directory", func() *State { return (&Attempt{StateDir: dir}).State() }},
		{"memory", (&Attempt{}).State},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var job struct{ ID int }
			if found, err := tt.next().Get("job", &job); found || err != nil {
				t.Errorf("before: %v, %v", found, err)
			}
			for id := range 3 {
				if err := tt.next().Put("job", map[string]int{"ID": id}); err != nil {
					t.Fatal(err)
				}
			}
			if found, err := tt.next().Get("job", &job); !found || err != nil || job.ID != 2 {
				t.Errorf("after: %v, %v, %+v", found, err, job)
			}
			if err := tt.next().Put("job", func() {}); err == nil {
				t.Error("a function was put")
			}
			if found, err := tt.next().Get("job", &job); !found || err != nil || job.ID != 2 {
				t.Errorf("after a value that is none: %v, %v, %+v", found, err, job)
			}
			for _, key := range []string{"", "../x", ".hidden", "a/b", strings.Repeat("x", 101)} {
				if err := errors.Join(tt.next().Put(key, 1)); err == nil || !strings.Contains(err.Error(), "a key starts with") {
					t.Errorf("key %q: got %v", key, err)
				}
			}
			if err := errors.Join(tt.next().Delete("job"), tt.next().Delete("job")); err != nil {
				t.Error(err)
			}
			if found, err := tt.next().Get("job", &job); found || err != nil {
				t.Errorf("deleted: %v, %v", found, err)
			}
		})
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	if err := (&Attempt{}).Heartbeat(); err != nil {
		t.Errorf("where nobody listens: %v", err)
	}
	a := &Attempt{HeartbeatFile: filepath.Join(t.TempDir(), "beat")}
	if err := a.Heartbeat(); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(a.HeartbeatFile)
	if err != nil {
		t.Fatal(err)
	}
	a.beat = a.beat.Add(-time.Hour)
	if err := a.Heartbeat(); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(a.HeartbeatFile); err != nil || bytes.Equal(first, second) {
		t.Errorf("the second beat changed nothing: %q, %q, %v", first, second, err)
	}
	a.HeartbeatFile = filepath.Join(a.HeartbeatFile, "x")
	a.beat = time.Time{}
	if err := a.Heartbeat(); err == nil {
		t.Error("a beat that could not be written is no error")
	}
}
