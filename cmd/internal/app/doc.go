// Package app joins the parts: it is the only place that picks implementations of seams. [Run] builds the roles that the configuration names
// and runs them until ctx ends.
//
//	ingest    log ◀── gateway                                        ingest.listen
//	batch     log ──▶ worker ──▶ objects, publisher ──▶ bus
//	schedule  bus, objects ──▶ dispatch ──▶ engine ──▶ store, runner   console.listen
//
// All roles in one process are these builders, with nothing repeated.
//
// Shutdown is in two steps: first the gateway stops accepting and finishes its requests, then everything else ends. It only saves repeated
// work: each hand-off is durable before it is acknowledged, so a process may be killed at any point. A part that fails ends the process with
// its error; so does a log whose disk failed to sync, after which nothing more is acknowledged.
package app
