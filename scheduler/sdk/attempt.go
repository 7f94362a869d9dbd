package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"
)

// Attempt is one try of one task: what it is given, and whom it may tell. The zero value works, for tests: it has no batches, its state is
// in memory, it logs nowhere. A pointer to it may be used by several goroutines; its fields are not to be changed after the first call.
type Attempt struct {
	Run  Run
	Task string
	// Try is the number of the attempt, from 1. MapIndex is the index of a mapped task, else -1.
	Try, MapIndex int
	// IdempotencyKey is the same for all attempts of this task in this run: an effect elsewhere that is named by it happens once.
	IdempotencyKey string
	Trigger        Trigger
	// Batches, oldest first, are what the run has to work on.
	Batches []Batch
	// Params is a JSON object with defaults filled in; [Params] reads it. Upstream has the outputs of the parents; [Step.Of] reads it. An output that
	// is too large for the input document is in a file instead, whose name UpstreamFiles has.
	Params        json.RawMessage
	Upstream      map[string]json.RawMessage
	UpstreamFiles map[string]string
	// Item is the element of a mapped task, as JSON; [Item] reads it.
	Item json.RawMessage

	// Logger takes what the task says; nil discards. Tasks use [Attempt.Log].
	Logger *slog.Logger
	// StateDir is where [Attempt.State] keeps its values; "" keeps them in memory.
	StateDir string
	// HeartbeatFile is what [Attempt.Heartbeat] changes; "": nobody listens.
	HeartbeatFile string
	// Fetched is the directory in which millrace-task has put the objects, each at the Key of its batch; "": nowhere.
	Fetched string
	// Open opens the objects of the batches; nil opens files, those of Fetched first. A program sets it in its tasks for objects elsewhere; it may return the bytes as
	// they are stored, if that is gzip, or the plain rows.
	Open func(uri string) (io.ReadCloser, error)

	mu    sync.Mutex // guards state and beat
	state *State
	beat  time.Time
}

// Run is the run that the task belongs to. Times that it does not have are zero.
type Run struct {
	ID            string    `json:"id"`
	DAG           string    `json:"dag"`
	Version       string    `json:"version"`
	ReplayOf      string    `json:"replay_of"`
	CreatedAt     time.Time `json:"created_at"`
	IntervalStart time.Time `json:"interval_start"`
	IntervalEnd   time.Time `json:"interval_end"`
	Watermark     time.Time `json:"watermark"`
}

// Trigger says what started the run. Kind is "batch", "cron" or "manual".
type Trigger struct {
	Kind    string `json:"kind"`
	Rule    string `json:"rule"`
	Key     string `json:"key"`
	LaneKey string `json:"lane_key"`
}

// Batch is one batch: an object with rows.
type Batch struct {
	ID     string `json:"id"`
	Tenant string `json:"tenant"`
	Source string `json:"source"`
	URI    string `json:"uri"`
	// Events is the number of rows, Bytes the size of the object as it is stored, Types the number of rows by type of event.
	Events int64            `json:"events"`
	Bytes  int64            `json:"bytes"`
	Types  map[string]int64 `json:"types"`
	// ReceivedMin to ReceivedMax are when the events came in, EventMin to EventMax when they happened.
	ReceivedMin time.Time `json:"received_min"`
	ReceivedMax time.Time `json:"received_max"`
	EventMin    time.Time `json:"event_min"`
	EventMax    time.Time `json:"event_max"`
	// Void says why a batch has no object, or is "".
	Void string `json:"void"`
	// Key is that of the object in its store.
	Key string `json:"key"`
}

// Log returns where the task logs: its standard output, one line a record.
func (a *Attempt) Log() *slog.Logger {
	if a.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Logger
}

// State returns what the tries of this task in this run share.
func (a *Attempt) State() *State {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == nil {
		a.state = &State{dir: a.StateDir, memory: map[string][]byte{}}
	}
	return a.state
}

// beatEvery is how often a heartbeat is worth a write: a loop may call Heartbeat for each row.
const beatEvery = 200 * time.Millisecond

// Heartbeat says that the task makes progress. It does nothing unless the DAG has timeout.heartbeat for the task.
func (a *Attempt) Heartbeat() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.HeartbeatFile == "" || now.Sub(a.beat) < beatEvery {
		return nil
	}
	a.beat = now
	if err := os.WriteFile(a.HeartbeatFile, []byte(now.UTC().Format(time.RFC3339Nano)+"\n"), 0o640); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	return nil
}

// inputVersion is the version of the input document that this package reads.
const inputVersion = 1

// readAttempt takes the task contract from the environment.
func readAttempt(env func(string) string) (*Attempt, error) {
	path := env("MILLRACE_INPUT")
	if path == "" {
		return nil, errors.New("MILLRACE_INPUT is not set: " + verbRun + " is for millrace to call; " +
			"to try a task, call its function from a test with &sdk.Attempt{}")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	var doc struct {
		V        int                        `json:"v"`
		Run      Run                        `json:"run"`
		Task     string                     `json:"task"`
		Trigger  Trigger                    `json:"trigger"`
		Batches  []Batch                    `json:"batches"`
		Params   json.RawMessage            `json:"params"`
		Upstream map[string]json.RawMessage `json:"upstream"`
		Far      map[string]far             `json:"upstream_refs"`
		Item     json.RawMessage            `json:"item"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read input %s: %w", path, err)
	}
	if doc.V != inputVersion {
		return nil, fmt.Errorf("read input %s: it is version %d, this program was built with an SDK that reads version %d: build it anew",
			path, doc.V, inputVersion)
	}
	a := &Attempt{
		Run: doc.Run, Task: doc.Task, Trigger: doc.Trigger, Batches: doc.Batches, Params: doc.Params, Upstream: doc.Upstream,
		UpstreamFiles: filesOf(doc.Far), Item: doc.Item, MapIndex: -1, IdempotencyKey: env("MILLRACE_IDEMPOTENCY_KEY"),
		Fetched: env("MILLRACE_FETCHED"), StateDir: env("MILLRACE_STATE"), HeartbeatFile: env("MILLRACE_HEARTBEAT"),
	}
	for name, to := range map[string]*int{"MILLRACE_TRY": &a.Try, "MILLRACE_MAP_INDEX": &a.MapIndex} {
		text := env(name)
		if text == "" {
			continue
		}
		if *to, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return a, nil
}
