package sandbox_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/sandbox"
	"millrace/scheduler/mesossim"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// waitFor waits until ok says so.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// world is a cluster with one agent, a framework that acknowledges all but last updates, and an object store.
type world struct {
	t       *testing.T
	sim     *mesossim.Cluster
	client  *mesosexec.Client
	objects *memstore.Store
	dir     string // spool

	mu     sync.Mutex // guards the rest
	offers []mesos.Offer
	last   map[string]mesos.TaskStatus // by task
}

// FrameworkID and KeepFrameworkID make world a mesosexec.IDs that has none.
func (w *world) FrameworkID(context.Context) (string, error)       { return "", nil }
func (w *world) KeepFrameworkID(_ context.Context, _ string) error { return nil }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, objects: memstore.New(memstore.Options{}), dir: filepath.Join(t.TempDir(), "spool"), last: map[string]mesos.TaskStatus{}}
	var err error
	if w.sim, err = mesossim.New(mesossim.Options{Dir: t.TempDir(), Allocation: 10 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.sim.Close() })
	list, err := mesosexec.NewList(w.sim.Masters()...)
	if err != nil {
		t.Fatal(err)
	}
	info := func() mesos.Subscribe {
		return mesos.Subscribe{FrameworkInfo: mesos.FrameworkInfo{User: "root", Name: "millrace", Roles: []string{"*"}, FailoverTimeout: 600, Checkpoint: true,
			Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}}}}
	}
	if w.client, err = mesosexec.New(list, w, info, mesosexec.Options{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { // ends with stop
		if err := w.client.Run(ctx, w.handle); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return w
}

func (w *world) handle(ctx context.Context, e *mesos.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case e.Offers != nil:
		w.offers = append(w.offers, e.Offers.Offers...)
	case e.Update != nil && e.Update.Status.State.Terminal():
		w.last[e.Update.Status.TaskID.Value] = e.Update.Status
	case e.Update != nil:
		return w.acknowledge(ctx, e.Update.Status)
	}
	return nil
}

func (w *world) acknowledge(ctx context.Context, s mesos.TaskStatus) error {
	return w.client.Call(ctx, &mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: s.AgentID, TaskID: s.TaskID, UUID: s.UUID}})
}

// launch starts a shell command and returns where its sandbox is.
func (w *world) launch(attempt, command string) sandbox.Task {
	w.t.Helper()
	var o mesos.Offer
	waitFor(w.t, "an offer", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.offers) == 0 {
			return false
		}
		o, w.offers = w.offers[0], w.offers[1:]
		return true
	})
	task := mesos.TaskInfo{Name: "t", TaskID: mesos.ID{Value: attempt}, AgentID: o.AgentID, Command: &mesos.CommandInfo{Value: command},
		Resources: []mesos.Resource{mesossim.Amount(mesos.CPUs, 0.1), mesossim.Amount(mesos.Mem, 32)}}
	err := w.client.Call(w.t.Context(), &mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: []mesos.ID{o.ID}, Filters: &mesos.Filters{},
		Operations: []mesos.Operation{{Type: mesos.OperationLaunch, Launch: &mesos.Launch{TaskInfos: []mesos.TaskInfo{task}}}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return sandbox.Task{
		Attempt: attempt, Agent: "http://" + net.JoinHostPort(o.URL.Address.Hostname, strconv.Itoa(o.URL.Address.Port)), Streams: []string{"stdout"},
		Dir: "/frameworks/" + o.FrameworkID.Value + "/executors/" + attempt + "/runs/latest",
	}
}

// ended waits for the last update of a task.
func (w *world) ended(attempt string) mesos.TaskStatus {
	w.t.Helper()
	var s mesos.TaskStatus
	waitFor(w.t, "the end of "+attempt, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		var ok bool
		s, ok = w.last[attempt]
		return ok
	})
	return s
}

// place is the sandbox of a task on the disk.
func (w *world) place(attempt string) string {
	w.t.Helper()
	dir := ""
	waitFor(w.t, "the sandbox of "+attempt, func() bool {
		for _, task := range w.sim.Tasks() {
			if task.ID == attempt {
				dir = task.Dir
			}
		}
		_, err := os.Stat(filepath.Join(dir, "stdout"))
		return dir != "" && err == nil
	})
	return dir
}

// gate makes a named pipe that a task waits at once, and returns its path.
func (w *world) gate(name string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), name)
	mkfifo(w.t, path)
	return path
}

// open lets the task through a gate.
func (w *world) open(gate string) {
	w.t.Helper()
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		w.t.Fatal(err)
	}
}

// keeper is one that runs until the test ends, or stop is called.
type keeper struct {
	*sandbox.Keeper
	t    *testing.T
	stop func()
}

// quick are options for tests that wait.
var quick = sandbox.Options{MinPause: time.Millisecond, MaxPause: 20 * time.Millisecond, ReadPause: 10 * time.Millisecond}

func (w *world) keeper(opt sandbox.Options) *keeper { return w.keeperAt(w.dir, w.objects, opt) }

func (w *world) keeperAt(dir string, objects *memstore.Store, opt sandbox.Options) *keeper {
	w.t.Helper()
	k, err := sandbox.New(dir, objects, opt)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }() // ends with cancel
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return &keeper{k, w.t, stop}
}

// log returns a log from an offset on, "" if there is none yet.
func (k *keeper) log(attempt string, offset int64) string {
	k.t.Helper()
	r, err := k.Log(k.t.Context(), attempt, offset)
	if errors.Is(err, scheduler.ErrNotFound) {
		return ""
	}
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(text)
}

// shows waits until a log is as it should be.
func (k *keeper) shows(attempt, want string) {
	k.t.Helper()
	got := ""
	defer func() {
		if k.t.Failed() {
			k.t.Logf("the log is %q, want %q", got, want)
		}
	}()
	waitFor(k.t, "the log of "+attempt, func() bool { got = k.log(attempt, 0); return got == want })
}

// finish finishes an attempt at once.
func (k *keeper) finish(t sandbox.Task) sandbox.Result {
	k.t.Helper()
	res, err := k.Finish(k.t.Context(), t)
	if err != nil {
		k.t.Fatal(err)
	}
	return res
}

// forgetSpools removes what is on the disk.
func (w *world) forgetSpools() {
	w.t.Helper()
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Fatal(err)
	}
}

// clean says that no file below dir has any of the texts.
func clean(t *testing.T, dir string, texts ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		for _, text := range texts {
			if strings.Contains(string(body), text) {
				t.Errorf("%s has %q: %q", path, text, body)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
