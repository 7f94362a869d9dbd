package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rows is what a reader who lists the object directory finds: how often each place in the log and each message id occurs, and each id's type,
// which what is in quarantine has not.
type rows struct {
	byPlace map[string]int
	byID    map[string]int
	types   map[string]string
}

// readRows reads every object below a directory store's events and quarantine.
func readRows(t *testing.T, objects string) rows {
	t.Helper()
	r := rows{byPlace: map[string]int{}, byID: map[string]int{}, types: map[string]string{}}
	for _, root := range []string{"events", "quarantine"} {
		err := filepath.WalkDir(filepath.Join(objects, root), func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) || err == nil && (d.IsDir() || !strings.HasSuffix(path, ".ndjson.gz")) {
				return nil
			}
			if err != nil {
				return err
			}
			return r.read(path)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rows) read(path string) error {
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
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var row struct {
			MessageID string `json:"messageId"`
			Type      string `json:"type"`
			MR        struct {
				S string `json:"s"`
				P int    `json:"p"`
				O int64  `json:"o"`
			} `json:"_mr"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r.byPlace[fmt.Sprintf("%s/%d/%d", row.MR.S, row.MR.P, row.MR.O)]++
		r.byID[row.MessageID]++
		r.types[row.MessageID] = row.Type
	}
	return lines.Err()
}

// check reports acknowledged ids that are in no row, and places or ids that are in several.
func (r *rows) check(t *testing.T, acked map[string]bool) {
	t.Helper()
	lost, doubled := 0, 0
	for id := range acked {
		if r.byID[id] == 0 {
			lost++
		}
	}
	for _, m := range []map[string]int{r.byPlace, r.byID} {
		for what, n := range m {
			if n > 1 {
				doubled++
				t.Logf("%s is in %d rows", what, n)
			}
		}
	}
	if lost > 0 || doubled > 0 {
		t.Errorf("of %d acknowledged events %d are in no row; %d places or ids are in several", len(acked), lost, doubled)
	}
}
