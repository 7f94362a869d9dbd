package seal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/encode"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// world is what a schedule of the simulation runs in: one store, one log and perhaps a copy of it, and up to three workers at a time. Every
// call that a worker makes of them waits until the schedule lets it go, with the outcome that the schedule chose.
type world struct {
	rng   *rand.Rand
	plan  plan
	store *memstore.Store
	view  *memstore.Store // without faults, for the schedule itself
	chain *chain.Reader
	logs  []*simLog
	runs  []*simRun // alive ones
	born  int
	share *metrics

	mu      sync.Mutex // guards what workers touch
	pending []*call
	bus     []batcher.Batch
	fault   error
	trace   []string

	fragile  map[string]bool // links that a power cut would take
	uid      int
	records  map[int]*simRecord
	refused  map[string]bool // objects that the store refuses for good
	accepted bool            // an operator accepted a loss
	recon    reconciler
	entries  map[string]int // entries that were checked when they were put, by stream
	decoded  map[string]*batcher.Entry
}

// plan is what a schedule's seed decides about its world, and what a mutant changes in it.
type plan struct {
	dir, clones, retention, refuse bool
	steps                          int
	mut                            mutants
	world                          worldMutants
}

// worldMutants are misreadings that are not the worker's.
type worldMutants struct {
	unsynced      bool // records are read before they are durable
	lateLink      bool // a link is acted on before it is durable
	reconcileTail bool // the reconciler reads up to the tail
	sameWriter    bool // a new incarnation is begun only if the log's end is behind the chain
	laneOf        bool // the lane is computed from the worker's configuration
}

// simRecord is one record that was put into a log.
type simRecord struct {
	uid    int
	lane   ingest.Lane
	id     [16]byte
	at     time.Time
	log    *simLog
	stream ingest.Stream
	offset int64
	stored []byte
}

// simLog is a log and what the schedule knows of it.
type simLog struct {
	w    *world
	log  *memlog.Log
	part *memlog.Partition
	gone bool // its disk is lost; nobody will ever read it again
	// loose are records that are not durable yet.
	loose []*simRecord
	// inherited are the records that the log had when it was copied, and alias the streams that are taken for others
	inherited []*simRecord
	alias     map[ingest.Stream]ingest.Stream // of the mutant sameWriter
}

// simRun is one life of a worker.
type simRun struct {
	id     int
	slot   int
	log    *simLog
	w      *Worker
	cancel context.CancelFunc
	done   chan error
	dead   bool
	paused bool
	told   map[string]bool // objects that the store refused to take from this run
}

// call is one operation of a worker that waits for its outcome.
type call struct {
	run    *simRun
	op     string
	key    string
	answer chan memstore.Fault
}

func (c *call) put() bool { return c.op == "put" }

// gate makes a worker wait until the schedule lets its call go.
func (w *world) gate(r *simRun, op, key string) memstore.Fault {
	c := &call{run: r, op: op, key: key, answer: make(chan memstore.Fault, 1)}
	w.mu.Lock()
	if r.dead {
		w.mu.Unlock()
		return memstore.Drop
	}
	w.pending = append(w.pending, c)
	w.mu.Unlock()
	return <-c.answer
}

// take removes and returns a waiting call, or nil: one of the workers that are not paused, in an order that depends on nothing but them.
func (w *world) take(pick func(n int) int) *call {
	w.mu.Lock()
	defer w.mu.Unlock()
	free := make([]*call, 0, len(w.pending))
	for _, c := range w.pending {
		if !c.run.paused {
			free = append(free, c)
		}
	}
	if len(free) == 0 {
		return nil
	}
	slices.SortFunc(free, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.run.id, b.run.id), cmp.Compare(a.op, b.op), cmp.Compare(a.key, b.key))
	})
	c := free[pick(len(free))]
	w.pending = slices.DeleteFunc(w.pending, func(x *call) bool { return x == c })
	return c
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == nil {
		w.fault = fmt.Errorf(format, args...)
	}
}

func (w *world) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fault
}

const maxTrace = 4000

func (w *world) note(format string, args ...any) {
	if traceOn && len(w.trace) < maxTrace {
		w.trace = append(w.trace, fmt.Sprintf(format, args...))
	}
}

// simPart is a partition as one run sees it.
type simPart struct {
	*memlog.Partition
	w   *world
	log *simLog
	run *simRun
}

func (p *simPart) fault(op string) error {
	if p.w.gate(p.run, op, "") != memstore.None {
		return fmt.Errorf("%s: %w", op, ingest.ErrUnavailable)
	}
	return nil
}

func (p *simPart) Incarnations() []ingest.Incarnation {
	incs := p.Partition.Incarnations()
	if !p.w.plan.world.sameWriter {
		return incs
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	var merged []ingest.Incarnation
	for _, inc := range incs {
		if s, ok := p.log.alias[inc.Stream]; ok {
			inc.Stream = s
		}
		if n := len(merged); n > 0 && merged[n-1].Stream == inc.Stream {
			merged[n-1].Next = inc.Next
			continue
		}
		merged = append(merged, inc)
	}
	return merged
}

// real returns the streams of the log that the worker knows as s.
func (p *simPart) real(s ingest.Stream) []ingest.Stream {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	list := []ingest.Stream{s}
	for inc, name := range p.log.alias {
		if name == s {
			list = append(list, inc)
		}
	}
	return list
}

func (p *simPart) Read(ctx context.Context, from int64, maxBytes int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	if err := p.fault("log-read"); err != nil {
		return buf[:0], from, err
	}
	recs, next, err := p.Partition.Read(ctx, from, maxBytes, buf)
	if err == nil && len(recs) == 0 && next == from && p.w.plan.world.unsynced {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		for _, r := range p.log.loose {
			if r.offset >= from {
				recs, next = append(recs, ingest.Stored{Offset: r.offset, Bytes: r.stored}), r.offset+1
			}
		}
	}
	return recs, next, err
}

// Wait looks again now and then if it may see what nobody announces.
func (p *simPart) Wait(ctx context.Context, from int64) error {
	if !p.w.plan.world.unsynced {
		return p.Partition.Wait(ctx, from)
	}
	return sleep(ctx, 50*time.Millisecond)
}

func (p *simPart) Trim(ctx context.Context, s ingest.Stream, low int64) error {
	f := p.w.gate(p.run, "log-trim", "")
	if f == memstore.None || f == memstore.Lose {
		for _, s := range p.real(s) {
			if err := p.Partition.Trim(ctx, s, low); err != nil {
				return err
			}
		}
	}
	if f != memstore.None {
		return fmt.Errorf("trim: %w", ingest.ErrUnavailable)
	}
	return nil
}

func (p *simPart) SaveHint(ctx context.Context, s ingest.Stream, h ingest.ChainHint) error {
	f := p.w.gate(p.run, "log-hint", "")
	if f == memstore.None || f == memstore.Lose {
		if err := p.Partition.SaveHint(ctx, s, h); err != nil {
			return err
		}
	}
	if f != memstore.None {
		return fmt.Errorf("save hint: %w", ingest.ErrUnavailable)
	}
	return nil
}

// Announce takes the news of a run; the batch's object must exist.
func (r *simRun) Announce(_ context.Context, b batcher.Batch) {
	w := r.log.w
	if w.view.Body(b.Key) == nil {
		w.fail("batch %s of entry %d is announced, and has no object", b.ID, b.Seq)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bus = append(w.bus, b)
}

// simObject is an encoder that costs nothing: a byte for its version, then 4 bytes for each row.
type simObject struct {
	version byte
	body    []byte
	facts   batcher.Facts
}

func newSimObject(version byte) func(string, ingest.Stream) (object, error) {
	return func(codec string, _ ingest.Stream) (object, error) {
		if codec != "ndjson.gz" && codec != "ndjson.zst" {
			return nil, fmt.Errorf("codec %q: %w", codec, batcher.ErrUnknownVersion)
		}
		return &simObject{version: version, body: []byte{version}}, nil
	}
}

func (o *simObject) Add(_ int64, r *ingest.Record) {
	o.body = binary.LittleEndian.AppendUint32(o.body, uint32(uidOf(r.Payload)))
	f := &o.facts
	if f.Rows == 0 || r.ReceivedAt.Before(f.ReceivedMin) {
		f.ReceivedMin = r.ReceivedAt
	}
	if f.Rows == 0 || r.ReceivedAt.After(f.ReceivedMax) {
		f.ReceivedMax = r.ReceivedAt
	}
	f.Rows++
	f.RawBytes += int64(len(r.Payload))
}

func (o *simObject) Close() ([]byte, batcher.Facts) {
	o.facts.Bytes, o.facts.Checksum = int64(len(o.body)), encode.Checksum(o.body)
	return o.body, o.facts
}

// uidOf reads the number of a payload `{"u":<number>}`.
func uidOf(payload []byte) (n int) {
	for _, c := range bytes.TrimSuffix(bytes.TrimPrefix(payload, []byte(`{"u":`)), []byte("}")) {
		n = n*10 + int(c-'0')
	}
	return n
}

// uidsIn returns the rows of an object.
func uidsIn(body []byte) (uids []int) {
	for b := body[1:]; len(b) >= 4; b = b[4:] {
		uids = append(uids, int(binary.LittleEndian.Uint32(b)))
	}
	return uids
}

// begin starts a worker on a log.
func (w *world) begin(slot int, l *simLog) {
	w.born++
	r := &simRun{id: w.born, slot: slot, log: l, done: make(chan error, 1), told: map[string]bool{}}
	view := w.store.View(func(op memstore.Op, key string) memstore.Fault { return w.gate(r, string(op), key) })
	cfg := w.config()
	opts := Options{
		Index: 1 << 20, Memory: 1 << 30, Window: time.Hour, Uploads: 1 + w.rng.IntN(3), Rand: rand.New(rand.NewPCG(w.rng.Uint64(), 1)),
		Spacing: []time.Duration{20 * time.Millisecond, 100 * time.Millisecond}[w.rng.IntN(2)],
	}
	r.w = newWorker(view, cfg, r, opts, w.share)
	r.w.opts.Memory, r.w.opts.Hold = 1<<(11+w.rng.IntN(20)), 1<<(8+w.rng.IntN(20))
	r.w.newObject = newSimObject(byte(w.rng.IntN(2)))
	r.w.mut = w.plan.mut
	if w.plan.world.laneOf {
		name := fmt.Sprint(w.rng.IntN(2))
		r.w.mut.laneOf = func(rec *ingest.Record) ingest.Lane {
			return ingest.EventLane("default", rec.Lane.Source(), ingest.KeyValue{Key: "cfg" + name, Value: "x"})
		}
	}
	r.w.setTuning(tuning{
		window: []int64{1, 2, 8}[w.rng.IntN(3)], cuts: 2 + w.rng.IntN(8), read: []int{1, 60, 1 << 20}[w.rng.IntN(3)], slack: 20 * time.Second,
		pageSize: 4, pageAfter: 2, patience: time.Second,
	})
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	w.runs = append(w.runs, r)
	w.note("begin run %d on log %d", r.id, slices.Index(w.logs, l))
	go func() { r.done <- r.w.Work(ctx, &simPart{l.part, w, l, r}) }() // ended by end, which waits for it
}

// config is one of the configurations that workers differ in. Windows are the same in all, so that the checks know them.
func (w *world) config() func(source string) batcher.Policy {
	p := batcher.Policy{
		MaxAge: []time.Duration{20, 200, 2000}[w.rng.IntN(3)] * time.Millisecond, MaxEvents: int64(1 + w.rng.IntN(8)),
		MaxBytes: []int64{100, 300, 1 << 20}[w.rng.IntN(3)], Compression: []string{"gzip", "zstd"}[w.rng.IntN(2)],
	}
	return func(source string) batcher.Policy {
		p := p
		p.Window = windowOf(source)
		return p
	}
}

func windowOf(source string) time.Duration {
	if source == "short" {
		return 2 * time.Second
	}
	return time.Hour
}

// end stops a run for good. What it had under way may still have happened, or happen later.
func (w *world) end(r *simRun, crash bool) {
	r.cancel()
	w.mu.Lock()
	r.dead = true
	var left []*call
	w.pending = slices.DeleteFunc(w.pending, func(c *call) bool {
		if c.run == r {
			left = append(left, c)
		}
		return c.run == r
	})
	w.mu.Unlock()
	slices.SortFunc(left, func(a, b *call) int { return cmp.Or(cmp.Compare(a.op, b.op), cmp.Compare(a.key, b.key)) })
	for _, c := range left {
		f := memstore.Drop
		if crash && c.put() {
			f = []memstore.Fault{memstore.Drop, memstore.Lose, w.late()}[w.rng.IntN(3)]
		}
		w.letGo(c, f)
	}
	if err := <-r.done; err != nil {
		w.fail("run %d stopped: %w", r.id, err)
	}
	for _, c := range left {
		w.checkPut(c.key)
	}
	w.runs = slices.DeleteFunc(w.runs, func(x *simRun) bool { return x == r })
	w.note("run %d ended (crash %v)", r.id, crash)
}

// late is the fate of a put that is still on its way when its sender has given up, or died. A directory has no such way.
func (w *world) late() memstore.Fault {
	if w.plan.dir {
		return memstore.Lose
	}
	return memstore.Late
}

// letGo answers a call and accounts for what that does to links in a directory.
func (w *world) letGo(c *call, f memstore.Fault) {
	// Where a loss was accepted, the void object may be the first that a run puts at the key, and the store takes that.
	if c.put() && w.refused[c.key] && f == memstore.None && w.view.Body(c.key) == nil && !c.run.told[c.key] && !w.accepted {
		f = memstore.Refuse
		c.run.told[c.key] = true // what it puts there next is the void object
	}
	w.note("run %d: %s %s: %d", c.run.id, c.op, c.key, f)
	if w.plan.dir {
		there := w.view.Body(c.key) != nil
		switch {
		case c.put() && !there && (f == memstore.Lose || w.plan.world.lateLink):
			w.fragile[c.key] = true
		case f == memstore.None && there && !w.plan.world.lateLink:
			delete(w.fragile, c.key)
		}
	}
	c.answer <- f
}

// isChain reports whether a key is of an entry, and of which stream.
func isChain(key string) (stream string, ok bool) {
	rest, ok := strings.CutPrefix(key, batcher.PrefixChain)
	if !ok {
		return "", false
	}
	return rest[:strings.LastIndexByte(rest, '/')], true
}
