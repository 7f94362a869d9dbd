package match

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// The attributes that agents have without being given them. Region and zone are those of the fault domain.
const (
	AttrHostname = "hostname"
	AttrRegion   = "@region"
	AttrZone     = "@zone"
)

// Machine is what constraints see of an agent.
type Machine struct {
	Hostname   string
	Domain     *mesos.Domain
	Attributes []mesos.Attribute
}

// Attribute returns the value of an attribute as a text, and whether there is one. Scalars have at most three decimals; ranges are written
// [1-3,5-5], sets {a,b}, in their order.
func (m *Machine) Attribute(name string) (string, bool) {
	switch name {
	case AttrHostname:
		return m.Hostname, true
	case AttrRegion, AttrZone:
		if m.Domain == nil || m.Domain.FaultDomain == nil {
			return "", false
		}
		if name == AttrRegion {
			return m.Domain.FaultDomain.Region.Name, true
		}
		return m.Domain.FaultDomain.Zone.Name, true
	}
	for i := range m.Attributes {
		if a := &m.Attributes[i]; a.Name == name {
			return textOf(a), true
		}
	}
	return "", false
}

func textOf(a *mesos.Attribute) string {
	switch {
	case a.Text != nil:
		return a.Text.Value
	case a.Scalar != nil:
		return strconv.FormatFloat(math.Round(a.Scalar.Value*1000)/1000, 'f', -1, 64)
	case a.Ranges != nil:
		var parts []string
		for _, r := range disjoint(a.Ranges.Range) {
			parts = append(parts, fmt.Sprintf("%d-%d", r.Begin, r.End))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case a.Set != nil:
		return "{" + strings.Join(unique(a.Set.Item), ",") + "}"
	}
	return ""
}

// rule is a constraint that is ready to be asked.
type rule struct {
	scheduler.Constraint
	pattern *regexp.Regexp // of like and unlike
	number  int            // of group_by and max_per; 0 for a group_by without
}

// rulesOf reads constraints, and says what is wrong with one that can not be read.
func rulesOf(constraints []scheduler.Constraint) ([]rule, error) {
	var out []rule
	for _, c := range constraints {
		r, err := rule{Constraint: c}, error(nil)
		switch c.Op {
		case scheduler.OpLike, scheduler.OpUnlike:
			r.pattern, err = regexp.Compile("^(?:" + c.Value + ")$")
		case scheduler.OpMaxPer:
			r.number, err = strconv.Atoi(c.Value)
		case scheduler.OpGroupBy:
			if c.Value != "" {
				r.number, err = strconv.Atoi(c.Value)
			}
		default:
			if !slices.Contains(scheduler.Ops, c.Op) {
				err = fmt.Errorf("there is no operator %q", c.Op)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read constraint %s: %w", c, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// others reports whether a constraint looks at where other attempts of the group are.
func others(op string) bool {
	switch op {
	case scheduler.OpUnique, scheduler.OpGroupBy, scheduler.OpMaxPer, scheduler.OpCluster:
		return true
	}
	return false
}

// alone reports whether a machine passes what of r is about the machine itself.
func (r *rule) alone(m *Machine) bool {
	value, ok := m.Attribute(r.Constraint.Attribute)
	switch r.Op {
	case scheduler.OpNotExists:
		return !ok
	case scheduler.OpUnlike:
		return !ok || !r.pattern.MatchString(value)
	case scheduler.OpIs:
		return ok && same(value, r.Value)
	case scheduler.OpLike:
		return ok && r.pattern.MatchString(value)
	case scheduler.OpCluster:
		return ok && (r.Value == "" || same(value, r.Value))
	}
	return ok
}

// same compares as texts, or as amounts if both are: 4 is 4.0.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// together reports whether one more attempt on a machine passes what of r is about the others. values has how many of the group there are by
// the values of the attribute, known the values that there are.
func (r *rule) together(m *Machine, values map[string]int, known map[string]bool) bool {
	value, _ := m.Attribute(r.Constraint.Attribute)
	switch r.Op {
	case scheduler.OpUnique:
		return values[value] == 0
	case scheduler.OpMaxPer:
		return values[value] < r.number
	case scheduler.OpCluster:
		return r.Value != "" || len(values) == 0 || values[value] > 0
	case scheduler.OpGroupBy:
		return values[value] <= r.fewest(values, known)
	}
	return true
}

// fewest returns how many attempts the value has that has the fewest; values that have none count as far as they are known, or said to be.
func (r *rule) fewest(values map[string]int, known map[string]bool) int {
	if len(values) < r.number || len(values) == 0 {
		return 0
	}
	fewest := math.MaxInt
	if r.number == 0 {
		for v := range known { // Attempts where none can be started any more are no measure.
			fewest = min(fewest, values[v])
		}
		return fewest
	}
	for _, n := range values {
		fewest = min(fewest, n)
	}
	return fewest
}

// spread knows where the attempts of groups are: by group and attribute, how many there are by value.
type spread map[string]map[string]map[string]int

// watch makes s count the attempts of a group by an attribute.
func (s spread) watch(group, attribute string) {
	if s[group] == nil {
		s[group] = map[string]map[string]int{}
	}
	if s[group][attribute] == nil {
		s[group][attribute] = map[string]int{}
	}
}

// add counts an attempt of a group on a machine.
func (s spread) add(group string, m *Machine) {
	for attribute, values := range s[group] {
		if v, ok := m.Attribute(attribute); ok {
			values[v]++
		}
	}
}
