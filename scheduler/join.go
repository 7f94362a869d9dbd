package scheduler

// A join rule decides, over the ends of a task's parents, whether the task runs. The words and their meaning are those of Airflow 3, which calls
// them trigger rules. A parent that is upstream_failed or cancelled counts as failed; only one_done takes no notice of what never ran.
//
// Unless it says so, a rule waits for all parents. A task without parents runs, whatever its rule. JoinAllSuccess is the default.
const (
	JoinAllFailed               = "all_failed"                  // each failed
	JoinAllDone                 = "all_done"                    // each has ended, however
	JoinAllDoneMinOneSuccess    = "all_done_min_one_success"    // one succeeded, and none was skipped
	JoinAllSkipped              = "all_skipped"                 // each was skipped
	JoinOneFailed               = "one_failed"                  // one failed; does not wait for the rest
	JoinOneSuccess              = "one_success"                 // one succeeded; does not wait for the rest
	JoinOneDone                 = "one_done"                    // one succeeded or failed; does not wait for the rest
	JoinNoneFailed              = "none_failed"                 // each succeeded or was skipped
	JoinNoneFailedMinOneSuccess = "none_failed_min_one_success" // the same, and one succeeded: what a join after a branch needs
	JoinNoneSkipped             = "none_skipped"                // none was skipped
	JoinAlways                  = "always"                      // waits for nothing at all
)

// Joins are all join rules, in the order of Airflow's documentation.
var Joins = []string{
	JoinAllSuccess, JoinAllFailed, JoinAllDone, JoinAllDoneMinOneSuccess, JoinAllSkipped, JoinOneFailed, JoinOneSuccess, JoinOneDone,
	JoinNoneFailed, JoinNoneFailedMinOneSuccess, JoinNoneSkipped, JoinAlways,
}

// JoinWaits reports whether a task with the rule, "" being the default, starts only when all of its parents, so many, have ended.
func JoinWaits(rule string, parents int) bool {
	switch rule {
	case JoinAlways:
		return false
	case JoinOneFailed, JoinOneSuccess, JoinOneDone:
		return parents < 2
	}
	return true
}
