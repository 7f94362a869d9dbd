package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// receiver is a server that answers as it is told, and remembers what it got.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex // guards the rest
	answer func(n int, w http.ResponseWriter, r *http.Request)
	got    []request
}

type request struct {
	header http.Header
	body   string
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, request{req.Header, string(body)})
		n, answer := len(r.got), r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(n, w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.got...)
}

func newService(t *testing.T, outbox scheduler.Outbox, notifiers ...Notifier) *Service {
	t.Helper()
	s, err := New(outbox, notifiers, Options{Console: func() string { return "https://console.example/base/" }, Env: []string{"PATH=" + os.Getenv("PATH")}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// notice is the n'th notice of a run, with a body that can be sent.
func notice(run, notifier string, n int) scheduler.Notice {
	out := schedulertest.ExampleNotice(run, notifier, n)
	out.Since = time.Now().UTC()
	out.NextAt = out.Since
	b := scheduler.NewNoticeBody(scheduler.OnFailure, out.CreatedAt, &scheduler.Run{ID: run, DAG: "load", State: scheduler.StateFailed, Reason: "task a: exit code " + fmt.Sprint(n)},
		[]scheduler.TaskRun{{Run: run, Task: "a", MapIndex: scheduler.NoMap, State: scheduler.StateFailed, Try: 2, Exit: n, Reason: "exit code " + fmt.Sprint(n)}}, -1)
	raw, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	out.Body = raw
	return out
}

func fill(t *testing.T, store *schedulertest.Store, notices ...scheduler.Notice) {
	t.Helper()
	if err := store.Apply(t.Context(), &scheduler.Change{Notices: notices}); err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, store *schedulertest.Store) map[string]scheduler.Notice {
	t.Helper()
	list, _, err := store.Notices(t.Context(), scheduler.NoticeQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]scheduler.Notice{}
	for _, n := range list {
		out[n.ID] = n
	}
	return out
}

// An HTTP notifier gets the document, signed, with the id of the notice, and links that lead to the console.
func TestHTTP(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLwMfKQ9r8GKY"
	s := newService(t, schedulertest.NewStore())
	n := Notifier{Name: "hook", Kind: KindHTTP, URL: ingest.Secret(r.URL), Secret: secret, Headers: map[string]ingest.Secret{"Authorization": "Bearer t0ken"}}
	one := notice("r1", "hook", 3)
	var b scheduler.NoticeBody
	if err := json.Unmarshal(one.Body, &b); err != nil {
		t.Fatal(err)
	}
	b.ID = one.ID
	s.links(&b)
	if err := s.send(t.Context(), &n, one.ID, &b); err != nil {
		t.Fatal(err)
	}
	got := r.requests()[0]
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": one.ID, "Webhook-Id": one.ID, "X-Millrace-Event": "failure", "Authorization": "Bearer t0ken",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.header.Get(name), want)
		}
	}
	for _, want := range []string{`"v":1,"id":"` + one.ID + `","event":"failure"`, `"url":"https://console.example/base/runs/r1"`, `"log":"https://console.example/base/runs/r1#log-a.-1"`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("got %s, want %s in it", got.body, want)
		}
	}
	again := http.Header{}
	seconds, err := time.ParseDuration(got.header.Get("Webhook-Timestamp") + "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(again, secret, one.ID, time.Unix(0, int64(seconds)), []byte(got.body)); err != nil || again.Get("Webhook-Signature") != got.header.Get("Webhook-Signature") {
		t.Errorf("got the signature %s, want %s, %v", got.header.Get("Webhook-Signature"), again.Get("Webhook-Signature"), err)
	}
}

// The example of the Standard Webhooks specification, as its libraries have it in their tests.
func TestSign(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	err := Sign(h, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || h.Get("webhook-signature") != want {
		t.Errorf("got %s, %v, want %s", h.Get("webhook-signature"), err, want)
	}
	for _, bad := range []ingest.Secret{"abc", "whsec_%%", "whsec_YWJj"} {
		if err := Sign(http.Header{}, bad, "m", time.Now(), nil); err == nil || strings.Contains(err.Error(), bad.Reveal()) {
			t.Errorf("got %v of a bad secret", err)
		}
	}
}

// Whatever a receiver answers becomes a sentence without secrets, and a redirect is not followed.
func TestAnswers(t *testing.T) {
	t.Parallel()
	inside := newReceiver(t, nil)
	var url string
	r := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			w.Header().Set("Retry-After", "30")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		case 2:
			http.Error(w, "you said t0ken at "+url+"\n\x1b[31m", http.StatusBadRequest)
		case 3:
			w.Header().Set("Location", inside.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	url = r.URL + "/services/s3cret"
	s := newService(t, schedulertest.NewStore())
	n := Notifier{Kind: KindHTTP, URL: ingest.Secret(url), Headers: map[string]ingest.Secret{"Authorization": "Bearer t0ken"}}
	try := func(n Notifier) error { return s.send(t.Context(), &n, "n1", &scheduler.NoticeBody{Event: "failure"}) }
	for i, want := range []string{"answered 429 Too Many Requests: slow down", "answered 400 Bad Request: you said *** at *** [31m", "answered 307 Temporary Redirect, and redirects are not followed"} {
		err := try(n)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if got := asked(err); (i == 0) != (got == 30*time.Second) {
			t.Errorf("answer %d: stay away for %v", i, got)
		}
	}
	if len(inside.requests()) > 0 {
		t.Error("the redirect was followed")
	}
	r.Close()
	if err := try(n); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.HasPrefix(err.Error(), "no answer") {
		t.Errorf("got %v of a server that is away", err)
	}
	hangs := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if err := try(Notifier{Kind: KindHTTP, URL: ingest.Secret(hangs.URL), Timeout: 50 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "not done within 50ms (timeout)") {
		t.Errorf("got %v of a server that hangs", err)
	}
}

// A message of Slack's has text and blocks, and what comes from a task can neither mention people nor make links.
func TestSlack(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, nil)
	s := newService(t, schedulertest.NewStore())
	b := scheduler.NoticeBody{
		Event: "failure", DAG: "load", Run: "r1", Reason: "task a: <!channel> & <https://evil|click>", URL: "https://c/runs/r1", Batches: 2, Events: 10, FailedTasks: 30,
		Failed: []scheduler.NoticeTask{{Task: "a", Try: 1, Reason: "<!here>", Log: "https://c/x|y"}},
	}
	if err := s.send(t.Context(), &Notifier{Kind: KindSlack, URL: ingest.Secret(r.URL)}, "n1", &b); err != nil {
		t.Fatal(err)
	}
	got := r.requests()[0]
	var m message
	if err := json.Unmarshal([]byte(got.body), &m); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(m.Text, "run of load failed: task a: ") || len(m.Blocks) != 3 || m.Blocks[0].Type != "section" || m.Blocks[2].Type != "context" {
		t.Errorf("got %+v", m)
	}
	text := m.Text + m.Blocks[0].Text.Text + m.Blocks[1].Text.Text
	for _, bad := range []string{"<!", "|click>"} {
		if strings.Contains(text, bad) {
			t.Errorf("got %q in %s", bad, text)
		}
	}
	for _, want := range []string{"<https://c/runs/r1|load>", "and 29 more", "&lt;!here&gt;"} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %q in it", text, want)
		}
	}
	if got.header.Get("Webhook-Id") != "" {
		t.Error("Slack got headers that are not for it")
	}
}

// A command gets the document on stdin and the most important in its environment, and nothing of ours besides.
func TestCommand(t *testing.T) {
	t.Setenv("MILLRACE_TEST_SECRET", "s3cret")
	s := newService(t, schedulertest.NewStore())
	out := filepath.Join(t.TempDir(), "out")
	run := func(script string, timeout time.Duration) error {
		b := scheduler.NoticeBody{V: 1, ID: "n1", Event: "failure", DAG: "load", Run: "r1", State: "failed", Reason: "a; rm -rf \"x\"\x00", URL: "https://c"}
		return s.send(t.Context(), &Notifier{Kind: KindCommand, Run: []string{"sh", "-c", script, "sh", out}, Timeout: timeout}, "n1", &b)
	}
	if err := run(`cat > "$1"; env >> "$1"`, 0); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"v":1,"id":"n1","event":"failure"`, "MILLRACE_EVENT=failure\n", "MILLRACE_DAG_ID=load\n", "MILLRACE_RUN_ID=r1\n", "MILLRACE_REASON=a; rm -rf \"x\"\n", "MILLRACE_NOTICE_ID=n1\n"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("got %s, want %q in it", raw, want)
		}
	}
	if strings.Contains(string(raw), "s3cret") {
		t.Error("the command has our environment")
	}
	if err := run("echo went wrong >&2; exit 3", 0); err == nil || err.Error() != "sh ended with exit status 3: went wrong" {
		t.Errorf("got %v of a command that fails", err)
	}
	if err := run("sleep 1000 & sleep 1000", 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "not done within 50ms") {
		t.Errorf("got %v of a command that hangs", err)
	}
	if err := s.send(t.Context(), &Notifier{Kind: KindCommand, Run: []string{"/no/such/program"}}, "n1", &scheduler.NoticeBody{}); err == nil || !strings.HasPrefix(err.Error(), "start /no/such/program") {
		t.Errorf("got %v of a program that is not there", err)
	}
}

// Faulty notifiers are refused together, without their secrets; a test says what is wrong.
func TestValidate(t *testing.T) {
	t.Parallel()
	_, err := New(schedulertest.NewStore(), []Notifier{{Name: "a", Kind: "mail"}, {Name: "b", Kind: KindHTTP, URL: "ftp://s3cret"}, {Name: "c", Kind: KindCommand}}, Options{})
	for _, want := range []string{`notify.a: kind is "mail"`, "notify.b: url is not an address", "notify.c: run names no program"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	s := newService(t, schedulertest.NewStore(), Notifier{Name: "bad", Kind: KindCommand, Run: []string{"false"}})
	if err := s.TestNotifier(context.Background(), "none"); !errors.Is(err, scheduler.ErrNotFound) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("test of none: got %v", err)
	}
	if err := s.TestNotifier(context.Background(), "bad"); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("test of one that fails: got %v", err)
	}
}
