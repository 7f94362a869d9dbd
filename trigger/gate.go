package trigger

// Gate says whether a run would have a place in its concurrency group if it were started now. What it says may be old by the time it is used:
// then a run waits that could have been put off, and nothing else. Safe for concurrent use.
type Gate interface {
	// Group names the group of the run that r would start for a key; "" if its place does not matter.
	Group(r *Rule, key string) string
	// Free returns how many more runs of a group may be started; 0 or less is none.
	Free(group string) int
	// Opened returns a channel that is closed when a group has more room than now.
	Opened() <-chan struct{}
}
