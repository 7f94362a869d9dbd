package schedulertest

import "millrace/scheduler"

// testOneRun asks for the row of a run that there is, and of one that there is not.
func testOneRun(t *storeTest, id string) {
	t.Helper()
	for _, ask := range []string{id, "none"} {
		page, next, err := t.Runs(t.Context(), scheduler.RunQuery{ID: ask})
		found := len(page) == 1 && page[0].ID == id && len(page[0].Batches) == 1
		if err != nil || next != "" || found != (ask == id) || !found && len(page) > 0 {
			t.Errorf("run %s: got %+v, %q, %v", ask, page, next, err)
		}
	}
}
