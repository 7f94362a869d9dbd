package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What notifiers can be told of, as the keys of `on_event` have it.
const (
	OnSuccess   = "success"   // the run, or the task, succeeded
	OnFailure   = "failure"   // it failed, and is not tried again
	OnCancelled = "cancelled" // it was cancelled
	OnRetry     = "retry"     // a task failed, and is tried again
	OnSkipped   = "skipped"   // a task was skipped
	OnDeadline  = "deadline"  // the run was not successful in time
	OnTest      = "test"      // a person wants to see whether a notifier works
)

// OnEvent has the names of notifiers by what they are told of. The configuration says what is behind a name.
type OnEvent map[string][]string

// NoticeState is how far a notice has come.
type NoticeState string

// The states of a notice.
const (
	NoticePending NoticeState = "pending" // to be sent, or to be sent again
	NoticeSent    NoticeState = "sent"
	NoticeDead    NoticeState = "dead" // given up; Error says why
)

// Notice is one line of the outbox: something that happened, for one notifier. It is written in the transaction of what it tells of, and sent
// after that, at least once.
type Notice struct {
	// ID is the same for all tries, so that a receiver can tell a repetition. Seq is the store's order, 0 for one that is new.
	ID       string      `json:"id"`
	Seq      int64       `json:"-"`
	Notifier string      `json:"notifier"`
	Event    string      `json:"event"` // one of the On constants
	DAG      string      `json:"dag"`
	Run      string      `json:"run"`
	Task     string      `json:"task,omitempty"`
	State    NoticeState `json:"state"`
	// Tries counts those that failed and the one that did not. NextAt is when the next one is due, for a pending notice.
	Tries  int       `json:"tries"`
	NextAt time.Time `json:"next_at,omitzero"`
	// Error says why the last try failed, or why there will be none.
	Error     string    `json:"error,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// Since is when it first became pending, or when a person asked for it again: it is given up so long after that.
	Since   time.Time `json:"-"`
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Body is the JSON of a [NoticeBody], as it was when it happened.
	Body json.RawMessage `json:"body"`
}

// NoticeBody is what a notice says. It is also the document that notifiers of the kinds http and command get, with ID, URL and the Logs filled in.
type NoticeBody struct {
	// V is the version of this form, 1.
	V     int       `json:"v"`
	ID    string    `json:"id"`
	Event string    `json:"event"`
	At    time.Time `json:"at"`
	DAG   string    `json:"dag"`
	Owner string    `json:"owner,omitempty"`
	// Run is the id of the run. If a deadline passed while batches waited, it is that of the run that their group will become, or "" if they are
	// held; Batch is the oldest of them.
	Run     string `json:"run"`
	Batch   string `json:"batch,omitempty"`
	Version string `json:"version,omitempty"`
	// State is the run's at that time, "" if there was none. Reason is a sentence for people.
	State     State     `json:"state,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Trigger   Trigger   `json:"trigger"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Batches is how many the run has as input, Events how many events these hold.
	Batches int   `json:"batches"`
	Events  int64 `json:"events"`
	// Task is the task that the event is about, nil for an event of the run.
	Task *NoticeTask `json:"task,omitempty"`
	// Failed are the first of the run's failed tasks, at most [MaxNoticeTasks]; FailedTasks is how many there are. A notice of a task has none.
	Failed      []NoticeTask `json:"failed"`
	FailedTasks int          `json:"failed_tasks"`
	// Deadline is the one that was missed.
	Deadline *Deadline `json:"deadline,omitempty"`
	// URL is the page of the run in the console.
	URL string `json:"url"`
}

// NoticeTask is a task as a notice shows it.
type NoticeTask struct {
	Task     string `json:"task"`
	MapIndex int    `json:"map_index"`
	State    State  `json:"state"`
	Try      int    `json:"tries"`
	Exit     int    `json:"exit"`
	Reason   string `json:"reason,omitempty"`
	// Log is where the console shows its output.
	Log string `json:"log"`
}

// Bounds of a notice, so that a run of thousands of failed tasks is one message.
const (
	MaxNoticeTasks  = 10
	MaxNoticeReason = 1000 // bytes of each reason
)

// NoticeID returns the id of a notice: a pure function of what happened and of the notifier.
func NoticeID(notifier string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{"notice1", notifier}, parts...), "\x00")))
	return "n" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}

// NoticeQuery selects notices, newest first. Zero fields do not select.
type NoticeQuery struct {
	Notifier, Run string
	State         NoticeState
	// Before is the cursor that the page before returned; Limit is 1 to 1000, default 100.
	Before string
	Limit  int
}

// NoticeCount sums up what waits for a notifier.
type NoticeCount struct {
	Notifier string
	Pending  int
	// Oldest is when the oldest of them happened, Next when the first of those is due that wait for no other of their run.
	Oldest, Next time.Time
	// Dead are those that were given up.
	Dead int
}

// Outbox keeps notices until they are sent. Safe for concurrent use. [Store.Apply] writes them.
type Outbox interface {
	// DueNotices returns up to limit pending notices of a notifier whose time has come, oldest first. Of one run only the first pending one is
	// among them: they are sent in their order.
	DueNotices(ctx context.Context, notifier string, now time.Time, limit int) ([]Notice, error)
	// SettleNotice writes State, Tries, NextAt, Error and EndedAt of a notice, unless it is not pending any more.
	SettleNotice(ctx context.Context, n *Notice) error
	// RetryNotice makes a notice pending that is dead or sent, and returns it; ErrNotFound. One that is pending becomes due at once.
	RetryNotice(ctx context.Context, id string, now time.Time) (*Notice, error)
	// Notices returns a page, and the cursor of the next one ("" at the end).
	Notices(ctx context.Context, q NoticeQuery) ([]Notice, string, error)
	// CountNotices returns one line for each notifier that has pending or dead notices, by name.
	CountNotices(ctx context.Context) ([]NoticeCount, error)
}

// NotifierStatus is how a notifier does.
type NotifierStatus struct {
	Name string `json:"name"`
	// Kind is http, slack or command; "" for one that DAG files name and the configuration lacks.
	Kind string `json:"kind,omitempty"`
	// Missing says that the configuration lacks it. DAGs are those that name it.
	Missing bool     `json:"missing,omitempty"`
	DAGs    []string `json:"dags"`
	// Circuit is "closed" while it works, "open" after several failures in a row: then one notice is tried at a time, at RetryAt.
	Circuit string    `json:"circuit,omitempty"`
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Pending and Dead count its notices; Oldest is when the oldest pending one happened.
	Pending int       `json:"pending"`
	Dead    int       `json:"dead"`
	Oldest  time.Time `json:"oldest,omitzero"`
	// Sent and Failed count tries since the start of the process. LastError is that of the newest try that failed, until one succeeds.
	Sent      int64     `json:"sent"`
	Failed    int64     `json:"failed"`
	LastSent  time.Time `json:"last_sent,omitzero"`
	LastError string    `json:"last_error,omitempty"`
}

// Notifications is what people and the API ask about notices. Safe for concurrent use.
type Notifications interface {
	// Notifiers returns those of the configuration and those that DAG files name, by name.
	Notifiers(ctx context.Context) ([]NotifierStatus, error)
	// TestNotifier sends something at once, past the outbox. ErrNotFound (the configuration lacks it), ErrInvalid (it did not work, and why).
	TestNotifier(ctx context.Context, name string) error
	// Retry is [Outbox.RetryNotice], and sends at once what is due.
	Retry(ctx context.Context, id string) (*Notice, error)
}

// noticeTask returns t as a notice shows it.
func noticeTask(t *TaskRun) NoticeTask {
	return NoticeTask{
		Task: t.Task, MapIndex: t.MapIndex, State: t.State, Try: t.Try, Exit: t.Exit, Reason: cutReason(t.Reason),
		Log: "runs/" + t.Run + "#log-" + t.Task + "." + strconv.Itoa(t.MapIndex),
	}
}

func cutReason(text string) string {
	if len(text) > MaxNoticeReason {
		text = strings.ToValidUTF8(text[:MaxNoticeReason], "") + " …"
	}
	return text
}

// NewNoticeBody returns what a notice of a run says. Log and URL are relative to the console. task is the index of the task that it is about,
// or negative.
func NewNoticeBody(event string, at time.Time, run *Run, tasks []TaskRun, task int) NoticeBody {
	b := NoticeBody{
		V: 1, Event: event, At: at, DAG: run.DAG, Run: run.ID, Version: run.Version, State: run.State,
		Reason: cutReason(run.Reason), Trigger: run.Trigger, CreatedAt: run.CreatedAt, StartedAt: run.StartedAt, EndedAt: run.EndedAt,
		Batches: len(run.Batches), Events: run.Events, Failed: []NoticeTask{}, URL: "runs/" + run.ID,
	}
	if task >= 0 { // there may be many of these, and many tasks
		one := noticeTask(&tasks[task])
		b.Task = &one
		return b
	}
	for i := range tasks {
		if tasks[i].State != StateFailed {
			continue
		}
		if b.FailedTasks++; b.FailedTasks <= MaxNoticeTasks {
			b.Failed = append(b.Failed, noticeTask(&tasks[i]))
		}
	}
	return b
}

// Notifiers returns the names of all notifiers that the DAG names, each once, in order.
func (d *DAG) Notifiers() []string {
	set := map[string]bool{}
	add := func(names []string) {
		for _, name := range names {
			set[name] = true
		}
	}
	events := []OnEvent{d.OnEvent}
	for i := range d.Tasks {
		events = append(events, d.Tasks[i].OnEvent)
	}
	for _, on := range events {
		for _, names := range on {
			add(names)
		}
	}
	for i := range d.Deadlines {
		add(d.Deadlines[i].Notify)
	}
	return slices.Sorted(maps.Keys(set))
}
