package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/match"
)

// fakeMesos is on hold until it is confirmed.
type fakeMesos struct{ confirmed bool }

func (m *fakeMesos) View() mesosexec.View {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	v := mesosexec.View{
		Subscribed: true, Master: "10.0.0.1:5050", Version: "1.11.0", Since: at, Heard: at, FrameworkID: "f", Roles: []string{"*"}, Error: "e", Stopped: "s", Next: "n",
		Offers: []mesosexec.OfferView{{ID: "o", Agent: "a", Hostname: "h", Role: "*", Since: at, Scalars: map[string]float64{"cpus": 1.5}}},
		Agents: []mesosexec.AgentView{{ID: "a", Hostname: "h", URL: "http://h:5051", Offers: 1, Tasks: 2}}, Declined: map[string]int64{"idle": 1}, Tasks: map[string]int{"TASK_RUNNING": 2},
		Waiting: []mesosexec.WaitingView{{Attempt: "r.t.-1.1", Since: at, Why: "w", Reason: &match.Unplaced{Ask: "r.t.-1.1", Reasons: []match.Reason{{Code: match.CodeNoOffers}}}}},
		Inverse: []mesosexec.InverseView{{Agent: "a", From: at}},
	}
	if !m.confirmed {
		v.Hold, v.HoldAt = "another cluster", at
	}
	return v
}

func (m *fakeMesos) Confirm(context.Context) error { m.confirmed = true; return nil }

func (m *fakeMesos) Register(context.Context) error {
	return fmt.Errorf("register: %w", mesosexec.ErrNothingToDo)
}

func (m *fakeMesos) Teardown(context.Context) error {
	return fmt.Errorf("tear down: %w", mesosexec.ErrNotSubscribed)
}

// TestMesos: what a person decides is answered with how the executor is then; without such an executor, the configuration is named.
func TestMesos(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if w := r.ask("GET", "/api/v1/mesos", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"hold":"another cluster"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := r.ask("POST", "/api/v1/mesos/confirm", ""); w.Code != http.StatusOK || strings.Contains(w.Body.String(), `"hold"`) {
		t.Errorf("confirm: got %d %s", w.Code, w.Body)
	}
	if w := r.ask("POST", "/api/v1/mesos/register", ""); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "nothing to decide") {
		t.Errorf("register: got %d %s", w.Code, w.Body)
	}
	none := newRig(t, func(d *Deps, _ *Options) { d.Mesos = nil })
	if w := none.ask("GET", "/api/v1/mesos", ""); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "executors.mesos.masters") {
		t.Errorf("without masters: got %d %s", w.Code, w.Body)
	}
	away := newRig(t, func(d *Deps, _ *Options) { d.Mesos, d.Executors = nil, map[string]scheduler.Executor(nil) })
	if w := away.ask("GET", "/api/v1/mesos", ""); w.Code != http.StatusNotImplemented {
		t.Errorf("in a process that does not schedule: got %d %s", w.Code, w.Body)
	}
}
