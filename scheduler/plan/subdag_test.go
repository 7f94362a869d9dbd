package plan

import (
	"encoding/json"
	"strings"
	"testing"

	"millrace/scheduler"
)

// The output of a task that started a run has what that run's leaves put out, as far as there is room.
func TestOutcome(t *testing.T) {
	t.Parallel()
	dag := dagOf(t, "dag: d\ntasks: {a: {run: x}, b: {run: x, needs: a}, c: {run: x, needs: a}}")
	rows := func(b, c string, ref *scheduler.OutputRef) []scheduler.TaskRun {
		return []scheduler.TaskRun{
			{Task: "a", MapIndex: scheduler.NoMap, Output: []byte("0")}, {Task: "b", MapIndex: scheduler.NoMap, Output: []byte(b)},
			{Task: "c", MapIndex: scheduler.NoMap, Output: []byte(c), OutputRef: ref},
		}
	}
	large := `"` + strings.Repeat("x", scheduler.MaxOutput-50) + `"`
	for _, tt := range []struct {
		name string
		rows []scheduler.TaskRun
		want string
	}{
		{"leaves", rows("1", `{"n":2}`, nil), `{"run":"r1","dag":"d","state":"success","outputs":{"b":1,"c":{"n":2}}}`},
		{"none", rows("", "", nil), `{"run":"r1","dag":"d","state":"success"}`},
		{"too large together", rows(large, large, nil), `{"run":"r1","dag":"d","state":"success","truncated":true}`},
		{"spilled", rows("1", "", &scheduler.OutputRef{}), `{"run":"r1","dag":"d","state":"success","outputs":{"b":1},"truncated":true}`},
	} {
		state, reason, out := Outcome(&scheduler.Run{ID: "r1", DAG: "d", State: scheduler.StateSuccess}, dag.Leaves(tt.rows))
		if state != scheduler.StateSuccess || reason != "" || string(out) != tt.want || !json.Valid(out) {
			t.Errorf("%s: got %s %q %s, want %s", tt.name, state, reason, out, tt.want)
		}
	}
	full := scheduler.Run{ID: "r1", DAG: "d", State: scheduler.StateCancelled, Reason: WordSkipped + "the group is full"}
	if state, reason, _ := Outcome(&full, Leaves{}); state != scheduler.StateSkipped || !strings.Contains(reason, "the group is full") {
		t.Errorf("a run that was skipped: got %s, %s", state, reason)
	}
	full.Reason = "cancelled by request"
	if state, _, _ := Outcome(&full, Leaves{}); state != scheduler.StateCancelled {
		t.Errorf("a run that was cancelled: got %s", state)
	}
}
