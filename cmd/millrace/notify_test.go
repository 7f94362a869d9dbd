package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/ingest/webhook"
	"millrace/scheduler"
)

// hook is a receiver of notices: it refuses them until it is told not to, and then keeps them by their ids, in order.
type hook struct {
	t      *testing.T
	mu     sync.Mutex // guards the rest
	works  bool
	tries  map[string]int
	events []string
	forged int
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var b scheduler.NoticeBody
	v, err := webhook.New(&ingest.Source{Name: "hook", Kind: ingest.KindWebhook, Scheme: "standard", Secrets: []ingest.Secret{"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}})
	if err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if verr := v.Verify(&webhook.Delivery{Method: r.Method, Header: r.Header, Body: body, Received: time.Now().UTC()}); verr != nil || json.Unmarshal(body, &b) != nil || r.Header.Get("Webhook-Id") != b.ID {
		h.forged++
	}
	h.tries[b.ID]++
	if !h.works {
		http.Error(w, "not yet", http.StatusInternalServerError)
		return
	}
	h.events = append(h.events, b.Event)
}

func (h *hook) look() (tries map[string]int, events []string, forged int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tries = map[string]int{}
	for id, n := range h.tries {
		tries[id] = n
	}
	return tries, slices.Clone(h.events), h.forged
}

// TestNotifications does what docs/notifications.md says, with a receiver that is out of order at first, and a kill before it works: all that
// happened is told once it does, in order, and nothing twice.
func TestNotifications(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")
	yaml := func(i int) string { src, _, _ := strings.Cut(blocks[i], "```"); return src }
	h := &hook{t: t, tries: map[string]int{}}
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	dir := dagDir(t, map[string]string{"nightly.yaml": strings.Replace(yaml(2), "failure: [hook, log]", "failure: [hook, log, nobody]", 1)})
	cwd := t.TempDir()
	config := filepath.Join(cwd, "millrace.yaml")
	write(t, config, strings.Replace(yaml(1), "http://127.0.0.1:9000", receiver.URL, 1))
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir, "--config", config)
	s.cwd = cwd
	s.start()
	s.head("nightly", func(h scheduler.DAGHead) bool { return h.Version != "" })
	if _, code := s.cli("notify", "test", "hook"); code != exitUsage {
		t.Errorf("the test of a notifier that does not work: exit code %d", code)
	}
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "nightly")
	s.waitFor("told of the failure in vain", func() bool { tries, _, _ := h.look(); return len(tries) > 1 })
	var shown scheduler.RunDetail
	s.waitFor("late", func() bool {
		s.cliJSON(&shown, "runs", "show", r.ID)
		return len(shown.Run.Deadlines) == 1 && !shown.Run.Deadlines[0].MissedAt.IsZero()
	})
	s.kill()
	h.mu.Lock()
	h.works = true
	h.mu.Unlock()
	s.start()
	var notices []scheduler.Notice
	s.waitFor("told of everything", func() bool {
		s.cliJSON(&notices, "notify", "ls", "--run", r.ID)
		return len(notices) == 4 && !slices.ContainsFunc(notices, func(n scheduler.Notice) bool { return n.State != scheduler.NoticeSent && n.Notifier != "nobody" })
	})
	if tries, events, forged := h.look(); !slices.Equal(events, []string{"failure", "deadline"}) || len(tries) != 3 || forged > 0 {
		t.Errorf("the receiver took %v, with tries %v, %d of them not signed as they should be", events, tries, forged)
	}
	text, err := os.ReadFile(filepath.Join(cwd, "notices.txt"))
	if want := "run of nightly failed: task load: exit code 3\n"; err != nil || string(text) != want {
		t.Errorf("the command wrote %q, %v, want %q", text, err, want)
	}
	s.cliJSON(&shown, "runs", "show", r.ID)
	if d := shown.Run.Deadlines; len(d) != 1 || d[0].MissedAt.IsZero() || shown.Run.State != scheduler.StateFailed {
		t.Errorf("got %s with deadlines %+v", shown.Run.State, d)
	}
	if out, _ := s.cli("explain", "run", r.ID); !strings.Contains(out, "3s after run_created): missed") {
		t.Errorf("explain says %s", out)
	}
	var status []scheduler.NotifierStatus
	s.cliJSON(&status, "notify", "status")
	if len(status) != 3 || status[2].Name != "nobody" || !status[2].Missing || status[2].Pending != 1 || status[0].Circuit != "closed" {
		t.Errorf("got the notifiers %+v", status)
	}
	if out, code := s.cli("notify", "test", "hook"); code != exitOK {
		t.Errorf("the test of a notifier that works: exit code %d, %s", code, out)
	}
	var again []scheduler.Notice
	s.cliJSON(&again, "notify", "retry", notices[0].ID)
	s.waitFor("told once more", func() bool { tries, _, _ := h.look(); return tries[notices[0].ID] > 0 && len(tries) == 4 })
}
