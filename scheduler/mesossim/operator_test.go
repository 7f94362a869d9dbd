package mesossim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// ask sends a call of the operator's API and returns the answer.
func ask(t *testing.T, address, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/api/v1", bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	_ = json.Unmarshal(text, &out) // A refusal is a text.
	return res.StatusCode, out
}

// TestOperator: a master tells of its frameworks, agents and tasks: with slave_id at /state, with agent_id in the API.
func TestOperator(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	f.sleeper()
	_, state := ask(t, c.URL(), `{"type":"GET_STATE"}`)
	tasks, _ := dig(state, "get_state", "get_tasks", "tasks").([]any)
	if len(tasks) != 1 || dig(tasks[0], "agent_id", "value") != c.Agent(0) || dig(tasks[0], "state") != "TASK_RUNNING" {
		t.Errorf("got tasks %v", tasks)
	}
	_, master := ask(t, c.URL(), `{"type":"GET_MASTER"}`)
	if dig(master, "get_master", "master_info", "version") != Version {
		t.Errorf("got %v", master)
	}
	status, text := get(t, c.URL()+"/state")
	if status != http.StatusOK || !strings.Contains(text, `"slave_id":"`+c.Agent(0)) || !strings.Contains(text, `"id":"`+f.info.ID.Value) {
		t.Errorf("got %d %s", status, text)
	}
	for _, path := range []string{"/health", "/version", "/slaves", "/tasks", "/frameworks", "/metrics/snapshot", "/flags", "/roles"} {
		if status, _ := get(t, c.URL()+path); status != http.StatusOK {
			t.Errorf("%s: got %d", path, status)
		}
	}
	if status, _ := ask(t, c.URL(), `{"type":"FROB"}`); status != http.StatusNotImplemented {
		t.Errorf("an unknown call: got %d", status)
	}
}

// TestFilesStay: no path leads out of an agent's directory.
func TestFilesStay(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	for _, path := range []string{"/etc/passwd", "/frameworks/../../etc/passwd", "/frameworks/f/executors/e/runs/../../../../../../../../etc/passwd"} {
		if status, text := get(t, c.agents[0].server.URL+"/files/read?offset=0&path="+path); status != http.StatusNotFound {
			t.Errorf("%s: got %d %s", path, status, text)
		}
	}
}

// TestMaxCompletionTime: a task that takes too long fails and says why (unobserved).
func TestMaxCompletionTime(t *testing.T) {
	t.Parallel()
	c := cluster(t, Options{})
	f := newClient(t, c)
	f.subscribe()
	o := f.offer()
	task := shell("t", "sleep 1000", o)
	task.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: time.Millisecond}
	f.launch(o, task)
	f.until("t", started...)
	if s := f.until("t", mesos.TaskFailed); s.Reason != mesos.ReasonMaxCompletionTime {
		t.Errorf("got %+v", s)
	}
}

// TestOptions: what cannot be is refused, and what is not there is said.
func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Masters: -1, Retry: -1}); err == nil || !strings.Contains(err.Error(), "masters") || !strings.Contains(err.Error(), "retry") {
		t.Errorf("got %v, want both faults", err)
	}
	c := cluster(t, Options{})
	if err := c.KillAgent(1); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	must(t, c.Close())
	must(t, c.Close())
}

// TestGroupRefused: a group whose executor has no disk is refused as a whole.
func TestGroupRefused(t *testing.T) {
	t.Parallel()
	f := newClient(t, cluster(t, Options{}))
	f.subscribe()
	o := f.offer()
	group := &mesos.LaunchGroup{Executor: mesos.ExecutorInfo{Type: "DEFAULT", ExecutorID: mesos.ID{Value: "ex"}, Resources: []mesos.Resource{
		Amount(mesos.CPUs, 0.1), Amount(mesos.Mem, 32)}}, TaskGroup: mesos.TaskGroup{Tasks: []mesos.TaskInfo{shell("a", "true", o), shell("b", "true", o)}}}
	f.must(&mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: []mesos.ID{o.ID},
		Operations: []mesos.Operation{{Type: mesos.OperationLaunchGroup, LaunchGroup: group}}}})
	for _, id := range []string{"a", "b"} {
		if s := f.status(id, mesos.TaskError); s.Reason != mesos.ReasonTaskGroupInvalid || s.Message != "Executor 'ex' uses no disk" {
			t.Errorf("got %+v", s)
		}
	}
}

// TestConstraints: an agent that does not fit is not offered (unobserved).
func TestConstraints(t *testing.T) {
	t.Parallel()
	rack := func(name string) []mesos.Attribute {
		return []mesos.Attribute{{Name: "rack", Type: mesos.TypeText, Text: &mesos.Text{Value: name}}}
	}
	a := &agent{opt: AgentOptions{Hostname: "h1", Attributes: rack("r1")}}
	text := func(s string) *mesos.Text { return &mesos.Text{Value: s} }
	for _, s := range []struct {
		name string
		on   mesos.Selector
		is   mesos.Predicate
		want bool
	}{
		{"exists", mesos.Selector{Attribute: "rack"}, mesos.Predicate{Exists: &struct{}{}}, true},
		{"exists not", mesos.Selector{Attribute: "gpu"}, mesos.Predicate{Exists: &struct{}{}}, false},
		{"not_exists", mesos.Selector{Attribute: "gpu"}, mesos.Predicate{NotExists: &struct{}{}}, true},
		{"equals", mesos.Selector{Attribute: "rack"}, mesos.Predicate{TextEquals: text("r1")}, true},
		{"equals not", mesos.Selector{Attribute: "rack"}, mesos.Predicate{TextEquals: text("r2")}, false},
		{"not_equals", mesos.Selector{Attribute: "rack"}, mesos.Predicate{TextNotEquals: text("r1")}, false},
		{"not_equals of nothing", mesos.Selector{Attribute: "gpu"}, mesos.Predicate{TextNotEquals: text("r1")}, true},
		{"matches all of it", mesos.Selector{Attribute: "rack"}, mesos.Predicate{TextMatches: &mesos.Regex{Regex: "r"}}, false},
		{"matches", mesos.Selector{Pseudo: "HOSTNAME"}, mesos.Predicate{TextMatches: &mesos.Regex{Regex: "h."}}, true},
		{"not_matches", mesos.Selector{Pseudo: "ZONE"}, mesos.Predicate{TextNotMatches: &mesos.Regex{Regex: ".*"}}, true},
	} {
		rules := map[string]mesos.RoleConstraints{"*": {Groups: []mesos.ConstraintGroup{{AttributeConstraints: []mesos.AttributeConstraint{{Selector: s.on,
			Predicate: s.is}}}}}}
		if got := admits(rules, "*", a); got != s.want {
			t.Errorf("%s: got %v, want %v", s.name, got, s.want)
		}
		if !admits(rules, "other", a) {
			t.Errorf("%s: another role is kept away", s.name)
		}
	}
}
