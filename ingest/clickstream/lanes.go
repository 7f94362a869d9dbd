package clickstream

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/ingest"
)

// idleLane is how long a lane must have got nothing before another may take its place among a source's MaxLanes. A batch is cut at most an
// hour after its first record, so such a lane is not open any more.
const idleLane = time.Hour

// lanes names the lanes of one source and remembers those in use. Safe for concurrent use.
type lanes struct {
	plain ingest.Lane // the lane of a source without lane keys, and the beginning of the others
	rest  ingest.Lane // the lane of all values beyond the limit
	keys  []ingest.LaneKey
	paths [][]string
	limit int

	mu   sync.Mutex
	open map[string]*openLane // by values, each ended by a zero byte
}

type openLane struct {
	lane ingest.Lane
	last time.Time
}

func newLanes(src *ingest.Source) *lanes {
	l := &lanes{plain: ingest.EventLane(src.Tenant, src.Name), keys: src.LaneKeys, limit: src.MaxLanes, open: map[string]*openLane{}}
	if l.limit <= 0 {
		l.limit = ingest.DefaultMaxLanes
	}
	l.rest = l.plain
	for _, k := range l.keys {
		l.paths = append(l.paths, strings.Split(k.Path, "."))
		l.rest += ingest.Lane("/" + ingest.EncodeLaneValue(k.Name) + "=" + ingest.LaneOther)
	}
	return l
}

// like reports whether both name the same lanes.
func (l *lanes) like(other *lanes) bool {
	return l.plain == other.plain && l.limit == other.limit && slices.Equal(l.keys, other.keys)
}

// lane returns the lane for values, each ended by a zero byte, at now.
func (l *lanes) lane(values []byte, now time.Time) ingest.Lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.open[string(values)]; o != nil {
		o.last = now
		return o.lane
	}
	if len(l.open) >= l.limit && !l.evict(now) {
		return l.rest
	}
	kvs := make([]ingest.KeyValue, 0, len(l.keys))
	for i, v := range bytes.SplitN(values, []byte{0}, len(l.keys)+1)[:len(l.keys)] {
		kvs = append(kvs, ingest.KeyValue{Key: l.keys[i].Name, Value: string(v)})
	}
	tenant, source := l.plain.Tenant(), l.plain.Source()
	o := &openLane{lane: ingest.EventLane(tenant, source, kvs...), last: now}
	if len(o.lane) > ingest.MaxLane {
		return l.rest
	}
	l.open[string(values)] = o
	return o.lane
}

// evict forgets the lanes that are idle and reports whether there were any.
func (l *lanes) evict(now time.Time) bool {
	before := len(l.open)
	for values, o := range l.open {
		if now.Sub(o.last) > idleLane {
			delete(l.open, values)
		}
	}
	return len(l.open) < before
}

// laneOf returns the lane of an event: that of its source, or, if the source has lane keys, the one for its values.
func (d *Decoder) laneOf(it *item, typ Type, l *lanes, now time.Time) ingest.Lane {
	if len(l.keys) == 0 {
		return l.plain
	}
	d.lane = d.lane[:0]
	for _, path := range l.paths {
		if len(path) == 1 && path[0] == "type" {
			d.lane = append(d.lane, typ.String()...) // the path of the request wins over the event
		} else {
			d.lane = append(d.lane, d.find(it.at, path)...)
		}
		d.lane = append(d.lane, 0)
	}
	return l.lane(d.lane, now)
}

// find returns the text of the value at path in the object at v: that of a string, number or boolean, else nil.
func (d *Decoder) find(v span, path []string) []byte {
	for _, name := range path {
		var found span
		d.members(v, func(key []byte, _, value span) {
			if string(key) == name {
				found = value
			}
		})
		v = found
	}
	raw := d.raw(v)
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
		return nil
	case raw[0] == '"':
		// A zero byte would end the value early; it can not be part of a lane anyway.
		return bytes.ReplaceAll(d.inside(raw[1:len(raw)-1]), []byte{0}, nil)
	}
	return raw
}

// members calls yield for each member of the object at v, which is valid JSON; of any other value there are none.
func (d *Decoder) members(v span, yield func(key []byte, member, value span)) {
	s := scanner{buf: d.body}
	i := int(v.from)
	if v.from == v.to || s.at(i) != '{' {
		return
	}
	for i = s.space(i + 1); s.at(i) != '}'; i = s.space(i) {
		if s.at(i) == ',' {
			i = s.space(i + 1)
		}
		from := i
		end, value := s.key(i)
		if i = s.value(value, 0); i == bad {
			return // not reached: v was scanned before
		}
		yield(d.name(from, end), span{int32(from), int32(i)}, span{int32(value), int32(i)})
	}
}
