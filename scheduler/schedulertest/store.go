package schedulertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
)

var _ scheduler.Store = (*Store)(nil)

// Store is a scheduler.Store in memory. Safe for concurrent use. What it takes and returns shares no memory with it.
type Store struct {
	// Intercept, if set before use, is called for each Apply and calls commit at most once. What it returns is what the caller gets: to
	// return scheduler.ErrUnavailable after commit is an answer that was lost, to return it without, a store that is away.
	Intercept func(c *scheduler.Change, commit func() error) error

	mu           sync.Mutex
	heads        map[string]scheduler.DAGHead
	versions     map[string]scheduler.DAGVersion
	batches      map[string]batcher.Batch
	arrived      map[string]coming                // by batch
	dispositions map[string][]trigger.Disposition // by batch
	groups       map[[2]string]trigger.Group      // rule, id
	cursors      map[ingest.Stream]int64
	ticks        map[string]time.Time
	runs         map[string]scheduler.Run
	tasks        map[string]*taskRows // by run
	attempts     map[string]scheduler.Attempt
	moves        []scheduler.Move
	backfills    backfills
	cached       map[string]scheduler.Cached
	notices      []scheduler.Notice // in the order of insertion
	overdue      map[overdueKey]scheduler.Overdue
	archived     map[string]string // where forgotten runs are
	leftover     map[string]bool   // forgotten runs of which rows are left
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		heads: map[string]scheduler.DAGHead{}, versions: map[string]scheduler.DAGVersion{}, batches: map[string]batcher.Batch{},
		arrived:      map[string]coming{},
		dispositions: map[string][]trigger.Disposition{}, groups: map[[2]string]trigger.Group{},
		cursors: map[ingest.Stream]int64{}, ticks: map[string]time.Time{},
		runs: map[string]scheduler.Run{}, tasks: map[string]*taskRows{}, attempts: map[string]scheduler.Attempt{},
		backfills: newBackfills(),
		cached:    map[string]scheduler.Cached{},
		overdue:   map[overdueKey]scheduler.Overdue{},
		archived:  map[string]string{}, leftover: map[string]bool{},
	}
}

// Close implements scheduler.Store; it does nothing.
func (s *Store) Close() error { return nil }

// Apply implements scheduler.Store.
func (s *Store) Apply(ctx context.Context, c *scheduler.Change) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err)
	}
	commit := func() error { return s.commit(c) }
	if s.Intercept != nil {
		return s.Intercept(c, commit)
	}
	return commit()
}

func (s *Store) commit(c *scheduler.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &tx{s: s, exists: map[string]bool{}}
	if err := t.apply(c); err != nil {
		for _, undo := range slices.Backward(t.undo) {
			undo()
		}
		return err
	}
	return nil
}

// tx notes how to undo what it did.
type tx struct {
	s      *Store
	undo   []func()
	exists map[string]bool
}

// put sets m[k] to v, so that it can be undone.
func put[K comparable, V any](t *tx, m map[K]V, k K, v V) {
	old, had := m[k]
	t.undo = append(t.undo, func() {
		if had {
			m[k] = old
		} else {
			delete(m, k)
		}
	})
	m[k] = v
}

func (t *tx) apply(c *scheduler.Change) error {
	t.ledger(c)
	t.backfills(c)
	for _, r := range c.NewRuns {
		t.newRun(r)
	}
	for _, r := range c.Runs {
		have, ok := t.s.runs[r.ID]
		if ok != (r.Rev != 0) || have.Rev != r.Rev {
			return fmt.Errorf("run %s at revision %d: %w", r.ID, r.Rev, scheduler.ErrConflict)
		}
		r = keptRun(r)
		r.Rev++
		if ok {
			r.DAG, r.CreatedAt, r.Batches = have.DAG, have.CreatedAt, have.Batches
		} else {
			r.Batches = nil // Inputs are frozen by NewRuns alone.
		}
		put(t, t.s.runs, r.ID, r)
	}
	for _, k := range c.Tasks {
		if err := t.task(k); err != nil {
			return err
		}
	}
	for _, a := range c.Attempts {
		if !t.exists[a.Run] {
			a.CreatedAt, a.StartedAt, a.EndedAt = kept(a.CreatedAt), kept(a.StartedAt), kept(a.EndedAt)
			put(t, t.s.attempts, a.ID, a)
		}
	}
	for _, e := range c.Cached {
		put(t, t.s.cached, e.ID, keptCached(e))
	}
	for _, m := range c.Moves {
		if !t.exists[m.Run] {
			m.At = kept(m.At)
			t.s.moves = append(t.s.moves, m)
		}
	}
	t.outbox(c)
	return nil // Moves and what tells of them are last: from here on nothing is undone.
}

// ledger applies the parts that never conflict.
func (t *tx) ledger(c *scheduler.Change) {
	for _, v := range c.Versions {
		if _, ok := t.s.versions[v.Version]; !ok {
			v.Canonical, v.CreatedAt = bytes.Clone(v.Canonical), kept(v.CreatedAt)
			put(t, t.s.versions, v.Version, v)
		}
	}
	for _, h := range c.Heads {
		h.UpdatedAt = kept(h.UpdatedAt)
		put(t, t.s.heads, h.ID, h)
	}
	for _, a := range c.Arrivals {
		if _, ok := t.s.batches[a.Batch.ID]; ok {
			continue
		}
		put(t, t.s.arrived, a.Batch.ID, coming{kept(a.At), len(t.s.batches)})
		put(t, t.s.batches, a.Batch.ID, clone(a.Batch))
		ds := slices.Clone(a.Dispositions)
		for i := range ds {
			ds[i].At = kept(ds[i].At)
		}
		slices.SortFunc(ds, func(a, b trigger.Disposition) int { return cmp.Compare(a.Rule, b.Rule) })
		put(t, t.s.dispositions, a.Batch.ID, ds)
	}
	for _, d := range c.Updates {
		ds := slices.Clone(t.s.dispositions[d.Batch])
		i := slices.IndexFunc(ds, func(x trigger.Disposition) bool { return x.Rule == d.Rule })
		if i >= 0 && !ds[i].Fate.Final() {
			d.At = kept(d.At)
			ds[i] = d
			put(t, t.s.dispositions, d.Batch, ds)
		}
	}
	for _, g := range c.Groups {
		g.Batches, g.OpenedAt, g.LastAt = nil, kept(g.OpenedAt), kept(g.LastAt)
		key := [2]string{g.Rule, g.ID}
		put(t, t.s.groups, key, g)
		if g.Closed != "" {
			delete(t.s.groups, key)
		}
	}
	for _, k := range c.Cursors {
		if have, ok := t.s.cursors[k.Stream]; !ok || k.Seq > have {
			put(t, t.s.cursors, k.Stream, k.Seq)
		}
	}
	for _, k := range c.Ticks {
		if at := kept(k.At); at.After(t.s.ticks[k.Rule]) {
			put(t, t.s.ticks, k.Rule, at)
		}
	}
}

func (t *tx) newRun(r scheduler.NewRun) {
	if _, ok := t.s.runs[r.Run.ID]; ok {
		t.exists[r.Run.ID] = true
		return
	}
	run := keptRun(r.Run)
	run.Rev = 1
	put(t, t.s.runs, run.ID, run)
	tasks := newTaskRows()
	for _, k := range r.Tasks {
		k = keptTask(k)
		k.Rev = 1
		tasks.set(k)
	}
	put(t, t.s.tasks, run.ID, tasks)
}

func (t *tx) task(k scheduler.TaskRun) error {
	rows := t.s.tasks[k.Run]
	if rows == nil {
		rows = newTaskRows()
		put(t, t.s.tasks, k.Run, rows)
	}
	have, ok := rows.get(k.Task, k.MapIndex)
	if ok != (k.Rev != 0) || ok && have.Rev != k.Rev {
		return fmt.Errorf("task %s at revision %d: %w", k.ID(), k.Rev, scheduler.ErrConflict)
	}
	k = keptTask(k)
	k.Rev++
	t.undo = append(t.undo, rows.set(k))
	return nil
}

// kept is a time as a store keeps it.
func kept(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

func keptRun(r scheduler.Run) scheduler.Run {
	for _, t := range []*time.Time{&r.IntervalStart, &r.IntervalEnd, &r.Watermark, &r.CreatedAt, &r.StartedAt, &r.EndedAt} {
		*t = kept(*t)
	}
	r.Batches, r.Params, r.Deadlines, r.Images = slices.Clone(r.Batches), slices.Clone(r.Params), slices.Clone(r.Deadlines), slices.Clone(r.Images)
	for i := range r.Images {
		r.Images[i].PinnedAt = kept(r.Images[i].PinnedAt)
	}
	for i := range r.Deadlines {
		d := &r.Deadlines[i]
		d.At, d.MetAt, d.MissedAt = kept(d.At), kept(d.MetAt), kept(d.MissedAt)
	}
	return r
}

func keptTask(k scheduler.TaskRun) scheduler.TaskRun {
	k.Since, k.RetryAt, k.StartedAt, k.EndedAt = kept(k.Since), kept(k.RetryAt), kept(k.StartedAt), kept(k.EndedAt)
	k.Output, k.OutputRef = slices.Clone(k.Output), cloneRef(k.OutputRef)
	return cloneMapped(k)
}

// clone goes through JSON, as a store on disk does.
func clone(b batcher.Batch) batcher.Batch {
	text, err := json.Marshal(b)
	var out batcher.Batch
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic(fmt.Sprintf("batch %s does not survive JSON: %v", b.ID, err))
	}
	return out
}

// Remember implements trigger.Ledger.
func (s *Store) Remember(context.Context) (trigger.Memory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := trigger.Memory{Fresh: len(s.cursors) == 0, Held: map[string][]trigger.Held{}}
	for stream, seq := range s.cursors {
		m.Cursors = append(m.Cursors, trigger.Cursor{Stream: stream, Seq: seq})
	}
	slices.SortFunc(m.Cursors, func(a, b trigger.Cursor) int { return cmp.Compare(a.Stream.String(), b.Stream.String()) })
	for _, rule := range slices.Sorted(maps.Keys(s.ticks)) {
		m.Ticks = append(m.Ticks, trigger.Tick{Rule: rule, At: s.ticks[rule]})
	}
	members := map[[2]string][]batcher.Batch{}
	for _, id := range slices.Sorted(maps.Keys(s.batches)) {
		b := s.batches[id]
		if b.Seq > s.cursors[b.Stream] {
			m.Ahead = append(m.Ahead, trigger.Ahead{Stream: b.Stream, Seq: b.Seq, Batch: id})
		}
		for _, d := range s.dispositions[id] {
			switch d.Fate {
			case trigger.FateHeld:
				m.Held[d.Rule] = append(m.Held[d.Rule], trigger.Held{Batch: clone(b), Reason: d.Reason, Key: d.Key, Sides: slices.Clone(d.Sides), At: d.At})
			case trigger.FateCoalesced:
				key := [2]string{d.Rule, d.Group}
				members[key] = append(members[key], clone(b))
			}
		}
	}
	slices.SortFunc(m.Ahead, func(a, b trigger.Ahead) int {
		return cmp.Or(cmp.Compare(a.Stream.String(), b.Stream.String()), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Batch, b.Batch))
	})
	for key, g := range s.groups {
		g.Batches = members[key]
		m.Groups = append(m.Groups, g)
	}
	slices.SortFunc(m.Groups, func(a, b trigger.Group) int { return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.ID, b.ID)) })
	return m, nil
}

// Load implements scheduler.Store.
func (s *Store) Load(context.Context) (*scheduler.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := &scheduler.Snapshot{}
	wanted := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(s.heads)) {
		snap.Heads = append(snap.Heads, s.heads[id])
		wanted[s.heads[id].Version] = true
	}
	for _, r := range s.byTime() {
		if r.State.Terminal() {
			if !r.NextDeadline().IsZero() {
				snap.Late = append(snap.Late, s.detail(r).Run)
			}
			continue
		}
		wanted[r.Version] = true
		d := s.detail(r)
		snap.Live = append(snap.Live, scheduler.LiveRun{Run: d.Run, Tasks: d.Tasks, Batches: d.Batches})
	}
	for _, v := range slices.Sorted(maps.Keys(s.versions)) {
		if wanted[v] {
			snap.Versions = append(snap.Versions, s.version(v))
		}
	}
	snap.Backfills = s.liveBackfills()
	s.late(snap)
	return snap, nil
}

func (s *Store) byTime() []scheduler.Run {
	runs := slices.Collect(maps.Values(s.runs))
	slices.SortFunc(runs, func(a, b scheduler.Run) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	return runs
}

func (s *Store) version(id string) scheduler.DAGVersion {
	v := s.versions[id]
	v.Canonical = bytes.Clone(v.Canonical)
	return v
}

func (s *Store) detail(r scheduler.Run) *scheduler.RunDetail {
	d := &scheduler.RunDetail{Run: keptRun(r)}
	for _, k := range s.tasks[r.ID].all() {
		d.Tasks = append(d.Tasks, keptTask(k))
	}
	for _, id := range r.Batches {
		if b, ok := s.batches[id]; ok {
			d.Batches = append(d.Batches, clone(b))
		}
	}
	return d
}

// Run implements scheduler.Store.
func (s *Store) Run(_ context.Context, id string) (*scheduler.RunDetail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runs[id]
	if !ok {
		return nil, fmt.Errorf("find run %q: %w", id, scheduler.ErrNotFound)
	}
	d := s.detail(r)
	for _, a := range s.attempts {
		if a.Run == id {
			d.Attempts = append(d.Attempts, a)
		}
	}
	slices.SortFunc(d.Attempts, func(a, b scheduler.Attempt) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Task, b.Task), cmp.Compare(a.MapIndex, b.MapIndex), cmp.Compare(a.Try, b.Try))
	})
	for _, m := range s.moves {
		if m.Run == id {
			d.Moves = append(d.Moves, m)
		}
	}
	return d, nil
}

// Batch implements scheduler.Store.
func (s *Store) Batch(_ context.Context, id string) (*scheduler.BatchDetail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.batches[id]
	if !ok {
		return nil, fmt.Errorf("find batch %q: %w", id, scheduler.ErrNotFound)
	}
	return &scheduler.BatchDetail{Batch: clone(b), Dispositions: slices.Clone(s.dispositions[id])}, nil
}

// Version implements scheduler.Store.
func (s *Store) Version(_ context.Context, version string) (*scheduler.DAGVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.versions[version]; !ok {
		return nil, fmt.Errorf("find version %q: %w", version, scheduler.ErrNotFound)
	}
	v := s.version(version)
	return &v, nil
}

// page keeps what is wanted, in order, up to limit, and reports whether there is more.
func page[T any](rows []T, limit int, want func(*T) bool) (out []T, more bool) {
	switch {
	case limit <= 0:
		limit = 100
	case limit > 1000:
		limit = 1000
	}
	for i := range rows {
		if !want(&rows[i]) {
			continue
		}
		if len(out) == limit {
			return out, true
		}
		out = append(out, rows[i])
	}
	return out, false
}

// Runs implements scheduler.Store.
func (s *Store) Runs(_ context.Context, q scheduler.RunQuery) ([]scheduler.Run, string, error) {
	at, err := cursorOf("runs", q.Before)
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := s.byTime()
	slices.Reverse(runs)
	out, more := page(runs, q.Limit, func(r *scheduler.Run) bool {
		return at.before(r.CreatedAt, r.ID) && (q.ID == "" || r.ID == q.ID) && (q.DAG == "" || r.DAG == q.DAG) && (q.State == "" || r.State == q.State) &&
			(q.Batch == "" || slices.Contains(r.Batches, q.Batch)) && (q.ReplayOf == "" || r.ReplayOf == q.ReplayOf) &&
			(q.Backfill == "" || r.Backfill == q.Backfill)
	})
	for i := range out {
		out[i] = keptRun(out[i])
	}
	if !more {
		return out, "", nil
	}
	last := out[len(out)-1]
	return out, strconv.FormatInt(micros(last.CreatedAt), 10) + "." + last.ID, nil
}

// cursor is where a page of what is listed by time begins; the zero cursor is before all.
type cursor struct {
	set bool
	at  int64
	id  string
}

func cursorOf(what, text string) (cursor, error) {
	if text == "" {
		return cursor{}, nil
	}
	us, id, ok := strings.Cut(text, ".")
	at, err := strconv.ParseInt(us, 10, 64)
	if !ok || err != nil {
		return cursor{}, fmt.Errorf("read %s before %q: %w: not a cursor", what, text, scheduler.ErrInvalid)
	}
	return cursor{true, at, id}, nil
}

// before reports whether a row comes after the cursor in the list, which has the newest first.
func (c cursor) before(at time.Time, id string) bool {
	return !c.set || cmp.Or(cmp.Compare(micros(at), c.at), cmp.Compare(id, c.id)) < 0
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Batches implements scheduler.Store.
func (s *Store) Batches(_ context.Context, q scheduler.BatchQuery) ([]batcher.Batch, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.batches))
	slices.SortFunc(all, func(a, b batcher.Batch) int { return cmp.Compare(b.ID, a.ID) })
	out, more := page(all, q.Limit, func(b *batcher.Batch) bool {
		return (q.Before == "" || b.ID < q.Before) && (q.Tenant == "" || b.Tenant == q.Tenant) && (q.Source == "" || b.Source == q.Source) &&
			(q.Stream.IsZero() || b.Stream == q.Stream && b.First <= q.Offset && q.Offset <= b.Last)
	})
	for i := range out {
		out[i] = clone(out[i])
	}
	if !more {
		return out, "", nil
	}
	return out, out[len(out)-1].ID, nil
}

// CountRuns returns how many runs there are by state.
func (s *Store) CountRuns(context.Context) (map[scheduler.State]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[scheduler.State]int64{}
	for _, r := range s.runs {
		out[r.State]++
	}
	return out, nil
}
