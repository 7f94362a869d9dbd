package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/trigger"
	"millrace/trigger/rules"
	"millrace/trigger/triggertest"
)

func cronRule(id, text string, change ...func(*trigger.Rule)) trigger.Rule {
	r := trigger.Rule{DAG: "d", ID: id, Version: "v1", Kind: trigger.KindCron, Cron: text}
	for _, f := range change {
		f(&r)
	}
	return r
}

// keys returns the trigger keys of a rule's runs in the order of their start.
func (r *rig) keys(rule string) []string {
	var out []string
	r.ledger.View(func(s *triggertest.State) {
		for _, id := range s.Order {
			if f := s.Runs[id]; f.Rule == rule {
				out = append(out, f.Key)
			}
		}
	})
	return out
}

// TestCronTicks: bubbles begin at midnight UTC, 1 January 2000.
func TestCronTicks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, cronRule("quarter", "*/15 * * * *"), cronRule("daily", "30 1 * * *"))
		r.start(Options{})
		time.Sleep(46 * time.Minute)
		synctest.Wait()
		quarters := []string{"2000-01-01T00:15:00Z", "2000-01-01T00:30:00Z", "2000-01-01T00:45:00Z"}
		if diff := cmp.Diff(quarters, r.keys("quarter")); diff != "" {
			t.Errorf("ticks (-want +got):\n%s", diff)
		}
		r.ledger.View(func(s *triggertest.State) {
			f := s.Runs[s.Order[0]]
			if f.Kind != trigger.KindCron || !f.Due.Equal(f.At) || f.Version != "v1" {
				t.Errorf("firing %+v, want it at its nominal time", f)
			}
		})
		// Two hours of pause: all quarters within Options.CatchUp, and the one daily tick.
		r.stop()
		time.Sleep(2 * time.Hour)
		r.start(Options{CatchUp: time.Hour})
		quarters = append(quarters, "2000-01-01T02:00:00Z", "2000-01-01T02:15:00Z", "2000-01-01T02:30:00Z", "2000-01-01T02:45:00Z")
		if diff := cmp.Diff(quarters, r.keys("quarter")); diff != "" {
			t.Errorf("after a pause (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"2000-01-01T01:30:00Z"}, r.keys("daily")); diff != "" {
			t.Errorf("daily, older than CatchUp (-want +got):\n%s", diff)
		}
		r.check()
	})
}

func TestCronEdits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		pause := func(r *trigger.Rule) { r.Paused = true }
		r := newRig(t, cronRule("c", "0 * * * *"))
		r.start(Options{})
		time.Sleep(90 * time.Minute)
		r.rules.Set(cronRule("c", "0 * * * *", pause))
		time.Sleep(2 * time.Hour)
		r.rules.Set(cronRule("c", "0 * * * *")) // what passed while it was paused does not come back
		time.Sleep(time.Hour)
		r.rules.Set(cronRule("c", "10 * * * *")) // nor do times of the new text that are past already
		time.Sleep(time.Hour)
		r.rules.Set()
		time.Sleep(3 * time.Hour)
		r.rules.Set(cronRule("c", "10 * * * *")) // nor those of its absence
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []string{"2000-01-01T01:00:00Z", "2000-01-01T04:00:00Z", "2000-01-01T05:10:00Z", "2000-01-01T09:10:00Z"}
		if diff := cmp.Diff(want, r.keys("c")); diff != "" {
			t.Errorf("ticks (-want +got):\n%s", diff)
		}
		r.check()
	})
}

// TestClockJumps decides at times that jump, as a loop would that looks at the clock on the wall.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	var c rules.Compiler
	set, err := c.Compile(trigger.RuleSet{Gen: 1, Rules: []trigger.Rule{cronRule("c", "0 * * * *")}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(trigger.Memory{})
	var got []string
	at := func(text string) {
		now, err := time.Parse("15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		d := decide(b, set, nil, now.AddDate(2026, 0, 0), Options{}.withDefaults())
		for _, f := range d.in.Firings {
			got = append(got, f.Due.Format("15:04"))
		}
		d.adopt()
	}
	for _, now := range []string{"05:59:50", "06:00:00", "06:00:01", "05:30:00", "06:00:00", "06:59:59", "07:10:00", "08:30:00", "06:30:00", "08:00:00", "09:00:00"} {
		at(now)
	}
	if diff := cmp.Diff([]string{"06:00", "07:00", "08:00", "09:00"}, got); diff != "" {
		t.Errorf("ticks (-want +got):\n%s", diff)
	}
}

func TestPending(t *testing.T) {
	t.Parallel()
	day := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	tests := []struct {
		name, cron, at, now string
		want                []string
		next                string
	}{
		{"nothing yet", "0 * * * *", "2026-03-01T00:00:00Z", "2026-03-01T00:59:59Z", nil, "2026-03-01T01:00:00Z"},
		{"on the second", "0 * * * *", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00Z", []string{"2026-03-01T01:00:00Z"}, "2026-03-01T02:00:00Z"},
		{"a year away, a tick each hour", "0 * * * *", "2025-03-01T00:00:00Z", "2026-03-01T02:30:00Z",
			[]string{"2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z"}, "2026-03-01T03:00:00Z"},
		{"a year away, a tick each month", "0 0 1 * *", "2025-03-10T00:00:00Z", "2026-03-10T00:00:00Z",
			[]string{"2026-03-01T00:00:00Z"}, "2026-04-01T00:00:00Z"},
		{"an hour away, none missed", "0 0 1 * *", "2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z", nil, "2026-04-01T00:00:00Z"},
		{"the clock went back", "0 * * * *", "2026-03-01T05:00:00Z", "2026-03-01T03:30:00Z", nil, "2026-03-01T06:00:00Z"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := cronRule("c", test.cron)
			due, next := pending(&r, day(test.at), day(test.now), 2*time.Hour)
			var got []string
			for _, at := range due {
				got = append(got, at.Format(time.RFC3339))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("due (-want +got):\n%s", diff)
			}
			if want := day(test.next); !next.Equal(want) {
				t.Errorf("next: got %v, want %v", next, want)
			}
		})
	}
}
