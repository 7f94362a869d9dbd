package clickstream

import (
	"fmt"
	"testing"
	"time"

	"millrace/ingest"
)

func TestLanes(t *testing.T) {
	t.Parallel()
	src := &ingest.Source{Tenant: "default", Name: "web", LaneKeys: []ingest.LaneKey{{Name: "country", Path: "context.geo.country"}, {Name: "type", Path: "type"}}}
	const base = "events/tenant=default/source=web/country="
	for _, tt := range []struct{ name, event, want string }{
		{"there", `{"userId":"1","context":{"geo":{"country":"de"}}}`, base + "de/type=page"},
		{"missing", `{"userId":"1","context":{"geo":1}}`, base + "__null__/type=page"},
		{"null", `{"userId":"1","context":{"geo":{"country":null}}}`, base + "__null__/type=page"},
		{"object", `{"userId":"1","context":{"geo":{"country":{"code":"de"}}}}`, base + "__null__/type=page"},
		{"number", `{"userId":"1","context":{"geo":{"country":49}}}`, base + "49/type=page"},
		{"boolean", `{"userId":"1","context":{"geo":{"country":true}}}`, base + "true/type=page"},
		{"escaped", `{"userId":"1","\u0063ontext":{"geo":{"country":"a\u002fb\u0000"}}}`, base + "a%2Fb/type=page"},
		{"doubled", `{"userId":"1","context":{"geo":{"country":"de","country":"at"}}}`, base + "at/type=page"},
		{"type of the path", `{"userId":"1","type":"track"}`, base + "__null__/type=page"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(Limits{})
			if err := d.Scan([]byte(tt.event), Page); err != nil {
				t.Fatal(err)
			}
			recs, err := d.Records(anyKey{NewTarget(src)}, Input{Received: received})
			if err != nil || len(recs) != 1 || recs[0].Lane != ingest.Lane(tt.want) {
				t.Errorf("got %v, %v, want one record of lane %s", recs, err, tt.want)
			}
			if err := recs[0].Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLaneLimit: values beyond MaxLanes share one lane, until one of those in use has been idle for so long that its batch must be cut.
func TestLaneLimit(t *testing.T) {
	t.Parallel()
	l := newLanes(&ingest.Source{Tenant: "default", Name: "web", LaneKeys: []ingest.LaneKey{{Name: "k", Path: "k"}}, MaxLanes: 3})
	lane := func(v string, at time.Time) string { return l.lane([]byte(v+"\x00"), at).Value("k") }
	for i := range 3 {
		if v := fmt.Sprint(i); lane(v, received) != v {
			t.Fatalf("value %s got no lane", v)
		}
	}
	if got := lane("3", received); got != ingest.LaneOther {
		t.Errorf("got %s beyond the limit, want %s", got, ingest.LaneOther)
	}
	if _, err := ingest.ParseLane(string(l.rest)); err != nil {
		t.Error(err)
	}
	if got := lane("1", received.Add(50*time.Minute)); got != "1" {
		t.Errorf("got %s for a lane in use, want 1", got)
	}
	later := received.Add(idleLane + time.Minute)
	if got := lane("3", later); got != "3" {
		t.Errorf("got %s after others were idle, want 3", got)
	}
	if got := lane("1", later); got != "1" || len(l.open) != 2 {
		t.Errorf("got %s and %d lanes, want 1 and 2", got, len(l.open))
	}
}
