// Package webhook reads what third parties post to /hooks/{source}: a [Scheme] proves who sent it, and [Row] makes it the row of an object.
//
// Guarantees: a signature is checked over the exact bytes that came, before anything in them is looked at, in constant time, against every
// live secret of the source. The row keeps the body to the byte, so that it can be verified again later; it keeps no credential and no
// signature. Not here: HTTP, limits, and what is answered.
package webhook
