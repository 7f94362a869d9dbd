package trigger_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"millrace/trigger"
)

// TestRunID: ids are stored and named by people, so they must never change, and each part must count, whatever the others contain.
func TestRunID(t *testing.T) {
	t.Parallel()
	base := trigger.Firing{Kind: trigger.KindBatch, DAG: "load", Rule: "clicks", Key: "01KJNE7M3B0123456789ABCDEF"}
	if got, want := base.RunID(), "rdcluo7emfdfh2tcdptblaex6"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	same := base
	same.Version, same.At, same.Closed, same.LaneKey = "v2", time.Now(), "quiet", "de"
	if same.RunID() != base.RunID() {
		t.Error("version, time and group have changed the id: a firing that is decided again would start a second run")
	}
	seen := map[string]string{}
	for name, f := range map[string]trigger.Firing{
		"base":    base,
		"dag":     {DAG: "load2", Rule: base.Rule, Key: base.Key},
		"rule":    {DAG: base.DAG, Rule: "clicks2", Key: base.Key},
		"key":     {DAG: base.DAG, Rule: base.Rule, Key: "k"},
		"replay":  {DAG: base.DAG, Rule: base.Rule, Key: base.Key, Replay: 1},
		"no rule": {DAG: base.DAG, Key: base.Key},
		"borders": {DAG: "loadc", Rule: "licks", Key: base.Key},
	} {
		id := f.RunID()
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same id", name, other)
		}
		seen[id] = name
		if len(id) != 25 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Errorf("%s: id %q, want 25 characters of lower-case base32", name, id)
		}
	}
}

func TestFates(t *testing.T) {
	t.Parallel()
	for fate, want := range map[trigger.Fate]bool{
		trigger.FateRun: true, trigger.FateFiltered: true, trigger.FateDropped: true, trigger.FateExpired: true,
		trigger.FateHeld: false, trigger.FateCoalesced: false,
	} {
		if got := fate.Final(); got != want {
			t.Errorf("%s is final: got %v, want %v", fate, got, want)
		}
	}
}

func TestCoalesceValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		c    trigger.Coalesce
		want string // "" is valid
	}{
		{"batches", trigger.Coalesce{MaxBatches: trigger.MaxGroup}, ""},
		{"bytes", trigger.Coalesce{MaxBytes: 1 << 30}, ""},
		{"quiet within max_wait", trigger.Coalesce{Quiet: time.Second, MaxWait: time.Second}, ""},
		{"nothing", trigger.Coalesce{}, "at least one"},
		{"negative", trigger.Coalesce{MaxEvents: -1}, "negative"},
		{"too many", trigger.Coalesce{MaxBatches: trigger.MaxGroup + 1}, "above 10000"},
		{"quiet beyond max_wait", trigger.Coalesce{Quiet: 2 * time.Second, MaxWait: time.Second}, "can never close"},
		{"several", trigger.Coalesce{MaxBytes: -1, Quiet: 2 * time.Second, MaxWait: time.Second}, "negative, or max_batches is above 10000\nquiet is longer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.c.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestDispositionJSON: the API and the ledger show these names.
func TestDispositionJSON(t *testing.T) {
	t.Parallel()
	d := trigger.Disposition{
		Batch: "b", Rule: trigger.Rule{DAG: "load", ID: "clicks"}.Name(), Fate: trigger.FateRun, Run: "r", Group: "g",
		At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	got, err := json.Marshal(d)
	want := `{"batch":"b","rule":"load/clicks","disposition":"run","run":"r","group":"g","at":"2026-03-01T12:00:00Z"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
