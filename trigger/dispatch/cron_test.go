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
		d := decide(b, set, &found{}, now.AddDate(2026, 0, 0), Options{}.withDefaults())
		for _, f := range d.in.Firings {
			got = append(got, f.Due.Format("15:04"))
		}
		d.adopt(Options{})
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
			p := pending(&r, day(test.at), day(test.now), 2*time.Hour)
			next := p.next
			var got []string
			for _, at := range p.due {
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

// TestCatchup: what becomes of the ticks that passed during an outage, by window and policy.
func TestCatchup(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		at, err := time.Parse(time.RFC3339, "2026-03-02T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	catchup := func(window time.Duration, policy trigger.CatchupPolicy) *trigger.Catchup {
		return &trigger.Catchup{Window: window, Policy: policy}
	}
	tests := []struct {
		name    string
		catchup *trigger.Catchup
		now     string
		want    []string
		passed  string // "": nothing
	}{
		{"none said, within two hours", nil, "05:30:00", []string{"04:00", "05:00"}, "05:00:00"},
		{"all of the window", catchup(4*time.Hour, trigger.CatchupAll), "05:30:00", []string{"02:00", "03:00", "04:00", "05:00"}, "05:00:00"},
		{"all, and no window: two hours", catchup(0, trigger.CatchupAll), "05:30:00", []string{"04:00", "05:00"}, "05:00:00"},
		{"nothing in the window", catchup(20*time.Minute, trigger.CatchupAll), "05:30:00", nil, ""},
		{"the latest", catchup(4*time.Hour, trigger.CatchupLatest), "05:30:00", []string{"05:00"}, "05:00:00"},
		{"the latest is on time", catchup(4*time.Hour, trigger.CatchupLatest), "05:00:00", []string{"05:00"}, "05:00:00"},
		{"skip what was missed", catchup(0, trigger.CatchupSkip), "05:30:00", nil, ""},
		{"skip, but not what is on time", catchup(0, trigger.CatchupSkip), "05:00:59", []string{"05:00"}, "05:00:00"},
		{"skip has no window", catchup(4*time.Hour, trigger.CatchupSkip), "05:30:00", nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := cronRule("c", "0 * * * *", func(r *trigger.Rule) { r.Catchup = test.catchup })
			p := pending(&r, at("00:00:00"), at(test.now), 2*time.Hour)
			var got []string
			for _, due := range p.due {
				got = append(got, due.Format("15:04"))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("due (-want +got):\n%s", diff)
			}
			if want := at("06:00:00"); !p.next.Equal(want) {
				t.Errorf("next: got %v, want %v", p.next, want)
			}
			if (test.passed == "") != p.passed.IsZero() || test.passed != "" && !p.passed.Equal(at(test.passed)) {
				t.Errorf("passed: got %v, want %q", p.passed, test.passed)
			}
		})
	}
}

// TestJitter: with jitter each tick fires once, at the same time whoever asks and how often, later than its nominal time by less than the
// jitter, in order, and rules differ.
func TestJitter(t *testing.T) {
	t.Parallel()
	const jitters = 40 * time.Minute // longer than the period: a tick then waits for the one before
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	offsets := map[time.Duration]bool{}
	for _, id := range []string{"a", "b", "c"} {
		r := cronRule(id, "*/30 * * * *", func(r *trigger.Rule) { r.Jitter = jitters })
		at, fired := start, 0
		for now := start; now.Before(start.Add(12 * time.Hour)); now = now.Add(10 * time.Second) {
			p := pending(&r, at, now, 2*time.Hour)
			for _, due := range p.due {
				fired++
				if want := start.Add(time.Duration(fired) * 30 * time.Minute); !due.Equal(want) {
					t.Fatalf("rule %s fires %v, want %v", id, due, want)
				}
				if wait := now.Sub(due); wait < 0 || wait > jitters+10*time.Second {
					t.Errorf("rule %s fires %v at %v", id, due, now)
				}
				offsets[jitter(&r, due)] = true
			}
			if p.passed.After(at) {
				at = p.passed
			}
			if !p.next.After(now) {
				t.Fatalf("rule %s: next is %v at %v", id, p.next, now)
			}
		}
		if fired < 22 {
			t.Errorf("rule %s fired %d times, want 22 at least", id, fired)
		}
	}
	if len(offsets) < 60 {
		t.Errorf("%d different delays of 66 or more ticks", len(offsets))
	}
}

// TestCatchupOverRestart: a rule that skips what it missed goes on after an outage with the next tick, in a process that starts anew.
func TestCatchupOverRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, cronRule("skip", "0 * * * *", func(r *trigger.Rule) { r.Catchup = &trigger.Catchup{Policy: trigger.CatchupSkip} }),
			cronRule("latest", "0 * * * *", func(r *trigger.Rule) {
				r.Catchup = &trigger.Catchup{Policy: trigger.CatchupLatest, Window: 24 * time.Hour}
			}))
		r.start(Options{})
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		for range 2 {
			r.stop()
			time.Sleep(5 * time.Hour)
			r.start(Options{})
			time.Sleep(time.Hour)
			synctest.Wait()
		}
		skip := []string{"2000-01-01T01:00:00Z", "2000-01-01T07:00:00Z", "2000-01-01T13:00:00Z"}
		if diff := cmp.Diff(skip, r.keys("skip")); diff != "" {
			t.Errorf("skip (-want +got):\n%s", diff)
		}
		latest := []string{"2000-01-01T01:00:00Z", "2000-01-01T06:00:00Z", "2000-01-01T07:00:00Z", "2000-01-01T12:00:00Z", "2000-01-01T13:00:00Z"}
		if diff := cmp.Diff(latest, r.keys("latest")); diff != "" {
			t.Errorf("latest (-want +got):\n%s", diff)
		}
		r.check()
	})
}
