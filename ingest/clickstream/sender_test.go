package clickstream

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"millrace/ingest"
)

var (
	phone = netip.MustParseAddr("203.0.113.77")
	six   = netip.MustParseAddr("2001:db8:1234:5678::9")
)

// contextOf returns the context of the row of one event, or "" if it has none, exactly as it stands there.
func contextOf(t *testing.T, d *Decoder, in Input, policy ingest.IPPolicy, body string, typ Type) string {
	t.Helper()
	if err := d.Scan([]byte(body), typ); err != nil {
		t.Fatal(err)
	}
	in.Received = received
	recs, err := d.Records(anyKey{NewTarget(&ingest.Source{Tenant: "default", Name: "web", IP: policy})}, in)
	if err != nil || len(recs) != 1 {
		t.Fatalf("got %d records, %v, want 1", len(recs), err)
	}
	checkRecord(t, &recs[0])
	var row struct{ Context json.RawMessage }
	if err := json.Unmarshal(recs[0].Payload, &row); err != nil {
		t.Fatal(err)
	}
	return string(row.Context)
}

func TestSender(t *testing.T) {
	t.Parallel()
	keep, mask, drop := ingest.IPKeep, ingest.IPAnonymize, ingest.IPDrop
	from := Sender{IP: phone}
	for _, tt := range []struct {
		name, context string // "-": the event has no context
		sender        Sender
		policy        ingest.IPPolicy
		want          string
	}{
		{"no context", "-", from, keep, `{"ip":"203.0.113.77"}`},
		{"empty context", `{ }`, from, keep, `{"ip":"203.0.113.77"}`},
		{"context is null", `null`, from, keep, `{"ip":"203.0.113.77"}`},
		{"context is text", `"x"`, from, keep, `"x"`},
		{"put first, rest untouched", `{ "a" : 1.0, "b":[ ] }`, from, keep, `{"ip":"203.0.113.77", "a" : 1.0, "b":[ ] }`},
		{"own counts", `{"ip":"10.0.0.1"}`, from, keep, `{"ip":"10.0.0.1"}`},
		{"own zero address is how a page says that it wants none", `{"ip":"0.0.0.0"}`, from, keep, `{"ip":"0.0.0.0"}`},
		{"own is null", `{"ip":null,"a":1}`, from, keep, `{"ip":"203.0.113.77","a":1}`},
		{"own is blank", `{"a":1,"ip":" "}`, from, keep, `{"ip":"203.0.113.77","a":1}`},
		{"direct wins over own", `{"ip":"10.0.0.1","direct":true}`, from, keep, `{"ip":"203.0.113.77","direct":true}`},
		{"direct is false", `{"ip":"10.0.0.1","direct":false}`, from, keep, `{"ip":"10.0.0.1","direct":false}`},
		{"own is escaped", `{"\u0069p":"10.0.0.1"}`, from, keep, `{"\u0069p":"10.0.0.1"}`},
		{"deeper ip is another", `{"page":{"ip":"10.0.0.1"}}`, from, keep, `{"ip":"203.0.113.77","page":{"ip":"10.0.0.1"}}`},
		{"no policy is keep", `{"a":1}`, from, "", `{"ip":"203.0.113.77","a":1}`},
		{"address unknown", `{"a":1}`, Sender{}, keep, `{"a":1}`},
		{"address unknown, direct", `{"ip":"10.0.0.1","direct":true}`, Sender{}, keep, `{"ip":"10.0.0.1","direct":true}`},
		{"IPv4 in IPv6", `{"a":1}`, Sender{IP: netip.MustParseAddr("::ffff:203.0.113.77")}, keep, `{"ip":"203.0.113.77","a":1}`},
		{"zone", `{"a":1}`, Sender{IP: netip.MustParseAddr("fe80::1%eth0")}, keep, `{"ip":"fe80::1","a":1}`},

		{"anonymize", `{"a":1}`, from, mask, `{"ip":"203.0.113.0","a":1}`},
		{"anonymize IPv6", `{"a":1}`, Sender{IP: six}, mask, `{"ip":"2001:db8:1234::","a":1}`},
		{"anonymize own", `{"a":1,"ip":"10.1.2.3"}`, from, mask, `{"ip":"10.1.2.0","a":1}`},
		{"anonymize own twice", `{"ip":"10.1.2.3","a":1,"i\u0070":"10.4.5.6"}`, from, mask, `{"ip":"10.4.5.0","a":1}`},
		{"anonymize what is no address", `{"ip":"me","a":1}`, from, mask, `{"a":1}`},
		{"anonymize a number", `{"ip":7}`, from, mask, `{}`},
		{"anonymize direct", `{"ip":"10.1.2.3","direct":true}`, from, mask, `{"ip":"203.0.113.0","direct":true}`},

		{"drop", `{"a":1}`, from, drop, `{"a":1}`},
		{"drop, no context", `-`, from, drop, ``},
		{"drop own", `{"ip":"10.1.2.3","a":1}`, from, drop, `{"a":1}`},
		{"drop direct", `{"ip":"10.1.2.3","direct":true}`, from, drop, `{"direct":true}`},
		{"the request is stricter", `{"ip":"10.1.2.3"}`, Sender{IP: phone, Policy: drop}, keep, `{}`},
		{"the source is stricter", `{"a":1}`, Sender{IP: phone, Policy: mask}, drop, `{"a":1}`},

		{"server", `{"a":1}`, Sender{IP: phone, Server: true}, keep, `{"a":1}`},
		{"server with own", `{"ip":"10.1.2.3"}`, Sender{IP: phone, Server: true}, keep, `{"ip":"10.1.2.3"}`},
		{"server with own, anonymize", `{"ip":"10.1.2.3"}`, Sender{IP: phone, Server: true}, mask, `{"ip":"10.1.2.0"}`},
		{"server, direct", `{"direct":true}`, Sender{IP: phone, Server: true}, keep, `{"ip":"203.0.113.77","direct":true}`},
		{"server, blank", `{"ip":""}`, Sender{IP: phone, Server: true}, keep, `{"ip":""}`},

		{"agent", `{"a":1}`, Sender{Agent: `Mozilla/5.0 "x"`}, keep, `{"userAgent":"Mozilla/5.0 \"x\"","a":1}`},
		{"agent and address, no context", `-`, Sender{IP: phone, Agent: "M"}, keep, `{"ip":"203.0.113.77","userAgent":"M"}`},
		{"own agent", `{"userAgent":"A"}`, Sender{Agent: "M"}, keep, `{"userAgent":"A"}`},
		{"agent beside own address", `{"ip":"10.1.2.3"}`, Sender{IP: phone, Agent: "M"}, keep, `{"userAgent":"M","ip":"10.1.2.3"}`},
		{"agent that is not UTF-8", `{}`, Sender{Agent: "M\xff\x00"}, keep, `{"userAgent":"M\u0000"}`},
		{"agent too long", `{}`, Sender{Agent: strings.Repeat("é", MaxAgent)}, keep, `{"userAgent":"` + strings.Repeat("é", MaxAgent/2) + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			event := `{"userId":"1","type":"page"`
			if tt.context != "-" {
				event += `,"context":` + tt.context
			}
			event += `,"z":1}`
			if got := contextOf(t, NewDecoder(Limits{}), Input{Sender: tt.sender}, tt.policy, event, Page); got != tt.want {
				t.Errorf("got context %s, want %s", got, tt.want)
			}
			// As an item of a batch that has defaults, the members are the same in another order of spaces.
			batch := `{"batch":[` + event + `],"integrations":{"A":true}}`
			got := contextOf(t, NewDecoder(Limits{}), Input{Sender: tt.sender}, tt.policy, batch, 0)
			if want := strings.ReplaceAll(tt.want, " ", ""); strings.ReplaceAll(got, " ", "") != want {
				t.Errorf("got context %s in a batch with defaults, want %s", got, want)
			}
		})
	}
}

// TestSenderOfBatch: what the batch's context says of the sender counts for its events, unless they say otherwise.
func TestSenderOfBatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, batch, event, agent string
		policy                    ingest.IPPolicy
		want                      string
	}{
		{"address of the batch", `{"ip":"10.1.2.3"}`, `{}`, "", ingest.IPKeep, `{"ip":"10.1.2.3"}`},
		{"address of the batch, anonymized", `{"ip":"10.1.2.3","a":1}`, `{}`, "", ingest.IPAnonymize, `{"ip":"10.1.2.0","a":1}`},
		{"address of the batch, dropped", `{"ip":"10.1.2.3"}`, `{"a":1}`, "", ingest.IPDrop, `{"a":1}`},
		{"address of the event", `{"ip":"10.1.2.3"}`, `{"ip":"10.4.5.6"}`, "", ingest.IPKeep, `{"ip":"10.4.5.6"}`},
		{"direct of the batch", `{"direct":true}`, `{"ip":"10.4.5.6"}`, "", ingest.IPKeep, `{"ip":"203.0.113.77","direct":true}`},
		{"event is not direct", `{"direct":true}`, `{"direct":false,"ip":"10.4.5.6"}`, "", ingest.IPKeep, `{"direct":false,"ip":"10.4.5.6"}`},
		{"agent of the batch", `{"userAgent":"B"}`, `{}`, "M", ingest.IPKeep, `{"ip":"203.0.113.77","userAgent":"B"}`},
		{"nothing of either", `{}`, `{"a":1}`, "M", ingest.IPKeep, `{"ip":"203.0.113.77","userAgent":"M","a":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := `{"context":` + tt.batch + `,"batch":[{"type":"page","userId":"1","context":` + tt.event + `}]}`
			got := contextOf(t, NewDecoder(Limits{}), Input{Sender: Sender{IP: phone, Agent: tt.agent}}, tt.policy, body, 0)
			if got != tt.want {
				t.Errorf("got context %s, want %s", got, tt.want)
			}
		})
	}
}

// TestSenderDoubled: of two contexts the last counts, and no policy lets the other through.
func TestSenderDoubled(t *testing.T) {
	t.Parallel()
	d := NewDecoder(Limits{})
	if err := d.Scan([]byte(`{"userId":"1","context":{"ip":"10.1.2.3"},"context":{"a":1}}`), Page); err != nil {
		t.Fatal(err)
	}
	recs, err := d.Records(anyKey{NewTarget(&ingest.Source{Tenant: "default", Name: "web", IP: ingest.IPDrop})}, Input{Received: received, Sender: Sender{IP: phone}})
	if err != nil {
		t.Fatal(err)
	}
	if row := string(recs[0].Payload); strings.Contains(row, "10.1.2.3") || strings.Contains(row, "203.0") || !strings.HasSuffix(row, `"context":{"a":1}}`) {
		t.Errorf("got %s, want one context without addresses", row)
	}
}

// TestSenderOfStrangers: nobody knows what the source of an unknown key keeps, so the request's address is not kept; the event is as it was sent,
// with the batch's defaults.
func TestSenderOfStrangers(t *testing.T) {
	t.Parallel()
	d := NewDecoder(Limits{})
	if err := d.Scan([]byte(`{"batch":[{"type":"page","userId":"1","context":{"a":1}}],"context":{"b":2}}`), 0); err != nil {
		t.Fatal(err)
	}
	recs, err := d.Records(keys{}, Input{Received: received, Key: []byte("nobody"), Orphan: func(int) bool { return true }, Sender: Sender{IP: phone}})
	if err != nil || len(recs) != 1 {
		t.Fatalf("got %d records, %v, want 1", len(recs), err)
	}
	if row := string(recs[0].Payload); !strings.Contains(row, `"context":{"b":2,"a":1}`) || strings.Contains(row, "203.0") {
		t.Errorf("got %s, want both contexts and no address", row)
	}
}

// TestTargetWith: a new definition of a source keeps its lanes in use, and another policy counts at once.
func TestTargetWith(t *testing.T) {
	t.Parallel()
	src := ingest.Source{Tenant: "default", Name: "web", LaneKeys: []ingest.LaneKey{{Name: "a", Path: "a"}}}
	before := NewTarget(&src)
	if before.With(&src) != before {
		t.Error("got another target for the same source, want the same")
	}
	src.IP = ingest.IPDrop
	after := before.With(&src)
	if after == before || after.lanes != before.lanes || after.rank != drops {
		t.Errorf("got %+v for another policy, want the same lanes and that policy", after)
	}
	src.MaxLanes = 7
	if after.With(&src).lanes == before.lanes {
		t.Error("got the old lanes for another limit, want new ones")
	}
}
