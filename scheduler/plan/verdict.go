package plan

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"millrace/scheduler"
)

// verdict is what the end of an attempt means.
type verdict struct {
	// state is the task's, attempt the attempt's.
	state, attempt scheduler.State
	reason         string
	// wait is until the next try, for StateUpForRetry; lost counts the attempt as infrastructure's.
	wait time.Duration
	lost bool
	// output keeps what the task has put out also without success.
	output bool
}

// verdict decides by outcome:
//
//	asked to end          cancelled, whatever it says; or a timeout, if it was because it did not start in time; or what a person asked
//	                      for, see clear.go
//	exited 0              success, unless its output is bad
//	exited 99             skipped
//	exited 64             failed, never again
//	exited, signal        tried again as Retry says
//	timeout               the same, as exit code 124
//	refused               failed, never again
//	lost                  tried again, InfraRetry times; this does not count as a try
func (s *step) verdict(i int, rep *scheduler.Report) verdict {
	t, task := &s.Tasks[i], s.Spec(i)
	if v, ok := s.asked(i, describe(rep)); ok {
		return v
	}
	switch rep.Outcome {
	case scheduler.OutcomeLost:
		return s.lost(t, task, rep)
	case scheduler.OutcomeRefused:
		return final(scheduler.StateFailed, sentence("could not be started", rep.Reason))
	case scheduler.OutcomeExited:
		if rep.Signal == "" && rep.Exit == 0 {
			if bad := badOutput(rep); bad != "" {
				return s.failed(t, task, bad)
			}
			return final(scheduler.StateSuccess, "")
		}
		if rep.Signal == "" && rep.Exit == scheduler.ExitSkip {
			return final(scheduler.StateSkipped, "the task decided to skip (exit code 99)")
		}
		if rep.Signal == "" && rep.Exit == scheduler.ExitNoRetry {
			return final(scheduler.StateFailed, sentence("exit code 64: never tried again", rep.Reason))
		}
	}
	return s.failed(t, task, describe(rep))
}

// asked is the verdict on a try that was asked to end, and what for.
func (s *step) asked(i int, reason string) (verdict, bool) {
	kill := s.Tasks[i].Kill
	state, ordered := wish(kill)
	if kill == KillCancelled {
		state, ordered = scheduler.StateCancelled, true
	}
	return verdict{state: state, attempt: scheduler.StateCancelled, reason: sentence(kill, reason)}, ordered
}

func final(state scheduler.State, reason string) verdict {
	return verdict{state: state, attempt: state, reason: reason}
}

// failed retries as the task says. Attempts lost to infrastructure are not tries, nor are those before a clear.
func (s *step) failed(t *scheduler.TaskRun, task *scheduler.Task, reason string) verdict {
	retry := &task.Retry
	tries := t.Try - t.Cleared - t.Lost
	switch {
	case tries > retry.Limit:
		if retry.Limit > 0 {
			reason = fmt.Sprintf("%s, and all %d retries are used up", reason, retry.Limit)
		}
		return final(scheduler.StateFailed, reason)
	case slices.Contains(retry.NeverOn, t.Exit), len(retry.OnExit) > 0 && !slices.Contains(retry.OnExit, t.Exit):
		return final(scheduler.StateFailed, reason+", which is not to be tried again")
	}
	return verdict{
		state: scheduler.StateUpForRetry, attempt: scheduler.StateFailed, reason: reason, wait: retryWait(retry, tries, s.rng),
	}
}

func (s *step) lost(t *scheduler.TaskRun, task *scheduler.Task, rep *scheduler.Report) verdict {
	reason := sentence("lost to infrastructure", rep.Reason)
	v := verdict{state: scheduler.StateFailed, attempt: scheduler.StateFailed, reason: reason, lost: true}
	if t.Lost >= task.InfraRetry {
		v.reason = fmt.Sprintf("%s, and all %d infra retries are used up", reason, task.InfraRetry)
		return v
	}
	v.state, v.wait = scheduler.StateUpForRetry, lostWait(t.Lost)
	return v
}

// retryWait is the wait after try number tries: delay × backoff^(tries-1), at most max_delay, and with jitter a random part of that.
func retryWait(r *scheduler.Retry, tries int, rng *rand.Rand) time.Duration {
	wait := float64(r.Delay)
	if r.Backoff > 1 {
		wait *= math.Pow(r.Backoff, float64(tries-1))
	}
	if limit := float64(r.MaxDelay); limit > 0 {
		wait = min(wait, limit)
	}
	wait = min(wait, float64(maxWait))
	if r.Jitter == "full" {
		wait *= rng.Float64()
	}
	return time.Duration(wait)
}

// maxWait bounds any wait: a backoff without max_delay must not overflow, or sleep for centuries.
const maxWait = 7 * 24 * time.Hour

// lostWait is nothing for the first loss, then 1 s, 2 s, 4 s … 1 min: an executor that loses everything is not hammered.
func lostWait(before int) time.Duration {
	if before == 0 {
		return 0
	}
	return min(time.Second<<min(before-1, 6), time.Minute)
}

func describe(rep *scheduler.Report) string {
	switch {
	case rep.Outcome == scheduler.OutcomeTimeout:
		return sentence("ran into its timeout", rep.Reason)
	case rep.Outcome != scheduler.OutcomeExited:
		return sentence(string(rep.Outcome), rep.Reason)
	case rep.Signal != "":
		return sentence("ended by "+rep.Signal, rep.Reason)
	}
	return sentence(fmt.Sprintf("exit code %d", rep.Exit), rep.Reason)
}

// badOutput says what is wrong with a task's output, or "".
func badOutput(rep *scheduler.Report) string {
	switch {
	case rep.OutputError != "":
		return "its output can not be taken: " + rep.OutputError
	case len(rep.Output) > scheduler.MaxOutput:
		return fmt.Sprintf("its output has %d bytes, and those above %d must come through the object store", len(rep.Output), scheduler.MaxOutput)
	case len(rep.Output) > 0 && !json.Valid(rep.Output):
		return "its output (MILLRACE_OUTPUT) is not JSON"
	}
	return ""
}
