package configs

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares got with a file, or writes the file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not fresh; run go test ./configs -update (-file +now):\n%s", path, diff)
	}
}

// TestNoFile: a file that was asked for and is not there is a fault that says what to do.
func TestNoFile(t *testing.T) {
	t.Parallel()
	_, err := Load(Default(), "testdata/none.yaml", nil)
	want := "configuration invalid:\ntestdata/none.yaml: there is no such file\nmillrace config init testdata/none.yaml writes one to start from"
	if !errors.Is(err, ErrInvalid) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := Load(Default(), "testdata", nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "read configuration") {
		t.Errorf("a directory: got %v", err)
	}
}

// TestShown: what config show prints is a configuration file that means the same, but for secrets.
func TestShown(t *testing.T) {
	t.Parallel()
	want := Dev()
	src := want.Sources["web"]
	src.Batch.MaxAge, src.Lanes, src.Verify.ID = time.Minute, map[string]string{"country": "context.country"}, []string{"X-Id", "json:/id"}
	want.Sources["web"] = src
	delete(want.Sources, "stripe") // has a secret
	want.Roles, want.Console.Hosts, want.Ingest.MaxCompressed = []string{"ingest"}, []string{"a.test"}, 3<<20
	var out bytes.Buffer
	if err := (&Loaded{Config: want}).Show(&out, false); err != nil {
		t.Fatal(err)
	}
	var got Config
	if _, err := decode("shown.yaml", out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s\n%s", diff, &out)
	}
}

// TestBadFiles shows what people read about files with faults: each message says where, shows the line with a caret, says what is wrong and,
// where that is known, what to do; and no secret is in it.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			l, err := Load(Default(), file, nil)
			if err == nil {
				err = l.Validate()
			}
			var faults Faults
			if !errors.As(err, &faults) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, want faults", err)
			}
			for _, f := range faults {
				if f.File != file || f.Msg == "" || f.Line > 0 && f.Excerpt == "" {
					t.Errorf("got %#v, want a file, a message, and an excerpt if there is a line", f)
				}
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("a secret is in the message:\n%v", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}
