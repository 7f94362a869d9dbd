// Package dispatch is the loop that turns committed batches, ticks of cron rules and passing time into runs.
//
//	bus, Announce, Nudge ──▶ hints ─┐
//	timers, rule changes ───────────┼──▶ 1 wait ▸ 2 look (chain) ▸ 3 decide (pure) ▸ 4 Start (one transaction) ▸ 5 adopt, answer ──┐
//	                                └────────────────────────────────────────────────────────────────────────────────────────◀────┘
//
// It guarantees: each batch of each chain is inserted once, with one disposition for each batch rule that is then active; the cursor of a
// chain passes an entry in the transaction that inserts the last of its batches, so none is passed over; a firing's batches are frozen in the
// transaction that creates its run; a nominal time of a cron rule fires once. Hints only say where to look sooner. They may be lost, doubled,
// reordered, forged or late: the entry and the object decide whether a batch exists, the cursor and what is known ahead of it decide whether it
// is new. Without any hint a batch is found within Options.PollMax.
//
// Rules with an order fire over the cursor alone, so in the order of the chain. It does not guarantee one between batches that other rules
// dispatch ahead of the cursor, nor between chains, and holds every open group and every held batch in memory. Only one loop may work on a
// ledger at a time.
//
// What waits for another batch (a join, an order) or for a place (a gated rule) is a line of the ledger that says for what: its key, its
// sides, its group. So a crash finds it again, and what ended the wait is committed with the run that it starts. The gate alone is asked while
// deciding, and may have changed by the commit: then a run is made that waits for its place in the scheduler.
//
// The steps, and what a crash at each of them does:
//
//  1. Wait for hints, a new rule set, or the next time that something is due. A crash loses hints.
//  2. Look: read the entries that hints name, and for chains that are due all entries from the cursor to done; ask for the facts of batches
//     that are not known. Nothing is changed yet.
//  3. Decide, on a draft beside the memory, with one rule set. Nothing expires before all chains were looked at.
//  4. Hand the intake to the Starter. A crash before its commit leaves nothing, one after it everything: the next start loads what was
//     committed, and looks again from the cursor. If the outcome is unknown the same is done without a crash.
//  5. Adopt the draft, then answer the deliveries. A crash between the commit and the answer repeats deliveries; they are known by then.
package dispatch
