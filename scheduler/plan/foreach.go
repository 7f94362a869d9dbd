package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// A task with foreach is a whole and its mapped tasks. The whole has the task's place among [Run.Tasks]: joins, children, clears and the end of the
// run look at it as at any other task. When it is ready it takes no slot: [Expand] makes its list of items, it is deferred, and a row for each item
// is added after the DAG's own. A row waits as `none` until max_concurrent lets it be scheduled, and is a task like any other from there on. When
// all of them have ended, the whole ends.
//
// Nothing that happens to one row costs more if there are more of them: the whole counts its rows by what they are doing, where their states
// change and nowhere else, and knows below which index none waits.
//
// Rows are made in portions, so that no transaction is large. The list is frozen by its digest, which is stored with the first portion: after a
// restart the same list is made again, from inputs that do not change, or the task fails. A row has its item stored with it.

// Expand makes the list of a mapped task that is ready, and adds rows for its items, or adds more of them: at most Most in one step.
type Expand struct{ Task, Most int }

// whole is what is in memory of a mapped task besides its row.
type whole struct {
	// rows has the index in Run.Tasks for each map index. Those from Map.Count on are removed: an earlier list was longer.
	rows []int
	// pending are the items that have no row yet, nil if they are to be made again.
	pending []json.RawMessage
	// next is a map index below which no row waits.
	next int
	tally
}

// tally counts rows by what they are doing.
type tally struct {
	waiting                            int // for max_concurrent
	ready                              int // for a slot, a time or a person
	active                             int // an attempt or what it started may be under way
	success, failed, skipped, canceled int
	removed                            int
}

func (y *tally) of(s scheduler.State) *int {
	switch s {
	case scheduler.StateNone:
		return &y.waiting
	case scheduler.StateSuccess:
		return &y.success
	case scheduler.StateFailed:
		return &y.failed
	case scheduler.StateSkipped:
		return &y.skipped
	case scheduler.StateCancelled, scheduler.StateUpstreamFailed:
		return &y.canceled
	case scheduler.StateRemoved:
		return &y.removed
	}
	if s.UnderWay() {
		return &y.active
	}
	return &y.ready
}

// node returns the index in the DAG of the task that row i is of.
func (r *Run) node(i int) int {
	if own := len(r.DAG.nodes); i >= own {
		return r.owners[i-own]
	}
	return i
}

// Spec returns the task of the DAG that row i is of.
func (r *Run) Spec(i int) *scheduler.Task { return &r.DAG.Tasks[r.node(i)] }

// Whole reports whether row i stands for mapped tasks: it is to be expanded when it is ready, and takes no slot.
func (r *Run) Whole(i int) bool { return i < len(r.DAG.nodes) && r.DAG.nodes[i].items != nil }

// Parks returns the state in which row i waits without a slot as soon as it is ready, or "" if an executor runs it, or it is expanded.
func (r *Run) Parks(i int) scheduler.State {
	if r.Whole(i) {
		return ""
	}
	return r.DAG.Parks(r.node(i))
}

// WholeOf returns the row of the whole that row i belongs to, and whether there is one.
func (r *Run) WholeOf(i int) (int, bool) {
	if i < len(r.DAG.nodes) {
		return 0, false
	}
	return r.node(i), true
}

// Unmade returns how many rows a whole still is to be given.
func (r *Run) Unmade(i int) int {
	t := &r.Tasks[i]
	if !r.Whole(i) || t.State != scheduler.StateDeferred || t.Map == nil || r.stopping(i) {
		return 0
	}
	return t.Map.Count - t.Map.Made
}

// Rows returns the rows of a whole, by map index; not to be changed.
func (r *Run) Rows(i int) []int {
	if w := r.wholes[i]; w != nil {
		return w.rows
	}
	return nil
}

// Progress counts the rows of a whole.
type Progress struct{ Waiting, Ready, Active, Success, Failed, Skipped, Cancelled int }

// Progress returns what the rows of whole i are doing. It does not look at them.
func (r *Run) Progress(i int) Progress {
	w := r.wholes[i]
	if w == nil {
		return Progress{}
	}
	return Progress{Waiting: w.waiting, Ready: w.ready, Active: w.active, Success: w.success, Failed: w.failed, Skipped: w.skipped, Cancelled: w.canceled}
}

// stopping reports whether a person, or a fault, has ended whole i, so that nothing more of it is made or started.
func (r *Run) stopping(i int) bool {
	return r.Tasks[i].Kill != "" || r.Row.Reason != "" && !r.Row.State.Terminal()
}

// over says that more items of whole i failed than it tolerates, or "".
func (r *Run) over(i int) string {
	w, f, m := r.wholes[i], r.DAG.Tasks[i].Foreach, r.Tasks[i].Map
	if m == nil || w.failed <= f.Tolerance(m.Count) {
		return ""
	}
	if n := f.Tolerance(m.Count); n > 0 {
		return fmt.Sprintf("%d of its %d items failed, and %d are tolerated", w.failed, m.Count, n)
	}
	return fmt.Sprintf("%d of its %d items failed", w.failed, m.Count)
}

// wholeOf returns the memory of whole i, which is made when it is first needed.
func (r *Run) wholeOf(i int) *whole {
	w := r.wholes[i]
	if w == nil {
		if r.wholes == nil {
			r.wholes = map[int]*whole{}
		}
		w = &whole{}
		r.wholes[i] = w
	}
	return w
}

// addRow appends a row of whole i.
func (r *Run) addRow(i int, t scheduler.TaskRun) int {
	at := len(r.Tasks)
	w := r.wholeOf(i)
	r.Tasks, r.owners = append(r.Tasks, t), append(r.owners, i)
	r.begun = append(r.begun, time.Time{})
	w.rows = append(w.rows, at)
	*w.of(t.State)++
	if !t.State.Terminal() {
		r.open++
	}
	return at
}

// reserve makes room for n rows of whole i at once, rather than by doubling.
func (r *Run) reserve(i, n int) {
	w := r.wholeOf(i)
	if n -= len(w.rows); n > 0 {
		w.rows, r.Tasks, r.owners = slices.Grow(w.rows, n), slices.Grow(r.Tasks, n), slices.Grow(r.owners, n)
		r.begun = slices.Grow(r.begun, n)
	}
}

// restoreRows takes over the stored rows of mapped tasks.
func (r *Run) restoreRows(rows []*scheduler.TaskRun) error {
	slices.SortStableFunc(rows, func(a, b *scheduler.TaskRun) int { return a.MapIndex - b.MapIndex })
	r.Tasks, r.owners, r.begun = slices.Grow(r.Tasks, len(rows)), slices.Grow(r.owners, len(rows)), slices.Grow(r.begun, len(rows))
	index := make(map[string]int, len(r.DAG.Tasks))
	for i := range r.DAG.Tasks {
		index[r.DAG.Tasks[i].ID] = i
	}
	for k := range rows {
		i, known := index[rows[k].Task]
		if !known || !r.Whole(i) || len(r.wholeOf(i).rows) != rows[k].MapIndex || rows[k].Item == nil {
			return fmt.Errorf("restore run %s: task %s is stored, and does not fit its DAG", r.Row.ID, rows[k].ID())
		}
		r.addRow(i, *rows[k])
	}
	return nil
}

// count keeps the tally of a whole whose row changed.
func (s *step) count(i int, from, to scheduler.State) {
	own, mapped := s.WholeOf(i)
	if !mapped {
		return
	}
	w := s.wholes[own]
	*w.of(from)--
	*w.of(to)++
	if to == scheduler.StateNone {
		w.next = min(w.next, s.Tasks[i].MapIndex)
	}
	s.tendLater(own)
}

func (s *step) tendLater(i int) {
	if !slices.Contains(s.tending, i) { // there are no more of these than the DAG has tasks with foreach
		s.tending = append(s.tending, i)
	}
}

// tendAll starts what can start of the mapped tasks that changed, and ends the wholes that are done.
func (s *step) tendAll() {
	for len(s.tending) > 0 {
		i := s.tending[0]
		s.tending = s.tending[1:]
		s.tend(i)
	}
}

func (s *step) tend(i int) {
	t, w := &s.Tasks[i], s.wholes[i]
	if t.State != scheduler.StateDeferred || w == nil {
		return
	}
	most := s.DAG.Tasks[i].Foreach.MaxConcurrent
	if most == 0 {
		most = scheduler.MaxItems
	}
	for w.waiting+w.ready > 0 {
		if s.stopping(i) {
			s.cancelRest(i, wordNotStarted+sentence(t.Kill, s.Row.Reason))
			break
		}
		if why := s.over(i); why != "" {
			s.cancelRest(i, wordNotStarted+why)
			break
		}
		if w.waiting == 0 || w.ready+w.active >= most {
			break
		}
		for s.Tasks[w.rows[w.next]].State != scheduler.StateNone {
			w.next++
		}
		s.admitItem(w.rows[w.next])
	}
	if w.waiting+w.ready+w.active == 0 && s.Unmade(i) == 0 {
		s.endWhole(i)
	}
}

// cancelRest cancels the rows of which nothing is under way.
func (s *step) cancelRest(i int, why string) {
	for _, row := range s.wholes[i].rows {
		if st := s.Tasks[row].State; !st.Terminal() && !st.UnderWay() {
			s.withdraw(row, why)
			s.Tasks[row].RetryAt = time.Time{}
			s.move(row, scheduler.StateCancelled, why)
		}
	}
}

// admitItem lets one mapped task wait for its slot, unless its own condition is against it.
func (s *step) admitItem(row int) {
	when := s.DAG.nodes[s.node(row)].when
	if when == nil || !when.UsesItem() {
		s.move(row, scheduler.StateScheduled, "")
		return
	}
	s.ask(row, when)
}

// apply expands a whole.
func (e Expand) apply(s *step) {
	i := e.Task
	if !s.Whole(i) {
		return
	}
	t := &s.Tasks[i]
	switch {
	case t.State == scheduler.StateScheduled:
		if !s.spread(i) {
			return
		}
	case s.Unmade(i) == 0:
		return
	}
	s.make(i, e.Most)
}

// spread makes the list of a whole that is ready, and reports whether there is something to be made of it.
func (s *step) spread(i int) bool {
	t := &s.Tasks[i]
	items, err := s.items(i)
	if err != nil {
		s.move(i, scheduler.StateFailed, "foreach: "+err.Error())
		return false
	}
	if s.Row.State == scheduler.StateQueued {
		s.begin()
	}
	t.StartedAt, t.EndedAt = s.now, time.Time{}
	t.Map = &scheduler.Mapping{Count: len(items), Digest: digest(items)}
	s.move(i, scheduler.StateDeferred, "")
	if len(items) == 0 {
		s.move(i, scheduler.StateSkipped, "foreach has no items")
		return false
	}
	s.reserve(i, len(items))
	w := s.wholes[i]
	w.pending, w.next = items, 0
	return true
}

// items evaluates the list of whole i.
func (r *Run) items(i int) ([]json.RawMessage, error) {
	prg := r.DAG.nodes[i].items
	vars, err := r.vars(prg.Refs())
	if err != nil {
		return nil, err
	}
	return prg.Items(vars, scheduler.MaxItems)
}

func digest(items []json.RawMessage) string {
	h := sha256.New()
	var size [8]byte
	for _, item := range items {
		binary.LittleEndian.PutUint64(size[:], uint64(len(item)))
		h.Write(size[:])
		h.Write(item)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// make adds the next rows of a whole.
func (s *step) make(i, most int) {
	t, w := &s.Tasks[i], s.wholes[i]
	s.tendLater(i)
	m := *t.Map // rows that were stored share the old one
	t.Map = &m
	s.touch(i)
	if len(w.pending) == 0 {
		items, err := s.items(i)
		if err != nil || digest(items) != m.Digest {
			t.Kill = "its items are not those that it was started with: the output that they come from has changed" // then nothing more of it starts
			return
		}
		s.reserve(i, len(items))
		w, w.pending = s.wholes[i], items[m.Made:]
	}
	n := min(most, len(w.pending))
	key := s.keys(i)
	for _, item := range w.pending[:n] {
		k, err := key(item, m.Made)
		s.makeRow(i, m.Made, &scheduler.Item{Value: item, Key: k}, err)
		m.Made++
	}
	if w.pending = w.pending[n:]; len(w.pending) == 0 {
		w.pending = nil
	}
}

// makeRow gives item k of a whole a row, that of an earlier list if there is one. fault is why the item has no key.
func (s *step) makeRow(i, k int, item *scheduler.Item, fault error) {
	w := s.wholes[i]
	row := 0
	if k < len(w.rows) {
		row = w.rows[k]
		s.Tasks[row].Item, s.Tasks[row].NoCache = item, s.Tasks[i].NoCache
		s.open++
		s.override(row, scheduler.StateNone, "item of a new list")
	} else {
		t := &s.Tasks[i]
		row = s.addRow(i, scheduler.TaskRun{
			Run: t.Run, Task: t.Task, MapIndex: k, State: scheduler.StateNone, Executor: t.Executor, Exit: noExit, Item: item, NoCache: t.NoCache,
		})
		s.touch(row)
	}
	if fault != nil {
		s.move(row, scheduler.StateScheduled, "")
		s.move(row, scheduler.StateFailed, "key: "+fault.Error())
	}
}

// keys returns what names the items of whole i.
func (s *step) keys(i int) func(item json.RawMessage, k int) (string, error) {
	prg := s.DAG.nodes[i].key
	if prg == nil {
		return func(json.RawMessage, int) (string, error) { return "", nil }
	}
	f, count := s.DAG.Tasks[i].Foreach, s.Tasks[i].Map.Count
	vars, err := s.vars(prg.Refs())
	return func(item json.RawMessage, k int) (string, error) {
		if err != nil {
			return "", err
		}
		if err := vars.SetItem(f.Name(), item, k, count, ""); err != nil {
			return "", err
		}
		key, err := prg.String(vars)
		if err == nil && len(key) > scheduler.MaxMapKey {
			err = fmt.Errorf("it has %d bytes, and %d is the limit", len(key), scheduler.MaxMapKey)
		}
		return key, err
	}
}

// endWhole ends a whole whose rows have all ended.
func (s *step) endWhole(i int) {
	t := &s.Tasks[i]
	if s.stopping(i) {
		state, ordered := wish(t.Kill)
		switch {
		case ordered && state == scheduler.StateNone:
			s.reset(i, t.Kill)
			s.settle(i)
			return
		case ordered:
			s.closeWhole(i, state, t.Kill)
			return
		case t.Kill != "" && t.Kill != KillCancelled:
			s.closeWhole(i, scheduler.StateFailed, t.Kill)
			return
		}
		s.closeWhole(i, scheduler.StateCancelled, s.Row.Reason)
		return
	}
	w := s.wholes[i]
	switch why := s.over(i); {
	case why != "":
		s.closeWhole(i, scheduler.StateFailed, why)
	case w.canceled > 0:
		s.closeWhole(i, scheduler.StateCancelled, fmt.Sprintf("%d of its %d items were cancelled", w.canceled, t.Map.Count))
	case w.skipped == t.Map.Count:
		s.closeWhole(i, scheduler.StateSkipped, "every item was skipped")
	default:
		s.succeed(i)
	}
}

// succeed ends a whole well, with the list of what its items have put out.
func (s *step) succeed(i int) {
	w, t := s.wholes[i], &s.Tasks[i]
	m := *t.Map
	t.Output, m.Far, m.Large = s.outputs(i)
	t.Map = &m
	why := ""
	if w.failed > 0 {
		why = fmt.Sprintf("%d of its %d items failed, which is tolerated", w.failed, m.Count)
	}
	if m.Large > 0 {
		why = strings.TrimPrefix(why+"; ", "; ") + saysLarge(m.Large)
	}
	s.closeWhole(i, scheduler.StateSuccess, why)
}

func (s *step) closeWhole(i int, state scheduler.State, why string) {
	t, w := &s.Tasks[i], s.wholes[i]
	m := *t.Map
	m.Succeeded, m.Failed, m.Skipped, m.Cancelled = w.success, w.failed, w.skipped, w.canceled
	t.Map, t.EndedAt = &m, s.now
	w.pending = nil
	s.move(i, state, why)
}

// outputs is the list of the outputs of the rows in the order of their items, with null for those that have none, or have it in the object store:
// far counts these. It is nil if none has one, or if the list is too large.
func (s *step) outputs(i int) (list json.RawMessage, far, large int) {
	size, some := 1, false
	for _, row := range s.live(i) {
		n := len(s.Tasks[row].Output)
		some = some || n > 0
		if s.Tasks[row].OutputRef != nil {
			far++
		}
		size += max(n, len("null")) + 1
	}
	if !some {
		return nil, far, 0
	}
	if size > scheduler.MaxOutput {
		return nil, far, size
	}
	return listOf(s.near(s.live(i))), far, 0
}

// live returns the rows of whole i that its present list has.
func (s *step) live(i int) []int {
	m := s.Tasks[i].Map
	if m == nil {
		return nil
	}
	rows := s.wholes[i].rows
	return rows[:min(len(rows), m.Made)]
}

// setItem sets the item of row i, if it has one, for the expressions of its task.
func (r *Run) setItem(vars *expr.Vars, i int) error {
	own, mapped := r.WholeOf(i)
	if !mapped {
		return nil
	}
	t := &r.Tasks[i]
	return vars.SetItem(r.DAG.Tasks[own].Foreach.Name(), t.Item.Value, t.MapIndex, r.mapCount(own), t.Item.Key)
}

func (r *Run) mapCount(own int) int {
	if m := r.Tasks[own].Map; m != nil {
		return m.Count
	}
	return 0
}

// farItems adds the outputs of the items of whole i that are in the object store to the input of a task that comes after it.
func (r *Run) farItems(in *scheduler.Input, i int) {
	if m := r.Tasks[i].Map; m == nil || m.Far == 0 {
		return
	}
	for _, row := range r.Rows(i) {
		if t := &r.Tasks[row]; t.OutputRef != nil && t.State == scheduler.StateSuccess {
			if in.UpstreamRefs == nil {
				in.UpstreamRefs = map[string]scheduler.UpstreamRef{}
			}
			in.UpstreamRefs[scheduler.TaskName(t.Task, t.MapIndex)] = scheduler.UpstreamRef{OutputRef: *t.OutputRef}
		}
	}
}

// freezeItem adds its item to the input of row i, if it has one.
func (r *Run) freezeItem(in *scheduler.Input, i int) {
	if own, mapped := r.WholeOf(i); mapped {
		t := &r.Tasks[i]
		in.Item = t.Item.Value
		in.Map = &scheduler.InputMap{Index: t.MapIndex, Count: r.mapCount(own), Key: t.Item.Key}
	}
}
