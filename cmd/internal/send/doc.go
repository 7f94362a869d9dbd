// Package send posts events to a source as its senders do: SDK calls to a clickstream source, deliveries that are signed like the provider's
// to a webhook source, lines of JSON to a source of events.
//
// It guarantees that each request is answered for once in [Run]'s results: accepted with a receipt, refused, or not answered. It repeats
// nothing, so that what is seen is what a sender sees. Ids in the templates are random, so that no two requests are duplicates of each other;
// a body that is given is sent as it is, as often as it is asked for.
package send
