// Package mesossim is a double of a Mesos cluster: masters and agents in this process that speak the scheduler's, the operator's and the agents' files
// API of Mesos 1.11 on loopback, and really run what they are told to as processes in sandboxes. It is there for tests, and for trying things out without a
// cluster. It schedules nothing for production: it has no containers, isolates nothing and forgets all with its process.
//
// What it says and how is held against the traces of a real master and agent in package mesos: TestTraces replays every request of every trace and
// compares every record of the answers. What was never observed on a real one, and is written after Mesos's protocol files only, says "unobserved" in its
// comment: inverse offers and maintenance, what masters say of flags, roles and attributes, reservations, GPUs, offer constraints, limits of time, health checks, users of
// tasks, what the fetcher does to archives, agents declared gone, frameworks without checkpoint.
//
//	framework ──call──▶ master (handler) ──▶ leader ──launch, kill, ack──▶ agent ──▶ process
//	    ▲                                      │  ▲                          │
//	    └──────────────record── stream ◀───────┘  └────status update─────────┘
//
// One mutex, [Cluster].mu, guards everything that a leader and the agents know; they call one another under it. Handlers of HTTP, timers and the goroutines
// that wait for processes take it first. Writing to a stream, fetching URIs and starting processes happen without it.
//
// A leader's knowledge dies with it, as a real one's does: the registry (which agents there are) and what the agents know are all that a new leader has.
//
// Not done: executors of a framework's own, containers and images (a task that asks for one runs its command on this machine), volumes,
// operations other than LAUNCH and LAUNCH_GROUP, protobuf, TLS, limits of resources, the fetcher's cache.
package mesossim
