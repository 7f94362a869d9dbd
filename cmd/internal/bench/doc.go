// Package bench measures a running millrace from outside, over loopback: what it accepts ([Ingest]) and how soon a task runs ([EndToEnd]).
//
// The server is a process of its own, so that its CPU can be told from the generator's. Two phases: capacity, in which every connection sends
// again as soon as it has its answer, gives events per second and CPU per event, and no latencies; latency, in which requests are due at
// fixed times whether or not earlier ones were answered and each is timed from when it was due, gives the percentiles (this is what is safe
// from coordinated omission). Every acknowledged event is looked for in the objects afterwards. If the generator itself was the limit, the
// figures are printed and no verdict is given.
package bench
