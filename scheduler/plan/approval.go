package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"millrace/scheduler"
)

// maxMessage bounds what a person is asked, in bytes: it is a reason, and shown in one place with others.
const maxMessage = 2000

// Message returns what a person is asked by task i. The error is a sentence for people.
func (r *Run) Message(i int) (string, error) {
	eval, err := r.parkedEval(i)
	if err != nil {
		return "", err
	}
	text, err := eval.Text(r.Spec(i).Approval.Message, nil)
	if err != nil {
		return "", fmt.Errorf("approval.message: %w", err)
	}
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text, nil
}

// Decide is what was decided on a task that waits for a person.
type Decide struct {
	Task int
	// Attempt is the try that asked: for another one nothing changes.
	Attempt  string
	Decision scheduler.Decision
}

func (e Decide) apply(s *step) {
	if t := &s.Tasks[e.Task]; t.State == scheduler.StateAwaitingInput && s.Attempt(e.Task) == e.Attempt {
		s.decided(e.Task, e.Decision)
	}
}

// expired decides for the person who did not.
func (s *step) expired(i int) {
	ask := s.Spec(i).Approval
	d := scheduler.Decision{Decision: ask.OnExpire, Expired: true, At: s.now}
	if d.Decision == "" {
		d.Decision = scheduler.DecisionReject
	}
	s.decided(i, d)
}

// decided ends the wait for a decision. It is never tried again: a person has spoken, or had the time to.
func (s *step) decided(i int, d scheduler.Decision) {
	if d.At.IsZero() {
		d.At = s.now
	}
	e := Unpark{Task: i, Attempt: s.Attempt(i), Final: true, Reason: decision(&d, s.Spec(i).Approval.Expires)}
	switch {
	case d.Decision == scheduler.DecisionApprove:
		e.State = scheduler.StateSuccess
	case d.Decision == scheduler.DecisionReject && s.Spec(i).Approval.OnReject == scheduler.RejectFail:
		e.State = scheduler.StateFailed
	default:
		e.State = scheduler.StateSkipped
	}
	e.Output, _ = json.Marshal(&d) // texts, and JSON that was checked
	s.unpark(&e)
}

// decision puts a decision into a sentence.
func decision(d *scheduler.Decision, limit time.Duration) string {
	if d.Expired {
		word := map[string]string{scheduler.DecisionApprove: "approved", scheduler.DecisionReject: "rejected"}[d.Decision]
		if word == "" {
			word = "skipped"
		}
		return fmt.Sprintf("%s, since nobody decided within %v", word, limit)
	}
	text := "rejected"
	if d.Decision == scheduler.DecisionApprove {
		text = "approved"
	}
	if d.By != "" {
		text += " by " + d.By
	}
	if d.Option != "" {
		text += ", option " + d.Option
	}
	return strings.TrimSuffix(sentence(text, d.Comment), ": ")
}
