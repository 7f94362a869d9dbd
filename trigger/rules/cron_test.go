package rules

import (
	"fmt"
	"testing"
	"time"

	"github.com/adhocore/gronx"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"millrace/trigger"
)

func cronRule(text, zone string) trigger.Rule {
	return trigger.Rule{DAG: "d", ID: "c", Kind: trigger.KindCron, Cron: text, Timezone: zone}
}

func TestNextTick(t *testing.T) {
	t.Parallel()
	// In 2026 clocks change in Berlin on 29 March, 02:00 to 03:00 (01:00 UTC), and on 25 October, 03:00 to 02:00 (01:00 UTC).
	tests := []struct {
		name, cron, zone, after string
		want                    []string
	}{
		{"utc", "15 2 * * *", "", "2026-03-01T02:15:00Z", []string{"2026-03-02T02:15:00Z", "2026-03-03T02:15:00Z"}},
		{"between seconds", "* * * * *", "", "2026-03-01T02:15:00.5Z", []string{"2026-03-01T02:16:00Z"}},
		{"just before", "* * * * *", "", "2026-03-01T02:15:59.999Z", []string{"2026-03-01T02:16:00Z"}},
		{"zone", "0 9 * * MON-FRI", "America/New_York", "2026-01-02T20:00:00Z", []string{"2026-01-05T14:00:00Z"}},
		{"skipped time of day", "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"two skipped times are one", "10,20,30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:10:00Z"}},
		{"repeated time of day", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"asked within the repeated hour", "30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", []string{"2026-10-26T01:30:00Z"}},
		{"a rhythm over the gap", "30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", []string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"}},
		{"a rhythm over the repeated hour", "0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z",
			[]string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
		{"midnight is skipped", "0 0 * * *", "America/Havana", "2026-03-07T12:00:00Z", []string{"2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"}},
		{"half an hour", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", []string{"2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"}},
		{"29 February", "0 0 29 2 *", "Europe/Berlin", "2026-01-01T00:00:00Z", []string{"2028-02-28T23:00:00Z", "2032-02-28T23:00:00Z"}},
		{"day of month or of week", "0 0 13 * 5", "", "2026-02-01T00:00:00Z", []string{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(time.RFC3339Nano, test.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range test.want {
				if at, err = NextTick(cronRule(test.cron, test.zone), at); err != nil {
					t.Fatal(err)
				}
				got = append(got, at.Format(time.RFC3339))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
		})
	}
}

// ticksByHand finds the ticks of some days minute by minute.
func ticksByHand(c cron, from, to time.Time) []time.Time {
	var ticks []time.Time
	wall := func(t time.Time) time.Time { return t.UTC().Add(offset(t)) }
	due := func(w time.Time) bool { ok, err := gronx.New().IsDue(c.text, w); return ok && err == nil }
	latest := wall(from) // how far the clock on the wall has been
	for at := from.Add(time.Minute); !at.After(to); at = at.Add(time.Minute) {
		w := wall(at)
		tick := due(w) && (c.steady || w.After(latest))
		for skipped := latest.Add(time.Minute); !c.steady && skipped.Before(w); skipped = skipped.Add(time.Minute) {
			tick = tick || due(skipped)
		}
		if w.After(latest) {
			latest = w
		}
		if tick {
			ticks = append(ticks, at.UTC())
		}
	}
	return ticks
}

func TestNextTickProperties(t *testing.T) {
	t.Parallel()
	days := []string{"2026-03-07", "2026-03-28", "2026-04-04", "2026-10-24", "2026-10-31", "2026-10-03", "2026-07-01"}
	rapid.Check(t, func(t *rapid.T) {
		minute := rapid.SampledFrom([]string{"0", "30", "59", "*/20", "5,35", "10-12", "*"}).Draw(t, "minute")
		hour := rapid.SampledFrom([]string{"*", "*/2", "*/3", "0", "1", "2", "3", "2,3", "1-3", "23"}).Draw(t, "hour")
		day := rapid.SampledFrom([]string{"*", "8", "29", "*/2"}).Draw(t, "day")
		weekday := rapid.SampledFrom([]string{"*", "0", "1-5"}).Draw(t, "weekday")
		zone := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata"}).Draw(t, "zone")
		start := rapid.SampledFrom(days).Draw(t, "start")
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		from, err := time.ParseInLocation(time.DateOnly, start, loc)
		if err != nil {
			t.Fatal(err)
		}
		from = from.Add(20 * time.Hour)
		to := from.Add(14 * time.Hour)
		rule := cronRule(fmt.Sprintf("%s %s %s * %s", minute, hour, day, weekday), zone)
		c, err := parseCron(rule.Cron)
		if err != nil {
			t.Fatal(err)
		}
		var got []time.Time
		for at := from; ; {
			if at, err = NextTick(rule, at); err != nil {
				t.Fatal(err)
			}
			if at.After(to) {
				break
			}
			got = append(got, at)
		}
		if diff := cmp.Diff(ticksByHand(c, from, to), got); diff != "" {
			t.Fatalf("%q in %s from %s (-minute by minute +got):\n%s", rule.Cron, zone, start, diff)
		}
	})
}

func BenchmarkNextTick(b *testing.B) {
	r, at := cronRule("15 2 * * *", "Europe/Berlin"), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, err := NextTick(r, at); err != nil {
			b.Fatal(err)
		}
	}
}
