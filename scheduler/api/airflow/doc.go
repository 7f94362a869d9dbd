// Package airflow has the bodies of Airflow 3's REST API, /api/v2, and says in them what millrace knows.
//
// The field names are those of the OpenAPI document that Airflow publishes; every field that it requires is there, so that its generated
// clients take the answers. What millrace does not have is null, empty or zero, as Airflow has it where a feature is not used. It is pure: it
// reads and stores nothing.
//
// A run of millrace is a DAG run, a task within it a task instance, an attempt a try. The states that only millrace has become those that
// Airflow has for the same: launching is queued, unreachable is running, cancelled is failed, and none is null.
package airflow

import (
	"time"

	"millrace/scheduler"
)

// Version is the version of Airflow whose client the bodies are checked against.
const Version = "3.3.2"

// bundle is the name of the one bundle that all DAG files are in.
const bundle = "dags"

// at returns nil for no time.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// seconds is how long something took, or nil while it has not ended.
func seconds(from, to time.Time) *float64 {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	d := to.Sub(from).Seconds()
	return &d
}

// orNil returns nil for "".
func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// State returns Airflow's word for a state, "" for none.
func State(s scheduler.State) string {
	switch s {
	case scheduler.StateLaunching:
		return string(scheduler.StateQueued)
	case scheduler.StateUnreachable:
		return string(scheduler.StateRunning)
	case scheduler.StateCancelled:
		return string(scheduler.StateFailed)
	case scheduler.StateNone:
		return ""
	}
	return string(s)
}

// RunStates returns the states of runs that Airflow's word stands for, none if there is no such word.
func RunStates(word string) []scheduler.State {
	switch s := scheduler.State(word); s {
	case scheduler.StateQueued, scheduler.StateRunning, scheduler.StateSuccess:
		return []scheduler.State{s}
	case scheduler.StateFailed:
		return []scheduler.State{scheduler.StateFailed, scheduler.StateCancelled}
	}
	return nil
}
