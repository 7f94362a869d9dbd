package mesosexec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// reasons are all of the protocol, and none.
var reasons = []mesos.Reason{
	"", "REASON_COMMAND_EXECUTOR_FAILED", "REASON_CONTAINER_LAUNCH_FAILED", "REASON_CONTAINER_LIMITATION", "REASON_CONTAINER_LIMITATION_DISK",
	"REASON_CONTAINER_LIMITATION_MEMORY", "REASON_CONTAINER_PREEMPTED", "REASON_CONTAINER_UPDATE_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED",
	"REASON_EXECUTOR_REGISTRATION_TIMEOUT", "REASON_EXECUTOR_REREGISTRATION_TIMEOUT", "REASON_EXECUTOR_TERMINATED", "REASON_EXECUTOR_UNREGISTERED",
	"REASON_FRAMEWORK_REMOVED", "REASON_GC_ERROR", "REASON_INVALID_FRAMEWORKID", "REASON_INVALID_OFFERS", "REASON_IO_SWITCHBOARD_EXITED",
	"REASON_MASTER_DISCONNECTED", "REASON_RECONCILIATION", "REASON_RESOURCES_UNKNOWN", "REASON_AGENT_DISCONNECTED", "REASON_AGENT_DRAINING",
	"REASON_AGENT_REMOVED", "REASON_AGENT_REMOVED_BY_OPERATOR", "REASON_AGENT_REREGISTERED", "REASON_AGENT_RESTARTED", "REASON_AGENT_UNKNOWN",
	"REASON_TASK_KILLED_DURING_LAUNCH", "REASON_TASK_CHECK_STATUS_UPDATED", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", "REASON_TASK_GROUP_INVALID",
	"REASON_TASK_GROUP_UNAUTHORIZED", "REASON_TASK_INVALID", "REASON_TASK_UNAUTHORIZED", "REASON_TASK_UNKNOWN", "REASON_OF_TOMORROW",
}

// short writes a verdict: "exited 3: reason", "lost avoid", "kill".
func short(v Verdict) string {
	if v.Do != DoReport {
		return string(v.Do)
	}
	out := string(v.Report.Outcome)
	if v.Report.Outcome == scheduler.OutcomeExited {
		out += " " + strings.TrimSpace(fmt.Sprint(v.Report.Exit, " ", v.Report.Signal))
	}
	if v.Avoid {
		out += " avoid"
	}
	return out
}

var (
	launched = Known{Attempt: "a", Accepts: 1}
	started  = Known{Attempt: "a", Accepts: 1, Started: true}
)

// TestStatesAndReasons goes through all states with all reasons, of an attempt that has started. What is not named is the same for all reasons.
func TestStatesAndReasons(t *testing.T) {
	t.Parallel()
	lostTask := map[mesos.Reason]string{"": "exited -1", "REASON_RECONCILIATION": "ask", "REASON_MAX_COMPLETION_TIME_REACHED": "timeout"}
	for _, r := range []mesos.Reason{"REASON_CONTAINER_LIMITATION", "REASON_CONTAINER_LIMITATION_DISK", "REASON_CONTAINER_LIMITATION_MEMORY", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"} {
		lostTask[r] = "exited -1 SIGKILL"
	}
	for _, r := range []mesos.Reason{"REASON_CONTAINER_LAUNCH_FAILED", "REASON_EXECUTOR_REGISTRATION_TIMEOUT"} {
		lostTask[r] = "lost avoid"
	}
	want := map[mesos.TaskState]struct {
		all string
		but map[mesos.Reason]string
	}{
		mesos.TaskStaging: {"nothing", nil}, mesos.TaskStarting: {"nothing", nil}, mesos.TaskKilling: {"nothing", nil}, mesos.TaskRunning: {"running", nil},
		mesos.TaskFinished: {"exited 0", nil}, mesos.TaskFailed: {"lost", lostTask}, mesos.TaskKilled: {"lost", map[mesos.Reason]string{"REASON_RECONCILIATION": "ask"}},
		mesos.TaskError: {"ask", nil}, mesos.TaskDropped: {"ask", nil}, mesos.TaskUnreachable: {"unreachable", nil}, mesos.TaskGone: {"lost", nil},
		mesos.TaskGoneByOperator: {"lost", nil}, mesos.TaskUnknown: {"ask", nil},
		mesos.TaskLost: {"unreachable", map[mesos.Reason]string{"REASON_INVALID_OFFERS": "ask"}},
	}
	for _, state := range mesos.States() {
		for _, r := range reasons {
			expect, ok := want[state].but[r]
			if !ok {
				expect = want[state].all
			}
			got := Judge(&mesos.TaskStatus{State: state, Reason: r, Source: mesos.SourceExecutor, UUID: []byte("u")}, started)
			if short(got) != expect || !got.Acknowledge {
				t.Errorf("%s, %s: got %s, acknowledged %v, want %s, acknowledged", state, r, short(got), got.Acknowledge, expect)
			}
		}
	}
}

// TestWhateverIsKnown goes through all states, reasons, messages and all that can be known, and holds the verdicts to what must never be.
func TestWhateverIsKnown(t *testing.T) {
	t.Parallel()
	messages := []string{"", "Command exited with status 0", "Command exited with status 7", "Command terminated with signal Killed", "Task has duplicate ID: a"}
	n := 0
	for _, state := range append(mesos.States(), "", "TASK_OF_TOMORROW") {
		for _, r := range reasons {
			for _, message := range messages {
				st := &mesos.TaskStatus{State: state, Reason: r, Message: message, Source: mesos.SourceMaster}
				for bits := range 1 << 8 {
					n++
					judged(t, st, bits)
				}
			}
		}
	}
	if n < 500_000 {
		t.Errorf("got %d cases, want more", n)
	}
}

// judged holds the verdict on a status to what must never be; the bits say what is known.
func judged(t *testing.T, st *mesos.TaskStatus, bits int) {
	t.Helper()
	bit := func(i int) bool { return bits&(1<<i) != 0 }
	k := Known{Ours: bit(0), Ended: bit(1), Killed: bit(2), TimedOut: bit(3), Started: bit(4), Unreachable: bit(5), Settled: bit(6), Accepts: bits % 3}
	if bit(7) {
		k.Attempt = "a"
	}
	v := Judge(st, k)
	if fault := wrong(st, k, v); fault != "" {
		t.Fatalf("%s, %s, %q, known %+v: got %s: %s", st.State, st.Reason, st.Message, k, short(v), fault)
	}
}

// wrong says what must never be in a verdict.
func wrong(st *mesos.TaskStatus, k Known, v Verdict) string {
	rep := v.Report
	alive := st.State == mesos.TaskRunning || st.State == mesos.TaskStarting || st.State == mesos.TaskStaging
	end := v.Do == DoReport && rep.Outcome != scheduler.OutcomeRunning && rep.Outcome != scheduler.OutcomeUnreachable
	ranToEnd := rep.Outcome == scheduler.OutcomeExited || rep.Outcome == scheduler.OutcomeTimeout
	switch {
	case v.Acknowledge:
		return "an update of the master is acknowledged"
	case v.Do == DoReport && (k.Attempt == "" || k.Ended || rep.Attempt != k.Attempt):
		return "a report on no attempt, or on one that has ended"
	case v.Do == DoKill && !alive:
		return "what does not run is killed"
	case v.Do == DoKill && k.Attempt == "" && !k.Ours:
		return "what is not ours is killed"
	case alive && (k.Ended && k.Attempt != "" || k.Ours && k.Attempt == "") && v.Do != DoKill:
		return "what must not run is let be"
	case end && rep.Outcome == scheduler.OutcomeExited && rep.Exit == 0 && rep.Signal == "" && st.State != mesos.TaskFinished:
		return "success without FINISHED"
	case end && ranToEnd && !st.State.Terminal():
		return "an end of what has not ended"
	case end && (alive || st.State == mesos.TaskUnreachable || st.State == mesos.TaskKilling):
		return "an end of what may run"
	case v.Do == DoRelaunch && (k.Accepts > 0 || k.Started || k.Ended):
		return "a second launch of what may have been launched"
	case end && st.State == mesos.TaskUnknown && !k.Settled:
		return "lost before all agents are back"
	case end && (st.State == mesos.TaskError || st.State == mesos.TaskDropped) && (k.Started || k.Accepts > 1):
		return "the end of a task because of a second launch"
	}
	return ""
}

func TestJudge(t *testing.T) {
	t.Parallel()
	no := false
	tests := []struct {
		name   string
		status mesos.TaskStatus
		known  Known
		want   string
		reason string
	}{
		{"exit code", mesos.TaskStatus{State: mesos.TaskFailed, Message: "Command exited with status 3"}, started, "exited 3", ""},
		{"exit code of Docker", mesos.TaskStatus{State: mesos.TaskFailed, Message: "Container exited with status 99"}, started, "exited 99", ""},
		{"signal", mesos.TaskStatus{State: mesos.TaskFailed, Message: "Command terminated with signal Segmentation fault (core dumped)"}, started, "exited -1 SIGSEGV", ""},
		{"another signal", mesos.TaskStatus{State: mesos.TaskFailed, Message: "Command terminated with signal Real-time signal 3"}, started, "exited -1 Real-time signal 3", ""},
		{"failed with 0", mesos.TaskStatus{State: mesos.TaskFailed, Source: mesos.SourceExecutor, Message: "Command exited with status 0"}, started, "exited -1", "failed: Command exited with status 0"},
		{"no message", mesos.TaskStatus{State: mesos.TaskFailed, Source: mesos.SourceAgent}, started, "lost", ""},
		{"out of memory", mesos.TaskStatus{State: mesos.TaskFailed, Reason: mesos.ReasonContainerLimitationMemory, Message: "Memory limit exceeded: 32MB"}, started,
			"exited -1 SIGKILL", "out of memory: Memory limit exceeded: 32MB"},
		{"not fetched", mesos.TaskStatus{State: mesos.TaskFailed, Source: mesos.SourceAgent, Reason: mesos.ReasonContainerLaunchFailed, Message: "exited with status 1"}, launched,
			"lost avoid", "its agent could not start it: exited with status 1"},
		{"failed, by the master's own words", mesos.TaskStatus{State: mesos.TaskFailed, Source: mesos.SourceMaster, Reason: mesos.ReasonReconciliation,
			Message: "Reconciliation: Latest task state"}, started, "ask", ""},
		{"drained", mesos.TaskStatus{State: mesos.TaskKilled, Reason: mesos.ReasonAgentDraining, Message: "Command terminated with signal Terminated"}, started,
			"lost", "killed, and not by us: agent draining: Command terminated with signal Terminated"},
		{"killed by us", mesos.TaskStatus{State: mesos.TaskKilled, Message: "Command terminated with signal Killed"}, Known{Attempt: "a", Killed: true}, "exited -1 SIGKILL", ""},
		{"killed by us, exited with 7", mesos.TaskStatus{State: mesos.TaskKilled, Message: "Command exited with status 7"}, Known{Attempt: "a", Killed: true}, "exited 7", ""},
		{"killed by us, exited with 0", mesos.TaskStatus{State: mesos.TaskKilled, Message: "Command exited with status 0"}, Known{Attempt: "a", Killed: true}, "exited -1 SIGTERM", ""},
		{"killed by us before it was started", mesos.TaskStatus{State: mesos.TaskKilled}, Known{Attempt: "a", Killed: true}, "exited -1 SIGTERM", ""},
		{"timed out", mesos.TaskStatus{State: mesos.TaskKilled, Message: "Command exited with status 0"}, Known{Attempt: "a", Killed: true, TimedOut: true}, "timeout", ""},
		{"unhealthy", mesos.TaskStatus{State: mesos.TaskKilled, Healthy: &no, Message: "Command terminated with signal Killed"}, started, "exited -1 SIGKILL", "failed its health check"},
		{"invalid", mesos.TaskStatus{State: mesos.TaskError, Reason: mesos.ReasonTaskInvalid, Message: "'a/b' contains invalid characters"}, launched, "refused", "task invalid: 'a/b' contains invalid characters"},
		{"duplicate of one that we have not heard of yet", mesos.TaskStatus{State: mesos.TaskError, Reason: mesos.ReasonTaskInvalid, Message: "Task has duplicate ID: a"}, launched, "ask", ""},
		{"offer gone", mesos.TaskStatus{State: mesos.TaskDropped, Reason: mesos.ReasonInvalidOffers}, launched, "lost avoid", "was not launched"},
		{"offer gone, of the second of two launches", mesos.TaskStatus{State: mesos.TaskDropped, Reason: mesos.ReasonInvalidOffers}, Known{Attempt: "a", Accepts: 2}, "ask", ""},
		{"offer gone, not partition-aware", mesos.TaskStatus{State: mesos.TaskLost, Reason: mesos.ReasonInvalidOffers}, launched, "lost avoid", "was not launched"},
		{"unknown to the agent, not partition-aware", mesos.TaskStatus{State: mesos.TaskLost, Reason: mesos.ReasonReconciliation, Message: "Reconciliation: Task is unknown to the agent"}, started, "lost", ""},
		{"back, still starting", mesos.TaskStatus{State: mesos.TaskStarting}, Known{Attempt: "a", Started: true, Unreachable: true}, "running", ""},
		{"gone, on its way", mesos.TaskStatus{State: mesos.TaskGone}, launched, "ask", ""},
		{"gone, and nothing on its way", mesos.TaskStatus{State: mesos.TaskGone}, Known{Attempt: "a", Accepts: 1, Settled: true}, "lost", "the cluster knows nothing of it"},
		{"unknown, never sent", mesos.TaskStatus{State: mesos.TaskUnknown}, Known{Attempt: "a"}, "relaunch", ""},
		{"unknown, and all agents are back", mesos.TaskStatus{State: mesos.TaskUnknown}, Known{Attempt: "a", Accepts: 1, Started: true, Settled: true}, "lost", "the cluster knows nothing of it"},
		{"back after its end", mesos.TaskStatus{State: mesos.TaskRunning}, Known{Attempt: "a", Ended: true}, "kill", ""},
		{"an orphan of ours", mesos.TaskStatus{State: mesos.TaskRunning}, Known{Ours: true}, "kill", ""},
		{"somebody's", mesos.TaskStatus{State: mesos.TaskRunning}, Known{}, "nothing", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := Judge(&test.status, test.known)
			if short(got) != test.want || test.reason != "" && got.Report.Reason != test.reason {
				t.Errorf("got %s with %q, want %s with %q", short(got), got.Report.Reason, test.want, test.reason)
			}
		})
	}
}

// TestJudgeTraces judges every update that a real master was seen to send, of a task that is known as far as the trace has come.
func TestJudgeTraces(t *testing.T) {
	t.Parallel()
	got, updates := map[string]int{}, 0
	for _, r := range replays(t) {
		known := map[string]Known{}
		for i := range r.events {
			if r.events[i].Update == nil {
				continue
			}
			st := &r.events[i].Update.Status
			k, ok := known[st.TaskID.Value]
			if !ok {
				k = launched
			}
			v := Judge(st, k)
			updates++
			got[fmt.Sprintf("%s %s: %s", st.State, st.Reason, short(v))]++
			k.Started, k.Killed = k.Started || v.Acknowledge, k.Killed || st.State == mesos.TaskKilling
			k.Unreachable = v.Report.Outcome == scheduler.OutcomeUnreachable
			known[st.TaskID.Value] = k
			if v.Acknowledge != (st.Source != mesos.SourceMaster) {
				t.Errorf("%s: %+v: acknowledged %v", r.name, st, v.Acknowledge)
			}
		}
	}
	want := map[string]int{
		"TASK_DROPPED REASON_INVALID_OFFERS: lost avoid":         2,
		"TASK_ERROR REASON_TASK_INVALID: ask":                    1,
		"TASK_ERROR REASON_TASK_INVALID: refused":                3,
		"TASK_FAILED : exited -1 SIGSEGV":                        1,
		"TASK_FAILED : exited 1":                                 1,
		"TASK_FAILED : exited 127":                               1,
		"TASK_FAILED : exited 3":                                 1,
		"TASK_FAILED : exited 5":                                 1,
		"TASK_FAILED REASON_CONTAINER_LAUNCH_FAILED: lost avoid": 1,
		"TASK_FINISHED : exited 0":                               45,
		"TASK_GONE REASON_RECONCILIATION: ask":                   3,
		"TASK_KILLED : exited -1 SIGKILL":                        2,
		"TASK_KILLED : exited -1 SIGTERM":                        6,
		"TASK_KILLED : exited 7":                                 1,
		"TASK_KILLED : lost":                                     1,
		"TASK_KILLING : nothing":                                 9,
		"TASK_LOST REASON_AGENT_REMOVED: unreachable":            2,
		"TASK_LOST REASON_INVALID_OFFERS: lost avoid":            1,
		"TASK_LOST REASON_RECONCILIATION: ask":                   1,
		"TASK_RUNNING : running":                                 63,
		"TASK_RUNNING REASON_AGENT_REREGISTERED: running":        3,
		"TASK_RUNNING REASON_RECONCILIATION: running":            8,
		"TASK_STARTING : nothing":                                66,
		"TASK_UNKNOWN REASON_RECONCILIATION: ask":                9,
		"TASK_UNREACHABLE REASON_AGENT_REMOVED: unreachable":     2,
		"TASK_UNREACHABLE REASON_RECONCILIATION: unreachable":    2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%d updates: (-want +got)\n%s", updates, diff)
	}
}

func TestReportOfAnUpdate(t *testing.T) {
	t.Parallel()
	status := mesos.TaskStatus{
		State: mesos.TaskRunning, Source: mesos.SourceExecutor, Timestamp: 1795405620.941052,
		ContainerStatus: &mesos.ContainerStatus{ContainerID: &mesos.ContainerID{Value: "in", Parent: &mesos.ContainerID{Value: "out"}}},
	}
	when := time.Date(2026, 11, 23, 3, 47, 0, 941052000, time.UTC)
	known := Known{Attempt: "a", Node: "h"}
	want := scheduler.Report{Attempt: "a", Outcome: scheduler.OutcomeRunning, Node: "h", External: "out.in", StartedAt: when}
	if diff := cmp.Diff(want, Judge(&status, known).Report); diff != "" {
		t.Errorf("report differs (-want +got)\n%s", diff)
	}
	status.State, status.Message = mesos.TaskFailed, "Command exited with status 3"
	want = scheduler.Report{Attempt: "a", Outcome: scheduler.OutcomeExited, Exit: 3, Node: "h", External: "out.in", EndedAt: when}
	if diff := cmp.Diff(want, Judge(&status, known).Report); diff != "" {
		t.Errorf("report differs (-want +got)\n%s", diff)
	}
}
