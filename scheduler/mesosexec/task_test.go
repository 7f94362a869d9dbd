package mesosexec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/mesosexec/match"
)

func TestTaskID(t *testing.T) {
	t.Parallel()
	for _, same := range []string{"r1.load.-1.1", "a b", "é", strings.Repeat("x", 255)} {
		if got := taskID(same); got != same {
			t.Errorf("got %q for %q", got, same)
		}
	}
	seen := map[string]string{}
	for _, bad := range []string{"", ".", "..", "a/b", "a\\b", "a\nb", "a\x7f", "\xff", strings.Repeat("x", 256)} {
		got := taskID(bad)
		if got != taskID(got) || got == bad || seen[got] != "" {
			t.Errorf("got %q for %q, want an id that Mesos takes, and of its own", got, bad)
		}
		seen[got] = bad
	}
}

func TestNeedsOf(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		name string
		l    scheduler.Launch
		o    TaskOptions
		want []match.Need
	}{
		{"nothing", scheduler.Launch{}, TaskOptions{}, []match.Need{{Name: "cpus", Amount: 100}, {Name: "mem", Amount: 128_000}}},
		{"nothing, by the installation", scheduler.Launch{}, TaskOptions{CPU: 0.5, Mem: gib}, []match.Need{{Name: "cpus", Amount: 500}, {Name: "mem", Amount: 1024_000}}},
		{"all", scheduler.Launch{Resources: &scheduler.Resources{CPU: 2, CPULimit: 4, Mem: gib, MemLimit: 2 * gib, Disk: gib, GPU: 1}}, TaskOptions{},
			[]match.Need{{Name: "cpus", Amount: 2000}, {Name: "mem", Amount: 1024_000}, {Name: "disk", Amount: 1024_000}, {Name: "gpus", Amount: 1000}}},
		{"limits below the default", scheduler.Launch{Resources: &scheduler.Resources{CPULimit: 0.05, MemLimit: 64 << 20}}, TaskOptions{},
			[]match.Need{{Name: "cpus", Amount: 50}, {Name: "mem", Amount: 64_000}}},
		{"ports", scheduler.Launch{Machine: &scheduler.Machine{Ports: []scheduler.Port{{}, {Host: 31005}, {Container: 80}}}}, TaskOptions{},
			[]match.Need{{Name: "cpus", Amount: 100}, {Name: "mem", Amount: 128_000}, {Name: "ports", Count: 2, Numbers: []uint64{31005}}}},
	} {
		if diff := cmp.Diff(c.want, needsOf(&c.l, c.o)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestStreamsOf(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"stdout"}, streamsOf(&scheduler.Launch{Argv: []string{"true"}})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"stdout", "stderr"}, streamsOf(&scheduler.Launch{Container: &scheduler.Container{}})); diff != "" {
		t.Error(diff)
	}
}
