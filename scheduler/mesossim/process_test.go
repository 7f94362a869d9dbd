package mesossim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// dead reports whether a process group has no process left but such as only wait for somebody to notice: not every machine has an init that does.
func dead(group int) bool {
	if syscall.Kill(-group, 0) == syscall.ESRCH {
		return true
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		return false
	}
	for _, name := range files {
		stat, _ := os.ReadFile(name) // It may be gone.
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			return false
		}
	}
	return true
}

func (c *Cluster) pidOf(t *testing.T, id string) int {
	t.Helper()
	for _, task := range c.Tasks() {
		if task.ID == id && task.PID != 0 {
			return task.PID
		}
	}
	t.Fatalf("no process of task %s", id)
	return 0
}

// TestGroupOfProcesses: what a task has started ends with it.
func TestGroupOfProcesses(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	o := f.offer()
	f.launch(o, shell("t", "sleep 1000 & exit 4", o))
	f.until("t", started...)
	if s := f.until("t", mesos.TaskFailed); s.Message != "Command exited with status 4" {
		t.Errorf("got %q", s.Message)
	}
	pid := c.pidOf(t, "t")
	waitFor(t, "end of its children", func() bool { return dead(pid) })
}

// TestTeardown: a framework that is torn down, and one that does not come back in time, take their processes with them.
func TestTeardown(t *testing.T) {
	t.Parallel()
	for _, timeout := range []float64{600, 0.01} {
		c := cluster(t, Options{})
		f := newClient(t, c)
		f.info.FailoverTimeout = timeout
		f.subscribe()
		f.sleeper()
		pid := c.pidOf(t, "t")
		if timeout == 600 {
			f.must(&mesos.Call{Type: mesos.CallTeardown})
		} else {
			f.res.Body.Close()
		}
		waitFor(t, "end of the process", func() bool { return dead(pid) })
		waitFor(t, "the framework to be removed", func() bool { return f.subscribe().Error != nil })
	}
}

// TestKillGrace: SIGTERM is followed by SIGKILL after the grace of the task; that of the call is heeded by agents with a flag only.
func TestKillGrace(t *testing.T) {
	t.Parallel()
	hour := &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: time.Hour}}
	short := &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: time.Millisecond}}
	for _, s := range []struct {
		name       string
		task, call *mesos.KillPolicy
		flag       bool
		killed     bool
	}{
		{"of the task", short, nil, false, true},
		{"of the call", hour, short, true, true},
		{"of the call, without the flag", hour, short, false, false},
	} {
		c := cluster(t, Options{HTTPCommandExecutor: s.flag})
		f := newClient(t, c)
		f.subscribe()
		o := f.offer()
		task := shell("t", `trap "" TERM; echo set; while true; do sleep 0.1; done`, o)
		task.KillPolicy = s.task
		f.launch(o, task)
		f.until("t", started...)
		waitFor(t, "the trap", func() bool {
			out, err := os.ReadFile(filepath.Join(c.Tasks()[0].Dir, "stdout"))
			return err == nil && len(out) > 0
		})
		f.must(&mesos.Call{Type: mesos.CallKill, Kill: &mesos.Kill{TaskID: task.TaskID, AgentID: o.AgentID, KillPolicy: s.call}})
		f.until("t", mesos.TaskKilling)
		if s.killed {
			f.until("t", mesos.TaskKilled)
		} else if c.mu.Lock(); c.agents[0].order[0].grace.real.Stop() != true { // It would have run out in an hour.
			t.Errorf("%s: the grace is over", s.name)
			c.mu.Unlock()
		} else {
			c.mu.Unlock()
		}
	}
}

// TestRestartOfAgent: with checkpoint a task outlives its agent, and what it had to say is said afterwards; without, it is lost (unobserved).
func TestRestartOfAgent(t *testing.T) {
	t.Parallel()
	for _, checkpoint := range []bool{true, false} {
		c := cluster(t, Options{})
		f := newClient(t, c)
		f.info.Checkpoint = checkpoint
		f.subscribe()
		o := f.offer()
		f.launch(o, shell("t", "while ! test -e go; do sleep 0.02; done", o))
		f.until("t", started...)
		must(t, c.KillAgent(0))
		if !checkpoint {
			if s := f.status("t", mesos.TaskLost); s.Reason != mesos.ReasonAgentDisconnected {
				t.Errorf("got %+v", s)
			}
			continue
		}
		must(t, os.WriteFile(filepath.Join(c.Tasks()[0].Dir, "go"), nil, 0o600))
		waitFor(t, "end of the task", func() bool { return c.Tasks()[0].State == mesos.TaskFinished })
		must(t, c.StartAgent(0))
		f.until("t", mesos.TaskFinished)
	}
}
