//go:build linux

package runner

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
	"millrace/scheduler/mask"
)

const (
	dirMode  fs.FileMode = 0o750
	fileMode fs.FileMode = 0o640
)

// refusal is an error that repeating can not mend.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// errStarted: the attempt has a log already, so that it was started once.
var errStarted = errors.New("it was started before")

// place is where attempts live below the directory of the runner. Ids of tasks never become paths except through [safeName], and neither
// [place.open] nor os.Root lets a symbolic link lead out.
type place struct {
	dir      string
	root     *os.Root
	top      *os.File // the directory itself
	attempts *os.File // the directory of the attempts' directories
	null     *os.File
	spares   chan string // attempt directories to be used again; see recycle.go
}

func openPlace(dir string) (*place, error) {
	p := &place{dir: dir, spares: make(chan string, maxSpares)}
	var err error
	if p.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	for _, d := range []string{logsDir, attemptsDir} {
		if err := p.root.MkdirAll(d, dirMode); err != nil {
			return nil, err
		}
	}
	if p.top, err = os.Open(dir); err != nil {
		return nil, err
	}
	if p.attempts, err = p.open(attemptsDir, os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return nil, err
	}
	if p.null, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	return p, nil
}

// exec starts the attempt's one process and returns its pid. A refusal is about the task, any other error about the machine.
//
// The log comes first and must be new: it is the last proof against a second execution, when the journal has forgotten the attempt.
//
// With hidden, what the process writes goes through the filter that is returned; see masked.go.
func (p *place) exec(l *scheduler.Launch, hidden *mask.Masker) (pid int, f *filter, err error) {
	log, err := p.createLog(l.ID)
	if err != nil {
		return 0, nil, err
	}
	env, err := p.prepare(l)
	if err != nil || hidden == nil {
		defer log.Close()
		if err == nil {
			pid, err = p.fork(l, env, log.Fd())
		}
		return pid, nil, err
	}
	pipe, task, err := p.makePipe(l.ID)
	if err != nil {
		return 0, nil, errors.Join(err, log.Close())
	}
	pid, err = p.fork(l, env, uintptr(task))
	_ = unix.Close(task)
	if err != nil {
		return 0, nil, errors.Join(err, pipe.Close(), log.Close())
	}
	return pid, newFilter(pipe, log, hidden), nil
}

// fork starts the process, with its output to a descriptor.
func (p *place) fork(l *scheduler.Launch, env []string, out uintptr) (pid int, err error) {
	return forkExec(l.Argv, &syscall.ProcAttr{
		Dir:   filepath.Join(p.dir, attemptName(l.ID), workName),
		Env:   env,
		Files: []uintptr{p.null.Fd(), out, out},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
}

// forkExec starts argv, which is looked up in PATH of the environment that attr gives it. A refusal is about the command, any other error about the
// machine.
func forkExec(argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	path, err := lookPath(argv, attr.Env, attr.Dir)
	if err != nil {
		return 0, refusal{err}
	}
	pid, err = syscall.ForkExec(path, argv, attr)
	switch {
	case err == nil:
		return pid, nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ETXTBSY),
		errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return 0, fmt.Errorf("start %q: %w", path, err)
	default:
		return 0, refusal{fmt.Errorf("start %q: %w", path, explain(err))}
	}
}

func (p *place) createLog(id string) (*os.File, error) {
	name := LogName(id)
	// O_APPEND, because stdout and stderr share it with all that the task starts.
	const flag = os.O_WRONLY | os.O_CREATE | os.O_EXCL | os.O_APPEND
	log, err := p.open(name, flag, fileMode)
	if errors.Is(err, fs.ErrNotExist) { // It is the run's first.
		if err := p.root.MkdirAll(filepath.Dir(name), dirMode); err != nil {
			return nil, fmt.Errorf("make directory of log: %w", err)
		}
		log, err = p.open(name, flag, fileMode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, errStarted
	}
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	return log, nil
}

// prepare makes the attempt's directory and files, and returns its environment.
func (p *place) prepare(l *scheduler.Launch) ([]string, error) {
	name := attemptName(l.ID)
	if err := p.freshDir(name); err != nil {
		return nil, fmt.Errorf("make attempt directory: %w", err)
	}
	if err := p.write(filepath.Join(name, inputName), l.Input); err != nil {
		return nil, fmt.Errorf("write input: %w", err)
	}
	env := l.Env[:len(l.Env):len(l.Env)]
	if l.Heartbeat > 0 {
		if err := p.write(filepath.Join(name, heartbeatName), nil); err != nil {
			return nil, fmt.Errorf("make heartbeat file: %w", err)
		}
		env = append(env, "MILLRACE_HEARTBEAT="+p.heartbeatPath(l.ID))
	}
	return append(env,
		"MILLRACE_INPUT="+filepath.Join(p.dir, name, inputName), p.outputVar(l.ID),
		"MILLRACE_STATE="+filepath.Join(p.dir, StateName(l.Run, l.Task, l.MapIndex))), nil
}

// outputVar marks the processes of an attempt: it is in their environment, and in no other's.
func (p *place) outputVar(id string) string {
	return "MILLRACE_OUTPUT=" + filepath.Join(p.dir, attemptName(id), outputName)
}

func (p *place) logPath(id string) string { return filepath.Join(p.dir, LogName(id)) }

// output reads what the task has written to MILLRACE_OUTPUT. The task may have put anything there: only a plain file is read, and a FIFO
// does not hold us. One that is too large for a report stays where it is until the report was taken: the report has the file's name, relative to
// the runner's directory, as the reference, and no hash. The client reads it, by [OpenOutput], and puts it elsewhere.
func (p *place) output(rep *scheduler.Report, id string) {
	name := filepath.Join(attemptName(id), outputName)
	f, size, problem := openOutput(p.open, name)
	if f == nil {
		rep.OutputError = problem
		return
	}
	defer f.Close()
	if size > scheduler.MaxOutput {
		rep.OutputRef = &scheduler.OutputRef{Ref: name, Bytes: size}
		return
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if n == 0 && err != nil {
		rep.OutputError = "could not be read: " + explain(err).Error()
		return
	}
	rep.Output = data[:n]
}

// openOutput returns a nil file, and why, if there is nothing to be read. open is that of a place, or of an os.Root.
func openOutput(open func(string, int, fs.FileMode) (*os.File, error), name string) (f *os.File, size int64, problem string) {
	f, err := open(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, ""
	}
	if err != nil {
		return nil, 0, "could not be opened: " + explain(err).Error()
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		problem = "could not be read: " + explain(err).Error()
	case !info.Mode().IsRegular():
		problem = "is not a plain file"
	case info.Size() > scheduler.MaxSpilled:
		problem = scheduler.OutputTooLarge(info.Size())
	case info.Size() > 0:
		return f, info.Size(), ""
	}
	_ = f.Close() // only read
	return nil, 0, problem
}

// ReadOutput reads, below the runner's directory dir, an output that a report refers to. problem says why it can not be taken at all; nothing
// makes it come back.
func ReadOutput(dir string, ref scheduler.OutputRef) (body []byte, problem string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	f, size, problem := openOutput(root.OpenFile, ref.Ref)
	if f == nil {
		return nil, cmp.Or(problem, "is gone"), nil
	}
	defer f.Close()
	body = make([]byte, size) // What a process that outlived the task appends is not read.
	n, err := io.ReadFull(f, body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, "could not be read: " + explain(err).Error(), nil
	}
	return body[:n], "", nil
}

// lookPath finds argv[0] as execvp does, in PATH of env; a name with a slash is relative to the working directory.
func lookPath(argv, env []string, work string) (string, error) {
	if len(argv) == 0 || argv[0] == "" {
		return "", errors.New("the task has no command")
	}
	name := argv[0]
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(work, full)
		}
		if err := executable(full); err != nil {
			return "", fmt.Errorf("command %q: %w", name, err)
		}
		return full, nil
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	found := errors.New("not found in PATH")
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // The working directory is fresh: nothing of the task's is there.
		}
		switch err := executable(filepath.Join(dir, name)); {
		case err == nil:
			return filepath.Join(dir, name), nil
		case errors.Is(err, errNotExecutable):
			found = err
		}
	}
	return "", fmt.Errorf("command %q: %w (PATH is %q)", name, found, path)
}

var errNotExecutable = errors.New("is not executable")

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return explain(err)
	case info.IsDir():
		return errors.New("is a directory")
	case info.Mode()&0o111 == 0:
		return errNotExecutable
	}
	return nil
}

// explain drops the operation and the path from an error of package os: the text around it has them.
func explain(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
