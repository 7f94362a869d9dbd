//go:build linux

package runner

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"millrace/ingest/vfs"
)

// Defaults, until a client says otherwise.
const (
	defaultMaxLog = 1 << 30
	defaultIdle   = 5 * time.Second // Whoever has started us connects at once, or is gone.
	// logPoll is how often the sizes of logs and the heartbeats are looked at, and lingerPoll how often a group that must die is.
	logPoll    = 500 * time.Millisecond
	lingerPoll = 20 * time.Millisecond
	// mendPoll is how often a journal that could not be written is tried again.
	mendPoll = time.Second
	// syncPoll is how long records that nobody waits for may stay away from the disk, and sweepPoll how long a directory that nobody needs stays.
	syncPoll  = time.Second
	sweepPoll = 50 * time.Millisecond
	// compactBytes is the least growth of the journal that makes it worth rewriting.
	compactBytes = 4 << 20
)

// runner is all state, owned by the goroutine of loop; the others hand it functions to call.
type runner struct {
	place *place
	log   *slog.Logger
	boot  string
	node  string
	lock  *os.File
	ln    *net.UnixListener

	jnl     *journal
	tab     *table
	waiting []waiter // for the journal to be synced, in order
	syncing bool
	dirty   bool // records were written that nobody waits for
	due     bool // they have to go to the disk now

	queue     []*attempt // claimed durably, to be executed
	running   map[int]*attempt
	lingering map[*attempt]struct{} // the leader is gone, the group is not
	pending   []*attempt            // news for the client

	client  *client
	upgrade []string // argv to become, when nothing is under way
	bye     bool     // the last client said that it ends
	maxLog  int64
	idle    time.Duration

	events  chan func()
	done    chan struct{} // closed when loop has ended
	workers sync.WaitGroup
	janitor chan discarded
	spent   []*attempt // their directories are for the janitor

	logTick, lingerTick, mendTick, syncTick, sweepTick, idleTimer <-chan time.Time
}

type waiter struct {
	upto int64
	then func(error)
}

// post has the loop call fn, unless the loop has ended.
func (r *runner) post(fn func()) {
	select {
	case r.events <- fn:
	case <-r.done:
	}
}

// spawn runs fn in a goroutine that the runner waits for at its end.
func (r *runner) spawn(fn func()) {
	r.workers.Add(1)
	go func() {
		defer r.workers.Done()
		fn()
	}()
}

// errIdle ends the loop when there is nothing left to lose.
var errIdle = errors.New("idle")

// loop handles one thing after the other until ctx ends or the runner is idle. Executions are interleaved with everything else, so that a
// long queue delays no exit and no request by more than one fork.
func (r *runner) loop(ctx context.Context) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	r.reapChildren() // Those that ended before Notify.
	for {
		r.settle()
		if r.upgrade != nil && r.quiet() {
			r.become(r.upgrade)
			r.upgrade = nil
		}
		var more chan struct{}
		if len(r.queue) > 0 {
			more = closedChan
		}
		select {
		case <-ctx.Done():
			return nil
		case <-children:
			r.reapChildren()
		case fn := <-r.events:
			fn()
		case <-more:
			a := r.queue[0]
			r.queue = r.queue[1:]
			r.execute(a)
		case <-r.logTick:
			r.checkLogs()
			r.checkBeats()
		case <-r.lingerTick:
			r.checkLingering()
		case <-r.mendTick:
			r.mend()
		case <-r.syncTick:
			r.syncTick, r.due = nil, true
		case <-r.sweepTick:
			r.sweep()
		case <-r.idleTimer:
			return errIdle
		}
	}
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// settle follows up on what an event has changed: it starts a sync, sends reports, compacts, and arms only those tickers that are needed.
func (r *runner) settle() {
	r.flush()
	if !r.syncing && !r.jnl.broken && r.jnl.end > 2*r.jnl.base+compactBytes {
		r.rewrite()
	}
	r.startSync()
	arm(&r.logTick, len(r.running) > 0, logPoll)
	arm(&r.lingerTick, len(r.lingering) > 0, lingerPoll)
	arm(&r.mendTick, r.jnl.broken, mendPoll)
	arm(&r.syncTick, r.dirty && !r.due, syncPoll)
	arm(&r.sweepTick, len(r.spent) > 0, sweepPoll)
	// pending without a client keeps us: only a client can take the reports.
	idle := r.client == nil && r.tab.active == 0 && len(r.pending) == 0 && !r.jnl.broken
	wait := r.idle
	if r.bye {
		wait = 0
	}
	arm(&r.idleTimer, idle, wait)
}

// arm makes c tick once after d if it does not yet, or stops it. A tick must be taken by setting c to nil: see the callers.
func arm(c *<-chan time.Time, on bool, d time.Duration) {
	switch {
	case !on:
		*c = nil
	case *c == nil:
		*c = time.After(d)
	}
}

// quiet reports whether the journal says all that there is: no claim is on its way to the disk or to exec, no exit status waits for a group.
func (r *runner) quiet() bool {
	return len(r.queue) == 0 && len(r.lingering) == 0 && len(r.waiting) == 0 && !r.syncing && !r.jnl.broken
}

// note applies records and appends them to the journal. If that fails, the attempts are as the records say all the same, and the journal
// is rewritten from memory as soon as it can be.
func (r *runner) note(recs ...record) error {
	for _, rec := range recs {
		r.tab.apply(rec)
	}
	err := r.jnl.append(recs...)
	if err != nil && !errors.Is(err, errBroken) {
		r.log.Error("journal can not be written", "err", err)
	}
	r.dirty = true
	return err
}

// commit calls then when all that was noted before is on the disk, or can not be brought there.
func (r *runner) commit(then func(error)) {
	if r.jnl.broken {
		then(errBroken)
		return
	}
	r.waiting = append(r.waiting, waiter{r.jnl.end, then})
}

// startSync brings what was appended to the disk: one fdatasync for all that came since the last one began.
func (r *runner) startSync() {
	if r.syncing || r.jnl.broken || !r.due && len(r.waiting) == 0 {
		return
	}
	r.syncing, r.dirty, r.due = true, false, false
	file, upto := r.jnl.file, r.jnl.end
	r.spawn(func() {
		err := file.Sync()
		r.post(func() { r.synced(upto, err) })
	})
}

func (r *runner) synced(upto int64, err error) {
	r.syncing = false
	if err != nil {
		// The kernel may have dropped the pages: the file is not to be trusted, see package vfs.
		r.log.Error("journal can not be synced", "err", err)
		r.jnl.broken = true
	} else if !r.jnl.broken {
		r.jnl.durable = upto
	}
	for len(r.waiting) > 0 && (r.waiting[0].upto <= upto || r.jnl.broken) {
		w := r.waiting[0]
		r.waiting = r.waiting[1:]
		w.then(err)
	}
}

// mend tries to write the journal anew after an error.
func (r *runner) mend() {
	r.mendTick = nil
	if !r.syncing && r.jnl.broken {
		r.rewrite()
	}
}

// rewrite replaces the journal by what the table says. No sync may be under way: it would be of the old file.
func (r *runner) rewrite() {
	if err := r.jnl.rewrite(r.tab.records()); err != nil {
		r.log.Error("journal can not be rewritten", "err", err)
	}
	waiting := r.waiting
	r.waiting = nil
	for _, w := range waiting {
		if r.jnl.broken {
			w.then(errBroken)
		} else {
			w.then(nil)
		}
	}
}

// Main is the runner process: the body of the hidden command `millrace runner`, args being what follows that word. It returns when ctx ends,
// leaving the tasks to its successor, or when it was idle for long enough. Another runner of the same directory is no error: it returns nil
// at once.
func Main(ctx context.Context, args []string) error {
	opt, err := parseArgs(args)
	if err != nil {
		return err
	}
	opt.closeInherited()
	tune()
	err = serve(ctx, opt)
	opt.tellReady(err)
	if errors.Is(err, errIdle) || errors.Is(err, vfs.ErrLocked) {
		return nil
	}
	return err
}

func serve(ctx context.Context, opt *options) error {
	r, err := open(opt)
	if err != nil {
		return err
	}
	defer r.close()
	opt.tellReady(nil)
	r.spawn(r.accept)
	r.spawn(r.clean)
	return r.loop(ctx)
}

// open takes the directory over from whoever had it before, in this order:
//
//  1. the lock: from here on no other runner claims, and no child of a dead one is before its exec (see the package comment);
//  2. the journal, cut and made durable;
//  3. the processes that still run, which are adopted; what is gone is reported as lost;
//  4. the socket: only now can a client ask for anything.
func open(opt *options) (*runner, error) {
	lock, err := takeLock(opt)
	if err != nil {
		return nil, err
	}
	r := &runner{
		lock: lock, log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("pid", os.Getpid()),
		running: map[int]*attempt{}, lingering: map[*attempt]struct{}{},
		maxLog: defaultMaxLog, idle: defaultIdle,
		events: make(chan func(), 256), done: make(chan struct{}), janitor: make(chan discarded, 4096),
	}
	r.node, _ = os.Hostname()
	if r.boot, err = bootID(); err != nil {
		return nil, err
	}
	// Orphans of a task become our children, so that we see the last process of a group end.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	if r.place, err = openPlace(opt.dir); err != nil {
		return nil, err
	}
	if r.jnl, r.tab, err = openJournal(vfs.OS, filepath.Join(opt.dir, journalName)); err != nil {
		return nil, err
	}
	if err := r.recover(); err != nil {
		return nil, err
	}
	if r.ln, err = takeListener(opt); err != nil {
		return nil, err
	}
	return r, nil
}

// close ends what the runner has started, but no task: the next runner takes these over.
func (r *runner) close() {
	close(r.done)
	_ = r.ln.Close()
	if r.client != nil {
		_ = r.client.conn.Close()
	}
	r.workers.Wait()
	if !r.jnl.broken {
		if err := r.jnl.file.Sync(); err != nil {
			r.log.Error("journal can not be synced", "err", err)
		}
	}
	_ = r.jnl.close()
	_ = r.lock.Close()
}
