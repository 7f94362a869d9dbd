package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// TestLaunchSaysWhatIsAskedFor: the executor is told what a task needs of a machine, as its file says, for every try.
func TestLaunchSaysWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, task string
		want       scheduler.Launch // of which only this is looked at
	}{
		{"nothing", "{run: x}", scheduler.Launch{}},
		{"resources", "{run: x, resources: {cpu: 0.5, cpu_limit: 2, mem: 512MiB, mem_limit: 1GiB, disk: 1GiB, gpu: 2}}",
			scheduler.Launch{Resources: &scheduler.Resources{CPU: 0.5, CPULimit: 2, Mem: 512 << 20, MemLimit: 1 << 30, Disk: 1 << 30, GPU: 2}}},
		{"machine", "{run: x, user: ann, ports: 1, uris: /opt/tool, health_check: {tcp: {port_index: 0}}}", scheduler.Launch{Machine: &scheduler.Machine{
			User: "ann", Ports: make([]scheduler.Port, 1), URIs: []scheduler.URI{{Value: "/opt/tool"}}, Health: &scheduler.Health{TCP: &scheduler.HealthPort{}}}}},
		{"constraints", "{run: x, constraints: [[rack, unlike, rack-9], [gpu, exists]]}",
			scheduler.Launch{Constraints: []scheduler.Constraint{{Attribute: "rack", Op: "unlike", Value: "rack-9"}, {Attribute: "gpu", Op: "exists"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, "dag: d\ntasks: {a: "+tt.task+"}\n")
			for try := 1; try <= 2; try++ {
				l, err := d.r.Launch(0, try, operator.All(operator.Options{})["command"], nil)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, scheduler.Launch{Resources: l.Resources, Constraints: l.Constraints, Machine: l.Machine}); diff != "" {
					t.Errorf("try %d (-want +got):\n%s", try, diff)
				}
			}
		})
	}
}
