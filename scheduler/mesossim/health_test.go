package mesossim

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// TestHealth: a task says when its health changes, and is killed when it is ill for too long (unobserved).
func TestHealth(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{Second: time.Millisecond, AgentTimeout: time.Hour})
	f := newClient(t, c)
	f.info.FailoverTimeout = 1e9
	f.subscribe()
	o := f.offer()
	zero, often, long, twice := 0.0, 50.0, 1e6, 2
	task := shell("t", "while true; do sleep 0.1; done", o)
	task.HealthCheck = &mesos.HealthCheck{Type: "COMMAND", Command: &mesos.CommandInfo{Value: "test ! -e ill"}, DelaySeconds: &zero, IntervalSeconds: &often,
		TimeoutSeconds: &long, GracePeriodSeconds: &zero, ConsecutiveFailures: &twice}
	f.launch(o, task)
	f.until("t", started...)
	if s := f.until("t", mesos.TaskRunning); s.Healthy == nil || !*s.Healthy || s.Reason != mesos.ReasonTaskHealthCheck {
		t.Errorf("got %+v, want healthy", s)
	}
	must(t, os.WriteFile(filepath.Join(c.Tasks()[0].Dir, "ill"), nil, 0o600))
	if s := f.until("t", mesos.TaskRunning); s.Healthy == nil || *s.Healthy {
		t.Errorf("got %+v, want ill", s)
	}
	if s := f.until("t", mesos.TaskKilling, mesos.TaskKilled); s.Healthy == nil || *s.Healthy {
		t.Errorf("got %+v, want killed for its illness", s)
	}
}
