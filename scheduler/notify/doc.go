// Package notify sends what the outbox has: notices of what became of runs, to notifiers of the kinds http, slack and command.
//
//	transaction of the engine ──▶ outbox ──▶ one sender per notifier ──▶ HTTP, Slack, a command
//	                                 ▲             │ sent, to be tried again, or given up
//	                                 └─────────────┘
//
// It guarantees that a notice is sent at least once, or given up after a day with a reason; that the notices of one run reach one notifier in
// the order in which things happened; and that a notifier that is slow or away holds up nobody but itself: neither the engine, which only
// writes rows, nor other notifiers, which have senders of their own.
//
// It does not guarantee that a notice is sent once: a receiver tells a repetition by the id, which is the same for all tries. Slack's webhooks
// have no place for one, so there a message may come twice.
//
// If we stop before the answer to a try is in the outbox, that try is repeated after the start. If we stop before the try, it is made then. What
// a sender knows besides (how many failed in a row, until when its circuit is open) is lost, and costs one try.
package notify
