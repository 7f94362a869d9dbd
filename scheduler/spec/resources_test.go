package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestResources(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, task, rest string
		want             scheduler.Task // of which only what a task asks for is looked at
		fault            string
	}{
		{name: "nothing"},
		{name: "all", task: "resources: {cpu: 0.5, cpu_limit: 2, mem: 512MiB, disk: 1GiB, gpu: 1}",
			want: scheduler.Task{Resources: &scheduler.Resources{CPU: 0.5, CPULimit: 2, Mem: 512 << 20, Disk: 1 << 30, GPU: 1}}},
		{name: "nothing of anything", task: "resources: {cpu: 0, gpu: 0}"},
		{name: "a task's own keys win", task: "resources: {mem: 2GB}", rest: "defaults: {resources: {cpu: 1, mem: 1GB}, constraints: [[rack, is, a]], at_least_once_fast: true}",
			want: scheduler.Task{Resources: &scheduler.Resources{CPU: 1, Mem: 2e9}, Constraints: []scheduler.Constraint{{Attribute: "rack", Op: "is", Value: "a"}}, Fast: true}},
		{name: "a task's own list wins", task: "constraints: []\n    at_least_once_fast: false", rest: "defaults: {constraints: [[rack, is, a]], at_least_once_fast: true}"},
		{name: "operators", task: `constraints: [["rack", "unlike", "rack-9"], [gpu, exists], [hostname, UNIQUE], [rack, group_by], [rack, max_per, 3], [zone, cluster]]`,
			want: scheduler.Task{Constraints: []scheduler.Constraint{{Attribute: "rack", Op: "unlike", Value: "rack-9"}, {Attribute: "gpu", Op: "exists"},
				{Attribute: "hostname", Op: "unique"}, {Attribute: "rack", Op: "group_by"}, {Attribute: "rack", Op: "max_per", Value: "3"}, {Attribute: "zone", Op: "cluster"}}}},
		{name: "an approval needs no machine", rest: "  b: {approval: go}\ndefaults: {resources: {cpu: 1}}", want: scheduler.Task{Resources: &scheduler.Resources{CPU: 1}}},

		{name: "limit", task: "resources: {cpu: 2, cpu_limit: 1}", fault: "cpu_limit is 1, less than cpu, which is 2"},
		{name: "misspelt", task: "resources: {memory: 1GB}", fault: `unknown key "memory" in resources (`},
		{name: "size", task: "resources: {mem: many}", fault: `mem is not a size: "many"`},
		{name: "half a device", task: "resources: {gpu: 0.5}", fault: "gpu must be a whole number"},
		{name: "no list", task: "constraints: {rack: a}", fault: "constraints must be a list"},
		{name: "not nested", task: "constraints: [rack, is, a]", fault: "a constraint must be a list, got a string"},
		{name: "one part", task: "constraints: [[rack]]", fault: "this one has 1 parts (write it like [rack, unlike, rack-9])"},
		{name: "operator", task: "constraints: [[rack, unlik, a]]", fault: `is "unlik", which is not known (did you mean "unlike"?)`},
		{name: "operator of Chronos", task: "constraints: [[rack, EQUALS, a]]", fault: `did you mean "is"?`},
		{name: "attribute", task: "constraints: [['a b', exists]]", fault: "can not be the name of an attribute"},
		{name: "no value", task: "constraints: [[rack, like]]", fault: "operator like needs a value"},
		{name: "a value", task: "constraints: [[rack, exists, a]]", fault: "operator exists takes no value"},
		{name: "expression", task: "constraints: [[rack, like, '(']]", fault: "the value of like is no regular expression"},
		{name: "number", task: "constraints: [[rack, max_per, few]]", fault: "the value of max_per must be a whole number"},
		{name: "parked", rest: "  b: {approval: go, resources: {cpu: 1}}", fault: `task "b" has approval and resources`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := fmt.Sprintf("dag: d\ntasks:\n  a:\n    run: x\n    %s\n%s\n", tt.task, tt.rest)
			dags, err := Compile("d.yaml", []byte(src))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a := dags[0].Tasks[0]
			got := scheduler.Task{Resources: a.Resources, Constraints: a.Constraints, Fast: a.Fast}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, b := range dags[0].Tasks[1:] {
				if b.Resources != nil || b.Constraints != nil {
					t.Errorf("task %s asks for %+v and %v, and no executor runs it", b.ID, b.Resources, b.Constraints)
				}
			}
		})
	}
}

// TestLintOfWhatIsNotEnforced: what the local executor can not see to is said before a run finds out.
func TestLintOfWhatIsNotEnforced(t *testing.T) {
	t.Parallel()
	for task, want := range map[string]string{
		"{run: x}":                                          "",
		"{run: x, resources: {cpu: 1}}":                     "the local executor enforces no resources: task a may take more than it asks for [not-enforced]",
		"{run: x, resources: {cpu: 1, gpu: 1}}":             "task a never starts: the local executor hands out no GPUs [refused]",
		"{run: x, constraints: [[rack, exists]]}":           "task a never starts: the local executor has one machine, and refuses constraints [refused]",
		"{run: x, ports: 1, user: ann}":                     "task a never starts: the local executor gives a task no user, no ports [refused]",
		"{image: load}":                                     "task a never starts: the local executor runs no images [refused]",
		"{image: 'load:1', executor: mesos}":                "",
		"{run: x, executor: mesos, resources: {gpu: 1}}":    "",
		"{run: x, executor: local, resources: {mem: 1MiB}}": "may take more than it asks for [not-enforced]",
	} {
		f := Lint("d.yaml", []byte("dag: d\ntasks: {a: "+task+"}\n"))
		got := ""
		for _, w := range f.Warnings {
			got += w.String()
		}
		if len(f.Faults) > 0 || (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %v and %q, want %q", task, f.Faults, got, want)
		}
	}
}

// TestKeysOfOtherPlaces: what people know under a name from elsewhere is told where it is here.
func TestKeysOfOtherPlaces(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"pools: {db: 2}\ntasks: {a: {run: x}}":         "pools are the installation's: pools: {NAME: slots} in its configuration",
		"tasks: {a: {run: x, deadline: 5m}}":           "deadline is a key of the file",
		"tasks: {a: {run: x, heartbeat: 5m}}":          "heartbeat is a key of defaults.timeout and of a task's timeout",
		"tasks: {a: {run: x, mem: 1GB}}":               "mem is a key of defaults.resources and of a task's resources",
		"tasks: {a: {run: x, resources: {memory: 1}}}": "known keys: cpu, cpu_limit, disk, gpu, mem",
	} {
		_, err := Compile("d.yaml", []byte("dag: d\n"+src+"\n"))
		if err == nil || !strings.Contains(err.Error(), "unknown key") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", src, err, want)
		}
	}
}
