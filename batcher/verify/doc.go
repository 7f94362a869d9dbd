// Package verify compares what the chains say with what the store holds, and, where a log is at hand, with what was acknowledged.
//
//	chain entries ──▶ cuts ──▶ objects, row by row (by _mr) ──▶ one bit for each offset ──▶ lost, doubled
//	              └─▶ named as duplicate, void or lost                     ▲
//	log records ────────────────────────────────────────────────────────────┘ each is in one object, or named once
//
// It answers the question of the guarantee: is every acknowledged record in exactly one object, or named once in the chain? It trusts nothing
// that can be counted: rows are counted by the mark that each carries, bodies by their checksum, against the entry that decided them and the
// facts that a later entry recorded.
//
// It only reads, and may run beside workers. What they are at is no fault: a cut of an entry after done whose object does not exist yet is in
// flight, and a record that no entry has cut yet is not cut; both are counted apart. Such a cut is no longer in flight, but [BeyondLog], where
// the log at hand has ended before its records. Each chain is judged as of its tail when its walk began.
//
// One object that is damaged is a problem of that object; only a store that cannot be asked at all ends the walk.
//
// Memory is bounded by a group of entries, the objects read at the same time with 8 bytes for each of their rows, one bit for each offset
// between the chain's low and its tail (or of the log, if that is longer), and 8 bytes for each batch to tell orphans.
//
// Not seen here: a payload that was changed before its record reached the log, and, without a log, a record that no entry mentions.
package verify
