//go:build linux

package runner

import (
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mask"
)

// maxTaken is how many ended attempts whose end the client has committed are remembered, newest first.
const maxTaken = 4096

// attempt is what the runner knows of an attempt. The first part is the fold of its records, the rest is of this process only.
//
//	unknown ──claim──▶ claimed ──exec──▶ running ──exit──▶ ended ──acknowledged──▶ taken
//	   └──────────────── refused or lost, synced ───────────▶┘
type attempt struct {
	id    string
	claim claim
	start *process          // nil before exec
	end   *scheduler.Report // nil before the end
	stop  stop
	taken bool

	launch  *scheduler.Launch // until exec
	hidden  bool              // its claim is not durable yet, so nobody may hear of it
	killed  bool              // SIGKILL was sent
	exit    *exitStatus       // of the leader, which is gone; the attempt ends when its group is gone too
	adopted bool              // was started by a runner that is dead, and is not our child
	pending bool              // in runner.pending
	timer   *time.Timer       // fires at the next of timeout and end of grace
	pulse   pulse             // of its heartbeat
	log     string            // full path of the output
	mask    *mask.Masker      // of the secrets that it was given; nil: none, or they are not known any more
	filter  *filter           // of its output; nil: it writes to the log itself
}

// stop says that the attempt is being ended, and why.
type stop struct {
	Why stopReason `json:"why"`
	// HardAt is when SIGKILL is due.
	HardAt time.Time `json:"hard_at"`
}

type stopReason string

const (
	stopNone    stopReason = ""
	stopAsked   stopReason = "killed on request"
	stopTimeout stopReason = "timeout"
	stopLog     stopReason = "log_limit"
	// stopHeartbeat: it has not beaten for too long.
	stopHeartbeat stopReason = "heartbeat"
)

func (a *attempt) active() bool { return a.end == nil }

func (a *attempt) record() record {
	c := a.claim
	rec := record{ID: a.id, Claim: &c, Start: a.start, End: a.end, Taken: a.taken}
	if a.stop.Why != stopNone && a.end == nil {
		s := a.stop
		rec.Stop = &s
	}
	return rec
}

// table is the fold of the journal.
type table struct {
	all    map[string]*attempt
	order  []string // ids in the order of their ends' being taken: the oldest is forgotten first
	active int
}

func newTable() *table { return &table{all: map[string]*attempt{}} }

// apply adds a record. It is the only place where the journaled part of an attempt changes.
func (t *table) apply(rec record) {
	a := t.all[rec.ID]
	if a == nil {
		a = &attempt{id: rec.ID}
		t.all[rec.ID] = a
		t.active++
	}
	if rec.Claim != nil {
		a.claim = *rec.Claim
	}
	if rec.Start != nil {
		a.start = rec.Start
	}
	if rec.Stop != nil {
		a.stop = *rec.Stop
	}
	if rec.End != nil && a.end == nil {
		a.end = rec.End
		t.active--
	}
	if rec.Taken && a.end != nil && !a.taken {
		a.taken = true
		if len(a.end.Output) > 0 {
			end := *a.end // The report may be on its way out.
			end.Output, end.OutputError = nil, "was taken before and is no longer kept"
			a.end = &end
		}
		t.order = append(t.order, a.id)
		t.forget()
	}
}

func (t *table) forget() {
	for len(t.order) > maxTaken {
		delete(t.all, t.order[0])
		t.order = t.order[1:]
	}
}

// drop takes back an attempt whose claim could not be made durable. It was not started.
func (t *table) drop(a *attempt) {
	if t.all[a.id] == a && a.active() {
		delete(t.all, a.id)
		t.active--
	}
}

// records returns what a new journal needs to say, in an order that keeps t.order.
func (t *table) records() []record {
	out := make([]record, 0, len(t.all))
	for _, id := range t.order {
		out = append(out, t.all[id].record())
	}
	for _, a := range t.sorted() {
		out = append(out, a.record())
	}
	return out
}

// sorted returns the attempts that are not taken, oldest claim first.
func (t *table) sorted() []*attempt {
	var out []*attempt
	for _, a := range t.all {
		if !a.taken {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *attempt) int { return a.claim.At.Compare(b.claim.At) })
	return out
}
