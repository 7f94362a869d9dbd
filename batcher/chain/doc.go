// Package chain reads the chains of cuts: it is how everybody but the worker that writes them sees what was cut, which objects exist and
// what they hold. It implements [batcher.Catalogue].
//
//	_millrace/chain/<S>/<seq>.json   1 ◀── 2 ◀── 3 ◀── … ◀── tail      one decision each, dense, never changed
//	_millrace/pages/<S>/<n>.json     └── 1,000 done entries in one object ──┘
//
// It guarantees that [Reader.Entries] and [Reader.Links] yield each entry of a stream once, in the order of sequence numbers, and only those
// whose objects all exist: an entry is yielded when a later one says so (Done). What is above that is in flight, and is not an error.
//
// Existence is monotone: entry n+1 is put only after entry n was read, and nothing deletes. So the tail is found by galloping, and a hint
// that was true once bounds it from below for ever. A chain that ends below such a hint has lost entries; that is [ErrShort], and nothing may
// be built on it.
//
// Pages save requests and say nothing new: page n is the entries n*1000+1 to (n+1)*1000, one per line. Whoever finds a page missing, because
// its writer stopped before it put it, reads the entries.
//
// A Reader keeps no state that a crash could lose: its cache holds what cannot change.
package chain
