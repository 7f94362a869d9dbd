// Package webhook reads what third parties post to /hooks/{source}: a [Verifier] proves who sent it, and [Row] makes it the row of an object.
//
//	table.go ──▶ scheme ──▶ compile ──▶ Verifier ──▶ Greet ──▶ Verify ──▶ Row ──▶ Reply
//	a source's verify ─┘    keys ──┘                 handshake  401        log     200
//
// How a sender signs is data, an [ingest.Scheme]: a row of the table, changed by what a source says. One engine interprets all of them; the
// same data signs ([Verifier.Sign]), so what is sent to try a source out is what its sender sends.
//
// Guarantees: a signature is checked over the exact bytes that came, before anything in them is looked at (but for schemes whose signature is
// inside, as Adyen's), in constant time, against every live secret of the source. What is not signed is refused rather than ignored: a body
// beside a signed URL, a form that can not be read whole. The row keeps the body to the byte, so that it can be verified again later; it keeps
// no credential and no signature. A refusal says what to look at, and never the signature that would have been right.
//
// Not here: HTTP, limits, and keys that must be fetched (SNS, PayPal, JWKS) or learned (Asana, Notion).
package webhook
