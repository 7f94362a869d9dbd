package trigger

import (
	"testing"
	"time"

	"millrace/ingest"
)

func TestHold(t *testing.T) {
	t.Parallel()
	first, second := time.UnixMicro(1_000_000).UTC(), time.UnixMicro(2_000_000).UTC()
	for name, tt := range map[string]struct {
		cursors []Cursor
		at      time.Time
		held    bool
	}{
		"never":          {[]Cursor{{Stream: ingest.Stream{Log: "abc", Incarnation: "d"}, Seq: 7}}, time.Time{}, false},
		"held":           {[]Cursor{Hold(first)}, first, true},
		"resumed":        {[]Cursor{Hold(first), Resume(first)}, first, false},
		"restored again": {[]Cursor{Resume(first), Hold(second)}, second, true},
	} {
		m := Memory{Cursors: tt.cursors}
		if at, held := m.HeldAt(); held != tt.held || held && !at.Equal(tt.at) {
			t.Errorf("%s: got %v %v, want %v %v", name, at, held, tt.at, tt.held)
		}
	}
	for stream, want := range map[ingest.Stream]bool{
		Hold(first).Stream: true, Resume(first).Stream: true, {Log: "5yjuksewrz", Incarnation: "a"}: false, {Log: "_kafka1.events", Incarnation: "0"}: false,
	} {
		if IsMark(stream) != want {
			t.Errorf("%v: got %v, want %v", stream, !want, want)
		}
	}
}
