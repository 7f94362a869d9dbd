//go:build linux

package runner

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"millrace/ingest/vfs"
)

// options are the arguments. --dir is the client's; the descriptors are passed from one process to the next and must keep their meaning for
// ever, as a runner of any build becomes one of any other.
type options struct {
	dir      string
	readyFD  int // a pipe that is told how the start went
	lockFD   int // the held lock and the listening socket of the runner that has become us
	listenFD int
	ready    *os.File
}

func parseArgs(args []string) (*options, error) {
	opt := &options{}
	flags := flag.NewFlagSet("runner", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&opt.dir, "dir", "", "directory of the runner")
	flags.IntVar(&opt.readyFD, "ready-fd", -1, "")
	flags.IntVar(&opt.lockFD, "lock-fd", -1, "")
	flags.IntVar(&opt.listenFD, "listen-fd", -1, "")
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("parse arguments of runner: %w", err)
	}
	if opt.readyFD >= 0 {
		opt.ready = inherited(opt.readyFD, "ready")
	}
	if opt.dir == "" {
		return nil, errors.New("parse arguments of runner: --dir is missing")
	}
	dir, err := canonical(opt.dir)
	if err != nil {
		return nil, fmt.Errorf("make runner directory: %w", err)
	}
	opt.dir = dir
	return opt, nil
}

// canonical makes the directory and returns its one absolute name without symbolic links: by it a later runner knows our processes.
func canonical(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	// A claim is as durable as the names that lead to it, whoever has made them.
	for d := dir; d != filepath.Dir(d); {
		d = filepath.Dir(d)
		if err := vfs.OS.SyncDir(d); errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EROFS) {
			break // Not readable, or of a kind that is not synced: nobody has just made a name there.
		} else if err != nil {
			return "", err
		}
	}
	return dir, nil
}

// inherited wraps a descriptor that was passed to us, and keeps it from our children.
func inherited(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// closeInherited closes what whoever started millrace has left open in it, so that neither we nor our tasks hold on to that. All that Go
// itself opens is marked close-on-exec.
func (o *options) closeInherited() {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range names {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 || fd == o.lockFD || fd == o.listenFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// tellReady tells whoever has started us, once: "ok", or what went wrong.
func (o *options) tellReady(err error) {
	if o.ready == nil {
		return
	}
	text := "ok"
	if err != nil {
		text = err.Error()
	}
	_, _ = io.WriteString(o.ready, text)
	_ = o.ready.Close()
	o.ready = nil
}

// tune keeps the process small: it does little, and holds no data.
func tune() {
	runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(48 << 20)
}

func takeLock(opt *options) (*os.File, error) {
	if opt.lockFD >= 0 {
		return inherited(opt.lockFD, lockName), nil
	}
	f, err := os.OpenFile(filepath.Join(opt.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = vfs.ErrLocked
		}
		return nil, fmt.Errorf("lock runner directory %q: %w", opt.dir, err)
	}
	return f, nil
}

func takeListener(opt *options) (*net.UnixListener, error) {
	if opt.listenFD < 0 {
		return listen(opt.dir)
	}
	f := inherited(opt.listenFD, socketName)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over listener: %w", err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("take over listener: is a %T", l)
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}

// mustBecome reports whether the client's build is another than ours, and may take over.
func (r *runner) mustBecome(h *Hello) bool {
	if len(h.Argv) == 0 || h.Exe == "" || h.Journal < JournalVersion {
		return false
	}
	own, err := ExeID("/proc/self/exe")
	if err != nil || own == h.Exe {
		return false
	}
	// What we would become must be what the client means: else we would go on for ever.
	theirs, err := ExeID(h.Argv[0])
	return err == nil && theirs == h.Exe
}

// become replaces this process by another build of the runner. The pid stays, so the tasks stay our children and their exit codes come to
// us; the lock and the socket are passed on, so nobody gets in between, and clients that connect meanwhile wait in the socket's queue. It
// returns only if that is not possible: then all is as before.
func (r *runner) become(argv []string) {
	listener, err := r.ln.File()
	if err != nil {
		r.log.Warn("runner can not be replaced", "err", err)
		return
	}
	defer listener.Close()
	args := append(argv[:len(argv):len(argv)],
		"--lock-fd", strconv.Itoa(int(r.lock.Fd())), "--listen-fd", strconv.Itoa(int(listener.Fd())))
	r.log.Info("runner becomes another build", "program", argv[0])
	// Only the loop starts processes, and this is the loop: no child gets these descriptors.
	for _, f := range []*os.File{r.lock, listener} {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			r.log.Warn("runner can not be replaced", "err", err)
		}
	}
	r.haltFilters()
	err = syscall.Exec(argv[0], args, os.Environ())
	r.restartFilters()
	unix.CloseOnExec(int(r.lock.Fd()))
	unix.CloseOnExec(int(listener.Fd()))
	r.log.Warn("runner can not be replaced", "err", err)
}
