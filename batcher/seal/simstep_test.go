package seal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// newWorld decides a schedule's world from its seed.
func newWorld(seed uint64, p plan, share *metrics) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 7)), share: share, fragile: map[string]bool{}, records: map[int]*simRecord{},
		refused: map[string]bool{}, entries: map[string]int{}, decoded: map[string]*batcher.Entry{},
	}
	p.dir = w.rng.IntN(2) == 0
	p.clones = p.clones || w.rng.IntN(4) == 0
	p.retention = p.retention || w.rng.IntN(6) == 0
	if p.retention { // a topic, which has one incarnation
		p.dir, p.clones = false, false
	}
	p.refuse = p.refuse || w.rng.IntN(6) == 0
	p.steps = 150 + w.rng.IntN(300)
	w.plan = p
	w.store = memstore.New(memstore.Options{})
	w.view = w.store.View(func(_ memstore.Op, key string) memstore.Fault {
		if !p.world.lateLink {
			delete(w.fragile, key) // whoever reads a link in a directory makes it durable first
		}
		return memstore.None
	})
	w.chain = chain.New(w.view, chain.Options{PageSize: 4, PageAfter: 2})
	w.recon = newReconciler(w)
	w.addLog(memlog.New(memlog.Options{ID: "log", Manual: true}), nil)
	return w
}

func (w *world) addLog(l *memlog.Log, of *simLog) *simLog {
	s := &simLog{w: w, log: l, part: l.Partition(0), alias: map[ingest.Stream]ingest.Stream{}}
	if of != nil {
		for k, v := range of.alias {
			s.alias[k] = v
		}
	}
	w.logs = append(w.logs, s)
	return s
}

// step does one thing that the schedule's randomness picks.
func (w *world) step() {
	synctest.Wait()
	switch n := w.rng.IntN(1000); {
	case n < 130:
		w.write()
	case n < 200:
		w.sync(w.pickLog())
	case n < 215:
		if len(w.runs) > 0 {
			w.end(w.runs[w.rng.IntN(len(w.runs))], true)
		}
	case n < 260:
		w.staff()
	case n < 275:
		if len(w.runs) > 0 {
			r := w.runs[w.rng.IntN(len(w.runs))]
			r.paused = !r.paused
		}
	case n < 281 && !w.plan.retention:
		w.reopen(w.pickLog())
	case n < 283 && w.plan.clones && len(w.logs) < 3:
		w.clone(w.pickLog())
	case n < 290 && w.plan.retention:
		w.expire(w.pickLog())
	case n < 310:
		w.land()
	case n < 325:
		w.recon.step()
	case n < 345:
		w.recon.deliver()
	case n < 450:
		pass(time.Duration(1+w.rng.IntN(200)) * time.Millisecond)
	default:
		w.answer(true)
	}
}

// pickLog returns a log that is not gone.
func (w *world) pickLog() *simLog {
	for {
		if l := w.logs[w.rng.IntN(len(w.logs))]; !l.gone {
			return l
		}
	}
}

// write puts a few records into a log: of few lanes and few ids, with receive times that do not only rise.
func (w *world) write() {
	l := w.pickLog()
	for range 1 + w.rng.IntN(4) {
		w.uid++
		source := []string{"long", "short"}[w.rng.IntN(2)]
		lane := ingest.EventLane("default", source, ingest.KeyValue{Key: "k", Value: fmt.Sprint(w.rng.IntN(3))})
		id := ingest.DedupeID(source, fmt.Sprint(w.uid))
		if w.rng.IntN(3) == 0 {
			id = ingest.DedupeID(source, fmt.Sprint("again", w.rng.IntN(12)))
		}
		at := time.Now().Add(time.Duration(w.rng.IntN(6000)-3000) * time.Millisecond).UTC().Truncate(time.Microsecond)
		rec := ingest.Record{Lane: lane, Dedupe: id, ReceivedAt: at, Payload: fmt.Appendf(nil, `{"u":%d}`, w.uid)}
		receipt, err := l.log.Put([]ingest.Record{rec})
		if err != nil {
			w.fail("put: %w", err)
			return
		}
		r := &simRecord{
			uid: w.uid, lane: lane, id: id, at: at, log: l, stream: receipt[0].Stream, offset: receipt[0].First, stored: rec.AppendBinary(nil),
		}
		w.mu.Lock()
		l.loose = append(l.loose, r)
		w.mu.Unlock()
		w.note("put %d %s at %s/%d id %x", r.uid, lane, r.stream, r.offset, id[:2])
	}
	if w.rng.IntN(3) > 0 {
		w.sync(l)
	}
}

// sync makes a log durable; its records are acknowledged then.
func (w *world) sync(l *simLog) {
	l.log.Sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range l.loose {
		w.records[r.uid] = r
	}
	l.loose = nil
}

// staff starts a worker if there are fewer than three.
func (w *world) staff() {
	for slot := range 3 {
		if !slices.ContainsFunc(w.runs, func(r *simRun) bool { return r.slot == slot }) {
			w.begin(slot, w.pickLog())
			return
		}
	}
}

// reopen is the end of the process that writes the log, and perhaps of its machine's power. Workers of other processes go on.
func (w *world) reopen(l *simLog) {
	if w.rng.IntN(2) == 0 {
		for _, r := range slices.Clone(w.runs) {
			if r.log == l {
				w.end(r, true)
			}
		}
		if w.plan.dir {
			w.loseLinks()
		}
	}
	before := l.part.Incarnations()
	l.log.Crash(w.rng)
	w.mu.Lock()
	_, next, _ := l.part.Bounds(context.Background())
	for _, r := range l.loose {
		if r.offset < next { // survived, though nobody was told
			w.records[r.uid] = r
		}
	}
	l.loose = nil
	w.mu.Unlock()
	w.rename(l, before[len(before)-1].Stream)
	w.note("reopen log %d at %d", slices.Index(w.logs, l), next)
}

// rename lets a new incarnation pass for the one before, as the mutant sameWriter does where the log's end is not behind the chain.
func (w *world) rename(l *simLog, before ingest.Stream) {
	if !w.plan.world.sameWriter {
		return
	}
	if s, ok := l.alias[before]; ok {
		before = s
	}
	_, next, _ := l.part.Bounds(context.Background())
	if tail, err := w.chain.Tail(context.Background(), before, 0); err == nil && skipOf(&tail) > next {
		return
	}
	incs := l.part.Incarnations()
	w.mu.Lock()
	defer w.mu.Unlock()
	l.alias[incs[len(incs)-1].Stream] = before
}

// loseLinks is what a power cut does to a directory.
func (w *world) loseLinks() {
	for _, key := range sortedKeys(w.fragile) {
		if w.rng.IntN(2) == 0 {
			w.note("lost link %s", key)
			w.store.Delete(key)
			delete(w.decoded, key)
		}
	}
	clear(w.fragile)
}

// clone copies a log's disk. The original may go on, or be gone from now on.
func (w *world) clone(l *simLog) {
	incs := l.part.Incarnations()
	c := w.addLog(l.log.Clone(), l)
	for _, uid := range sortedInts(w.records) {
		if r := w.records[uid]; l.had(r) {
			c.inherited = append(c.inherited, r)
		}
	}
	w.rename(c, incs[len(incs)-1].Stream)
	w.note("clone log %d as %d", slices.Index(w.logs, l), len(w.logs)-1)
	if w.rng.IntN(2) == 0 {
		w.abandon(l)
	}
}

// abandon loses the disk of a log, with all who work on it.
func (w *world) abandon(l *simLog) {
	for _, r := range slices.Clone(w.runs) {
		if r.log == l {
			w.end(r, true)
		}
	}
	l.gone = true
	w.note("log %d is gone", slices.Index(w.logs, l))
}

// expire deletes the oldest records of a log, whoever still needs them.
func (w *world) expire(l *simLog) {
	low, next, _ := l.part.Bounds(context.Background())
	to := low + w.rng.Int64N(max(next-low, 0)+1)
	for _, inc := range l.part.Incarnations() {
		end := to
		if !inc.Live() {
			end = min(to, inc.Next-1) // the log still knows of it
		}
		if err := l.part.Trim(context.Background(), inc.Stream, end); err != nil {
			w.fail("expire: %w", err)
		}
	}
	w.note("expire log %d below %d", slices.Index(w.logs, l), to)
}

// land lets a put that is on its way arrive.
func (w *world) land() {
	keys := w.store.LateKeys()
	if len(keys) == 0 {
		return
	}
	i := w.rng.IntN(len(keys))
	w.note("land %s: %v", keys[i], w.store.Land(i))
	w.checkPut(keys[i])
}

// answer lets one waiting call go, or time pass if there is none.
func (w *world) answer(faults bool) {
	c := w.take(w.rng.IntN)
	if c == nil {
		pass(time.Duration(1+w.rng.IntN(100)) * time.Millisecond)
		return
	}
	f, crash := memstore.None, false
	if faults {
		switch n := w.rng.IntN(100); {
		case n < 6:
			f = memstore.Drop
		case n < 12:
			f = memstore.Lose
		case n < 15 && c.put():
			f = w.late()
		case n < 17:
			f, crash = []memstore.Fault{memstore.None, memstore.Drop, memstore.Lose}[w.rng.IntN(3)], true
		}
		if c.op != "put" && c.op != "log-trim" && c.op != "log-hint" && f == memstore.Lose {
			f = memstore.Drop
		}
		if w.plan.refuse && c.put() && w.rng.IntN(40) == 0 && isObject(c.key) {
			w.refused[c.key] = true
		}
	}
	w.letGo(c, f)
	synctest.Wait()
	if c.put() {
		w.checkPut(c.key)
	}
	if crash && !c.run.dead {
		w.end(c.run, true)
	}
}

// heal ends all faults and lets the workers finish. What needs an operator gets one, if it was the schedule's doing.
func (w *world) heal() {
	for len(w.store.LateKeys()) > 0 {
		w.land()
	}
	for _, l := range w.logs {
		if l.gone {
			continue
		}
		w.sync(l)
		if !slices.ContainsFunc(w.runs, func(r *simRun) bool { return r.log == l }) {
			w.begin(3, l)
		}
	}
	for _, r := range w.runs {
		r.paused = false
	}
	quiet, keys := 0, 0
	for turns := 0; quiet < 14; turns++ {
		if w.failed() != nil {
			return
		}
		if turns > 1000 {
			w.fail("the workers never come to rest: %s", w.where())
			return
		}
		w.drain()
		pass(500 * time.Millisecond)
		if n := len(w.store.Keys()); n != keys {
			keys, quiet = n, 0
			continue
		}
		if quiet++; quiet == 10 && w.operator() {
			quiet = 0
		}
	}
}

// drain lets all calls go until nobody calls.
func (w *world) drain() {
	for range 5000 {
		synctest.Wait()
		c := w.take(w.rng.IntN)
		if c == nil {
			return
		}
		w.letGo(c, memstore.None)
		synctest.Wait()
		if c.put() {
			w.checkPut(c.key)
		}
		if w.failed() != nil {
			return
		}
	}
	w.fail("the workers call without end: %s", w.where())
}

// operator accepts losses that workers wait for, if the schedule lost something.
func (w *world) operator() (did bool) {
	for _, r := range w.runs {
		for _, s := range r.w.Status() {
			if s.Stuck == "" || s.Loss == nil {
				continue
			}
			if !w.plan.retention && !slices.ContainsFunc(w.logs, func(l *simLog) bool { return l.gone }) {
				w.fail("run %d is stuck, and nothing was lost: %s (%v)", r.id, s.Stuck, *s.Loss)
				return false
			}
			w.note("accept loss of %v of %s", *s.Loss, s.Stream)
			w.accepted = true
			if err := AcceptLoss(context.Background(), w.view, s.Stream, *s.Loss, "simulation"); err != nil {
				w.fail("accept loss: %w", err)
			}
			did = true
		}
	}
	return did
}

// where says what the workers that are left are doing.
func (w *world) where() string {
	var parts []error
	for _, r := range w.runs {
		parts = append(parts, fmt.Errorf("run %d: %+v", r.id, r.w.Status()))
	}
	return errors.Join(parts...).Error()
}

// schedule runs one schedule and returns what it violates, or nil.
func schedule(seed uint64, p plan, share *metrics) (*world, error) {
	w := newWorld(seed, p, share)
	pass(time.Duration(w.rng.IntN(3600)) * time.Second) // some schedules see a new hour begin
	for i := 0; i < w.plan.steps && w.failed() == nil; i++ {
		w.step()
	}
	if w.failed() == nil {
		w.heal()
	}
	if w.failed() == nil {
		w.checkRest()
	}
	for len(w.runs) > 0 {
		w.end(w.runs[0], false)
	}
	if w.failed() == nil {
		w.check()
	}
	return w, w.failed()
}

func isObject(key string) bool {
	_, err := ingest.ParseLane(key[:max(0, indexOf(key, "/dt="))])
	return err == nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

var _ = batcher.ErrExists
