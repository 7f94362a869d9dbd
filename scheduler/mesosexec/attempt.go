package mesosexec

import (
	"encoding/json"
	"fmt"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mask"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
	"millrace/scheduler/mesosexec/sandbox"
)

// kept is what is known of an attempt after a restart. It is written before the first ACCEPT that names the attempt, and before each further one.
type kept struct {
	Attempt string        `json:"attempt"`
	Task    string        `json:"task"`
	Group   string        `json:"group,omitempty"`
	Agent   string        `json:"agent,omitempty"`
	URL     string        `json:"url,omitempty"` // of the agent
	Machine match.Machine `json:"machine,omitzero"`
	// Accepts is how many ACCEPTs were sent with it, SentAt when the last was.
	Accepts int       `json:"accepts,omitempty"`
	SentAt  time.Time `json:"sent_at,omitzero"`
	// Started says that its agent or executor has spoken of it, StartedAt when it ran first. They are written soon after, so they may be missing.
	Started   bool      `json:"started,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	// KillAt is when we asked it to end, and Overdue why that was a time-out, or "". Grace is what it has then, or would have.
	KillAt  time.Time     `json:"kill_at,omitzero"`
	Grace   time.Duration `json:"grace,omitempty"`
	Overdue string        `json:"overdue,omitempty"`
	// Full says that we did because its log was too long.
	Full bool `json:"full,omitempty"`
	// Streams are the files of its log, Secrets what is to be masked in it, sealed; Heartbeat is as in scheduler.Launch.
	Streams   []string      `json:"streams,omitempty"`
	Secrets   string        `json:"secrets,omitempty"`
	Heartbeat time.Duration `json:"heartbeat,omitempty"`
	// Reach is the time-out of the attempt, 0 if it has none.
	Reach time.Duration `json:"reach,omitempty"`
	// Over is when its end was taken, or when it was found to be none of ours.
	Over time.Time `json:"over,omitzero"`
}

type phase int

const (
	phaseWaiting phase = iota // for a place
	phaseSending              // it has a place, and its record and its ACCEPT are on their way
	phaseSent                 // a master may know it
	phaseEnding               // its task has ended; log and output are being fetched, or its report is on its way
	phaseEnded                // its report was taken
)

// attempt is one that the executor knows.
type attempt struct {
	kept
	launch *scheduler.Launch // until a master has it for sure
	phase  phase
	since  time.Time // in memory
	mask   *mask.Masker
	secret []string // what mask hides
	// blind says that the secrets can not be read any more: nothing that the task wrote can be shown.
	blind string

	unplaced    *match.Unplaced
	solo        bool // it is sent alone: an ACCEPT with it and others was refused
	unreachable bool
	last        *scheduler.Report // the news that was given last
	state       mesos.TaskState   // that a master has said last
	ask         backoff           // after it
	killAgain   time.Time
	followed    bool
	acks        []*mesos.TaskStatus // of its end, to be given when that is taken
}

// open reports whether a master may have the task, and its end is not known.
func (a *attempt) open() bool {
	return a.phase == phaseSending && a.Accepts > 0 || a.phase == phaseSent
}

// rows returns the records of attempts.
func (e *Executor) rows(list []*attempt) []scheduler.Record {
	out := make([]scheduler.Record, 0, len(list))
	for _, a := range list {
		r := scheduler.Record{Executor: e.opt.Name, Key: a.Attempt}
		k := a.kept
		if a.phase == phaseEnded {
			if k.Over.IsZero() {
				k.Over = time.Now().UTC()
			}
			r.Over = k.Over
			k = kept{Attempt: k.Attempt, Task: k.Task, Over: k.Over}
		}
		body, err := json.Marshal(&k)
		if err != nil {
			panic(err) // it has nothing that can not be written
		}
		r.Body = body
		out = append(out, r)
	}
	return out
}

func readAttempt(r *scheduler.Record) (*attempt, error) {
	a := &attempt{phase: phaseSent, since: time.Now()}
	if err := json.Unmarshal(r.Body, &a.kept); err != nil {
		return nil, fmt.Errorf("read the record of attempt %s: %w", r.Key, err)
	}
	if !r.Over.IsZero() {
		a.phase = phaseEnded
	}
	return a, nil
}

// unseal makes the secrets of an attempt known after a restart; mu is held.
func (e *Executor) unseal(a *attempt) {
	if a.Secrets == "" || a.secret != nil || a.blind != "" {
		return
	}
	text, err := e.opt.Unseal(a.Attempt, a.Secrets)
	if err == nil {
		err = json.Unmarshal([]byte(text), &a.secret)
	}
	if err != nil {
		a.blind = "its secrets can not be read any more, so that they could not be masked in it: " + err.Error()
		return
	}
	a.mask = mask.New(a.secret)
}

// seal returns the secrets of a launch as they are kept.
func (e *Executor) seal(l *scheduler.Launch) (string, error) {
	if len(l.Secrets) == 0 {
		return "", nil
	}
	if e.opt.Seal == nil {
		return "", fmt.Errorf("there is no key to encrypt its secrets with while it runs")
	}
	text, err := json.Marshal(l.Secrets)
	if err != nil {
		return "", err
	}
	return e.opt.Seal(l.ID, string(text))
}

// known is what Judge is told of an attempt; mu is held.
func (e *Executor) known(a *attempt, now time.Time) Known {
	return Known{
		Attempt: a.Attempt, Node: a.Machine.Hostname, Ended: a.phase == phaseEnded, Killed: !a.KillAt.IsZero(), TimedOut: a.Overdue != "",
		Started: a.Started, Accepts: a.Accepts, Unreachable: a.unreachable,
		Settled: e.cluster.Hold == "" &&
			(now.Sub(a.SentAt) > e.opt.Settle && now.Sub(e.cluster.leads) > e.opt.Settle || a.SentAt.Before(e.cluster.confirmed)),
	}
}

// sandboxOf says where the sandbox of an attempt is.
func (e *Executor) sandboxOf(a *attempt) sandbox.Task {
	return sandbox.Task{
		Attempt: a.Attempt, Agent: a.URL, Streams: a.Streams, Secrets: a.secret, Heartbeat: a.Heartbeat,
		Dir: "/frameworks/" + e.cluster.Framework + "/executors/" + a.Task + "/runs/latest",
	}
}

// backoff says when to ask again: at once, then after pauses that double from min to max.
type backoff struct {
	at    time.Time // zero: do not
	pause time.Duration
}

// soon makes it be asked now, as if for the first time, unless it is being asked already.
func (b *backoff) soon() {
	if b.at.IsZero() {
		b.at, b.pause = time.Now(), 0
	}
}

// asked notes that it was asked, and when to do it again.
func (b *backoff) asked(now time.Time, least, most time.Duration) {
	b.pause = min(max(2*b.pause, least), most)
	b.at = now.Add(b.pause)
}

// answered ends it.
func (b *backoff) answered() { *b = backoff{} }
