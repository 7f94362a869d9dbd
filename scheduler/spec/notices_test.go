package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestDeadlines(t *testing.T) {
	t.Parallel()
	minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	for text, want := range map[string][]scheduler.DeadlineRule{
		"{from: batch_sealed, within: 5m}":                   {{From: "batch_sealed", Within: minutes(5)}},
		"[{from: cron_time, within: 1h, notify: [a, a, b]}]": {{From: "cron_time", Within: time.Hour, Notify: []string{"a", "b"}}},
		"{from: average(3)}":                                 {{From: "average", Last: 3, MinRuns: 3}},
		"[{from: average( 10 ), min_runs: 2, within: 1m}, {from: run_created, within: 2m, notify: notify.ops}]": {
			{From: "average", Last: 10, MinRuns: 2, Within: minutes(1)}, {From: "run_created", Within: minutes(2), Notify: []string{"ops"}},
		},
		"[]": nil,
	} {
		f := ReadFile("f.yaml", []byte("dag: d\ndeadline: "+text+"\ntasks: {a: {run: x}}\n"))
		if len(f.Faults) > 0 {
			t.Errorf("%s: %v", text, f.Faults)
			continue
		}
		if diff := cmp.Diff(want, f.DAGs[0].Deadlines); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestBadNotices(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"deadline: {within: 5m}":                                 "does not say what it counts from",
		"deadline: {from: run_created}":                          "does not say how long a run may take",
		"deadline: {from: run_created, within: 0s}":              "every run would be late",
		"deadline: {from: run_created, within: 32d}":             "the limit is 31d",
		"deadline: {from: run_create, within: 5m}":               `did you mean "run_created"?`,
		"deadline: {from: average, within: 5m}":                  "average",
		"deadline: {from: average(0)}":                           "want 1 to 100 runs",
		"deadline: {from: average(101)}":                         "want 1 to 100 runs",
		"deadline: {from: average(2), min_runs: 3}":              "only the last 2 runs are looked at",
		"deadline: {from: run_created, within: 5m, min_runs: 3}": "min_runs has a meaning with average(N) only",
		"deadline: 5m": "deadline must be a mapping",
		"deadline: {from: run_created, within: 5m, notify: [a b]}": `id "a b" must start with`,
		"on_event: {failed: [ops]}":                                `unknown key "failed" in on_event`,
		"on_event: {skipped: [ops]}":                               `unknown key "skipped" in on_event`,
		"on_event: [ops]":                                          "on_event must be a mapping",
		"on_event: {failure: [{a: b}]}":                            "on_event.failure must be a string",
	} {
		_, err := Compile("f.yaml", []byte("dag: d\n"+text+"\ntasks: {a: {run: x}}\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestOnEvent(t *testing.T) {
	t.Parallel()
	src := "dag: d\non_event: {failure: [ops, notify.ops, pager], success: [], cancelled: ops}\ntasks: {a: {run: x, on_event: {retry: [ops]}}, b: {run: x, on_event: {success: []}}}\n"
	f := ReadFile("f.yaml", []byte(src))
	if len(f.Faults) > 0 {
		t.Fatal(f.Faults)
	}
	dag := f.DAGs[0]
	got := []scheduler.OnEvent{dag.OnEvent, dag.Tasks[0].OnEvent, dag.Tasks[1].OnEvent}
	want := []scheduler.OnEvent{{"failure": {"ops", "pager"}, "cancelled": {"ops"}}, {"retry": {"ops"}}, nil}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoticeWarnings(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]string{
		"deadline: {from: cron_time, within: 5m, notify: a}":                            {"no-deadline 2"},
		"deadline: {from: batch_sealed, within: 5m, notify: a}\non: [{cron: '@daily'}]": {"no-deadline 2"},
		"deadline: {from: cron_time, within: 5m, notify: a}\non: [{cron: '@daily'}]":    nil,
		"deadline: {from: run_created, within: 5m}":                                     {"no-deadline 2"},
		"deadline: {from: run_created, within: 5m}\non_event: {deadline: a}":            nil,
		"on_event: {deadline: a}":                                                       {"no-deadline 2"},
		"on_event: {failure: a}":                                                        nil,
	} {
		f := Lint("f.yaml", []byte("dag: d\n"+src+"\ndefaults: {retry: 0, timeout: 0}\ntasks: {a: {run: x}}\n"))
		var got []string
		for _, w := range f.Warnings {
			got = append(got, fmt.Sprint(w.Code, " ", w.Line))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || len(f.Faults) > 0 {
			t.Errorf("%q: %v (-want +got):\n%s", src, f.Faults, diff)
		}
	}
}
