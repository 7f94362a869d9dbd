package match

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// offer makes an offer for role "*": "cpus 4", "ports 31000-31002", "gpus 1", "lic {a,b}"; with @r a part is reserved for r.
func offer(id, agent string, parts ...string) mesos.Offer {
	return offerFor("*", id, agent, parts...)
}

func offerFor(role, id, agent string, parts ...string) mesos.Offer {
	o := mesos.Offer{
		ID: mesos.ID{Value: id}, AgentID: mesos.ID{Value: agent}, Hostname: "host-" + agent, AllocationInfo: &mesos.AllocationInfo{Role: role},
	}
	for _, p := range parts {
		o.Resources = append(o.Resources, resource(role, p))
	}
	return o
}

func resource(role, text string) mesos.Resource {
	r := mesos.Resource{Role: "*", AllocationInfo: &mesos.AllocationInfo{Role: role}}
	text, reserved, ok := strings.Cut(text, "@")
	if ok {
		r.Role = reserved
	}
	var value string
	r.Name, value, _ = strings.Cut(text, " ")
	switch {
	case strings.HasPrefix(value, "{"):
		r.Type, r.Set = mesos.TypeSet, &mesos.Set{Item: strings.Split(strings.Trim(value, "{}"), ",")}
	case strings.Contains(value, "-"):
		r.Type, r.Ranges = mesos.TypeRanges, &mesos.Ranges{}
		for one := range strings.SplitSeq(value, ",") {
			var x mesos.Range
			fmt.Sscanf(one, "%d-%d", &x.Begin, &x.End)
			r.Ranges.Range = append(r.Ranges.Range, x)
		}
	default:
		r.Type, r.Scalar = mesos.TypeScalar, &mesos.Scalar{}
		fmt.Sscan(value, &r.Scalar.Value)
	}
	return r
}

// show writes resources as resource reads them.
func show(resources []mesos.Resource) string {
	var out []string
	for _, r := range resources {
		text := r.Name + " "
		switch r.Type {
		case mesos.TypeScalar:
			text += Offered(r.Scalar.Value).String()
		case mesos.TypeRanges:
			var parts []string
			for _, x := range r.Ranges.Range {
				parts = append(parts, fmt.Sprintf("%d-%d", x.Begin, x.End))
			}
			text += strings.Join(parts, ",")
		case mesos.TypeSet:
			text += "{" + strings.Join(r.Set.Item, ",") + "}"
		}
		if r.Role != "*" {
			text += "@" + r.Role
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// ask makes one that needs cpus, and what else is said.
func ask(id string, cpus float64, more ...func(*Ask)) Ask {
	a := Ask{ID: id, Needs: []Need{{Name: mesos.CPUs, Amount: Wanted(cpus)}}}
	for _, set := range more {
		set(&a)
	}
	return a
}

func need(n Need) func(*Ask) { return func(a *Ask) { a.Needs = append(a.Needs, n) } }

func with(c ...scheduler.Constraint) func(*Ask) {
	return func(a *Ask) { a.Constraints, a.Group = append(a.Constraints, c...), "g" }
}

func attr(o mesos.Offer, pairs ...string) mesos.Offer {
	for i := 0; i < len(pairs); i += 2 {
		o.Attributes = append(o.Attributes, mesos.Attribute{Name: pairs[i], Type: mesos.TypeText, Text: &mesos.Text{Value: pairs[i+1]}})
	}
	return o
}

func down(o mesos.Offer, start, lasts time.Duration) mesos.Offer {
	o.Unavailability = &mesos.Unavailability{Start: mesos.TimeInfo{Nanoseconds: now.Add(start).UnixNano()}}
	if lasts > 0 {
		o.Unavailability.Duration = &mesos.DurationInfo{Nanoseconds: lasts}
	}
	return o
}

// lines writes a result, one line for each task and each ask without a place.
func lines(r *Result) []string {
	var out []string
	for _, a := range r.Accepts {
		ids := make([]string, 0, len(a.OfferIDs))
		for _, id := range a.OfferIDs {
			ids = append(ids, id.Value)
		}
		for _, t := range a.Tasks {
			out = append(out, fmt.Sprintf("%s on %s for %s by %s: %s", t.Ask, a.AgentID.Value, a.Role, strings.Join(ids, "+"), show(t.Resources)))
		}
		if len(a.Rest) > 0 {
			out = append(out, fmt.Sprintf("rest of %s: %s", a.AgentID.Value, show(a.Rest)))
		}
	}
	for i := range r.Unplaced {
		out = append(out, r.Unplaced[i].Ask+": "+r.Unplaced[i].String())
	}
	return out
}

// rack makes an ask's constraint on the attribute rack.
func rack(op, value string) func(*Ask) {
	return with(scheduler.Constraint{Attribute: "rack", Op: op, Value: value})
}

var placeTests = []struct {
	name   string
	offers []mesos.Offer
	asks   []Ask
	active []Active
	want   []string
}{
	{
		name: "an exact fit, in thousandths that are none in binary", offers: []mesos.Offer{offer("o1", "s1", "cpus 0.3")},
		asks: []Ask{ask("a", 0.1), ask("b", 0.1), ask("c", 0.1)},
		want: []string{"a on s1 for * by o1: cpus 0.1", "b on s1 for * by o1: cpus 0.1", "c on s1 for * by o1: cpus 0.1"},
	},
	{
		name: "the largest first, by the share of what there is", offers: []mesos.Offer{offer("o1", "s1", "cpus 4", "mem 100")},
		asks: []Ask{ask("small", 3), ask("large", 1, need(Need{Name: "mem", Amount: 90 * One})), ask("tiny", 0.5)},
		want: []string{"large on s1 for * by o1: cpus 1; mem 90", "small on s1 for * by o1: cpus 3", "rest of s1: mem 10",
			"tiny: 1 agent offered, and none fits: 1 agent with too little cpus: 0.5 wanted, at most 0 left (host-s1, which offered 4 before others were placed)"},
	},
	{
		name: "the rank before the size", offers: []mesos.Offer{offer("o1", "s1", "cpus 4")},
		asks: []Ask{ask("large", 4, func(a *Ask) { a.Rank = 1 }), ask("small", 1)},
		want: []string{"small on s1 for * by o1: cpus 1", "rest of s1: cpus 3",
			"large: 1 agent offered, and none fits: 1 agent with too little cpus: 4 wanted, at most 3 left (host-s1, which offered 4 before others were placed)"},
	},
	{
		name:   "two offers of an agent together, and a third that is not needed",
		offers: []mesos.Offer{offer("o3", "s1", "cpus 1"), offer("o1", "s1", "cpus 1", "mem 64"), offer("o2", "s1", "cpus 2")},
		asks:   []Ask{ask("a", 2.5)},
		want:   []string{"a on s1 for * by o1+o2: cpus 2.5", "rest of s1: cpus 0.5; mem 64"},
	},
	{
		name:   "never the offers of two agents",
		offers: []mesos.Offer{offer("o1", "s1", "cpus 1"), offer("o2", "s2", "cpus 1")},
		asks:   []Ask{ask("a", 2)},
		want:   []string{"a: 2 agents offered, and none fits: 2 agents with too little cpus: 2 wanted, at most 1 left (host-s1)"},
	},
	{
		name:   "never the offers of two roles",
		offers: []mesos.Offer{offerFor("x", "o1", "s1", "cpus 1"), offerFor("y", "o2", "s1", "cpus 1")},
		asks:   []Ask{ask("a", 2), ask("b", 1), ask("c", 1)},
		want: []string{"b on s1 for x by o1: cpus 1", "c on s1 for y by o2: cpus 1",
			"a: 2 agents offered, and none fits: 2 agents with too little cpus: 2 wanted, at most 1 left (host-s1)"},
	},
	{
		name:   "only the roles that it may use",
		offers: []mesos.Offer{offerFor("x", "o1", "s1", "cpus 1"), offerFor("y", "o2", "s1", "cpus 1")},
		asks:   []Ask{ask("a", 1, func(a *Ask) { a.Roles = []string{"y"} }), ask("b", 1, func(a *Ask) { a.Roles = []string{"y", "z"} })},
		want: []string{"a on s1 for y by o2: cpus 1",
			"b: 2 agents offered, and none fits: 1 agent with too little cpus: 1 wanted, at most 0 left (host-s1, which offered 1 before others were placed); 1 agent for other roles"},
	},
	{
		name:   "what is reserved first, and each with its role",
		offers: []mesos.Offer{offerFor("x", "o1", "s1", "cpus 2", "cpus 1@x", "ports 5-6", "ports 9-9@x")},
		asks:   []Ask{ask("a", 1.5, need(Need{Name: "ports", Count: 2}))},
		want:   []string{"a on s1 for x by o1: cpus 0.5; cpus 1@x; ports 5-5; ports 9-9@x", "rest of s1: cpus 1.5; ports 6-6"},
	},
	{
		name: "ports, particular ones before any", offers: []mesos.Offer{offer("o1", "s1", "cpus 9", "ports 31000-31003,31010-31010")},
		asks: []Ask{ask("any", 1, need(Need{Name: "ports", Count: 2})), ask("fixed", 1, need(Need{Name: "ports", Count: 1, Numbers: []uint64{31000, 31002}}))},
		want: []string{"fixed on s1 for * by o1: cpus 1; ports 31000-31002", "any on s1 for * by o1: cpus 1; ports 31003-31003,31010-31010", "rest of s1: cpus 7"},
	},
	{
		name: "a port that is not there", offers: []mesos.Offer{offer("o1", "s1", "cpus 9", "ports 31000-31003")},
		asks: []Ask{ask("a", 1, need(Need{Name: "ports", Numbers: []uint64{31002, 80}}))},
		want: []string{"a: 1 agent offered, and none fits: 1 agent with too little ports: 2 wanted, at most 4 left (host-s1, not 80)"},
	},
	{
		name: "members of a set", offers: []mesos.Offer{offer("o1", "s1", "cpus 9", "lic {a,b,c}")},
		asks: []Ask{ask("x", 1, need(Need{Name: "lic", Count: 1, Items: []string{"b"}})), ask("y", 1, need(Need{Name: "lic", Count: 2}))},
		want: []string{"x on s1 for * by o1: cpus 1; lic {a,b}", "rest of s1: cpus 8; lic {c}",
			"y: 1 agent offered, and none fits: 1 agent with too little lic: 2 wanted, at most 1 left (host-s1, which offered 3 before others were placed)"},
	},
	{
		name:   "agents with GPUs for those that need them",
		offers: []mesos.Offer{offer("o1", "s1", "cpus 2", "gpus 1"), offer("o2", "s2", "cpus 2")},
		asks:   []Ask{ask("plain", 1.5), ask("gpu", 1, need(Need{Name: "gpus", Amount: One}))},
		want:   []string{"gpu on s1 for * by o1: cpus 1; gpus 1", "rest of s1: cpus 1", "plain on s2 for * by o2: cpus 1.5", "rest of s2: cpus 0.5"},
	},
	{
		name:   "an agent with a GPU if there is nothing else",
		offers: []mesos.Offer{offer("o1", "s1", "cpus 2", "gpus 1")}, asks: []Ask{ask("a", 1)},
		want: []string{"a on s1 for * by o1: cpus 1", "rest of s1: cpus 1; gpus 1"},
	},
	{
		name:   "not where it was dropped, if there is another",
		offers: []mesos.Offer{offer("o1", "s1", "cpus 1"), offer("o2", "s2", "cpus 1")},
		asks:   []Ask{ask("a", 1, func(a *Ask) { a.Avoid = []string{"s1"} })},
		want:   []string{"a on s2 for * by o2: cpus 1"},
	},
	{
		name: "maintenance ahead last, over is none, and under way never",
		offers: []mesos.Offer{down(offer("o1", "s1", "cpus 1"), time.Minute, 0), down(offer("o2", "s2", "cpus 1"), -time.Hour, time.Minute),
			down(offer("o3", "s3", "cpus 1"), -time.Minute, time.Hour)},
		asks: []Ask{ask("a", 1), ask("b", 1), ask("c", 1)},
		want: []string{"b on s1 for * by o1: cpus 1", "a on s2 for * by o2: cpus 1",
			"c: 3 agents offered, and none fits: 2 agents with too little cpus: 1 wanted, at most 0 left (host-s2, which offered 1 before others were placed); 1 agent in maintenance"},
	},
	{
		name:   "maintenance that the task does not reach does not matter",
		offers: []mesos.Offer{down(offer("o1", "s1", "cpus 1"), time.Hour, 0), offer("o2", "s2", "cpus 1")},
		asks:   []Ask{ask("a", 1, func(a *Ask) { a.Reach = time.Minute })},
		want:   []string{"a on s1 for * by o1: cpus 1"},
	},
	{name: "no offers", asks: []Ask{ask("a", 1)}, want: []string{"a: no agent offers anything at present"}},
	{name: "nothing wanted", offers: []mesos.Offer{offer("o1", "s1", "cpus 1")}},
	{
		name: "volumes are not for tasks", want: []string{"a: 1 agent offered, and none fits: 1 agent with too little cpus: 1 wanted, at most 0 left (host-s1)"},
		offers: []mesos.Offer{func() mesos.Offer {
			o := offer("o1", "s1", "cpus 1")
			o.Resources[0].Disk = &mesos.DiskInfo{}
			return o
		}()}, asks: []Ask{ask("a", 1)},
	},
	{
		name:   "is, like and unlike look at the machine alone",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 9"), "rack", "r1"), attr(offer("o2", "s2", "cpus 9"), "rack", "r22"), offer("o3", "s3", "cpus 9")},
		asks:   []Ask{ask("is", 1, rack("is", "r22")), ask("like", 1, rack("like", "r.")), ask("unlike", 1, rack("unlike", "r.*")), ask("none", 1, rack("is", "r3"))},
		want: []string{"like on s1 for * by o1: cpus 1", "rest of s1: cpus 8", "is on s2 for * by o2: cpus 1", "rest of s2: cpus 8",
			"unlike on s3 for * by o3: cpus 1", "rest of s3: cpus 8", "none: 3 agents offered, and none fits: 3 agents against [rack, is, r3]: there it is r1, r22"},
	},
	{
		name:   "a constraint that can not be read",
		offers: []mesos.Offer{offer("o1", "s1", "cpus 9")}, asks: []Ask{ask("a", 1, rack("like", "("))},
		want: []string{"a: read constraint [rack, like, (]: error parsing regexp: missing closing ): `^(?:()$`"},
	},
	{
		name:   "unique, with one that is active",
		offers: []mesos.Offer{offer("o1", "s1", "cpus 9"), offer("o2", "s2", "cpus 9"), offer("o3", "s3", "cpus 9")},
		asks: []Ask{ask("a", 1, with(scheduler.Constraint{Attribute: "hostname", Op: "unique"})), ask("b", 1, with(scheduler.Constraint{Attribute: "hostname", Op: "unique"})),
			ask("c", 1, with(scheduler.Constraint{Attribute: "hostname", Op: "unique"}))},
		active: []Active{{Group: "g", Machine: Machine{Hostname: "host-s2"}}, {Group: "other", Machine: Machine{Hostname: "host-s1"}}},
		want: []string{"a on s1 for * by o1: cpus 1", "rest of s1: cpus 8", "b on s3 for * by o3: cpus 1", "rest of s3: cpus 8",
			"c: 3 agents offered, and none fits: 3 agents against [hostname, unique]: there it is host-s1, host-s2, host-s3"},
	},
	{
		name:   "spread over the racks, of which one has two agents",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 9"), "rack", "r1"), attr(offer("o2", "s2", "cpus 9"), "rack", "r1"), attr(offer("o3", "s3", "cpus 9"), "rack", "r2")},
		asks:   []Ask{ask("a", 1, rack("group_by", "")), ask("b", 1, rack("group_by", "")), ask("c", 1, rack("group_by", "")), ask("d", 1, rack("group_by", ""))},
		want: []string{"a on s1 for * by o1: cpus 1", "c on s1 for * by o1: cpus 1", "rest of s1: cpus 7",
			"b on s3 for * by o3: cpus 1", "d on s3 for * by o3: cpus 1", "rest of s3: cpus 7"},
	},
	{
		name:   "an agent that was passed over may have its turn again",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 9"), "rack", "r1"), attr(offer("o2", "s2", "cpus 0.5"), "rack", "r2"), attr(offer("o3", "s3", "cpus 1"), "rack", "r2")},
		asks:   []Ask{ask("a", 1, rack("group_by", "")), ask("b", 1, rack("group_by", "")), ask("c", 1, rack("group_by", ""))},
		want:   []string{"a on s1 for * by o1: cpus 1", "c on s1 for * by o1: cpus 1", "rest of s1: cpus 7", "b on s3 for * by o3: cpus 1"},
	},
	{
		name:   "spread over those racks only that it may use",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 2"), "rack", "r1"), attr(offer("o2", "s2", "cpus 2"), "rack", "r9")},
		asks:   []Ask{ask("a", 1, rack("group_by", ""), rack("unlike", "r9")), ask("b", 1, rack("group_by", ""), rack("unlike", "r9"))},
		want:   []string{"a on s1 for * by o1: cpus 1", "b on s1 for * by o1: cpus 1"},
	},
	{
		name:   "a rack that is to come has to come first",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 9"), "rack", "r1")},
		asks:   []Ask{ask("a", 1, rack("group_by", "2")), ask("b", 1, rack("group_by", "2"))},
		want: []string{"a on s1 for * by o1: cpus 1", "rest of s1: cpus 8",
			"b: 1 agent offered, and none fits: 1 agent against [rack, group_by, 2]: there it is r1"},
	},
	{
		name:   "at most so many",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 9"), "rack", "r1"), attr(offer("o2", "s2", "cpus 9"), "rack", "r2")},
		asks:   []Ask{ask("a", 1, rack("max_per", "2")), ask("b", 1, rack("max_per", "2")), ask("c", 1, rack("max_per", "2"))},
		want:   []string{"a on s1 for * by o1: cpus 1", "b on s1 for * by o1: cpus 1", "rest of s1: cpus 7", "c on s2 for * by o2: cpus 1", "rest of s2: cpus 8"},
	},
	{
		name:   "all together, where the first is",
		offers: []mesos.Offer{attr(offer("o1", "s1", "cpus 1"), "rack", "r1"), attr(offer("o2", "s2", "cpus 9"), "rack", "r2")},
		asks:   []Ask{ask("a", 1, rack("cluster", "")), ask("b", 1, rack("cluster", ""))},
		want: []string{"a on s1 for * by o1: cpus 1",
			"b: 2 agents offered, and none fits: 1 agent against [rack, cluster]: there it is r2; 1 agent with too little cpus: 1 wanted, at most 0 left (host-s1, which offered 1 before others were placed)"},
	},
}

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, test := range placeTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := lines(Place(&Input{Now: now, Offers: test.offers, Asks: test.asks, Active: test.active}))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("placements differ (-want +got)\n%s", diff)
			}
		})
	}
}

func TestUnusedOffers(t *testing.T) {
	t.Parallel()
	r := Place(&Input{Now: now, Asks: []Ask{ask("a", 1)}, Offers: []mesos.Offer{
		offer("o2", "s2", "cpus 1"), offer("o1", "s1", "cpus 1"), offer("o1", "s1", "cpus 1"), offer("o3", "s1", "cpus 1"),
	}})
	if want := []mesos.ID{{Value: "o3"}, {Value: "o2"}}; !slices.Equal(r.Unused, want) {
		t.Errorf("got unused %v, want %v", r.Unused, want)
	}
}

func TestAttribute(t *testing.T) {
	t.Parallel()
	m := Machine{Hostname: "h", Attributes: []mesos.Attribute{
		{Name: "gen", Scalar: &mesos.Scalar{Value: 4}}, {Name: "half", Scalar: &mesos.Scalar{Value: 0.5}}, {Name: "tags", Set: &mesos.Set{Item: []string{"b", "a"}}},
		{Name: "vlan", Ranges: &mesos.Ranges{Range: []mesos.Range{{Begin: 4, End: 5}, {Begin: 1, End: 2}}}}, {Name: "none"},
	}}
	placed := Machine{Domain: &mesos.Domain{FaultDomain: &mesos.FaultDomain{Region: mesos.Name{Name: "eu"}, Zone: mesos.Name{Name: "eu-1"}}}}
	tests := []struct {
		machine    *Machine
		name, want string
		ok         bool
	}{
		{&m, "hostname", "h", true}, {&m, "gen", "4", true}, {&m, "half", "0.5", true}, {&m, "tags", "{a,b}", true}, {&m, "vlan", "[1-2,4-5]", true},
		{&m, "none", "", true}, {&m, "other", "", false}, {&m, "@region", "", false}, {&placed, "@region", "eu", true}, {&placed, "@zone", "eu-1", true},
	}
	for _, test := range tests {
		if got, ok := test.machine.Attribute(test.name); got != test.want || ok != test.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", test.name, got, ok, test.want, test.ok)
		}
	}
	for _, c := range []struct {
		op, value string
		want      bool
	}{{"is", "4.0", true}, {"is", "40", false}, {"exists", "", true}, {"not_exists", "", false}} {
		rules, err := rulesOf([]scheduler.Constraint{{Attribute: "gen", Op: c.op, Value: c.value}})
		if err != nil || rules[0].alone(&m) != c.want {
			t.Errorf("[gen, %s, %s]: got %v, %v, want %v", c.op, c.value, !c.want, err, c.want)
		}
	}
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		v               float64
		offered, wanted Amount
	}{{0.1, 100, 100}, {0.1 + 0.2, 300, 300}, {0.0004, 0, 1}, {1.0006, 1001, 1001}, {1.0004, 1000, 1001}, {-1, 0, 0}, {8, 8000, 8000}} {
		if got := Offered(test.v); got != test.offered {
			t.Errorf("offered %v: got %d, want %d", test.v, got, test.offered)
		}
		if got := Wanted(test.v); got != test.wanted {
			t.Errorf("wanted %v: got %d, want %d", test.v, got, test.wanted)
		}
	}
}

// TestUnplacedJSON: amounts are numbers as people know them.
func TestUnplacedJSON(t *testing.T) {
	t.Parallel()
	out := Place(&Input{Now: now, Offers: []mesos.Offer{offer("o1", "s1", "cpus 0.25")}, Asks: []Ask{ask("a", 1.5)}}).Unplaced[0]
	text, err := json.Marshal(out)
	want := `{"ask":"a","agents":1,"reasons":[{"code":"resource","agents":1,"on":["host-s1"],"resource":"cpus","want":1.5,"left":0.25,"offered":0.25,"best":"host-s1"}]}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
	var back Unplaced
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(out, back); diff != "" {
		t.Errorf("read back it differs (-written +read)\n%s", diff)
	}
}

func TestNeeds(t *testing.T) {
	t.Parallel()
	got := Needs(&scheduler.Resources{CPU: 0.5, Mem: 1<<20 + 1, Disk: 5 << 20, GPU: 2}, 2, 80)
	want := []Need{{Name: "cpus", Amount: 500}, {Name: "mem", Amount: 2000}, {Name: "disk", Amount: 5000}, {Name: "gpus", Amount: 2000},
		{Name: "ports", Count: 2, Numbers: []uint64{80}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("needs differ (-want +got)\n%s", diff)
	}
	if got := Needs(nil, 0); got != nil {
		t.Errorf("got %v, want none", got)
	}
}
