package mesosexec

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// Known is what is known of a task when an update of it comes.
type Known struct {
	// Attempt is the attempt that it is, "" if there is none of its id. Ours says then that the task carries our labels all the same.
	Attempt string
	Ours    bool
	// Node is the hostname of the agent that it was launched on, "" if it was not.
	Node string
	// Ended says that its end was reported and taken, or that its results count no more.
	Ended bool
	// Killed says that we have asked it to end, TimedOut that this was because of its time-out.
	Killed, TimedOut bool
	// Started says that an update of its agent or executor has come; Accepts is how many ACCEPTs were sent with it.
	Started bool
	Accepts int
	// Unreachable says that this is what was reported last.
	Unreachable bool
	// Settled says that no ACCEPT can be under way any more, and that the master has heard of all agents: the re-registration time-out of agents has
	// passed since the ACCEPT and since the master began to lead.
	Settled bool
}

// Do says what is to be done because of an update.
type Do string

// What there is to do.
const (
	DoNothing  Do = "nothing"
	DoReport   Do = "report"
	DoKill     Do = "kill"     // the task, which is not to be
	DoAsk      Do = "ask"      // reconcile the task, now or later: the update does not say how it is
	DoRelaunch Do = "relaunch" // the attempt: it was never sent
)

// Verdict is what an update means.
type Verdict struct {
	Do Do
	// Report is for DoReport. Log and the like are the executor's to fill in.
	Report scheduler.Report
	// Acknowledge says that the update is to be acknowledged, once what is to be done is committed.
	Acknowledge bool
	// Avoid says that the next attempt is better made on another agent.
	Avoid bool
	// Why says for people why something other than a report is done.
	Why string
}

// Judge says what an update of a task means.
//
//	STAGING, STARTING, KILLING   nothing; running, if the attempt was unreachable
//	RUNNING                      running
//	FINISHED                     exited, 0
//	FAILED                       exited, with the code or signal that the message has; timeout for MAX_COMPLETION_TIME_REACHED; lost if it was not
//	                             the task's doing: the container could not be launched, the executor was gone …
//	KILLED                       exited or timeout if we asked for it, or the health check failed; else lost
//	ERROR                        refused
//	DROPPED                      lost, and better on another agent
//	LOST                         as DROPPED, GONE or UNREACHABLE, which is what frameworks that are not partition-aware are told
//	UNREACHABLE                  unreachable
//	GONE_BY_OPERATOR             lost
//	GONE, UNKNOWN                lost, but asked again first while the attempt may be on its way; launched if it never was
//
// When it is asked after a task, the master says FAILED or KILLED without what the executor said of it: the exit code. The update of the executor has not been
// acknowledged then, and comes.
//
// An attempt that has ended is reported no more: if it comes back, it is killed; so is a task of ours that there is no attempt of. ERROR and DROPPED are about a
// launch, not about a task: if there may be another launch of the same id, the task is asked after.
func Judge(st *mesos.TaskStatus, k Known) Verdict {
	v := judge(st, &k)
	v.Acknowledge = len(st.UUID) > 0
	if v.Do == DoReport {
		v.Report.Attempt, v.Report.Node = k.Attempt, k.Node
	}
	return v
}

func judge(st *mesos.TaskStatus, k *Known) Verdict {
	alive := st.State == mesos.TaskRunning || st.State == mesos.TaskStarting || st.State == mesos.TaskStaging
	switch {
	case k.Attempt == "" && k.Ours && alive:
		return Verdict{Do: DoKill, Why: "the task has our labels, and no attempt is known of it"}
	case k.Attempt == "":
		return Verdict{Do: DoNothing, Why: "the task is not ours, or has ended"}
	case k.Ended && alive:
		return Verdict{Do: DoKill, Why: "the attempt has ended for us, and its task came back"}
	case k.Ended:
		return Verdict{Do: DoNothing, Why: "the attempt has ended"}
	}
	switch st.State {
	case mesos.TaskStaging, mesos.TaskStarting, mesos.TaskKilling:
		if k.Unreachable {
			return runs(st)
		}
		return Verdict{Do: DoNothing}
	case mesos.TaskRunning:
		return runs(st)
	case mesos.TaskFinished:
		return ended(st, scheduler.OutcomeExited, 0, "", "")
	case mesos.TaskFailed, mesos.TaskKilled:
		if st.Reason == mesos.ReasonReconciliation {
			return Verdict{Do: DoAsk, Why: "it has ended, and the update that says how is to come"}
		}
		if st.State == mesos.TaskKilled {
			return killed(st, k)
		}
		return failed(st)
	case mesos.TaskError, mesos.TaskDropped:
		return notLaunched(st, k)
	case mesos.TaskUnreachable:
		return unreachable(st)
	case mesos.TaskGoneByOperator:
		return lost(st, "an operator said that its agent is gone")
	case mesos.TaskGone, mesos.TaskUnknown:
		return unknown(st, k)
	case mesos.TaskLost:
		return lostUnaware(st, k)
	}
	return Verdict{Do: DoAsk, Why: fmt.Sprintf("the state %q is not known", st.State)}
}

func runs(st *mesos.TaskStatus) Verdict {
	rep := scheduler.Report{Outcome: scheduler.OutcomeRunning, External: container(st)}
	if st.Source == mesos.SourceExecutor { // The master's updates have the time at which they were made up.
		rep.StartedAt = at(st)
	}
	return Verdict{Do: DoReport, Report: rep}
}

func unreachable(st *mesos.TaskStatus) Verdict {
	return Verdict{Do: DoReport, Report: scheduler.Report{
		Outcome: scheduler.OutcomeUnreachable, Exit: noExit, Reason: reason("the master has lost sight of its agent", st.Message),
	}}
}

// noExit is the exit code of what has none.
const noExit = -1

func ended(st *mesos.TaskStatus, o scheduler.Outcome, exit int, signal, why string) Verdict {
	return Verdict{Do: DoReport, Report: scheduler.Report{
		Outcome: o, Exit: exit, Signal: signal, Reason: why, EndedAt: at(st), External: container(st),
	}}
}

func lost(st *mesos.TaskStatus, why string) Verdict {
	return ended(st, scheduler.OutcomeLost, noExit, "", reason(why, st.Message))
}

// failed looks at the reason: without one, it was the task itself.
func failed(st *mesos.TaskStatus) Verdict {
	exit, signal, ok := exitOf(st.Message)
	switch st.Reason {
	case mesos.ReasonMaxCompletionTime:
		return ended(st, scheduler.OutcomeTimeout, noExit, "", reason("ran longer than its max_completion_time", st.Message))
	case mesos.ReasonContainerLimitationMemory:
		return ended(st, scheduler.OutcomeExited, noExit, sigkill, reason("out of memory", st.Message))
	case mesos.ReasonContainerLimitationDisk:
		return ended(st, scheduler.OutcomeExited, noExit, sigkill, reason("wrote more to its disk than it may", st.Message))
	case mesos.ReasonContainerLimitation:
		return ended(st, scheduler.OutcomeExited, noExit, sigkill, reason("had more of a resource than it may", st.Message))
	case mesos.ReasonTaskHealthCheck:
		return ended(st, scheduler.OutcomeExited, noExit, sigkill, reason("failed its health check", st.Message))
	case mesos.ReasonContainerLaunchFailed, mesos.ReasonExecutorRegistrationTimeout:
		v := lost(st, "its agent could not start it")
		v.Avoid = true
		return v
	}
	switch {
	case ok && (exit != 0 || signal != ""):
		return ended(st, scheduler.OutcomeExited, exit, signal, "")
	case st.Source == mesos.SourceExecutor && st.Reason == "":
		return ended(st, scheduler.OutcomeExited, noExit, "", reason("failed", st.Message))
	}
	return lost(st, words(st.Reason))
}

const (
	sigkill = "SIGKILL"
	sigterm = "SIGTERM"
)

// killed does not ask how the task exited: one that was killed may have exited with anything, and has not succeeded.
func killed(st *mesos.TaskStatus, k *Known) Verdict {
	exit, signal, _ := exitOf(st.Message)
	if exit == 0 || signal == "" && exit == noExit {
		exit, signal = noExit, sigterm
	}
	switch {
	case k.TimedOut:
		return ended(st, scheduler.OutcomeTimeout, noExit, "", "")
	case k.Killed:
		return ended(st, scheduler.OutcomeExited, exit, signal, "")
	case st.Healthy != nil && !*st.Healthy:
		return ended(st, scheduler.OutcomeExited, exit, signal, "failed its health check")
	}
	return lost(st, reason("killed, and not by us", words(st.Reason)))
}

// notLaunched is about ERROR and DROPPED: a launch was not carried out.
func notLaunched(st *mesos.TaskStatus, k *Known) Verdict {
	if k.Started || k.Accepts > 1 || strings.HasPrefix(st.Message, "Task has duplicate ID") {
		return Verdict{Do: DoAsk, Why: "a launch was not carried out, but another may have been: " + st.Message}
	}
	if st.State == mesos.TaskError {
		return ended(st, scheduler.OutcomeRefused, noExit, "", reason(words(st.Reason), st.Message))
	}
	v := lost(st, "was not launched")
	v.Avoid = true
	return v
}

// unknown is about what the master, or the agent, knows nothing of.
func unknown(st *mesos.TaskStatus, k *Known) Verdict {
	switch {
	case k.Accepts == 0 && !k.Started:
		return Verdict{Do: DoRelaunch, Why: "it was never sent"}
	case !k.Settled && (!k.Started || st.State == mesos.TaskUnknown):
		return Verdict{Do: DoAsk, Why: "it may be on its way, or its agent on its way back: " + st.Message}
	}
	return lost(st, "the cluster knows nothing of it")
}

// lostUnaware translates what frameworks are told that are not partition-aware, and others when an agent has said good-bye.
func lostUnaware(st *mesos.TaskStatus, k *Known) Verdict {
	switch {
	case st.Reason == mesos.ReasonInvalidOffers:
		return notLaunched(st, k)
	case st.Reason == mesos.ReasonReconciliation && strings.Contains(st.Message, "unknown to the agent"):
		return unknown(st, k)
	}
	return unreachable(st)
}

// exitMessage is how Mesos's executors say how a task ended: there is no field for it. The first word is of the command executor and of the default
// executor, the second of the one for Docker.
var exitMessage = regexp.MustCompile(`^(?:Command|Container) (?:exited with status (\d+)|terminated with signal ([^(]+))`)

// signals are the names of signals by what strsignal of glibc says.
var signals = map[string]string{
	"Hangup": "SIGHUP", "Interrupt": "SIGINT", "Quit": "SIGQUIT", "Illegal instruction": "SIGILL", "Trace/breakpoint trap": "SIGTRAP", "Aborted": "SIGABRT",
	"Bus error": "SIGBUS", "Floating point exception": "SIGFPE", "Killed": sigkill, "User defined signal 1": "SIGUSR1", "Segmentation fault": "SIGSEGV",
	"User defined signal 2": "SIGUSR2", "Broken pipe": "SIGPIPE", "Alarm clock": "SIGALRM", "Terminated": sigterm, "Stack fault": "SIGSTKFLT",
	"CPU time limit exceeded": "SIGXCPU", "File size limit exceeded": "SIGXFSZ", "Bad system call": "SIGSYS",
}

// exitOf reads a message; the exit code is noExit if there is none.
func exitOf(message string) (exit int, signal string, ok bool) {
	m := exitMessage.FindStringSubmatch(message)
	if m == nil {
		return noExit, "", false
	}
	if m[1] != "" {
		exit, err := strconv.Atoi(m[1])
		if err != nil || exit > math.MaxUint8 {
			return noExit, "", false
		}
		return exit, "", true
	}
	text := strings.TrimSpace(m[2])
	if name := signals[text]; name != "" {
		return noExit, name, true
	}
	return noExit, text, true
}

// container returns the id of the container, with those that it is in before it, or "".
func container(st *mesos.TaskStatus) string {
	if st.ContainerStatus == nil {
		return ""
	}
	var ids []string
	for id := st.ContainerStatus.ContainerID; id != nil && len(ids) < 8; id = id.Parent {
		ids = append([]string{id.Value}, ids...)
	}
	return strings.Join(ids, ".")
}

// at returns the time of an update, zero if it has none.
func at(st *mesos.TaskStatus) time.Time {
	if !(st.Timestamp > 0 && st.Timestamp < math.MaxInt32*2) {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(st.Timestamp * 1e6))).UTC()
}

// words writes a reason for people: REASON_AGENT_DRAINING is "agent draining".
func words(r mesos.Reason) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(r), "REASON_"), "_", " "))
}

// reason joins what is known.
func reason(why, message string) string {
	switch {
	case why == "":
		return message
	case message == "":
		return why
	}
	return why + ": " + message
}
