package scheduler

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// STATES.md names every move that the tables permit, and no other.
func TestStatesDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("STATES.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]bool{"Run": {}, "Task": {}, "Run, by a person": {}, "Task, by a person": {}}
	section := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(name)
		}
		cells := strings.Split(line, "|")
		if len(cells) == 6 && got[section] != nil {
			from, to := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
			if from != "from" && from != "---" {
				for f := range strings.SplitSeq(from, ", ") {
					got[section][f+" → "+to] = true
				}
			}
		}
	}
	want := map[string]map[string]bool{
		"Run": moves(runMoves), "Task": moves(taskMoves), "Run, by a person": moves(runOverrides), "Task, by a person": moves(taskOverrides),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("moves (-tables +document):\n%s", diff)
	}
}

func moves(table map[State][]State) map[string]bool {
	out := map[string]bool{}
	for from, list := range table {
		for _, to := range list {
			out[string(from)+" → "+string(to)] = true
		}
	}
	return out
}

func TestMoves(t *testing.T) {
	t.Parallel()
	all := []State{
		StateNone, StateScheduled, StateQueued, StateLaunching, StateRunning, StateSuccess, StateFailed, StateSkipped, StateUpstreamFailed,
		StateUpForRetry, StateUnreachable, StateDeferred, StateAwaitingInput, StateCancelled, StateRemoved,
	}
	for _, from := range all {
		if CheckTaskOverride(from, StateScheduled) == nil && from != StateScheduled || CheckTaskOverride(from, StateLaunching) == nil && from != StateLaunching {
			t.Errorf("a person starts a task that is %s, and not its parents", from)
		}
		for _, to := range all {
			err := CheckTaskMove(from, to)
			if from.Terminal() && from != to && err == nil {
				t.Errorf("a task may leave %s for %s", from, to)
			}
			if from == to && err != nil {
				t.Errorf("a task may not stay %s: %v", from, err)
			}
			if to.Active() && !from.Active() && from != StateScheduled && err == nil {
				t.Errorf("a task takes a slot on its way from %s to %s", from, to)
			}
		}
	}
}
