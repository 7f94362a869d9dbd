package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// fakeExplainer knows one run, with a task of which every field is filled in.
type fakeExplainer struct{}

func (fakeExplainer) Explain(_ context.Context, run string) (*scheduler.RunWhy, error) {
	if run == "none" {
		return nil, fmt.Errorf("run %q: %w", run, scheduler.ErrNotFound)
	}
	why := scheduler.Why{
		Code: scheduler.CodePool, Text: "waits", Name: "db", Used: 3, Slots: 4, Want: 2, Ahead: 1, On: []string{"r/a"}, Until: schedulertest.Epoch,
	}
	return &scheduler.RunWhy{Run: run, DAG: "load", State: scheduler.StateQueued, Why: why, Deadlines: exampleDeadlines, Tasks: []scheduler.TaskWhy{
		{ID: run + "/check", Task: "check", MapIndex: scheduler.NoMap, State: scheduler.StateScheduled, Why: why},
	}}, nil
}

func (fakeExplainer) WhyFull(_ context.Context, r *trigger.Rule, key string) (*scheduler.Why, error) {
	if r.DAG != "full" && r.Order == "" {
		return nil, nil
	}
	return &scheduler.Why{Code: scheduler.CodeConcurrency, Name: r.DAG + "/" + key, Used: 1, Slots: 1, Want: 1, On: []string{"r1"}, Text: "waits for a place: it is taken by r1"}, nil
}

func (f fakeExplainer) ExplainTask(ctx context.Context, run, task string) (*scheduler.TaskWhy, error) {
	why, err := f.Explain(ctx, run)
	if err != nil {
		return nil, err
	}
	if task != why.Tasks[0].Task {
		return nil, fmt.Errorf("task %q: %w", task, scheduler.ErrNotFound)
	}
	return &why.Tasks[0], nil
}

// BatchDeadlines knows one that each batch has missed.
func (fakeExplainer) BatchDeadlines(context.Context, string) (map[string][]scheduler.Deadline, error) {
	return map[string][]scheduler.Deadline{"load/clicks": exampleDeadlines}, nil
}

var exampleDeadlines = []scheduler.Deadline{
	{N: 0, Rule: "5m after batch_sealed", At: schedulertest.Epoch, MissedAt: schedulertest.Epoch.Add(time.Second)},
	{N: 2, Rule: "1h after run_created", At: schedulertest.Epoch.Add(time.Hour), MetAt: schedulertest.Epoch},
}

func (fakeExplainer) Slots(context.Context) ([]scheduler.Slots, error) {
	return []scheduler.Slots{{Kind: "pool", Name: "db", Slots: 4, Used: 3, Waiting: 1, Holders: []scheduler.Holder{
		{Task: "r/a", DAG: "load", Slots: 3, Since: schedulertest.Epoch}, {Task: "r/b", DAG: "load", Slots: 1},
	}}}, nil
}

// Every fate that a batch can have, with every reason that dispatch gives, becomes a sentence and a code.
func TestExplainBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rule := "load/clicks"
	for i, tt := range []struct {
		fate   trigger.Fate
		reason string
		code   scheduler.Code
		text   string
	}{
		{trigger.FateRun, "", scheduler.CodeRun, "is an input of run r1"},
		{trigger.FateHeld, "paused", scheduler.CodePaused, "DAG load was paused"},
		{trigger.FateHeld, "other", scheduler.CodeHeld, ": other"},
		{trigger.FateFiltered, "sides", scheduler.CodeFiltered, "none of the rules that it joins"},
		{trigger.FateFiltered, "only_joined", scheduler.CodeFiltered, "no runs of its own"},
		{trigger.FateDropped, "rule_changed", scheduler.CodeDropped, "the rule was changed"},
		{trigger.FateExpired, "missing: orders, views", scheduler.CodeExpired, "no batch of rule orders and none of rule views came in time"},
		{trigger.FateFiltered, "source", scheduler.CodeFiltered, "for another source"},
		{trigger.FateFiltered, "quarantine", scheduler.CodeFiltered, "was set aside"},
		{trigger.FateFiltered, "types", scheduler.CodeFiltered, "no event of the types"},
		{trigger.FateFiltered, "if", scheduler.CodeFiltered, "if was false: batch.events > 0"},
		{trigger.FateFiltered, "if_error: no such key: x", scheduler.CodeFiltered, "if has no value for it: no such key: x"},
		{trigger.FateFiltered, "key_error: y", scheduler.CodeFiltered, "key has no value for it: y"},
		{trigger.FateFiltered, "rule_error: z", scheduler.CodeFiltered, "the rule is faulty: z"},
		{trigger.FateDropped, "void", scheduler.CodeDropped, "starts nothing: has no rows"},
		{trigger.FateDropped, "gone", scheduler.CodeDropped, "its object was deleted"},
		{trigger.FateDropped, "rule_removed", scheduler.CodeDropped, "the rule was removed"},
		{trigger.FateDropped, "restored", scheduler.CodeDropped, "before the time"},
		{trigger.FateDropped, "paused", scheduler.CodeDropped, "when_paused"},
		{trigger.FateDropped, "superseded", scheduler.CodeDropped, "a newer one came"},
		{trigger.FateDropped, "key_error: z", scheduler.CodeDropped, "key has no value for it: z"},
		{trigger.FateDropped, "other", scheduler.CodeDropped, "starts nothing: other"},
		{trigger.FateExpired, "", scheduler.CodeExpired, "did not come in time"},
		{trigger.FateCoalesced, "", scheduler.CodeCoalescing, "waits in an open group"},
	} {
		b := schedulertest.ExampleBatch(i + 1)
		d := trigger.Disposition{Batch: b.ID, Rule: rule, Fate: tt.fate, Reason: tt.reason, At: b.CommittedAt}
		if tt.fate == trigger.FateRun {
			d.Run = "r1"
		}
		err := r.store.Apply(r.Context(), &scheduler.Change{
			Heads:    []scheduler.DAGHead{{ID: "load", Version: "v1"}},
			Arrivals: []trigger.Arrival{{Batch: b, Dispositions: []trigger.Disposition{d}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got scheduler.BatchWhy
		if err := json.Unmarshal(r.get("/api/v1/explain/batches/"+b.ID).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Rules) != 1 || got.Rules[0].Why.Code != tt.code || !strings.Contains(got.Rules[0].Why.Text, tt.text) ||
			got.Text != "of 1 rules that were active when it came: "+string(tt.fate)+" for 1" {
			t.Errorf("%s %q: got %+v, want %s and %q", tt.fate, tt.reason, got, tt.code, tt.text)
		}
	}
}

// An open group is shown with what is in it and when it closes.
func TestExplainGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := schedulertest.ExampleBatch(1)
	g := trigger.Group{
		ID: "coal:k:" + b.ID, Rule: "grouped/clicks", Key: "k", OpenedAt: schedulertest.Epoch, LastAt: schedulertest.Epoch.Add(time.Second),
		Events: b.Events, Bytes: b.Bytes, Batches: []batcher.Batch{b},
	}
	d := trigger.Disposition{Batch: b.ID, Rule: g.Rule, Fate: trigger.FateCoalesced, Group: g.ID, At: b.CommittedAt}
	err := r.store.Apply(r.Context(), &scheduler.Change{
		Heads: []scheduler.DAGHead{{ID: "grouped", Version: "v1"}}, Groups: []trigger.Group{g},
		Arrivals: []trigger.Arrival{{Batch: b, Dispositions: []trigger.Disposition{d}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got scheduler.BatchWhy
	if err := json.Unmarshal(r.get("/api/v1/explain/batches/"+b.ID).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	why := got.Rules[0].Why
	if want := g.LastAt.Add(5 * time.Second); !why.Until.Equal(want) || why.Name != g.ID {
		t.Errorf("got %+v, want until %v", why, want)
	}
	for _, want := range []string{"waits alone in a group", "closes at 50 batches, or 5s without another batch", "1m0s after its first batch"} {
		if !strings.Contains(why.Text, want) {
			t.Errorf("%q does not say %q", why.Text, want)
		}
	}
}
