package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// calm has nothing to be warned of.
const calm = "dag: d\non: [{batch: {source: web}}]\ndefaults: {retry: 3, timeout: 1h}\ntasks: {a: {run: x}}\n"

func TestWarnings(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]string{
		calm:                             nil,
		"dag: d\ntasks: {a: {run: x}}\n": nil, // people start it, and look
		"dag: d\non: [{batch: {source: web}}]\ntasks:\n  a: {run: x, retry: 0, timeout: 0}\n":             nil,
		"dag: d\non: [{batch: {source: web}}]\ntasks:\n  a: {run: x, retry: 1}\n  b: {run: x}\n":          {"no-retry 5", "no-timeout 4"},
		"dag: d\non: [{cron: '@daily'}]\ndefaults: {timeout: 1h}\ntasks:\n  a: {run: x}\n":                {"no-retry 5"},
		"dag: d\non: [{batch: true}]\ndefaults: {retry: 0, timeout: 0}\ntasks: {a: {run: x}}\n":           {"any-source 2"},
		"dag: d\non: [{batch: {types: track}}]\ndefaults: {retry: 0, timeout: 0}\ntasks: {a: {run: x}}\n": {"any-source 2"},
		"dag: d\non: [{batch: {source: '*'}}]\ndefaults: {retry: 0, timeout: 0}\ntasks: {a: {run: x}}\n":  nil,
		"dag: d\non: [{batch: {source: w}, coalesce: {max_batches: 5}}]\ndefaults: {retry: 1, timeout: 1h}\ntasks: {a: {run: x}}\n": {
			"open-group 2"},
		"dag: d\non: [{batch: {source: w}, coalesce: {max_batches: 5, quiet: 5s}}]\ndefaults: {retry: 1, timeout: 1h}\ntasks: {a: {run: x}}\n": nil,
		"dag: d\non: [{cron: '0 0 * 2 5#5'}]\ndefaults: {retry: 1, timeout: 1h}\ntasks: {a: {run: x}}\n":                                       {"never-fires 2"},
		"dag: d\ntasks:\n  a: {executor: m, image: load}\n  b: {executor: m, image: 'r:5/x/load:latest'}\n  c: {executor: m, image: 'r:5/load:1'}\n  d: {executor: m, image: 'r/x@sha256:" + strings.Repeat("a", 64) + "'}\n": {
			"moving-tag 3", "moving-tag 4"},
		"dag: d\non: [{cron: '0 0 29 2 *'}]\ndefaults: {retry: 1, timeout: 1h}\ntasks: {a: {run: x}}\n": nil,
	} {
		f := Lint("f.yaml", []byte(src))
		if len(f.Faults) > 0 {
			t.Errorf("%q: %v", src, f.Faults)
			continue
		}
		var got []string
		for _, w := range f.Warnings {
			got = append(got, fmt.Sprint(w.Code, " ", w.Line))
			if w.Excerpt == "" || w.DAG != "d" || w.File != "f.yaml" {
				t.Errorf("%q: %+v has no place", src, w)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", src, diff)
		}
	}
}

// TestFaultsBeforeWarnings: of a DAG with a fault only the fault is said.
func TestFaultsBeforeWarnings(t *testing.T) {
	t.Parallel()
	f := Lint("f.yaml", []byte("dag: d\non: [{batch: true}]\ntasks: {a: {rum: x}}\n---\ndag: good\ntasks: {a: {run: x}}\n"))
	if len(f.Faults) != 1 || len(f.Warnings) != 0 || len(f.DAGs) != 1 {
		t.Errorf("got %v and %v", f.Faults, f.Warnings)
	}
}
