// Package dedupe holds the index that tells a repeated event from a new one, and the id sidecar that it is rebuilt from.
//
// The index is the fold of the chain: every record that a cut kept, with its receive time, stream and offset. It decides nothing for good. What
// it says goes into a chain entry, and the entry is the decision; a worker that adopts an entry folds that in, whatever its own index would
// have said. So an index that knows too little (its byte bound was reached) can let a repeated event through, and can never lose one.
//
// # Shape
//
//	heads (8 bytes per bucket)        records (32 bytes each, in slabs of 2,048, oldest slab first)
//	┌───┐                             ┌──────┬──────┬──────┬──────┬─────
//	│ ●─┼───────────────────────────────────────────▶ rec ─┐
//	│   │                             │      │      │      ││
//	│ ●─┼──▶ …                        │  rec ◀─── next ────┘   always to an older record
//	└───┘                             └──────┴──────┴──────┴──────┴─────
//
// Records are appended in the order of Keep and leave, a slab at a time, from the old end. A record is named by its position, counted from
// the beginning of time modulo 2^32; one below the oldest slab is gone. Links only point to older records, so that a chain ends at the first
// name that is gone, and eviction has nothing to unlink. Buckets are added one at a time (linear hashing, W. Litwin, VLDB 1980), so that no
// Keep ever waits for a table to be copied. There are no pointers in slabs and heads, hence no work for the garbage collector.
//
// Buckets are picked by a hash with a key of the process's own: senders choose ids, and must not be able to pick a bucket.
package dedupe
