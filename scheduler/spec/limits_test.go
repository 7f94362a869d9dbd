package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestConcurrency(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src string
		want      *scheduler.Concurrency
		fault     string
	}{
		{"none", "", nil, ""},
		{"a number", "concurrency: 3", &scheduler.Concurrency{MaxRuns: 3}, ""},
		{"one is the default", "concurrency: {when_full: skip}", &scheduler.Concurrency{MaxRuns: 1, WhenFull: "skip"}, ""},
		{"queue has one spelling", "concurrency: {max_runs: 2, when_full: queue}", &scheduler.Concurrency{MaxRuns: 2}, ""},
		{"group", `concurrency: {group: "${{ trigger.lane_key }}", when_full: cancel_running}`,
			&scheduler.Concurrency{Group: "${{ trigger.lane_key }}", MaxRuns: 1, WhenFull: "cancel_running"}, ""},
		{"plain text", "concurrency: {group: nightly, when_full: fail}", &scheduler.Concurrency{Group: "nightly", MaxRuns: 1, WhenFull: "fail"}, ""},
		{"parameter", "params: {day: x}\nconcurrency: {group: '${{ params.day }}'}", &scheduler.Concurrency{Group: "${{ params.day }}", MaxRuns: 1}, ""},
		{"no runs", "concurrency: 0", nil, "concurrency must be at least 1"},
		{"misspelt", "concurrency: {when_full: skp}", nil, `did you mean "skip"?`},
		{"coalesce", "concurrency: {when_full: coalesce, group: 'x ${{ trigger.lane_key }} ${{trigger.rule}}'}",
			&scheduler.Concurrency{Group: "x ${{ trigger.lane_key }} ${{trigger.rule}}", MaxRuns: 1, WhenFull: "coalesce"}, ""},
		{"coalesce by what is not known", "concurrency: {when_full: coalesce, group: '${{ batch.source }}'}", nil, "its batches are not known"},
		{"unknown parameter", "concurrency: {group: '${{ params.day }}'}", nil, `group: parameter "day" is not declared`},
		{"task", "concurrency: {group: '${{ tasks.a.exit }}'}", nil, `can not depend on task "a"`},
		{"trigger key", "concurrency: {group: '${{ trigger.key }}'}", nil, "write ${{ trigger.lane_key }}"},
		{"no expression", "concurrency: {group: '${{ trigger. }}'}", nil, "group: "},
		{"unknown key", "concurrency: {max_run: 1}", nil, `did you mean "max_runs"?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dags, err := Compile("a.yaml", []byte("dag: a\ntasks: {a: {run: x}}\n"+tt.src))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, dags[0].Concurrency); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A key that nothing uses is a fault; the group of a DAG may use it.
func TestKeyForGroup(t *testing.T) {
	t.Parallel()
	const src = "dag: a\ntasks: {a: {run: x}}\non: [{batch: {}, key: batch.source}]\n"
	if _, err := Compile("a.yaml", []byte(src)); err == nil || !strings.Contains(err.Error(), "a.yaml:3:23: key without coalesce has no effect") {
		t.Errorf("got %v", err)
	}
	if _, err := Compile("a.yaml", []byte(src+"concurrency: {group: '${{ trigger.lane_key }}'}")); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestPoolsAndPriorities(t *testing.T) {
	t.Parallel()
	dags, err := Compile("a.yaml", []byte(`
dag: a
tasks:
  plain: {run: x}
  own: {run: x, pool: big, pool_slots: 3, priority: -7}
  none: {run: x, pool: ""}
defaults: {pool: small, pool_slots: 1, priority: 5}
priority: 9
---
dag: b
priority: 9
tasks: {plain: {run: x}}
`))
	if err != nil {
		t.Fatal(err)
	}
	type limits struct {
		Pool            string
		Slots, Priority int
	}
	got := map[string]limits{}
	for _, d := range dags {
		for _, task := range d.Tasks {
			got[d.ID+"."+task.ID] = limits{task.Pool, task.PoolSlots, task.Priority}
		}
	}
	want := map[string]limits{"a.plain": {"small", 0, 5}, "a.own": {"big", 3, -7}, "a.none": {"", 0, 5}, "b.plain": {"", 0, 9}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for task, fault := range map[string]string{
		"{run: x, pool_slots: 2}":          `task "a" has pool_slots and no pool`,
		"{run: x, pool: p, pool_slots: 0}": "pool_slots must be at least 1",
		"{run: x, pool: p/q}":              "pool: id",
		"{run: x, priority: 1001}":         "from -1000 to 1000",
		"{run: x, priority: high}":         "from -1000 to 1000",
	} {
		if _, err := Compile("a.yaml", []byte("dag: a\ntasks: {a: "+task+"}")); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: got %v, want %q", task, err, fault)
		}
	}
}
