package plan

import (
	"errors"
	"strings"
	"testing"

	"millrace/scheduler"
)

const withCluster = `
dag: d
setup: {cluster: {run: x}}
teardown: {cluster: {run: x, retry: 1}}
tasks:
  a: {run: x}
  b: {run: x, needs: a}
  c: {run: x, rule: all_done, needs: [a, b]}
`

// partCase is what is done to a run of withCluster, and the states of the run, the setup, a, b, c and the teardown then.
type partCase struct {
	name string
	do   func(d *driver)
	want string
}

func playParts(t *testing.T, cases []partCase) {
	t.Parallel()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, withCluster)
			tt.do(d)
			if got := d.brief(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSetupAndTeardown(t *testing.T) {
	playParts(t, []partCase{
		{"everything works", func(d *driver) { d.play("cluster_setup a b c cluster_teardown", 0) },
			"success success success success success success"},
		{"nothing starts before the setup", func(d *driver) { d.play("a cluster_teardown", 0) },
			"queued scheduled none none none none"},
		{"the setup fails: nothing starts, whatever its rule", func(d *driver) { d.launch("cluster_setup"); d.exit("cluster_setup", 1) },
			"failed failed upstream_failed upstream_failed upstream_failed skipped"},
		{"the setup is skipped", func(d *driver) { d.launch("cluster_setup"); d.exit("cluster_setup", 99) },
			"success skipped skipped skipped skipped skipped"},
		{"a task fails: the teardown waits for the others", func(d *driver) { d.play("cluster_setup", 0); d.launch("a"); d.exit("a", 1) },
			"running success failed upstream_failed scheduled none"},
		{"a failed teardown fails nothing", func(d *driver) {
			d.play("cluster_setup a b c", 0)
			for range 2 {
				d.launch("cluster_teardown")
				d.exit("cluster_teardown", 1)
			}
		}, "success success success success success failed"},
		{"cancelled while a task runs", func(d *driver) {
			d.play("cluster_setup", 0)
			d.launch("a")
			d.step(Cancel{Reason: "cancelled by request"})
		}, "running success launching cancelled cancelled none"},
		{"and then it is taken down", func(d *driver) {
			d.play("cluster_setup", 0)
			d.launch("a")
			d.step(Cancel{Reason: "cancelled by request"})
			d.exit("a", 0)
			d.play("cluster_teardown", 0)
		}, "cancelled success cancelled cancelled cancelled success"},
		{"cancelled while the setup runs", func(d *driver) {
			d.launch("cluster_setup")
			d.step(Cancel{Reason: "cancelled by request"})
			d.exit("cluster_setup", 0)
		}, "cancelled cancelled cancelled cancelled cancelled skipped"},
		{"cancelled before anything", func(d *driver) { d.step(Cancel{Reason: "cancelled by request"}) },
			"cancelled cancelled cancelled cancelled cancelled cancelled"},
		{"cancelled while only the teardown runs", func(d *driver) {
			d.play("cluster_setup a b c", 0)
			d.launch("cluster_teardown")
			d.step(Cancel{Reason: "cancelled by request"})
			d.exit("cluster_teardown", 0)
		}, "cancelled success success success success success"},
		{"cancelled by force", func(d *driver) {
			d.play("cluster_setup a", 0)
			d.step(Cancel{Reason: "cancelled by request"})
			d.launch("cluster_teardown")
			d.step(Cancel{Reason: "again", Force: true})
			d.exit("cluster_teardown", 0)
		}, "cancelled success success cancelled cancelled cancelled"},
	})
}

func TestWordsAndTeardown(t *testing.T) {
	playParts(t, []partCase{
		{"marked failed", func(d *driver) {
			d.play("cluster_setup", 0)
			d.launch("a")
			d.r.Mark(NoTask, scheduler.StateFailed, "ann", d.now)
			d.exit("a", 0)
			d.play("cluster_teardown", 0)
		}, "failed success failed skipped skipped success"},
		{"marked success", func(d *driver) {
			d.play("cluster_setup", 0)
			d.r.Mark(NoTask, scheduler.StateSuccess, "ann", d.now)
			d.play("cluster_teardown", 0)
		}, "success success success success success success"},
		{"a task is cleared after the end: all that surrounds it is", func(d *driver) {
			d.play("cluster_setup a b c cluster_teardown", 0)
			d.clear(scheduler.Clear{Tasks: []string{"b"}})
		}, "queued scheduled success none success none"},
		{"a task is cleared before the teardown: the setup is in force", func(d *driver) {
			d.play("cluster_setup a b", 0)
			d.clear(scheduler.Clear{Tasks: []string{"b"}})
		}, "running success success scheduled none none"},
		{"a task is cleared while the teardown runs", func(d *driver) {
			d.play("cluster_setup a b c", 0)
			d.launch("cluster_teardown")
			d.clear(scheduler.Clear{Tasks: []string{"c"}})
			d.play("cluster_setup c", 0)
		}, "running success success success success launching"},
		{"a setup is marked success", func(d *driver) {
			d.launch("cluster_setup")
			d.exit("cluster_setup", 1)
			d.r.Mark(d.index("cluster_setup"), scheduler.StateSuccess, "ann", d.now)
		}, "queued success scheduled none none none"},
		{"refused before it begins", func(d *driver) { d.step(Fail{Reason: "no room"}) },
			"failed cancelled cancelled cancelled cancelled cancelled"},
	})
}

func TestFailRun(t *testing.T) {
	t.Parallel()
	d := newDriver(t, strings.Replace(withCluster, "retry: 1", "fail_run: true", 1))
	d.play("cluster_setup a b c", 0)
	d.launch("cluster_teardown")
	d.exit("cluster_teardown", 1)
	if d.r.Row.State != scheduler.StateFailed || d.r.Row.Reason != "task cluster_teardown: exit code 1" {
		t.Errorf("the run is %s: %s", d.r.Row.State, d.r.Row.Reason)
	}
}

// A setup within another comes after it, and is taken down before it. What is given to each are the outputs of what it is within.
func TestSetupWithinAnother(t *testing.T) {
	t.Parallel()
	d := newDriver(t, `
dag: d
setup: {cluster: {run: x}, schema: {run: x, needs: [cluster, a], for: b}}
teardown: {cluster: {run: x}, schema: {run: x}}
tasks: {a: {run: x}, b: {run: x, env: {AT: "${{ tasks.schema_setup.output.at }}"}}, c: {run: x}}
`)
	d.launch("cluster_setup")
	d.report("cluster_setup", scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte(`{"at": 1}`)})
	d.play("a schema_setup b c", 0)
	if got := d.brief(); got != "running success success success success success none scheduled" {
		t.Errorf("got %s", got)
	}
	d.play("schema_teardown cluster_teardown", 0)
	if d.r.Row.State != scheduler.StateSuccess {
		t.Errorf("the run is %s", d.r.Row.State)
	}
	for task, want := range map[string]string{"b": "cluster_setup schema_setup", "cluster_teardown": "cluster_setup", "schema_setup": "a cluster_setup"} {
		var got []string
		for name := range d.r.Freeze(d.index(task)).in.Upstream {
			got = append(got, name)
		}
		for _, name := range strings.Fields(want) {
			if !strings.Contains(strings.Join(got, " "), name) || len(got) != len(strings.Fields(want)) {
				t.Errorf("%s is given %v, want %s", task, got, want)
			}
		}
	}
}

// A run of which nothing can start, since its only task is skipped, fails all the same if it is to.
func TestFailOfNothing(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x}, b: {run: x, needs: a, when: 'false'}}\n")
	d.step(Fail{Reason: "no room"})
	if d.r.Row.State != scheduler.StateFailed || d.r.Row.Reason != "no room" || d.r.Tasks[1].Reason != "no room" {
		t.Errorf("the run is %s (%s), its task b %s", d.r.Row.State, d.r.Row.Reason, d.r.Tasks[1].Reason)
	}
	d = newDriver(t, "dag: d\ntasks: {a: {run: x}}\n")
	d.launch("a")
	if delta := d.step(Fail{Reason: "no room"}); !delta.Empty() {
		t.Errorf("a run that has begun: %+v", delta)
	}
}

// A clear of a group is one of its tasks; one that there is not is a fault.
func TestClearGroup(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x}, b: {run: x, needs: a, group: g}, c: {run: x, needs: g}, e: {run: x, group: g}}\n")
	d.play("a b e c", 0)
	d.clear(scheduler.Clear{Groups: []string{"g"}, Tasks: []string{"c"}})
	if got := d.brief(); got != "queued success scheduled none scheduled" {
		t.Errorf("got %s", got)
	}
	if _, err := d.r.Select(scheduler.Clear{Groups: []string{"h"}}); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("a group that there is not: got %v, want %v", err, scheduler.ErrNotFound)
	}
}
