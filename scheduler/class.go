package scheduler

// Class orders what waits for slots: tasks of a class that comes first are started first, whatever their priorities are.
type Class int

// The classes, in their order. What a rule fires, and what a person triggers, is live.
const (
	ClassLive Class = iota
	ClassReplay
	ClassBackfill
)

// Class returns the class of r, which never changes.
func (r *Run) Class() Class {
	switch {
	case r.Backfill != "":
		return ClassBackfill
	case r.Replay > 0:
		return ClassReplay
	}
	return r.Trigger.Class
}

// String returns the word for people.
func (c Class) String() string {
	return [...]string{"live", "replay", "backfill"}[c]
}
