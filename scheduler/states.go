package scheduler

import "fmt"

// State is the state of a run or of a task. The words are Airflow's, plus launching, unreachable and cancelled.
type State string

// The states. Runs use queued, running, success, failed and cancelled.
const (
	StateNone           State = "none"            // not looked at yet: parents are not done
	StateScheduled      State = "scheduled"       // parents are done, waits for a slot
	StateQueued         State = "queued"          // a run that has not started
	StateLaunching      State = "launching"       // the intent is committed, the executor may or may not have it
	StateRunning        State = "running"         //
	StateSuccess        State = "success"         //
	StateFailed         State = "failed"          //
	StateSkipped        State = "skipped"         // `when` was false, exit code 99, or a parent was skipped
	StateUpstreamFailed State = "upstream_failed" // a parent did not succeed
	StateUpForRetry     State = "up_for_retry"    // waits for the time of its next try
	StateUnreachable    State = "unreachable"     // may still run and come back
	StateDeferred       State = "deferred"        // waits without a slot for what it started: a run, its mapped tasks
	StateAwaitingInput  State = "awaiting_input"  // waits without a slot for a person's decision
	StateCancelled      State = "cancelled"       //
	StateRemoved        State = "removed"         // a mapped task whose item the list does not have any more
)

// Terminal reports whether s is final except through a clear or a mark.
func (s State) Terminal() bool {
	switch s {
	case StateSuccess, StateFailed, StateSkipped, StateUpstreamFailed, StateCancelled, StateRemoved:
		return true
	}
	return false
}

// Active reports whether an attempt of the task may be running, so that it takes a slot.
func (s State) Active() bool {
	return s == StateLaunching || s == StateRunning || s == StateUnreachable
}

// Parked reports whether the task waits without a slot, as a try of its own, for something that is no executor's.
func (s State) Parked() bool { return s == StateDeferred || s == StateAwaitingInput }

// UnderWay reports whether something of the task may be going on, an attempt or what it started, that has to end before the task can be
// executed again.
func (s State) UnderWay() bool { return s.Active() || s == StateDeferred }

// taskMoves is the only place that says how a task's state may change; STATES.md draws it.
var taskMoves = map[State][]State{
	StateNone:          {StateScheduled, StateSkipped, StateUpstreamFailed, StateCancelled},
	StateScheduled:     {StateLaunching, StateSuccess, StateDeferred, StateAwaitingInput, StateFailed, StateUpForRetry, StateCancelled},
	StateLaunching:     {StateRunning, StateSuccess, StateFailed, StateSkipped, StateUpForRetry, StateUnreachable, StateCancelled},
	StateRunning:       {StateSuccess, StateFailed, StateSkipped, StateUpForRetry, StateUnreachable, StateCancelled},
	StateUnreachable:   {StateRunning, StateSuccess, StateFailed, StateSkipped, StateUpForRetry, StateCancelled},
	StateDeferred:      {StateSuccess, StateFailed, StateSkipped, StateUpForRetry, StateCancelled},
	StateAwaitingInput: {StateSuccess, StateFailed, StateSkipped, StateCancelled},
	StateUpForRetry:    {StateScheduled, StateCancelled},
}

var runMoves = map[State][]State{
	StateQueued:  {StateRunning, StateFailed, StateCancelled},
	StateRunning: {StateSuccess, StateFailed, StateCancelled},
}

// taskOverrides and runOverrides are the moves that only a person's word makes, by a clear or a mark; see [Mender].
var taskOverrides = map[State][]State{
	StateNone:           {StateSuccess, StateFailed, StateSkipped, StateRemoved},
	StateScheduled:      {StateNone, StateSuccess, StateFailed, StateSkipped, StateRemoved},
	StateLaunching:      {StateNone},
	StateRunning:        {StateNone},
	StateUnreachable:    {StateNone},
	StateDeferred:       {StateNone},
	StateAwaitingInput:  {StateNone, StateSuccess, StateFailed, StateSkipped, StateRemoved},
	StateUpForRetry:     {StateNone, StateSuccess, StateFailed, StateSkipped, StateRemoved},
	StateSuccess:        {StateNone, StateFailed, StateSkipped, StateRemoved, StateDeferred},
	StateFailed:         {StateNone, StateSuccess, StateSkipped, StateRemoved, StateDeferred},
	StateSkipped:        {StateNone, StateSuccess, StateFailed, StateRemoved, StateDeferred},
	StateUpstreamFailed: {StateNone, StateSuccess, StateFailed, StateSkipped},
	StateCancelled:      {StateNone, StateSuccess, StateFailed, StateSkipped, StateRemoved, StateDeferred},
	StateRemoved:        {StateNone},
}

var runOverrides = map[State][]State{
	StateSuccess:   {StateQueued, StateFailed},
	StateFailed:    {StateQueued, StateSuccess},
	StateCancelled: {StateQueued, StateSuccess, StateFailed},
}

// CheckTaskOverride reports whether a person's word may take a task from one state to another; staying is permitted.
func CheckTaskOverride(from, to State) error { return checkMove("task", taskOverrides, from, to) }

// CheckRunOverride is CheckTaskOverride for runs.
func CheckRunOverride(from, to State) error { return checkMove("run", runOverrides, from, to) }

// CheckTaskMove reports whether a task may go from one state to another; staying is permitted.
func CheckTaskMove(from, to State) error { return checkMove("task", taskMoves, from, to) }

// CheckRunMove is CheckTaskMove for runs.
func CheckRunMove(from, to State) error { return checkMove("run", runMoves, from, to) }

func checkMove(what string, moves map[State][]State, from, to State) error {
	if from == to {
		return nil
	}
	for _, s := range moves[from] {
		if s == to {
			return nil
		}
	}
	return fmt.Errorf("move %s from %s to %s: not permitted", what, from, to)
}
