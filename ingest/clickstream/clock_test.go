package clickstream

import (
	"regexp"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"2026-11-23T08:38:31.123Z", "2026-11-23T08:38:31.123Z"},
		{"2026-11-23T08:38:31.123456789Z", "2026-11-23T08:38:31.123Z"},
		{"2026-11-23T08:38:31Z", "2026-11-23T08:38:31.000Z"},
		{"2026-11-23T08:38:31,5+01:30", "2026-11-23T07:08:31.500Z"},
		{"2026-11-23 08:38:31.000001-0800", "2026-11-23T16:38:31.000Z"},
		{"2026-11-23t08:38+02", "2026-11-23T06:38:00.000Z"},
		{"2026-11-23T08:38:31", "2026-11-23T08:38:31.000Z"},
		{"2026-11-23", "2026-11-23T00:00:00.000Z"},
		{"2024-02-29T00:00:00z", "2024-02-29T00:00:00.000Z"},
		{"1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"},
		{"0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"},
		{"9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"},
		{"9999-12-31T23:59:59-00:01", ""},
		{"0000-01-01T00:00:00+00:01", ""},
		{"2026-02-29T00:00:00Z", ""},
		{"2100-02-29", ""},
		{"2026-13-01", ""},
		{"2026-00-01", ""},
		{"2026-11-31", ""},
		{"2026-11-23T24:00:00Z", ""},
		{"2026-11-23T08:60:00Z", ""},
		{"2026-11-23T08:38:60Z", ""},
		{"2026-11-23T08:38:31.Z", ""},
		{"2026-11-23T08:38:31X", ""},
		{"2026-11-23T08:38:31+1", ""},
		{"2026-11-23T08:38:31+01:3", ""},
		{"2026-11-23T08:38:31+24:00", ""},
		{"2026-11-23T08", ""},
		{"2026-11-23T08:38Zx", ""},
		{"1763886711123", ""},
		{"yesterday", ""},
		{"", ""},
	} {
		got := ""
		if at := parseTime([]byte(tt.text)); at != noTime {
			got = string(appendTime(nil, at))
		}
		if got != tt.want {
			t.Errorf("time %q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestCorrected(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) int64 { return received.Add(d).UnixMicro() }
	for _, tt := range []struct {
		name           string
		original, sent int64
		want           int64
	}{
		{"nothing said", noTime, noTime, at(0)},
		{"only sentAt", noTime, at(-time.Hour), at(0)},
		{"only a timestamp", at(-time.Hour), noTime, at(-time.Hour)},
		{"clocks agree", at(-5 * time.Second), at(-time.Second), at(-5 * time.Second)},
		{"just below the skew", at(-time.Minute), at(-1999 * time.Millisecond), at(-time.Minute)},
		{"just at the skew", at(-time.Minute), at(-2 * time.Second), at(-58 * time.Second)},
		{"clock an hour slow, event queued a minute", at(-61 * time.Minute), at(-time.Hour), at(-time.Minute)},
		{"clock a day fast, event queued a minute", at(24*time.Hour - time.Minute), at(24 * time.Hour), at(-time.Minute)},
		{"happens after it is sent", at(0), at(-time.Hour), at(0)},
		{"up to five minutes ahead", at(-55 * time.Minute), at(-time.Hour), at(5 * time.Minute)},
		{"before year 0", minTime, maxTime - 1, minTime},
	} {
		if got := corrected(tt.original, tt.sent, at(0)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, appendTime(nil, got), appendTime(nil, tt.want))
		}
	}
}

// FuzzTime: every RFC 3339 time that the standard library takes is read the same here, and what is written reads back.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"2026-11-23T08:38:31.123Z", "1600-02-29T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9-00:01"} {
		f.Add(text)
	}
	rfc3339 := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):\d\d)$`)
	f.Fuzz(func(t *testing.T, text string) {
		got := parseTime([]byte(text))
		want, err := time.Parse(time.RFC3339Nano, text) // takes hours of one digit too
		if err == nil && rfc3339.MatchString(text) && want.UnixMicro() >= minTime && want.UnixMicro() < maxTime && got != want.UnixMicro() {
			t.Errorf("got %d, want %d as %v", got, want.UnixMicro(), want)
		}
		if got == noTime {
			return
		}
		written := appendTime(nil, got)
		back, err := time.Parse("2006-01-02T15:04:05.000Z", string(written))
		if err != nil || !back.Equal(time.UnixMicro(got).Truncate(time.Millisecond)) && got >= 0 {
			t.Errorf("%q was written as %s, which is %v, %v", text, written, back, err)
		}
	})
}
