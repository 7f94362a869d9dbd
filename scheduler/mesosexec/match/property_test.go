package match

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// drawOffers draws offers of few agents and roles, with reservations, volumes, maintenance and attributes. No port or item of an agent is in two of
// its offers for one role, as with a real master.
func drawOffers(t *rapid.T) []mesos.Offer {
	var out []mesos.Offer
	agents := rapid.IntRange(0, 4).Draw(t, "agents")
	for s := range agents {
		rack := rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "rack")
		port := uint64(100)
		for n := range rapid.IntRange(1, 3).Draw(t, "offers") {
			role := rapid.SampledFrom([]string{"*", "x", "y"}).Draw(t, "role")
			o := offerFor(role, fmt.Sprint("o", s, "-", n), fmt.Sprint("s", s))
			if rack != "" {
				o = attr(o, "rack", rack)
			}
			if rapid.IntRange(0, 4).Draw(t, "down") == 0 {
				o = down(o, time.Duration(rapid.IntRange(-2, 2).Draw(t, "start"))*time.Minute, time.Duration(rapid.IntRange(0, 2).Draw(t, "lasts"))*time.Minute)
			}
			for range rapid.IntRange(0, 5).Draw(t, "resources") {
				o.Resources = append(o.Resources, drawResource(t, role, &port))
			}
			out = append(out, o)
		}
	}
	return rapid.Permutation(out).Draw(t, "order")
}

func drawResource(t *rapid.T, role string, port *uint64) mesos.Resource {
	var r mesos.Resource
	switch name := rapid.SampledFrom([]string{"cpus", "mem", "gpus", "ports", "lic"}).Draw(t, "name"); name {
	case "ports":
		begin := *port + uint64(rapid.IntRange(0, 2).Draw(t, "gap"))
		end := begin + uint64(rapid.IntRange(0, 3).Draw(t, "more"))
		*port = end + 1
		r = resource(role, fmt.Sprintf("ports %d-%d", begin, end))
	case "lic":
		*port++
		r = resource(role, fmt.Sprintf("lic {l%d,m%d}", *port, *port))
	default:
		r = resource(role, fmt.Sprint(name, " ", float64(rapid.IntRange(0, 4000).Draw(t, "amount"))/1000))
	}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		r.Role = role
	case 1:
		r.Role, r.Reservations = "", []mesos.Reservation{{Type: "DYNAMIC", Role: role, Principal: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "principal")}}
	case 2:
		r.Revocable = &struct{}{}
	}
	return r
}

func drawAsks(t *rapid.T) []Ask {
	var out []Ask
	for i := range rapid.IntRange(1, 8).Draw(t, "asks") {
		a := Ask{ID: fmt.Sprint("a", i), Rank: rapid.IntRange(0, 1).Draw(t, "rank"), Group: rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group"),
			Reach: time.Duration(rapid.IntRange(0, 2).Draw(t, "reach")) * time.Minute}
		for range rapid.IntRange(0, 3).Draw(t, "needs") {
			a.Needs = append(a.Needs, drawNeed(t))
		}
		if rapid.IntRange(0, 3).Draw(t, "roles") == 0 {
			a.Roles = []string{rapid.SampledFrom([]string{"*", "x"}).Draw(t, "role")}
		}
		if rapid.IntRange(0, 3).Draw(t, "avoids") == 0 {
			a.Avoid = []string{"s0"}
		}
		if rapid.IntRange(0, 2).Draw(t, "constrained") == 0 {
			op := rapid.SampledFrom(scheduler.Ops).Draw(t, "op")
			c := scheduler.Constraint{Attribute: rapid.SampledFrom([]string{"rack", "hostname"}).Draw(t, "attribute"), Op: op}
			switch op {
			case scheduler.OpIs, scheduler.OpLike, scheduler.OpUnlike:
				c.Value = rapid.SampledFrom([]string{"r1", "host-s1"}).Draw(t, "value")
			case scheduler.OpMaxPer:
				c.Value = "2"
			}
			a.Constraints = []scheduler.Constraint{c}
		}
		out = append(out, a)
	}
	return out
}

func drawNeed(t *rapid.T) Need {
	switch name := rapid.SampledFrom([]string{"cpus", "mem", "gpus", "ports", "lic"}).Draw(t, "need"); name {
	case "ports":
		n := Need{Name: name, Count: rapid.IntRange(0, 3).Draw(t, "count")}
		if rapid.Bool().Draw(t, "fixed") {
			n.Numbers = []uint64{uint64(rapid.IntRange(100, 110).Draw(t, "number"))}
		}
		return n
	case "lic":
		return Need{Name: name, Count: rapid.IntRange(0, 2).Draw(t, "count"), Items: rapid.SampledFrom([][]string{nil, {"l101"}}).Draw(t, "items")}
	default:
		return Need{Name: name, Amount: Amount(rapid.IntRange(0, 3000).Draw(t, "amount"))}
	}
}

// pile counts resources by what they are and by member, in thousandths.
type pile map[string]Amount

func (p pile) add(sign Amount, resources []mesos.Resource) {
	for i := range resources {
		r := &resources[i]
		key := identity(r)
		switch {
		case !forTasks(r):
			continue
		case r.Scalar != nil:
			p[key] += sign * Offered(r.Scalar.Value)
		case r.Ranges != nil:
			for _, x := range r.Ranges.Range {
				for v := x.Begin; v <= x.End; v++ {
					p[fmt.Sprint(key, " ", v)] += sign
				}
			}
		case r.Set != nil:
			for _, v := range r.Set.Item {
				p[key+" "+v] += sign
			}
		}
	}
	maps.DeleteFunc(p, func(_ string, n Amount) bool { return n == 0 })
}

// TestNothingIsUsedTwice: what is used and what is left are together what was offered, with the same roles and reservations; offers that are accepted
// together are of one agent and one role, and each of them is of use; each task has exactly what it needs.
func TestNothingIsUsedTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := &Input{Now: now, Offers: drawOffers(t), Asks: drawAsks(t)}
		offers, asks := map[mesos.ID]mesos.Offer{}, map[string]Ask{}
		for _, o := range in.Offers {
			offers[o.ID] = o
		}
		for _, a := range in.Asks {
			asks[a.ID] = a
		}
		out := Place(in)
		seen := map[string]bool{}
		for _, id := range out.Unused {
			delete(offers, id)
		}
		for _, a := range out.Accepts {
			offered, used := pile{}, pile{}
			for _, id := range a.OfferIDs {
				o, ok := offers[id]
				if !ok || o.AgentID != a.AgentID || o.AllocationInfo.Role != a.Role {
					t.Fatalf("offer %v of agent %v is accepted with role %q", id, a.AgentID, a.Role)
				}
				delete(offers, id)
				offered.add(1, o.Resources)
			}
			for _, task := range a.Tasks {
				want, got := pile{}, pile{}
				for _, n := range normal(asks[task.Ask].Needs) {
					want[n.Name] += n.size()
				}
				for _, r := range task.Resources {
					p := part{}
					p.fill(&r)
					got[r.Name] += p.size()
				}
				if seen[task.Ask] || cmp.Diff(want, got) != "" {
					t.Fatalf("task %s got %v, want %v, once", task.Ask, got, want)
				}
				seen[task.Ask] = true
				used.add(1, task.Resources)
			}
			used.add(1, a.Rest)
			if diff := cmp.Diff(offered, used); diff != "" {
				t.Fatalf("what was offered is not what is used and left (-offered +used)\n%s", diff)
			}
		}
		if len(offers) > 0 {
			t.Fatalf("offers %v are neither accepted nor unused", offers)
		}
		for _, u := range out.Unplaced {
			if seen[u.Ask] || len(u.Reasons) == 0 || u.Agents > 0 && u.Reasons[0].Agents == 0 {
				t.Fatalf("%s is not placed, because of %+v", u.Ask, u)
			}
			seen[u.Ask] = true
		}
		if len(seen) != len(in.Asks) {
			t.Fatalf("got a word on %d asks, want %d", len(seen), len(in.Asks))
		}
	})
}

// TestOrderDoesNotMatter: neither that of the offers nor that of the asks.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := Input{Now: now, Offers: drawOffers(t), Asks: drawAsks(t)}
		other := Input{Now: now, Offers: rapid.Permutation(in.Offers).Draw(t, "offers again"), Asks: rapid.Permutation(in.Asks).Draw(t, "asks again")}
		if diff := cmp.Diff(Place(&in), Place(&other)); diff != "" {
			t.Fatalf("results differ\n%s", diff)
		}
	})
}

// TestWhatFitsIsPlaced: an ask that is alone is placed exactly if it fits what some agent offers for some role, by an own reckoning; and what is left
// over after many asks is too little, or on the wrong agents, for each that was not placed and that does not look at others.
func TestWhatFitsIsPlaced(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		offers, asks := drawOffers(t), drawAsks(t)
		placed := len(Place(&Input{Now: now, Offers: offers, Asks: asks[:1]}).Accepts) == 1
		if want := fits(offers, &asks[0]); placed != want {
			t.Fatalf("placed %v, want %v", placed, want)
		}
		out := Place(&Input{Now: now, Offers: offers, Asks: asks})
		left := leftOver(offers, out)
		for _, u := range out.Unplaced {
			i := slices.IndexFunc(asks, func(a Ask) bool { return a.ID == u.Ask })
			rules, _ := rulesOf(asks[i].Constraints)
			if (len(rules) == 0 || !others(rules[0].Op)) && fits(left, &asks[i]) {
				t.Fatalf("%s is not placed, and fits what is left: %s", u.Ask, u.String())
			}
		}
	})
}

// leftOver returns the offers as they are after out.
func leftOver(offers []mesos.Offer, out *Result) []mesos.Offer {
	var left []mesos.Offer
	for _, o := range offers {
		if slices.Contains(out.Unused, o.ID) {
			left = append(left, o)
		}
		for _, a := range out.Accepts {
			if a.OfferIDs[0] == o.ID {
				o.Resources = a.Rest
				left = append(left, o)
			}
		}
	}
	return left
}

func fits(offers []mesos.Offer, a *Ask) bool {
	type place struct{ agent, role string }
	have, off := map[place]map[string]pile{}, map[place]bool{}
	for _, o := range offers {
		p := place{o.AgentID.Value, o.AllocationInfo.Role}
		if have[p] == nil {
			have[p] = map[string]pile{}
		}
		off[p] = off[p] || !allowed(&o, a)
		for _, r := range o.Resources {
			if have[p][r.Name] == nil {
				have[p][r.Name] = pile{}
			}
			have[p][r.Name].add(1, []mesos.Resource{r})
		}
	}
	for p, resources := range have {
		if !off[p] && enough(resources, a) {
			return true
		}
	}
	return false
}

func allowed(o *mesos.Offer, a *Ask) bool {
	if u := o.Unavailability; u != nil && u.Start.Nanoseconds <= now.UnixNano() &&
		(u.Duration == nil || u.Start.Nanoseconds+int64(u.Duration.Nanoseconds) > now.UnixNano()) {
		return false
	}
	rules, _ := rulesOf(a.Constraints)
	for _, c := range rules {
		if !c.alone(&Machine{Hostname: o.Hostname, Attributes: o.Attributes}) {
			return false
		}
	}
	return len(a.Roles) == 0 || slices.Contains(a.Roles, o.AllocationInfo.Role)
}

func enough(resources map[string]pile, a *Ask) bool {
	for _, n := range normal(a.Needs) {
		total, particular := Amount(0), 0
		for key, v := range resources[n.Name] {
			total += v
			for _, number := range n.Numbers {
				if len(key) > 3 && key[len(key)-3:] == fmt.Sprint(number) {
					particular++
				}
			}
			for _, item := range n.Items {
				if len(key) > 4 && key[len(key)-4:] == item {
					particular++
				}
			}
		}
		if total < n.Amount+Amount(n.members()) || particular < len(n.Numbers)+len(n.Items) {
			return false
		}
	}
	return true
}

// BenchmarkPlace places 2,000 asks on 1,000 offers: asks of one shape, of 20 shapes, and asks of which each is a shape of its own, or looks at the others.
func BenchmarkPlace(b *testing.B) {
	var offers []mesos.Offer
	for i := range 1000 {
		offers = append(offers, attr(offer(fmt.Sprint("o", i), fmt.Sprint("s", i), "cpus 8", "mem 16384", "disk 100000", "ports 31000-32000"), "rack", fmt.Sprint("r", i%20)))
	}
	for _, bench := range []struct {
		name string
		ask  func(i int, a *Ask)
	}{
		{"one shape", func(int, *Ask) {}},
		{"one shape, none fits", func(_ int, a *Ask) { a.Needs[0].Amount = Amount(99000) }},
		{"20 shapes", func(i int, a *Ask) { a.Needs[0].Amount = Amount(100 + 200*(i%20)) }},
		{"2000 shapes", func(i int, a *Ask) { a.Needs[0].Amount = Amount(2000 + i) }},
		{"spread", func(_ int, a *Ask) { with(scheduler.Constraint{Attribute: "rack", Op: scheduler.OpGroupBy})(a) }},
		{"none fits", func(i int, a *Ask) { a.Needs[0].Amount = Amount(9000 + i) }},
	} {
		var asks []Ask
		for i := range 2000 {
			a := ask(fmt.Sprint("a", i), 1, need(Need{Name: "mem", Amount: 1024 * One}), need(Need{Name: "ports", Count: 1}))
			bench.ask(i, &a)
			asks = append(asks, a)
		}
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				Place(&Input{Now: now, Offers: offers, Asks: asks})
			}
		})
	}
}
