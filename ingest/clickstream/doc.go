// Package clickstream reads Segment's wire protocol: the bodies of /v1/track and its kin, which are one event, and of /v1/batch, which are
// many. It turns each event into the row of an object, as design and docs describe it, and each event that can not be one into a row of
// quarantine; it does no I/O.
//
//	{"event":"Paid","userId":"7","timestamp":"…","sentAt":"…","properties":{…}}            what came in
//	{"messageId":"…","type":"track","timestamp":"…","originalTimestamp":"…",               the head: written here
//	 "sentAt":"…","receivedAt":"…","event":"Paid","userId":"7","properties":{…}}           the rest: the sender's bytes, as they were
//
// Guarantees: a body is scanned once, and bytes that need not change are copied, not parsed and printed, so numbers, escapes, order and
// doubled names of the sender's stay as they are. n events give n records in their order, whatever is wrong with some of them. Every payload
// is one valid JSON object in UTF-8 on one line.
//
// Where the sender's JSON leaves a choice: of doubled names of fields read here the last one counts, as in ECMAScript; lone surrogates and
// \u0000 stay in the row; bytes that are not UTF-8 become U+FFFD; an event nested deeper than [MaxDepth] is set aside.
//
// Not here: who may write to which source (a [Router] says), and how big a body may be.
package clickstream
