package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/sqlstore"
	"millrace/trigger"
)

// logs is an executor that has nothing but logs.
type logs struct {
	scheduler.Executor
	mu   sync.Mutex // guards the rest
	text map[string]string
	fail bool
}

func (l *logs) Log(_ context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, ok := l.text[attempt]
	if !ok {
		return nil, scheduler.ErrNotFound
	}
	return io.NopCloser(strings.NewReader(text[offset:])), nil
}

func (l *logs) ForgetRun(_ context.Context, run string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail {
		return errors.New("the disk is away")
	}
	for id := range l.text {
		if strings.HasPrefix(id, run+".") {
			delete(l.text, id)
		}
	}
	return nil
}

type rig struct {
	*testing.T
	store   scheduler.Store
	history scheduler.History
	objects *memstore.Store
	logs    *logs
	ids     []string // by the time of their ends
}

// day n is the n-th after the epoch.
func day(n int) time.Time { return schedulertest.Epoch.UTC().Truncate(24*time.Hour).AddDate(0, 0, n) }

// newRig has per runs that ended on each of the days 0 to days-1.
func newRig(t *testing.T, days, per int) *rig {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), t.TempDir()+"/state.db", sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r := &rig{T: t, store: store, history: store, objects: memstore.New(memstore.Options{}), logs: &logs{text: map[string]string{}}}
	c := &scheduler.Change{}
	for n := range days * per {
		ended := day(n / per).Add(time.Duration(n%per) * time.Minute)
		r.ids = append(r.ids, r.add(c, n, ended))
	}
	if err := store.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return r
}

// add adds a run that has ended, with a log.
func (r *rig) add(c *scheduler.Change, n int, ended time.Time) string {
	b := schedulertest.ExampleBatch(n)
	nr := schedulertest.ExampleRun(b)
	run := &nr.Run
	run.State, run.EndedAt = scheduler.StateSuccess, ended
	d := trigger.Disposition{Batch: b.ID, Rule: "load/new", Fate: trigger.FateRun, Run: run.ID, At: ended}
	c.Arrivals = append(c.Arrivals, trigger.Arrival{Batch: b, Dispositions: []trigger.Disposition{d}})
	c.NewRuns = append(c.NewRuns, nr)
	task := nr.Tasks[0]
	a := scheduler.Attempt{ID: task.AttemptID(1), Run: run.ID, Task: task.Task, MapIndex: task.MapIndex, Try: 1, Executor: "local",
		State: scheduler.StateSuccess, CreatedAt: ended, EndedAt: ended}
	c.Attempts = append(c.Attempts, a)
	c.Moves = append(c.Moves, scheduler.Move{Run: run.ID, MapIndex: scheduler.NoMap, To: run.State, At: ended})
	r.logs.text[a.ID] = fmt.Sprintf("log of %s\n", a.ID)
	return run.ID
}

func (r *rig) keeper(objects batcher.ObjectStore) *Keeper {
	return NewKeeper(r.history, objects, Options{Executors: map[string]scheduler.Executor{"local": r.logs}, MaxRuns: 3, LogTail: 8})
}

// archived returns how often each run is in an object, by id.
func (r *rig) archived() map[string]int {
	r.Helper()
	reader := NewReader(r.objects)
	items, next, err := reader.List(r.Context(), "", 1000)
	if err != nil || next != "" {
		r.Fatal(err)
	}
	out := map[string]int{}
	for _, item := range items {
		lines, err := reader.Open(r.Context(), item.Key)
		if err != nil {
			r.Fatal(err)
		}
		for in := bufio.NewScanner(lines); in.Scan(); {
			id, _, _ := strings.Cut(strings.TrimPrefix(in.Text(), `{"v":1,"kind":"run","run":{"id":"`), `"`)
			out[id]++
		}
	}
	return out
}

// TestRound: what ended before the day is in objects of its days, whole, and nowhere else; the rest is as it was.
func TestRound(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 4)
	want, err := r.history.PastRun(t.Context(), r.ids[1])
	if err != nil {
		t.Fatal(err)
	}
	k := r.keeper(r.objects)
	done, err := k.Round(t.Context(), day(2).Add(23*time.Hour)) // that day is not over
	if err != nil || done.Runs != 8 || done.Objects != 4 || done.Bytes == 0 {
		t.Fatalf("got %+v, %v, want 8 runs in 4 objects", done, err)
	}
	reader := NewReader(r.objects)
	items, next, err := reader.List(t.Context(), "", 2)
	if err != nil || len(items) != 2 || items[0].First != r.ids[0] || items[0].Last != r.ids[2] || items[0].Day != day(0).Format(time.DateOnly) || next != items[1].Key {
		t.Errorf("got %+v, %q, %v", items, next, err)
	}
	if rest, _, err := reader.List(t.Context(), next, 10); err != nil || len(rest) != 2 {
		t.Errorf("got %+v, %v, want the other two", rest, err)
	}
	key, err := r.history.Archived(t.Context(), r.ids[1])
	if err != nil || key != items[0].Key {
		t.Fatalf("got %q, %v", key, err)
	}
	rec, err := reader.Find(t.Context(), key, r.ids[1])
	if err != nil {
		t.Fatal(err)
	}
	rec.Run.Rev = want.Run.Rev // not archived
	for i := range rec.Tasks {
		rec.Tasks[i].Rev = want.Tasks[i].Rev
	}
	attempt := want.Attempts[0].ID
	text := "log of " + attempt + "\n"
	expect := &Record{V: 1, Kind: "run", PastRun: *want, Logs: []Log{{Attempt: attempt, Bytes: int64(len(text)), Tail: text[len(text)-8:]}}}
	if diff := cmp.Diff(expect, rec); diff != "" || len(want.Dispositions) != 1 {
		t.Errorf("the archived run differs (-want +got):\n%s", diff)
	}
	for i, id := range r.ids {
		_, err := r.store.Run(t.Context(), id)
		if kept := i >= 8; kept != (err == nil) {
			t.Errorf("run %d: got %v, want kept: %v", i, err, kept)
		}
	}
	if len(r.logs.text) != 4 {
		t.Errorf("%d logs are left, want those of the runs that are", len(r.logs.text))
	}
	if done, err := k.Round(t.Context(), day(2)); err != nil || done != (Done{}) {
		t.Errorf("again: got %+v, %v, want nothing", done, err)
	}
	if _, err := reader.Find(t.Context(), key, r.ids[11]); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("a run that is elsewhere: got %v", err)
	}
	if _, err := reader.Open(t.Context(), batcher.PrefixChain+"x"); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("what is no archive: got %v", err)
	}
}

// broken is a history, or an object store, that ends the process at a call.
type broken struct {
	scheduler.History
	batcher.ObjectStore
	left int
}

var errKilled = errors.New("killed")

func (b *broken) step() error {
	if b.left--; b.left < 0 {
		return errKilled
	}
	return nil
}

func (b *broken) Forget(ctx context.Context, runs []scheduler.Ended, object string) ([]string, error) {
	if err := b.step(); err != nil {
		return nil, err
	}
	gone, err := b.History.Forget(ctx, runs, object)
	return gone, errors.Join(err, b.step())
}

func (b *broken) Clean(ctx context.Context, runs []string) error {
	if err := b.step(); err != nil {
		return err
	}
	return errors.Join(b.History.Clean(ctx, runs), b.step())
}

func (b *broken) PutIfAbsent(ctx context.Context, key string, body []byte, meta map[string]string) error {
	if err := b.step(); err != nil {
		return err
	}
	return errors.Join(b.ObjectStore.PutIfAbsent(ctx, key, body, meta), b.step())
}

// TestKilledAnywhere: a round that ends before or after any of its steps, and is begun anew, leaves each run in one object, and no rows.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for at := 0; ; at++ {
		r := newRig(t, 2, 4)
		b := &broken{History: r.history, ObjectStore: r.objects, left: at}
		k := NewKeeper(b, b, Options{Executors: map[string]scheduler.Executor{"local": r.logs}, MaxRuns: 3, LogTail: 8})
		_, err := k.Round(t.Context(), day(2))
		if err == nil {
			if at < 10 {
				t.Fatalf("a round has %d steps only", at)
			}
			return
		}
		if !errors.Is(err, errKilled) {
			t.Fatalf("step %d: %v", at, err)
		}
		if _, err := r.keeper(r.objects).Round(t.Context(), day(2)); err != nil {
			t.Fatalf("after step %d: %v", at, err)
		}
		got := r.archived()
		for i, id := range r.ids {
			if key, err := r.history.Archived(t.Context(), id); got[id] != 1 || err != nil || key == "" {
				t.Errorf("killed at step %d: run %d is in %d objects, and known in %q, %v", at, i, got[id], key, err)
			}
		}
		if left, err := r.history.Leftovers(t.Context(), 10); err != nil || len(left) > 0 || len(r.logs.text) > 0 {
			t.Errorf("killed at step %d: %d runs, %d logs are left, %v", at, len(left), len(r.logs.text), err)
		}
	}
}

// TestChangedMeanwhile: a run that was cleared between the read and the removal stays, and what the object has of it does no harm.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 3)
	late := &meddler{History: r.history, before: func() {
		d, err := r.store.Run(t.Context(), r.ids[1])
		if err != nil {
			t.Fatal(err)
		}
		d.Run.Reason, d.Run.EndedAt = "marked", day(5)
		if err := r.store.Apply(t.Context(), &scheduler.Change{Runs: []scheduler.Run{d.Run}}); err != nil {
			t.Fatal(err)
		}
	}}
	opts := Options{Executors: map[string]scheduler.Executor{"local": r.logs}}
	if done, err := NewKeeper(late, r.objects, opts).Round(t.Context(), day(1)); err != nil || done.Runs != 2 {
		t.Fatalf("got %+v, %v, want two runs", done, err)
	}
	if d, err := r.store.Run(t.Context(), r.ids[1]); err != nil || d.Run.Reason != "marked" || len(d.Tasks) == 0 {
		t.Fatalf("got %+v, %v, want the run as it was changed", d, err)
	}
	if done, err := NewKeeper(r.history, r.objects, opts).Round(t.Context(), day(6)); err != nil || done.Runs != 1 {
		t.Fatalf("got %+v, %v, want the third", done, err)
	}
	key, err := r.history.Archived(t.Context(), r.ids[1])
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := NewReader(r.objects).Find(t.Context(), key, r.ids[1]); err != nil || rec.Run.Reason != "marked" {
		t.Errorf("got %+v, %v, want the run as it ended", rec, err)
	}
}

type meddler struct {
	scheduler.History
	before func()
}

func (m *meddler) Forget(ctx context.Context, runs []scheduler.Ended, object string) ([]string, error) {
	if m.before != nil {
		m.before()
		m.before = nil
	}
	return m.History.Forget(ctx, runs, object)
}

// TestAnotherObjectIsThere: an object of the same name with something else in it is neither touched nor believed.
func TestAnotherObjectIsThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 2)
	name := dayPrefix + day(0).Format(time.DateOnly) + "/" + r.ids[0] + "-" + r.ids[1] + suffix
	if err := r.objects.PutIfAbsent(t.Context(), name, []byte("else"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.keeper(r.objects).Round(t.Context(), day(1)); err != nil {
		t.Fatal(err)
	}
	key, err := r.history.Archived(t.Context(), r.ids[0])
	if err != nil || key == name {
		t.Fatalf("got %q, %v", key, err)
	}
	if _, err := NewReader(r.objects).Find(t.Context(), key, r.ids[0]); err != nil {
		t.Error(err)
	}
}

// TestNothingIsLost: without a store that takes the object, or while logs can not be removed, nothing is forgotten, or nothing is left behind.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 2)
	away := r.objects.View(func(op memstore.Op, _ string) memstore.Fault {
		if op == memstore.OpPut {
			return memstore.Refuse
		}
		return memstore.None
	})
	if done, err := r.keeper(away).Round(t.Context(), day(1)); !errors.Is(err, batcher.ErrRefused) || done.Runs != 0 {
		t.Errorf("got %+v, %v", done, err)
	}
	r.logs.fail = true
	if _, err := r.keeper(r.objects).Round(t.Context(), day(1)); err == nil || !strings.Contains(err.Error(), "the disk is away") {
		t.Errorf("got %v", err)
	}
	r.logs.fail = false
	if _, err := r.keeper(r.objects).Round(t.Context(), day(1)); err != nil || len(r.logs.text) > 0 {
		t.Errorf("got %v, and %d logs are left", err, len(r.logs.text))
	}

	r = newRig(t, 1, 2)
	drop := NewKeeper(r.history, nil, Options{Executors: map[string]scheduler.Executor{"local": r.logs}, Drop: func() bool { return true }})
	if done, err := drop.Round(t.Context(), day(1)); err != nil || done.Runs != 2 || done.Objects != 0 {
		t.Errorf("got %+v, %v, want both forgotten without an object", done, err)
	}
	if key, err := r.history.Archived(t.Context(), r.ids[0]); err != nil || key != "" {
		t.Errorf("got %q, %v", key, err)
	}
}

// TestLongLog: only the end of a log is archived, whether or not its reader can skip the rest.
func TestLongLog(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 20_000) + "the end"
	for name, ex := range map[string]scheduler.Executor{"stream": &logs{text: map[string]string{"a": text}}, "seeker": &seeker{text: text}} {
		k := NewKeeper(nil, nil, Options{LogTail: 10})
		got, err := k.log(t.Context(), ex, "a")
		if err != nil || got.Bytes != int64(len(text)) || got.Tail != text[len(text)-10:] {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

type seeker struct {
	scheduler.Executor
	text string
}

func (s *seeker) Log(context.Context, string, int64) (io.ReadCloser, error) {
	return struct {
		*bytes.Reader
		io.Closer
	}{bytes.NewReader([]byte(s.text)), io.NopCloser(nil)}, nil
}
