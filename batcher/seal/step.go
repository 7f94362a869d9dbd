package seal

import "slices"

// Step names a place in the protocol where a worker can be stopped or killed. Its number is that of the package comment; a number has several
// places where a crash after it leaves something else than a crash before it.
type Step string

// The steps, in the order of one turn of the loop.
const (
	StepWalk      Step = "1 walk"       // the entry after the tail, or at the start the tail itself, is about to be asked for
	StepFinish    Step = "2 finish"     // another worker's entry was adopted; its objects are about to be asked for
	StepRecommit  Step = "2 recommit"   // some of them are missing and were read from the log again; they are about to go through step 5
	StepAnnounce  Step = "3 announce"   // the object exists; its batch is about to be announced
	StepPutEntry  Step = "4 put entry"  // the next entry is decided, and in memory only
	StepEntryPut  Step = "4 entry put"  // it is in the chain; of its objects there is nothing
	StepPutIDs    Step = "5 put ids"    // an object is about to be encoded, and its sidecar to be put
	StepPutObject Step = "5 put object" // the sidecar exists, the object does not, unless another worker has put it
	StepObjectPut Step = "5 object put" // the object exists, and is not announced
	StepTrim      Step = "6 trim"       // the log is about to be told what it may delete
	StepTrimmed   Step = "6 trimmed"    // it was told
)

var steps = []Step{
	StepWalk, StepFinish, StepRecommit, StepAnnounce, StepPutEntry, StepEntryPut, StepPutIDs, StepPutObject, StepObjectPut, StepTrim, StepTrimmed,
}

// Steps returns all steps in the order of one turn of the loop, for tests that want to have met each.
func Steps() []Step { return slices.Clone(steps) }

// step tells tests that the worker is at s.
func (w *Worker) step(s Step) {
	if w.opts.OnStep != nil {
		w.opts.OnStep(s)
	}
}
