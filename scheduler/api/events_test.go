package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

// eventRig has two batches of five rows each, committed, and an open one.
func eventRig(t *testing.T) (*rig, ingest.Stream) {
	t.Helper()
	r := newRig(t, func(_ *Deps, o *Options) { o.Redact = []string{"properties.email"} })
	s := ingest.Stream{Log: "log", Incarnation: "aaa"}
	r.chain.add(s, cutsOf(s, 0, nil, 0, 10))
	r.chain.add(s, cutsOf(s, 1, []string{"aaa-0", "aaa-10"}, 20))
	for _, first := range []int{0, 10, 20} {
		var rows strings.Builder
		for i := range 5 {
			fmt.Fprintf(&rows, `{"messageId":"m%d","type":"%s","properties":{"plan":"%s","email":"a@b.example"},"api_key":"k"}`+"\n",
				first+i, []string{"track", "page"}[i%2], []string{"free", "pro"}[i/3])
		}
		r.put(fmt.Sprintf("events/aaa-%d.ndjson.gz", first), []byte(rows.String()))
	}
	return r, s
}

// tailOf reads so many events; it fails if there are others.
func (r *rig) tailOf(query url.Values, want ...string) (cursors []string) {
	r.Helper()
	query.Set("limit", fmt.Sprint(len(want)))
	out := r.follow("/api/v1/events/tail?"+query.Encode(), "")
	var got []string
	for {
		text, err := out.ReadString('\n')
		if err != nil {
			break
		}
		var line eventLine
		var event struct{ MessageID string }
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			r.Fatalf("%v in %s", err, text)
		}
		if err := json.Unmarshal(line.Event, &event); err != nil || line.Source != "web" || line.Lane == "" || line.Batch == "" {
			r.Errorf("got %s, %v, want an event with its place", text, err)
		}
		got, cursors = append(got, event.MessageID), append(cursors, line.Cursor)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("%v: events differ (-want +got):\n%s", query, diff)
	}
	return cursors
}

// TestTailEvents reads from the start, filtered in every way, and goes on after each single row.
func TestTailEvents(t *testing.T) {
	t.Parallel()
	r, s := eventRig(t)
	all := []string{"m0", "m1", "m2", "m3", "m4", "m10", "m11", "m12", "m13", "m14"}
	cursors := r.tailOf(url.Values{"from": {"start"}}, all...)
	for i := range all[:len(all)-1] {
		r.tailOf(url.Values{"from": {cursors[i]}}, all[i+1:]...)
	}
	for _, tt := range []struct {
		key, value string
		want       []string
	}{
		{"type", "page", []string{"m1", "m3", "m11", "m13"}},
		{"where", "properties.plan=pro", []string{"m3", "m4", "m13", "m14"}},
		{"where", "properties.plan!=pro", []string{"m0", "m1", "m2", "m10", "m11", "m12"}},
		{"where", "messageId=m12", []string{"m12"}},
		{"source", "web", all},
		{"lane", string(ingest.EventLane("default", "web")), all},
	} {
		r.tailOf(url.Values{"from": {"start"}, tt.key: {tt.value}}, tt.want...)
	}
	r.tailOf(url.Values{"from": {"start"}, "where": {"properties.plan=pro", "type=page"}}, "m3", "m13")
	// What comes later comes to who waits, alone.
	now := r.follow("/api/v1/events/tail?limit=1&where=properties.plan", "text/event-stream")
	r.chain.add(s, cutsOf(s, 2, []string{"aaa-20"}))
	if id, err := now.ReadString('\n'); err != nil || !strings.HasPrefix(id, "id: ") {
		t.Errorf("got %q, %v, want an id", id, err)
	}
	if data, err := now.ReadString('\n'); err != nil || !strings.Contains(data, `"messageId":"m20"`) {
		t.Errorf("got %q, %v, want the new batch's first row", data, err)
	}
}

// TestTailEventsOfOthers: filters that nothing fits find nothing, though everything is looked at.
func TestTailEventsOfOthers(t *testing.T) {
	t.Parallel()
	r, s := eventRig(t)
	r.put("events/aaa-30.ndjson.gz", []byte(`{"messageId":"m30","last":1}`+"\n"))
	r.chain.add(s, cutsOf(s, 3, []string{"aaa-20"}, 30))
	r.chain.add(s, cutsOf(s, 4, []string{"aaa-30"}))
	r.tailOf(url.Values{"from": {"start"}, "where": {"last"}}, "m30")
	for query, want := range map[string]int{
		"where=%3Dx": 422, "where=a!": 422, "where=%40x%3D1": 422, "from=odd": 422, "from=start~b~x": 422, "mask=maybe": 422, "limit=-1": 422,
		strings.Repeat("where=a%3D1&", maxFilters+1): 422,
	} {
		if w := r.get("/api/v1/events/tail?" + query); w.Code != want {
			t.Errorf("%s: got %d, want %d", query, w.Code, want)
		}
	}
}

// TestTailEventsMasked: secrets do not leave the server unless they are asked for.
func TestTailEventsMasked(t *testing.T) {
	t.Parallel()
	r, _ := eventRig(t)
	for query, want := range map[string]string{
		"":                    `{"messageId":"m0","type":"track","properties":{"plan":"free","email":"***"},"api_key":"***"}`,
		"&redact=*.messageId": `{"messageId":"***","type":"track","properties":{"plan":"free","email":"***"},"api_key":"***"}`,
		"&mask=off":           `{"messageId":"m0","type":"track","properties":{"plan":"free","email":"a@b.example"},"api_key":"k"}`,
	} {
		text, err := r.follow("/api/v1/events/tail?from=start&limit=1"+query, "").ReadString('\n')
		if err != nil || !strings.HasSuffix(text, `"event":`+want+"}\n") {
			t.Errorf("%q: got %s, %v, want the event %s", query, text, err, want)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	m := newMasker([]string{"context.ip", "*.phone", "body.data.object.email"})
	for row, want := range map[string]string{
		`{}`:                                    `{}`,
		`{"a":[],"b":1}`:                        `{"a":[],"b":1}`,
		`{"a":"<&>\u2028 é","n":1.50,"x":null}`: `{"a":"<&>\u2028 é","n":1.50,"x":null}`,
		`{"Password":"p","user-token":7,"accessKeyId":{"a":1}}`:          `{"Password":"***","user-token":"***","accessKeyId":"***"}`,
		`{"context":{"ip":"1.2.3.4"},"ip":"5"}`:                          `{"context":{"ip":"***"},"ip":"5"}`,
		`{"l":[{"phone":1},{"phone":2,"x":3}]}`:                          `{"l":[{"phone":"***"},{"phone":"***","x":3}]}`,
		`{"body":"{\"data\":{\"object\":{\"email\":\"e\",\"id\":1}}}"}`:  `{"body":"{\"data\":{\"object\":{\"email\":\"***\",\"id\":1}}}"}`,
		`{"body":"{\"token\":\"t\""}`:                                    `{"body":"***"}`,
		`{"body":"From=1&api_key=k&phone=2&x"}`:                          `{"body":"From=1&api_key=***&phone=***&x"}`,
		`{"body":"plain text"}`:                                          `{"body":"plain text"}`,
		`{"properties":{"body":"token=x"}}`:                              `{"properties":{"body":"token=x"}}`,
		`{"query":{"token":["a","b"],"q":["c"]},"headers":{"cookie":1}}`: `{"query":{"token":"***","q":["c"]},"headers":{"cookie":"***"}}`,
	} {
		got := string(m.row([]byte(row)))
		if got != want {
			t.Errorf("%s: got %s, want %s", row, got, want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s: got %s, which is no JSON", row, got)
		}
	}
}
