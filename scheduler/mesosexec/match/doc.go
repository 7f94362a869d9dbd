// Package match says which task goes on which agent, and with which parts of its offers. It decides only: values in, values out.
//
//	offers ──▶ bundles: the offers of one agent and one role ─┐
//	asks ────▶ shapes: what is asked for alike                ├─▶ Place ─▶ accepts, unused offers, why the rest found no place
//	active attempts, for constraints that look at others ─────┘
//
// # Guarantees
//
//   - No more is used of an offer than there is, and no member of a range or a set twice. Amounts have three decimals, as in Mesos, and are
//     added up as integers: an exact fit fits.
//   - What is used has the role, the reservations and the allocation of the offer that it is from. The offers of one [Accept] are of one
//     agent and of one role, since a master refuses others.
//   - An ask that fits an agent when nothing else is asked for is placed then.
//   - The result depends on neither the order of the offers nor, beyond their ranks, that of the asks.
//   - Each ask that is not placed comes with what kept it from every agent, in figures.
//
// # How
//
// Asks come by rank, then those for particular ports first, then the largest first, measured by the resource that they want the largest share
// of. Each is given the first agent where it fits, in the order of the agents' ids: so that few agents are used, and the others' offers can be
// declined. Agents to be avoided come last: those that refused the task a moment ago, those with maintenance ahead, those whose GPUs it
// has no use for. Reserved resources are used before those that everybody may have.
//
// Volumes that outlive tasks, whole disks, shared and revocable resources, and those of resource providers, are not for tasks here: they are
// left over.
package match
