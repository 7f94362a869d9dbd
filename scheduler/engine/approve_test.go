package engine

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

func waitsForInput(d *scheduler.RunDetail) bool {
	for _, t := range d.Tasks {
		if t.State == scheduler.StateAwaitingInput {
			return true
		}
	}
	return false
}

// A decision is taken once, by those who may, with what it needs; who said it is in the audit trail.
func TestDecide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, asks("{message: go?, by: [ops, ann], options: [all, some], params: {rows: 10, why: {type: string, required: true, description: for the books}}, expires: 1h}", ""))
		id := f.trigger("a", "x", "").ID
		f.until(id, waitsForInput)
		list, err := f.e.Questions(t.Context(), "")
		if err != nil || len(list) != 1 {
			t.Fatalf("got %+v, %v", list, err)
		}
		if q := list[0]; q.ID != id+"/ask" || q.Message != "go?" || q.OnExpire != "reject" || q.OnReject != "skip" || len(q.By) != 2 || q.Params["rows"].Type != "integer" ||
			q.Params["why"].Description != "for the books" {
			t.Errorf("got %+v", q)
		}
		if none, err := f.e.Questions(t.Context(), "other"); err != nil || len(none) != 0 {
			t.Errorf("got %+v, %v", none, err)
		}
		yes := scheduler.Decision{Decision: "approve", By: "ann", Option: "some", Input: []byte(`{"why":"fine"}`), Comment: "ok"}
		for _, tt := range []struct {
			change func(d *scheduler.Decision)
			want   string
		}{
			{func(d *scheduler.Decision) { d.Decision = "maybe" }, `the decision is "maybe"`},
			{func(d *scheduler.Decision) { d.By = "" }, "ops, ann may decide on it, and nobody said who decides"},
			{func(d *scheduler.Decision) { d.By = "bob" }, "bob is not among them"},
			{func(d *scheduler.Decision) { d.Option = "none" }, `the option is "none", want one of all, some`},
			{func(d *scheduler.Decision) { d.Option = "" }, "want one of all, some"},
			{func(d *scheduler.Decision) { d.Input = nil }, `parameter "why" is required`},
			{func(d *scheduler.Decision) { d.Input = []byte(`{"why":1}`) }, `parameter "why": 1 is integer, want string`},
			{func(d *scheduler.Decision) { d.Decision = "reject" }, "a rejection takes a comment alone"},
			{func(d *scheduler.Decision) { d.Comment = strings.Repeat("x", 2001) }, "the comment has 2001 bytes"},
			{func(d *scheduler.Decision) { d.Comment = "\x1b[2J" }, "without control characters"},
		} {
			d := yes
			tt.change(&d)
			if _, err := f.e.Decide(t.Context(), id, "ask", -1, d); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		}
		for task, want := range map[string]error{"read": scheduler.ErrInvalid, "load": scheduler.ErrInvalid, "nope": scheduler.ErrNotFound} {
			if _, err := f.e.Decide(t.Context(), id, task, -1, yes); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", task, err, want)
			}
		}
		row, err := f.e.Decide(t.Context(), id, "ask", -1, yes)
		if err != nil || row.State != scheduler.StateSuccess || row.Reason != "approved by ann, option some: ok" {
			t.Fatalf("got %+v, %v", row, err)
		}
		var out scheduler.Decision
		if err := json.Unmarshal(row.Output, &out); err != nil || string(out.Input) != `{"rows":10,"why":"fine"}` || out.Option != "some" || out.By != "ann" {
			t.Errorf("output is %s, %v", row.Output, err)
		}
		d := f.wait(id)
		if got := states(d); got != "success read=success ask=success load=success" {
			t.Errorf("got %s", got)
		}
		trail := false
		for _, m := range d.Moves {
			trail = trail || m.Task == "ask" && m.To == scheduler.StateSuccess && strings.Contains(m.Reason, "approved by ann")
		}
		if !trail {
			t.Errorf("nobody is named in %+v", d.Moves)
		}
		time.Sleep(time.Second)
		no := scheduler.Decision{Decision: "reject", By: "ops"}
		if _, err := f.e.Decide(t.Context(), id, "ask", -1, no); !errors.Is(err, scheduler.ErrDecided) || !strings.Contains(err.Error(), "approved by ann, option some: ok at 2") {
			t.Errorf("a second decision is answered with %v", err)
		}
	})
}

// A decision whose commit was not heard of is not refused as a second one.
func TestDecideAgainAfterLostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, asks("{message: go?, on_reject: fail}", ""))
		id := f.trigger("a", "x", "").ID
		f.until(id, waitsForInput)
		lost := 1
		f.store.Intercept = func(_ *scheduler.Change, commit func() error) error {
			err := commit()
			if lost--; lost >= 0 && err == nil {
				return scheduler.ErrConflict // the answer is not what happened
			}
			return err
		}
		row, err := f.e.Decide(t.Context(), id, "ask", -1, scheduler.Decision{Decision: "reject", By: "ann"})
		if err != nil || row.State != scheduler.StateFailed {
			t.Errorf("got %+v, %v", row, err)
		}
		if got := states(f.wait(id)); got != "failed read=success ask=failed load=upstream_failed" {
			t.Errorf("got %s", got)
		}
	})
}
