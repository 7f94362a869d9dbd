// Package trigger holds the words and the seams of the third stage: what announces a batch ([Message], [Bus]), which DAGs want to hear of it
// ([Rule]), what became of a batch for a rule ([Disposition]), what starts a run ([Firing]), and to whom decisions are handed ([Starter]).
//
//	Announcer ▸ publish ▸ Bus ▸ dispatch ──▶ Starter: one transaction of batch, dispositions, groups, firings and cursor
//	             chain (Catalogue) ▸ reconcile ┘
//
// The bus only wakes dispatch up; the chain says which batches exist, and the ledger behind the Starter says which of them were dealt with.
// The package starts no goroutine and does no I/O.
package trigger
