package clickstream

import "time"

// The senders' clocks. A sender stamps an event when it happens (timestamp) and when it sends it (sentAt), both by its own clock; what we
// know is when it came. If sending took no time, the clock was wrong by received-sent, so the event happened at original+(received-sent).
const (
	// minSkew is how wrong a clock must be before it is corrected: below it, the difference is the network's.
	minSkew = 2 * time.Second
	// maxAhead is how far after its receipt a corrected event may lie. One that claims to have happened long after it was sent is not
	// corrected, since neither of its clocks can be believed.
	maxAhead = 5 * time.Minute
)

const (
	day     = 24 * int64(time.Hour/time.Microsecond)
	micros  = int64(time.Second / time.Microsecond)
	minTime = -719528 * day // 0000-01-01
	maxTime = 2932897 * day // 10000-01-01
)

// corrected returns when an event happened, all in microseconds since 1970; sent is noTime if the sender did not say.
func corrected(original, sent, received int64) int64 {
	if original == noTime {
		return received
	}
	if sent == noTime {
		return original
	}
	skew := received - sent
	at := original + skew
	switch {
	case skew < int64(minSkew/time.Microsecond) && -skew < int64(minSkew/time.Microsecond):
		return original
	case at > received+int64(maxAhead/time.Microsecond), at < minTime, at >= maxTime:
		return original
	}
	return at
}

// noTime is no time that a text of parseTime's can name.
const noTime = int64(-1) << 63

// parseTime reads an ISO 8601 time of the shapes that SDKs send: date, then T or a space and hh:mm with optional seconds and fraction, then
// optional Z or ±hh:mm, ±hhmm or ±hh; without a zone it is UTC. It returns microseconds since 1970, or noTime.
func parseTime(t []byte) int64 {
	year, ok1 := number(t, 0, 4)
	month, ok2 := number(t, 5, 2)
	mday, ok3 := number(t, 8, 2)
	if !ok1 || !ok2 || !ok3 || t[4] != '-' || t[7] != '-' || month < 1 || month > 12 || mday < 1 || mday > daysIn(year, month) {
		return noTime
	}
	at := daysSince1970(year, month, mday) * day
	if len(t) == 10 {
		return at
	}
	hour, ok1 := number(t, 11, 2)
	minute, ok2 := number(t, 14, 2)
	if !ok1 || !ok2 || t[10] != 'T' && t[10] != ' ' && t[10] != 't' || t[13] != ':' || hour > 23 || minute > 59 {
		return noTime
	}
	at += (hour*60 + minute) * 60 * micros
	rest := t[16:]
	if len(rest) > 0 && rest[0] == ':' {
		second, ok := number(rest, 1, 2)
		if !ok || second > 59 {
			return noTime
		}
		at += second * micros
		var fraction int64
		if fraction, rest = parseFraction(rest[3:]); fraction == noTime {
			return noTime
		}
		at += fraction
	}
	zone := parseZone(rest)
	if zone == noTime || at-zone < minTime || at-zone >= maxTime {
		return noTime
	}
	return at - zone
}

// parseFraction reads ".ddd" or ",ddd" of any length, cut to microseconds.
func parseFraction(t []byte) (int64, []byte) {
	if len(t) == 0 || t[0] != '.' && t[0] != ',' {
		return 0, t
	}
	var fraction int64
	unit, i := micros, 1
	for ; i < len(t) && t[i] >= '0' && t[i] <= '9'; i++ {
		unit /= 10
		fraction += int64(t[i]-'0') * unit
	}
	if i == 1 {
		return noTime, nil
	}
	return fraction, t[i:]
}

// parseZone returns the offset from UTC in microseconds.
func parseZone(t []byte) int64 {
	if len(t) == 0 || len(t) == 1 && (t[0] == 'Z' || t[0] == 'z') {
		return 0
	}
	hour, ok := number(t, 1, 2)
	if !ok || hour > 23 || t[0] != '+' && t[0] != '-' {
		return noTime
	}
	var minute int64
	switch {
	case len(t) == 3:
	case len(t) == 5:
		minute, ok = number(t, 3, 2)
	case len(t) == 6 && t[3] == ':':
		minute, ok = number(t, 4, 2)
	default:
		ok = false
	}
	if !ok || minute > 59 {
		return noTime
	}
	zone := (hour*60 + minute) * 60 * micros
	if t[0] == '-' {
		return -zone
	}
	return zone
}

// number reads n digits at t[i].
func number(t []byte, i, n int) (int64, bool) {
	if len(t) < i+n {
		return 0, false
	}
	var v int64
	for _, c := range t[i : i+n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	return v, true
}

func daysIn(year, month int64) int64 {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4, month == 6, month == 9, month == 11:
		return 30
	}
	return 31
}

// daysSince1970 counts in years that begin in March, where the leap day is the last (Howard Hinnant, "chrono-Compatible Low-Level Date
// Algorithms").
func daysSince1970(year, month, mday int64) int64 {
	if month <= 2 {
		year--
	}
	year += 400 // never negative below
	era := year / 400
	inEra := year % 400
	inYear := (153*((month+9)%12)+2)/5 + mday - 1
	return (era-1)*146097 + inEra*365 + inEra/4 - inEra/100 + inYear - 719468
}

// appendTime appends at as RFC 3339 in UTC with exactly three decimals, so that texts sort as times do.
func appendTime(dst []byte, at int64) []byte {
	days := at / day
	if at%day < 0 {
		days--
	}
	left := at - days*day
	year, month, mday := date(days)
	text := [24]byte([]byte("0000-00-00T00:00:00.000Z"))
	put2(text[0:], year/100)
	put2(text[2:], year%100)
	put2(text[5:], month)
	put2(text[8:], mday)
	put2(text[11:], left/(3600*micros))
	put2(text[14:], left/(60*micros)%60)
	put2(text[17:], left/micros%60)
	text[20] += byte(left / 100_000 % 10)
	put2(text[21:], left/1000%100)
	return append(dst, text[:]...)
}

// put2 writes v, below 100, as two digits.
func put2(text []byte, v int64) {
	text[0], text[1] = byte('0'+v/10), byte('0'+v%10)
}

// date is the inverse of daysSince1970, from the same source.
func date(days int64) (year, month, mday int64) {
	days += 719468 + 146097
	era := days / 146097
	inEra := days % 146097
	y := (inEra - inEra/1460 + inEra/36524 - inEra/146096) / 365
	inYear := inEra - (365*y + y/4 - y/100)
	m := (5*inYear + 2) / 153
	year, month, mday = y+era*400-400, m+3, inYear-(153*m+2)/5+1
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, mday
}
