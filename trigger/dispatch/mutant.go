package dispatch

// mutant is a plausible wrong reading of the protocol, built in so that the simulation can prove that it would be noticed. Only tests set one.
type mutant int

const (
	mutantNone   mutant = iota
	mutantTail          // the reconciler goes to the tail instead of to done
	mutantTrust         // an unknown outcome counts as a failure, and nothing is loaded again
	mutantForget        // what was inserted ahead of the cursor is not remembered
	mutantSplit         // the cursor moves before the transaction that inserts what it passes
)
