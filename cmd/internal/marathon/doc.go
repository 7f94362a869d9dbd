// Package marathon writes the application group that runs millrace's own processes on Marathon: what ingests and batches, what schedules, and if asked for a
// Postgres.
//
//	configuration ──▶ Build ──▶ Group: /millrace/ingest     ingest and batch, any number of instances, each on an agent of its own
//	                                   /millrace/schedule   one instance, never two
//	                                   /millrace/postgres   one instance
//
// A group is a function of the configuration and of [Options]; nothing is asked of a cluster. It has no secret in it: what the configuration has as a literal
// is refused, env:NAME becomes a secret of Marathon, file:PATH stays a path, which the agents or the image must have.
//
// What the applications must not lose is on persistent volumes, by which Marathon keeps each instance on its agent: the log of events, the runs of the
// scheduler, the databases of Postgres. So Marathon starts no replacement elsewhere while an agent can not be reached; it would come up empty. For the log, that
// is what its acknowledgements promise; for the scheduler, it is also what keeps two from running at once.
package marathon
