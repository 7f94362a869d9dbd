package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// TestLaunchInAnImage: an executor is told which image, when to fetch it, and what its entrypoint gets, or what takes the entrypoint's place.
func TestLaunchInAnImage(t *testing.T) {
	t.Parallel()
	const image = "registry.example/load:1.4"
	for _, tt := range []struct {
		name, task string
		argv       []string
		want       *scheduler.Container
	}{
		{"a process of the machine", "{run: [x]}", []string{"x"}, nil},
		{"the image's entrypoint", "{image: " + image + "}", nil, &scheduler.Container{Image: image}},
		{"with arguments", `{args: [--events, "${{ totals.events }}"], image: ` + image + "}", nil,
			&scheduler.Container{Image: image, Args: []string{"--events", "20"}}},
		{"always fetched", "{image: " + image + ", pull: always}", nil, &scheduler.Container{Image: image, Pull: scheduler.PullAlways}},
		{"fetched if it is missing", "{image: " + image + ", pull: missing}", nil, &scheduler.Container{Image: image}},
		{"a command", "{run: [load, --all], image: " + image + "}", []string{"load", "--all"}, &scheduler.Container{Image: image}},
		{"a text for the shell", "{image: " + image + ", run: load --all}", []string{"sh", "-c", "load --all"}, &scheduler.Container{Image: image}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, "dag: d\ntasks: {a: "+tt.task+"}\n")
			l, err := d.r.Launch(0, 1, operator.All(operator.Options{})[d.r.DAG.Tasks[0].Kind], nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, l.Container); diff != "" || !cmp.Equal(l.Argv, tt.argv) {
				t.Errorf("argv %q, want %q; container (-want +got):\n%s", l.Argv, tt.argv, diff)
			}
		})
	}
}
