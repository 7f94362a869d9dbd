package rules

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"

	"millrace/trigger"
)

// words of crontab(5) for whole expressions.
var words = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
	"@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// ErrNoTick is returned by [NextTick] for an expression that matches no time within the next years ("0 0 31 2 *").
var ErrNoTick = errors.New("never fires")

// cron is a parsed expression.
type cron struct {
	text string
	// steady: the hour field is "*" or "*/n", so it means a rhythm and follows elapsed time when clocks change. Others mean a time of day.
	steady bool
}

func parseCron(text string) (cron, error) {
	text = strings.Join(strings.Fields(text), " ")
	if w, ok := words[text]; ok {
		text = w
	}
	fields := strings.Split(text, " ")
	if len(fields) != 5 {
		return cron{}, fmt.Errorf("want five fields (minute, hour, day of month, month, day of week), got %d", len(strings.Fields(text)))
	}
	if !gronx.IsValid(text) {
		return cron{}, fmt.Errorf("%q is not valid", text)
	}
	return cron{text: text, steady: strings.HasPrefix(fields[1], "*")}, nil
}

func location(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errors.New("zone Local differs from machine to machine")
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("zone %q is not known", name)
	}
	return loc, nil
}

// NextTick returns the first nominal time of a cron rule after after, in UTC, to the second. It is a pure function of the rule, after, and the
// time zone database. When clocks change:
//
//	a time of day ("30 2 * * *") that is skipped comes at the end of the gap, one that occurs twice comes the first time: once a day in all
//	a rhythm ("*/15 * * * *", "0 */2 * * *") goes on with elapsed time: nothing in a gap, and both hours of a repeated one
//
// Errors: a fault of the rule, [ErrNoTick].
func NextTick(r trigger.Rule, after time.Time) (time.Time, error) {
	c, err := parseCron(r.Cron)
	if err != nil {
		return time.Time{}, err
	}
	loc, err := location(r.Timezone)
	if err != nil {
		return time.Time{}, err
	}
	return c.next(after.In(loc))
}

// maxSpans bounds the search of next: there are two a year where clocks change, and 29 February may be eight years away.
const maxSpans = 40

// next walks the spans of after's zone in which the offset from UTC does not change. Within one, local time runs like UTC, so gronx is asked
// about the clock on the wall, written as if it were UTC.
func (c cron) next(after time.Time) (time.Time, error) {
	from, including := after, false
	for range maxSpans {
		start, end := from.ZoneBounds()
		off := offset(from)
		tick, err := c.after(from, off, including)
		for err == nil && !c.steady && !start.IsZero() && tick.Add(off-offset(start.Add(-1))).Before(start) {
			tick, err = c.after(tick, off, false) // this time of day was there before the clock went back
		}
		switch {
		case err != nil:
			return time.Time{}, err
		case end.IsZero() || tick.Before(end):
			return tick.UTC(), nil
		case !c.steady && tick.Before(end.Add(offset(end)-off)):
			return end.UTC(), nil // this time of day is skipped
		}
		from, including = end, true
	}
	return time.Time{}, fmt.Errorf("%q %w", c.text, ErrNoTick)
}

// after returns the first tick after from, or at it, as if the offset off were for ever.
func (c cron) after(from time.Time, off time.Duration, including bool) (time.Time, error) {
	tick, err := gronx.NextTickAfter(c.text, from.UTC().Add(off), including)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q %w", c.text, ErrNoTick)
	}
	return tick.Add(-off), nil
}

func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}
