package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// fakeApprover has one question, of the task ask, and takes one decision on it.
type fakeApprover struct {
	mu    sync.Mutex
	run   string // "": the question is of every run
	taken *scheduler.Decision
}

func (f *fakeApprover) Questions(_ context.Context, run string) ([]scheduler.Question, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken != nil || f.run != "" && run != "" && run != f.run {
		return nil, nil
	}
	return []scheduler.Question{{
		ID: f.run + "/ask", Run: f.run, DAG: "load", Task: "ask", MapIndex: scheduler.NoMap, Try: 1, Message: "Load it? " + evil, By: []string{"ann", evil},
		Options: []string{"all", "some"}, Since: schedulertest.Epoch, Until: schedulertest.Epoch, OnExpire: "reject", OnReject: "fail",
		Params: map[string]scheduler.Param{"rows": {Type: "integer", Default: []byte("10")}, "why": {Type: "string", Required: true, Description: evil}},
	}}, nil
}

func (f *fakeApprover) Decide(_ context.Context, run, task string, _ int, d scheduler.Decision) (*scheduler.TaskRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case task != "ask":
		return nil, fmt.Errorf("find task %q: %w", task, scheduler.ErrNotFound)
	case d.Decision != "approve" && d.Decision != "reject":
		return nil, fmt.Errorf("the decision is %q: %w", d.Decision, scheduler.ErrInvalid)
	case f.taken != nil:
		return nil, fmt.Errorf("decide on task %s: %w: approved by ann at noon", task, scheduler.ErrDecided)
	}
	f.taken = &d
	return &scheduler.TaskRun{Run: run, Task: task, MapIndex: scheduler.NoMap, State: scheduler.StateSuccess, Try: 1, Exit: -1}, nil
}

// The form on a run's page says all that there is to say, and is taken once; nothing that others wrote becomes markup.
func TestApprovalForm(t *testing.T) {
	t.Parallel()
	approver := &fakeApprover{}
	r := newRig(t, func(d *Deps, _ *Options) { d.Approve = approver })
	n := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
	n.Run.State, n.Tasks[0].State, n.Tasks[0].Executor, n.Tasks[0].External = scheduler.StateRunning, scheduler.StateDeferred, "", "r2"
	n.Run.Trigger.Parent = "r0/sub"
	approver.run = n.Run.ID
	if err := r.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}}); err != nil {
		t.Fatal(err)
	}
	page := r.page("/runs/" + n.Run.ID)
	for _, want := range []string{
		`action="/runs/` + n.Run.ID + `/tasks/ask/decision"`, `value="ann" required`, `name="option" value="some"`, `name="input.rows" placeholder="10"`,
		`<button name="decision" value="approve">`, "A rejection fails the task", "waits for a decision since", `href="/runs/r2">its run</a>`, `href="/runs/r0">r0/sub</a>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img") {
		t.Error("the text became markup")
	}
	send := func(site string, form url.Values) *httptest.ResponseRecorder {
		req := request(http.MethodPost, "/runs/"+n.Run.ID+"/tasks/ask/decision", form.Encode())
		req.Header.Set("Authorization", "Bearer "+testToken)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		return w
	}
	form := url.Values{
		"decision": {"approve"}, "by": {"ann"}, "comment": {" fine "}, "option": {"some"}, "map_index": {"-1"}, "input.rows": {"x y"}, "input.why": {"because"},
	}
	if w := send("cross-site", form); w.Code != http.StatusForbidden {
		t.Errorf("another site: got %d", w.Code)
	}
	if w := send("same-origin", form); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "want a value of the type integer") {
		t.Errorf("bad input: got %d: %s", w.Code, w.Body)
	}
	form.Set("input.rows", "")
	if w := send("same-origin", form); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/runs/"+n.Run.ID {
		t.Errorf("got %d to %q: %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	want := &scheduler.Decision{Decision: "approve", By: "ann", Comment: "fine", Option: "some", Input: []byte(`{"why":"because"}`)}
	if diff := cmp.Diff(want, approver.taken); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
	if w := send("same-origin", form); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "approved by ann at noon") {
		t.Errorf("a second one: got %d: %s", w.Code, w.Body)
	}
	if page := r.page("/runs/" + n.Run.ID); strings.Contains(page, "<form") {
		t.Error("the form is there still")
	}
}
