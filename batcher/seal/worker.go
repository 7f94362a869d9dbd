package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/dedupe"
	"millrace/batcher/encode"
	"millrace/ingest"
)

// Spacings of entries that design and cost ask for, by kind of store.
const (
	SpacingDir = 20 * time.Millisecond
	SpacingS3  = 100 * time.Millisecond
)

// Options are the tunables of [New]; the zero value works. Bounds of memory are for each partition.
type Options struct {
	// LogName is the label `log` of metrics ("wal", "kafka"); default "log".
	LogName string
	// Memory bounds the rows that are open or on their way into objects, with what they take besides, in bytes; default 128 MiB. At half of
	// it the largest lanes are cut; at all of it nothing more is read.
	Memory int64
	// Index bounds the dedupe index, in bytes; default 64 MiB, which is about 1.8 million records. Beyond it the window shrinks.
	Index int64
	// Window is the longest dedupe window of any source; a source's own is cut to it. Default 24 h.
	Window time.Duration
	// Hold is how many bytes of the log a lane may hold back before it is cut; default 1 GiB.
	Hold int64
	// Uploads bounds the objects that are encoded and put at the same time; default 4.
	Uploads int
	// Spacing is the least time between two entries unless a size limit is due; default [SpacingDir].
	Spacing time.Duration
	// Rand is the source of all randomness (back-off); nil: seeded by the runtime.
	Rand *rand.Rand
	// Log takes messages; nil discards them. Metrics takes collectors; nil: none are exported.
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// WayOut says, in the words of the program around, what a person does about a stuck partition whose loss could be given up (nil: there is no
	// such range). nil: nothing is said.
	WayOut func(loss *batcher.Range) string
	// OnStep is for tests that stop or kill workers: it is called at each [Step], by the loop and by up to Uploads others at the same time,
	// and may block. nil: nobody is told.
	OnStep func(Step)
}

func (o Options) withDefaults() Options {
	def := func(have *int64, want int64) {
		if *have == 0 {
			*have = want
		}
	}
	def(&o.Memory, 128<<20)
	def(&o.Index, 64<<20)
	def(&o.Hold, 1<<30)
	def((*int64)(&o.Window), int64(24*time.Hour))
	def((*int64)(&o.Spacing), int64(SpacingDir))
	if o.Uploads == 0 {
		o.Uploads = 4
	}
	if o.LogName == "" {
		o.LogName = "log"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.WayOut == nil {
		o.WayOut = func(*batcher.Range) string { return "" }
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Memory < 1<<20 {
		errs = append(errs, fmt.Errorf("memory is %d bytes, want at least 1 MiB", o.Memory))
	}
	if o.Window < 0 || o.Window > 30*24*time.Hour {
		errs = append(errs, fmt.Errorf("window is %v, want 0 to 720h", o.Window))
	}
	if o.Uploads < 1 || o.Uploads > 256 {
		errs = append(errs, fmt.Errorf("uploads is %d, want 1 to 256", o.Uploads))
	}
	if o.Spacing < 0 || o.Hold < 0 {
		errs = append(errs, fmt.Errorf("spacing is %v and hold %d, want neither below 0", o.Spacing, o.Hold))
	}
	return errors.Join(errs...)
}

// Worker cuts the partitions that it is given. See the package comment.
type Worker struct {
	store    batcher.ObjectStore
	chains   *chain.Reader
	policy   func(source string) batcher.Policy
	announce batcher.Announcer
	opts     Options
	metrics  *metrics
	tuning   tuning
	mut      mutants
	// newObject is [encode.New], except in tests.
	newObject func(codec string, s ingest.Stream) (object, error)

	mu    sync.Mutex // guards all below
	rng   *rand.Rand
	parts map[int]*partition
}

var _ batcher.Finder = (*Worker)(nil)

// object is what the worker needs of [encode.Object].
type object interface {
	Add(offset int64, r *ingest.Record)
	Close() ([]byte, batcher.Facts)
}

// tuning are bounds that nobody has to set, and that tests make small.
type tuning struct {
	window    int64         // entries whose objects may be missing
	cuts      int           // in one entry
	read      int           // bytes of one read
	slack     time.Duration // disorder of receive times in the log, and difference of clocks, that the fold of the index allows for
	pageSize  int64
	pageAfter int           // entries read singly before a page is asked for; 0: the default
	patience  time.Duration // between two looks at what only a person, or another holder of the log, can resolve
}

var defaultTuning = tuning{
	window: 8, cuts: 256, read: 1 << 20, slack: 10 * time.Minute, pageSize: batcher.PageSize, patience: 5 * time.Second,
}

// New returns a worker that cuts as policy says for each source, keeps chain and objects in store, and tells announce of each batch (nil:
// nobody). policy is asked whenever a batch is begun, and must be quick and safe for concurrent use; sources that it does not know get what
// it returns for them, normally the defaults.
func New(store batcher.ObjectStore, policy func(source string) batcher.Policy, announce batcher.Announcer, opts Options) (*Worker, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("check options of the batcher: %w", err)
	}
	m, err := newMetrics(opts.withDefaults())
	if err != nil {
		return nil, err
	}
	return newWorker(store, policy, announce, opts, m), nil
}

func newWorker(store batcher.ObjectStore, policy func(source string) batcher.Policy, announce batcher.Announcer, opts Options, m *metrics) *Worker {
	opts = opts.withDefaults()
	if announce == nil {
		announce = silence{}
	}
	w := &Worker{
		store: store, policy: policy, announce: announce, opts: opts, metrics: m,
		newObject: func(codec string, s ingest.Stream) (object, error) { return encode.New(codec, s) },
		rng:       opts.Rand, parts: make(map[int]*partition),
	}
	w.setTuning(defaultTuning)
	return w
}

func (w *Worker) setTuning(t tuning) {
	w.tuning = t
	w.chains = chain.New(w.store, chain.Options{PageSize: t.pageSize, PageAfter: t.pageAfter})
}

type silence struct{}

func (silence) Announce(context.Context, batcher.Batch) {}

// Work cuts partition p until ctx ends, and then returns nil, with all its goroutines ended. It is the function for [ingest.Consumer.Consume].
// A second worker on the same partition does no harm.
//
// Errors are final for this start: an entry written by a newer version ([batcher.ErrUnknownVersion]), a chain that is elsewhere ([ErrHome]),
// a log that is not the one that the chain was made from ([ErrMismatch]), a closed or failed log. What only needs time, another holder of the
// log or an operator's word is no error: Work goes on looking, and says so in [Worker.Status].
func (w *Worker) Work(ctx context.Context, p ingest.Partition) error {
	part := &partition{
		w: w, log: p, id: p.ID(), index: dedupe.New(w.opts.Index), folded: make(map[ingest.Stream]bool),
		rng: w.random(),
	}
	w.mu.Lock()
	w.parts[part.id] = part
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.parts[part.id] == part {
			delete(w.parts, part.id)
		}
	}()
	err := part.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	w.opts.Log.Error("batcher stopped", "partition", part.id, "err", err)
	return err
}

// random returns a source of randomness of its own, so that goroutines do not share one.
func (w *Worker) random() *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))
}

// Find implements [batcher.Finder] for the partitions that the worker cuts now.
func (w *Worker) Find(_ context.Context, id [16]byte) (ingest.Stream, int64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.parts {
		if s, offset, ok := p.index.Find(id); ok {
			return s, offset, true
		}
	}
	return ingest.Stream{}, 0, false
}

// policyOf returns the policy of a source, complete and within the worker's window.
func (w *Worker) policyOf(source string) batcher.Policy {
	p := w.policy(source).WithDefaults()
	p.Window = min(p.Window, w.opts.Window)
	return p
}
