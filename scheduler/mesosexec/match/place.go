package match

import (
	"time"

	"millrace/scheduler/mesos"
)

// Input is all that is decided on.
type Input struct {
	Now    time.Time
	Offers []mesos.Offer
	Asks   []Ask
	// Active are the attempts of the asks' groups that are active, or are being launched.
	Active []Active
}

// Active is an attempt that constraints look at.
type Active struct {
	Group   string
	Machine Machine
}

// Result is what was decided.
type Result struct {
	// Accepts have the tasks that are placed, by agent and role.
	Accepts []Accept
	// Unused are the offers of which nothing is used, by agent, role and id.
	Unused []mesos.ID
	// Unplaced are the asks that found no place, in the order in which they were looked at.
	Unplaced []Unplaced
}

// Accept is what becomes one ACCEPT: offers of one agent and one role, and the tasks that use them. No offer of it is of no use to it.
type Accept struct {
	AgentID  mesos.ID
	Hostname string
	Role     string
	OfferIDs []mesos.ID
	Tasks    []Placed
	// Rest is what is left of the offers, by name.
	Rest []mesos.Resource
}

// Placed is a task with the resources that it is to have, by name. Ports are the numbers of its ports, in order.
type Placed struct {
	Ask       string
	Resources []mesos.Resource
	Ports     []uint64
}

// Place decides which asks go where. The package comment says how.
func Place(in *Input) *Result {
	r := newRound(in)
	out := &Result{}
	for _, t := range r.turns(in.Asks) {
		if why := r.place(t); why != nil {
			out.Unplaced = append(out.Unplaced, *why)
		}
	}
	for _, b := range r.bundles {
		if len(b.placed) > 0 {
			out.Accepts = append(out.Accepts, b.accept())
		}
		for i, used := range b.used {
			if !used {
				out.Unused = append(out.Unused, b.offers[i].ID)
			}
		}
	}
	return out
}
