// Package gateway is the HTTP front: it reads a request, has clickstream or webhook make records of it, appends them to the log, and answers.
//
//	request ──▶ body, bounded ──▶ key or signature ──▶ records ──▶ Append ──▶ 200 and a receipt
//	                                                                 │
//	                                       errors.go: what each error is answered with
//
// Run looks at connections before net/http does: how many there are (conns.go), and that their requests can be divided in one way only
// (framing.go). Limits bound all that a sender can use up, and can be changed while requests are served.
//
// Guarantees: a 2xx is sent only after Append returned nil, so all events of the request are durable (G1). The image of a
// pixel is the exception: it is always sent, and says by its receipt whether the event was stored. What the client did not send whole
// is not stored, but for whole chunks of a bulk upload, which the answer names. A request that fails, or panics, touches no other. Every
// answer to an SDK is one that the SDK can live with: 200 for what is durable, 400 for what must not come back, 429 or 503 with an integer
// Retry-After for what may.
//
// Not guaranteed: that a request without a 2xx was not stored. It may have been, and its repeat is folded by the batcher by the events' ids.
//
// If we stop here, then: before Append, nothing is stored and the sender, who has no answer, repeats; during it, the same, with the repeat
// folded; after it, the events are durable, and only the answer may be missing, so again.
package gateway
