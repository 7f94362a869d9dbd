package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/backfill"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

const testToken = "test-token-of-some-length"

// evil is what a sender may put into an event, and a task into its log.
const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{.}}`

// rig is a console over stores in memory.
type rig struct {
	*testing.T
	*Server
	store   *schedulertest.Store
	objects *memstore.Store
	chain   *fakeChain
	exec    *fakeExecutor
	control *fakeControl
	finder  fakeFinder
	reg     *prometheus.Registry
}

func newRig(t *testing.T, change ...func(*Deps, *Options)) *rig {
	t.Helper()
	r := &rig{
		T: t, store: schedulertest.NewStore(), objects: memstore.New(memstore.Options{}), chain: &fakeChain{entries: map[ingest.Stream][]batcher.Entry{}},
		exec: &fakeExecutor{logs: map[string]string{}}, finder: fakeFinder{}, reg: prometheus.NewRegistry(),
	}
	r.control = &fakeControl{store: r.store, watch: make(chan struct{})}
	d := Deps{
		Store: r.store, Control: r.control, Explain: fakeExplainer{}, Backfiller: r.control,
		PlanBackfill: backfill.New(r.store, r.control, fakeJudge{}, r.chain).Plan, Approve: &fakeApprover{run: "r1"}, Executors: map[string]scheduler.Executor{"local": r.exec}, Catalogue: r.chain, Objects: r.objects,
		Codec: plainCodec{}, Finder: r.finder, Pressure: fakePressure{},
		Sources: func() []ingest.Source {
			return []ingest.Source{{Tenant: "default", Name: "web", Kind: ingest.KindClickstream}}
		},
		Values: newValues(t), TestConnection: func(_ context.Context, fields map[string]string) (string, error) {
			return "", errors.New("no route to " + fields["uri"])
		},
		Verify: func(context.Context) (any, error) { return map[string]any{"ok": true}, nil },
		Config: func() any { return []map[string]string{{"path": "data_dir", "value": ".", "origin": "default"}} },
		CompileDAGs: func(_ string, text []byte) ([]*scheduler.DAG, error) {
			if bytes.Contains(text, []byte("bad")) {
				return nil, errors.New("request:1:1: unknown key bad")
			}
			return []*scheduler.DAG{{ID: "load"}}, nil
		},
		Simulate: fakeSimulation,
		Resume:   resumeOnce(),
		Outbox:   r.store, Notifications: fakeNotifications{r.store},
		Prune: func(context.Context) (any, error) {
			return map[string]int{"runs": 2, "objects": 1, "bytes": 9, "batches": 0, "outputs": 0, "logs": 0}, nil
		},
		Mesos: &fakeMesos{}, Metrics: r.reg,
	}
	o := Options{
		Token: testToken, Version: Version{"v0", "abc", "go"}, Poll: time.Millisecond, Registerer: r.reg,
	}
	for _, f := range change {
		f(&d, &o)
	}
	s, err := New(d, o)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	r.Server = s
	return r
}

// fill puts a batch of three rows and its failed run into the stores.
func (r *rig) fill() (batcher.Batch, scheduler.Run) {
	r.Helper()
	b := schedulertest.ExampleBatch(1)
	b.Events, b.Types, b.Trace = 3, map[string]int64{evil: 3}, "00-1-2-01"
	n := schedulertest.ExampleRun(b)
	n.Run.State, n.Run.Reason = scheduler.StateFailed, "task check failed: "+evil
	n.Run.Deadlines = exampleDeadlines
	n.Run.StartedAt, n.Run.EndedAt = n.Run.CreatedAt.Add(time.Second), n.Run.CreatedAt.Add(3*time.Second)
	n.Tasks[0].State, n.Tasks[0].Try, n.Tasks[0].Reason, n.Tasks[0].Exit = scheduler.StateFailed, 1, evil, 3
	n.Tasks[0].StartedAt, n.Tasks[0].EndedAt, n.Tasks[0].Output = n.Run.StartedAt, n.Run.EndedAt, json.RawMessage(`{"rows":3}`)
	n.Tasks[1].State = scheduler.StateUpstreamFailed
	a := scheduler.Attempt{
		ID: n.Tasks[0].AttemptID(1), Run: n.Run.ID, Task: "check", MapIndex: scheduler.NoMap, Try: 1, Executor: "local",
		State: scheduler.StateFailed, Exit: 3, Reason: "exit 3", CreatedAt: n.Run.StartedAt, StartedAt: n.Run.StartedAt, EndedAt: n.Run.EndedAt,
	}
	rule := trigger.Disposition{Batch: b.ID, Rule: "load/clicks", Fate: trigger.FateRun, Run: n.Run.ID, At: b.CommittedAt}
	filtered := trigger.Disposition{Batch: b.ID, Rule: "other/r", Fate: trigger.FateFiltered, Reason: evil, At: b.CommittedAt}
	head := scheduler.DAGHead{ID: "load", Version: "v1", File: "load.yaml", Error: "line 3: " + evil, UpdatedAt: schedulertest.Epoch}
	err := r.store.Apply(r.Context(), &scheduler.Change{
		Versions: []scheduler.DAGVersion{{Version: "v1", DAG: "load", Canonical: []byte("{}")}}, Heads: []scheduler.DAGHead{head},
		Arrivals: []trigger.Arrival{{Batch: b, Dispositions: []trigger.Disposition{rule, filtered}}}, NewRuns: []scheduler.NewRun{n},
		Attempts: []scheduler.Attempt{a},
		Moves:    []scheduler.Move{{Run: n.Run.ID, MapIndex: scheduler.NoMap, From: "running", To: "failed", At: n.Run.EndedAt}},
		Notices:  []scheduler.Notice{exampleNotice(n.Run.ID)},
	})
	if err != nil {
		r.Fatalf("apply: %v", err)
	}
	rows := fmt.Sprintf("{\"messageId\":\"m0\"}\n{\"messageId\":\"m1\",\"x\":%q}\n{\"messageId\":\"m2\"}\n", evil)
	r.put(b.Key, []byte(rows))
	r.put(batcher.IDsKey(b.ID), sidecarOf("web", b.First, "m0", "m1", "", "m2"))
	r.exec.set(a.ID, "line 1\n"+evil+"\nlast")
	return b, n.Run
}

func (r *rig) put(key string, body []byte) {
	r.Helper()
	if err := r.objects.PutIfAbsent(r.Context(), key, body, nil); err != nil {
		r.Fatalf("put %s: %v", key, err)
	}
}

// ask sends a request with the token.
func (r *rig) ask(method, path, body string) *httptest.ResponseRecorder {
	r.Helper()
	req := request(method, path, body)
	req.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func (r *rig) get(path string) *httptest.ResponseRecorder { return r.ask(http.MethodGet, path, "") }

// page asks as a browser with a session does, and returns the text.
func (r *rig) page(path string) string {
	r.Helper()
	w := r.get(path)
	if w.Code != http.StatusOK {
		r.Fatalf("GET %s: got %d, want 200:\n%s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

func request(method, path, body string) *http.Request {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Host = "localhost:8081"
	return req
}

// plainCodec has rows as they are, and sidecars of fixed width.
type plainCodec struct{}

func (plainCodec) Rows(codec string, body []byte) (io.ReadCloser, error) {
	if codec != "ndjson.gz" {
		return nil, fmt.Errorf("codec %q: %w", codec, batcher.ErrUnknownVersion)
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

func (plainCodec) IDs(body []byte, row func(SidecarRow) bool) error {
	for ; len(body) >= 24; body = body[24:] {
		r := SidecarRow{ID: [16]byte(body[:16]), ReceivedAt: schedulertest.Epoch, Offset: int64(binary.LittleEndian.Uint64(body[16:]))}
		if !row(r) {
			return nil
		}
	}
	return nil
}

// sidecarOf has a row for each id; "" is an offset that is not in the batch.
func sidecarOf(source string, first int64, ids ...string) []byte {
	var b []byte
	for i, id := range ids {
		if id != "" {
			hash := ingest.DedupeID(source, id)
			b = binary.LittleEndian.AppendUint64(append(b, hash[:]...), uint64(first+int64(i)))
		}
	}
	return b
}

type fakePressure struct{}

func (fakePressure) Pressure() (int64, int64, time.Duration) { return 1 << 20, 10 << 30, 0 }

type fakeFinder map[[16]byte]ingest.Span

func (f fakeFinder) Find(_ context.Context, id [16]byte) (ingest.Stream, int64, bool) {
	s, ok := f[id]
	return s.Stream, s.First, ok
}

// fakeChain keeps entries in memory.
type fakeChain struct {
	mu      sync.Mutex
	entries map[ingest.Stream][]batcher.Entry
}

func (f *fakeChain) add(s ingest.Stream, e batcher.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.V, e.Stream, e.Seq = batcher.EntryVersion, s, int64(len(f.entries[s]))+1
	f.entries[s] = append(f.entries[s], e)
}

func (f *fakeChain) Streams(context.Context) ([]ingest.Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []ingest.Stream
	for s := range f.entries {
		out = append(out, s)
	}
	return out, nil
}

func (f *fakeChain) Entry(_ context.Context, s ingest.Stream, seq int64) (batcher.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq < 1 || seq > int64(len(f.entries[s])) {
		return batcher.Entry{}, batcher.ErrNotFound
	}
	return f.entries[s][seq-1], nil
}

func (f *fakeChain) Tail(ctx context.Context, s ingest.Stream, _ int64) (batcher.Entry, error) {
	f.mu.Lock()
	n := len(f.entries[s])
	f.mu.Unlock()
	return f.Entry(ctx, s, int64(n))
}

func (f *fakeChain) Facts(context.Context, batcher.Cut) (batcher.Facts, string, error) {
	return batcher.Facts{}, "", batcher.ErrNotFound
}

// resumeOnce is a ledger that was on hold.
func resumeOnce() func(context.Context, time.Time) (any, error) {
	held := true
	return func(_ context.Context, since time.Time) (any, error) {
		if !held {
			return nil, ErrNotHeld
		}
		held = false
		return map[string]any{"since": since, "chains": 1, "batches": 2}, nil
	}
}

// fakeExecutor has logs that grow.
type fakeExecutor struct {
	mu     sync.Mutex
	logs   map[string]string
	opened int
}

func (f *fakeExecutor) set(attempt, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[attempt] = text
}

func (f *fakeExecutor) Log(_ context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	text, ok := f.logs[attempt]
	if !ok {
		return nil, scheduler.ErrNotFound
	}
	return io.NopCloser(strings.NewReader(text[min(int(offset), len(text)):])), nil
}

func (f *fakeExecutor) Slots() int                                        { return 8 }
func (f *fakeExecutor) Launch(context.Context, []scheduler.Launch) error  { return nil }
func (f *fakeExecutor) Kill(context.Context, string, time.Duration) error { return nil }
func (f *fakeExecutor) Reconcile(context.Context, []string) error         { return nil }
func (f *fakeExecutor) Run(context.Context, func(context.Context, []scheduler.Report) error) error {
	return nil
}

// fakeControl notes what it was asked.
type fakeControl struct {
	store *schedulertest.Store
	mu    sync.Mutex
	asked []string
	fail  error
	// watch is closed by the next change, which tests bring about themselves; watched is told of each who waits for it.
	watch   chan struct{}
	watched chan string
}

func (f *fakeControl) Watch(run string) (<-chan struct{}, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched != nil {
		f.watched <- run
	}
	return f.watch, func() {}
}

// change lets those who wait look again.
func (f *fakeControl) change() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.watch)
	f.watch = make(chan struct{})
}

func (f *fakeControl) note(text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, text)
	return f.fail
}

func (f *fakeControl) Trigger(ctx context.Context, dag, id string, params []byte) (*scheduler.Run, error) {
	if err := f.note(fmt.Sprintf("trigger %s %q %s", dag, id, params)); err != nil {
		return nil, err
	}
	if dag != "load" {
		return nil, fmt.Errorf("find dag %q: %w", dag, scheduler.ErrNotFound)
	}
	return &scheduler.Run{ID: "rmanual", DAG: dag, State: scheduler.StateQueued, Trigger: scheduler.Trigger{Kind: trigger.KindManual, Key: id}}, nil
}

func (f *fakeControl) Cancel(ctx context.Context, run string) (*scheduler.Run, error) {
	if err := f.note("cancel " + run); err != nil {
		return nil, err
	}
	d, err := f.store.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	return &d.Run, nil
}

func (f *fakeControl) Pause(ctx context.Context, dag string, paused bool) (*scheduler.DAGHead, error) {
	if err := f.note(fmt.Sprintf("pause %s %v", dag, paused)); err != nil {
		return nil, err
	}
	head, _, err := f.DAG(ctx, dag)
	if err != nil {
		return nil, err
	}
	head.Paused = paused
	return head, f.store.Apply(ctx, &scheduler.Change{Heads: []scheduler.DAGHead{*head}})
}

func (f *fakeControl) Clear(ctx context.Context, run string, c scheduler.Clear) (*scheduler.Mended, error) {
	return f.mend(ctx, run, fmt.Sprintf("clear %s %+v", run, c))
}

func (f *fakeControl) Mark(ctx context.Context, run string, m scheduler.Mark) (*scheduler.Mended, error) {
	return f.mend(ctx, run, fmt.Sprintf("mark %s %+v", run, m))
}

func (f *fakeControl) Replay(ctx context.Context, run string, r scheduler.Replay) (*scheduler.Run, error) {
	if err := f.note(fmt.Sprintf("replay %s %+v", run, r)); err != nil {
		return nil, err
	}
	d, err := f.store.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	d.Run.ID, d.Run.Replay, d.Run.ReplayOf, d.Run.NoEmit, d.Run.State = "rreplay", 1, run, !r.Emit, scheduler.StateQueued
	return &d.Run, nil
}

func (f *fakeControl) StartBackfill(ctx context.Context, p *scheduler.BackfillPlan) (*scheduler.Backfill, error) {
	if err := f.note(fmt.Sprintf("backfill %s of %s", p.Backfill.ID, p.Backfill.DAG)); err != nil {
		return nil, err
	}
	if err := f.store.Apply(ctx, &scheduler.Change{Backfills: []scheduler.Backfill{p.Backfill}, Items: p.Items}); err != nil {
		return nil, err
	}
	return f.store.Backfill(ctx, p.Backfill.ID)
}

func (f *fakeControl) SteerBackfill(ctx context.Context, id string, to scheduler.BackfillState, o scheduler.Steer) (*scheduler.Backfill, error) {
	if err := f.note(fmt.Sprintf("steer %s %s %+v", id, to, o)); err != nil {
		return nil, err
	}
	b, err := f.store.Backfill(ctx, id)
	if err != nil {
		return nil, err
	}
	b.State = to
	return b, f.store.Apply(ctx, &scheduler.Change{Backfills: []scheduler.Backfill{*b}})
}

func (f *fakeControl) mend(ctx context.Context, run, asked string) (*scheduler.Mended, error) {
	if err := f.note(asked); err != nil {
		return nil, err
	}
	d, err := f.store.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	return &scheduler.Mended{Run: d.Run, Tasks: []scheduler.MendedTask{{Task: "check", MapIndex: scheduler.NoMap, State: scheduler.StateFailed, Try: 1}}}, nil
}

func (f *fakeControl) DAGs(ctx context.Context) ([]scheduler.DAGHead, error) {
	snap, err := f.store.Load(ctx)
	if err != nil {
		return nil, err
	}
	return snap.Heads, nil
}

func (f *fakeControl) DAG(ctx context.Context, id string) (*scheduler.DAGHead, *scheduler.DAG, error) {
	heads, err := f.DAGs(ctx)
	i := slices.IndexFunc(heads, func(h scheduler.DAGHead) bool { return h.ID == id })
	if err != nil || i < 0 {
		return nil, nil, errors.Join(err, fmt.Errorf("find dag %q: %w", id, scheduler.ErrNotFound))
	}
	spec := &scheduler.DAG{
		V: 1, ID: id, Description: evil, On: []trigger.Rule{{DAG: id, ID: "clicks", Kind: trigger.KindBatch, Source: "web", If: `batch.events > 0 && "` + evil + `" != ""`}},
		Tasks: []scheduler.Task{{ID: "check", Kind: "command", Shell: "echo '" + evil + "'"}, {ID: "load", Needs: []string{"check"}, Kind: "command", Run: []string{"true"}}},
	}
	if id == "grouped" {
		spec.On[0].Coalesce = &trigger.Coalesce{MaxBatches: 50, Quiet: 5 * time.Second, MaxWait: time.Minute}
	}
	if id == "joined" {
		spec.On[0].Order = trigger.OrderFIFO
		spec.On = append(spec.On, trigger.Rule{DAG: id, ID: "both", Kind: trigger.KindBatch, AllOf: []string{"clicks", "orders"}, Expire: 24 * time.Hour})
	}
	return &heads[i], spec, nil
}

// fakeSimulation finds that nothing would change, and refuses a condition that is "faulty".
func fakeSimulation(_ context.Context, q WhatIf) (any, error) {
	if len(q.On) > 0 && q.On[0].If == "faulty" {
		return nil, fmt.Errorf("%w: rule %q: if", scheduler.ErrInvalid, q.On[0].Name())
	}
	runs := map[string]any{
		"runs": 1, "batches": 1, "events": 2, "delay": map[string]float64{"p50": 1, "p99": 1.5, "max": 2}, "fates": map[string]int{"run": 1},
		"list": []any{map[string]any{"id": "r", "at": q.From, "key": "b", "batches": []string{"b"}, "events": 2}},
	}
	none := map[string]any{"count": 0, "first": []string{}}
	return map[string]any{
		"dag": q.DAG, "from": q.From, "to": q.To, "batches": 1, "rules": []any{map[string]any{
			"rule": "clicks", "kind": "batch", "happened": runs, "before": runs, "after": nil, "checked": 1, "reproduced": 1, "unlike": []string{},
			"gained": none, "lost": none,
		}},
	}, nil
}
