package match

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"millrace/scheduler"
)

// Code says in one word what kept an ask from agents.
type Code string

// The codes.
const (
	CodeNoOffers    Code = "no_offers"   // there is no offer at all
	CodeInvalid     Code = "invalid"     // a constraint can not be read
	CodeRole        Code = "role"        // the offers are for other roles
	CodeConstraint  Code = "constraint"  // the agents do not pass a constraint
	CodeMaintenance Code = "maintenance" // the agents are in maintenance
	CodeResource    Code = "resource"    // there is too little of a resource
)

// Unplaced says why an ask found no place. Agents is how many there were, each counting once for each role that it has offers for.
type Unplaced struct {
	Ask     string   `json:"ask"`
	Agents  int      `json:"agents"`
	Reasons []Reason `json:"reasons"`
}

// Reason is one thing that kept an ask from agents. An agent that lacks several resources is in several reasons.
type Reason struct {
	Code Code `json:"code"`
	// Agents is how many it kept the ask from, On are the hostnames of the first of them, in order, at most [MaxOn].
	Agents int      `json:"agents"`
	On     []string `json:"on,omitempty"`
	// Constraint is the first that the agents did not pass; Values are what they have there, at most [MaxOn], without those that have nothing.
	Constraint *scheduler.Constraint `json:"constraint,omitempty"`
	Values     []string              `json:"values,omitempty"`
	// Resource is what there is too little of: Want is wanted, Left the most that one of the agents has left, and Best its hostname, Offered what it had
	// offered before others of the round were placed. Members of ranges and sets count as one. Taken are the particular members that it has not.
	Resource string   `json:"resource,omitempty"`
	Want     Amount   `json:"want,omitempty"`
	Left     Amount   `json:"left,omitempty"`
	Offered  Amount   `json:"offered,omitempty"`
	Best     string   `json:"best,omitempty"`
	Taken    []string `json:"taken,omitempty"`
	// Detail is what is wrong with the ask.
	Detail string `json:"detail,omitempty"`
}

// MaxOn bounds the lists of [Reason].
const MaxOn = 20

// refusal is a bundle that is no candidate, with the reason.
type refusal struct {
	*bundle
	code Code
	rule *rule
}

// explain collects what keeps an ask from each bundle.
func (r *round) explain(t turn) *Unplaced {
	out := &Unplaced{Agents: len(r.bundles)}
	if len(r.bundles) == 0 {
		out.Reasons = []Reason{{Code: CodeNoOffers}}
		return out
	}
	rules, codes, lacks := map[*rule]*Reason{}, map[Code]*Reason{}, make([]Reason, len(t.needs))
	refused := func(b *bundle, c *rule) {
		if rules[c] == nil {
			rules[c] = &Reason{Code: CodeConstraint, Constraint: &c.Constraint}
		}
		rules[c].note(b)
		if v, ok := b.machine.Attribute(c.Constraint.Attribute); ok {
			rules[c].Values = bounded(rules[c].Values, v)
		}
	}
	for _, k := range t.shape.kept {
		if k.rule != nil {
			refused(k.bundle, k.rule)
			continue
		}
		if codes[k.code] == nil {
			codes[k.code] = &Reason{Code: k.code}
		}
		codes[k.code].note(k.bundle)
	}
	for _, c := range t.shape.candidates {
		if rule := r.crowded(t.shape.frame, t.ask, c.bundle); rule != nil {
			refused(c.bundle, rule)
		}
		for i := range t.needs {
			if s := c.at(t.needs[i].name); !s.has(&t.needs[i].Need) {
				lacks[i].note(c.bundle)
				lacks[i].best(c.bundle, s, &t.needs[i].Need)
			}
		}
	}
	out.Reasons = slices.DeleteFunc(lacks, func(r Reason) bool { return r.Agents == 0 })
	for _, reason := range rules {
		out.Reasons = append(out.Reasons, *reason)
	}
	for _, reason := range codes {
		out.Reasons = append(out.Reasons, *reason)
	}
	out.sort()
	return out
}

// sort puts the reasons that matter most first.
func (u *Unplaced) sort() {
	for i := range u.Reasons {
		slices.Sort(u.Reasons[i].On)
		slices.Sort(u.Reasons[i].Values)
	}
	slices.SortFunc(u.Reasons, func(a, b Reason) int {
		return cmp.Or(-cmp.Compare(a.Agents, b.Agents), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(constraintOf(&a), constraintOf(&b)))
	})
}

// note counts an agent.
func (r *Reason) note(b *bundle) {
	r.Agents++
	r.On = bounded(r.On, b.hostname)
}

// bounded adds what is new to a list that is not full.
func bounded(list []string, v string) []string {
	if len(list) >= MaxOn || slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// best keeps the figures of the agent that has most.
func (r *Reason) best(b *bundle, s *stock, n *Need) {
	left, offered := Amount(0), Amount(0)
	if s != nil {
		left, offered = s.left(), s.offered
	}
	if r.Best != "" && left <= r.Left {
		return
	}
	r.Code, r.Resource, r.Want = CodeResource, n.Name, n.size()
	r.Best, r.Left, r.Offered, r.Taken = b.hostname, left, offered, s.lacks(n)
}

// lacks returns the particular members of n that s has not, as texts.
func (s *stock) lacks(n *Need) []string {
	var out []string
	for _, v := range n.Numbers {
		if s.free(&Need{Numbers: []uint64{v}}) == 0 {
			out = append(out, fmt.Sprint(v))
		}
	}
	for _, v := range n.Items {
		if s.free(&Need{Items: []string{v}}) == 0 {
			out = append(out, v)
		}
	}
	return out[:min(len(out), MaxOn)]
}

func constraintOf(r *Reason) string {
	if r.Constraint == nil {
		return ""
	}
	return r.Constraint.String()
}

// String returns a sentence for people.
func (u *Unplaced) String() string {
	var parts []string
	for i := range u.Reasons {
		parts = append(parts, u.Reasons[i].String())
	}
	if len(u.Reasons) == 1 && (u.Reasons[0].Code == CodeNoOffers || u.Reasons[0].Code == CodeInvalid) {
		return parts[0]
	}
	return fmt.Sprintf("%s offered, and none fits: %s", count(u.Agents, "agent"), strings.Join(parts, "; "))
}

// String returns a part of a sentence for people.
func (r *Reason) String() string {
	on := count(r.Agents, "agent")
	switch r.Code {
	case CodeNoOffers:
		return "no agent offers anything at present"
	case CodeInvalid:
		return r.Detail
	case CodeRole:
		return on + " for other roles"
	case CodeMaintenance:
		return on + " in maintenance"
	case CodeConstraint:
		if len(r.Values) == 0 {
			return fmt.Sprintf("%s without what %s wants", on, r.Constraint)
		}
		return fmt.Sprintf("%s against %s: there it is %s", on, r.Constraint, strings.Join(r.Values, ", "))
	case CodeResource:
		text := fmt.Sprintf("%s with too little %s: %s wanted, at most %s left (%s", on, r.Resource, r.Want, r.Left, r.Best)
		if r.Offered > r.Left {
			text += fmt.Sprintf(", which offered %s before others were placed", r.Offered)
		}
		if len(r.Taken) > 0 {
			text += ", not " + strings.Join(r.Taken, ", ")
		}
		return text + ")"
	}
	return string(r.Code)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
