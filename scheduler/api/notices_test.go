package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// exampleNotice is a notice of a run that could not be sent, with all that it can have.
func exampleNotice(run string) scheduler.Notice {
	n := schedulertest.ExampleNotice(run, "ops", 1)
	n.Tries, n.Error, n.Body = 2, "answered 500: "+evil, json.RawMessage(`{"v":1,"event":"failure"}`)
	return n
}

// fakeNotifications has a notifier that works, one that does not, and one that is missing.
type fakeNotifications struct{ store *schedulertest.Store }

func (f fakeNotifications) Notifiers(context.Context) ([]scheduler.NotifierStatus, error) {
	at := schedulertest.Epoch
	return []scheduler.NotifierStatus{
		{Name: "broken", Kind: "slack", DAGs: []string{}, Circuit: "open", RetryAt: at, Pending: 3, Dead: 1, Oldest: at, Failed: 5, LastError: "answered 500"},
		{Name: "gone", Missing: true, DAGs: []string{"load"}},
		{Name: "ops", Kind: "http", DAGs: []string{"load"}, Circuit: "closed", Sent: 2, LastSent: at},
	}, nil
}

func (f fakeNotifications) TestNotifier(_ context.Context, name string) error {
	switch name {
	case "ops":
		return nil
	case "broken":
		return fmt.Errorf("%w: notifier broken: answered 500", scheduler.ErrInvalid)
	}
	return fmt.Errorf("find notifier %q: %w", name, scheduler.ErrNotFound)
}

func (f fakeNotifications) Retry(ctx context.Context, id string) (*scheduler.Notice, error) {
	return f.store.RetryNotice(ctx, id, time.Now())
}

// TestRunShowsNotices: a run is shown with what was told of it, and the status with who is told.
func TestRunShowsNotices(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, run := r.fill()
	var d struct {
		Run     scheduler.Run      `json:"run"`
		Notices []scheduler.Notice `json:"notices"`
	}
	if err := json.Unmarshal(r.get("/api/v1/runs/"+run.ID).Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Notices) != 1 || d.Notices[0].Notifier != "ops" || d.Notices[0].Tries != 2 || len(d.Run.Deadlines) != 2 || d.Run.Deadlines[0].MissedAt.IsZero() {
		t.Errorf("got notices %+v and deadlines %+v", d.Notices, d.Run.Deadlines)
	}
	if text := r.get("/api/v1/status").Body.String(); !strings.Contains(text, `"name":"gone","missing":true,"dags":["load"]`) || !strings.Contains(text, `"circuit":"open"`) {
		t.Errorf("got the status %s", text)
	}
}
