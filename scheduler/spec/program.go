package spec

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A program of the DAG directory is an executable whose name ends in ".dag". Asked to `describe`, it prints what a DAG file would say, and that
// is read like a file. What is asked is a copy, named by its hash:
//
//  1. the file is hashed; if the hash is known, nothing else happens;
//  2. it is copied to <programs>/<hash>/<name>, synced, and moved there under a temporary name first, so that a copy is whole;
//  3. the copy is asked, within limits of time and size, with an environment that has PATH and nothing of ours.
//
// A stop between any two steps leaves at most a copy that nobody needs. The tasks name the copy, so a run goes on with the program that it was
// created with, whatever becomes of the file; and the file can be replaced while it runs.

const (
	programExt = ".dag"
	// maxProgram bounds a program in bytes.
	maxProgram = 1 << 30
	// maxAsks is how many programs are asked at once.
	maxAsks = 4
	// maxSaid is how much of what a program says on standard error is shown.
	maxSaid = 2 << 10
	// pinKeep is how long a copy is kept that no file of the directory needs: runs that name it have ended by then.
	pinKeep = 30 * 24 * time.Hour
	// sweepEvery is how often that is looked after.
	sweepEvery = 24 * time.Hour
	// unusedMark is a file beside such a copy; its time is when that was seen first.
	unusedMark = "unused"
)

// programEnv is the environment in which programs are asked.
var programEnv = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}

// IsProgram reports whether the file at path is one that describes its DAGs itself.
func IsProgram(path string) bool { return filepath.Ext(path) == programExt }

// Ask asks the program at path, as it stands there, and compiles its answer. name is used in messages. The program has limit to answer.
func Ask(ctx context.Context, name, path string, limit time.Duration) File {
	path, err := filepath.Abs(path)
	if err == nil {
		err = checkExecutable(path)
	}
	if err != nil {
		return faulty(name, err)
	}
	f, _ := ask(ctx, name, path, limit)
	return f
}

// faulty is a file with one fault.
func faulty(name string, err error) File {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Msg: fmt.Sprintf("can not be read: %v", err)}
	}
	e.File = name
	return File{Name: name, Faults: Errors{e}}
}

func checkExecutable(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode()&0o111 == 0 {
		err = &Error{Msg: "is a program, by its name, but not executable", Hint: "chmod +x " + filepath.Base(path)}
	}
	return err
}

// pin returns the copy of the program at path, which it makes if there is none, and its hash.
func (d *Dir) pin(path string) (pin string, sum [sha256.Size]byte, err error) {
	if err := checkExecutable(path); err != nil {
		return "", sum, err
	}
	if d.opts.Programs == "" {
		return "", sum, &Error{Msg: "is a program, and programs are not run here"}
	}
	if sum, err = copyHashed(io.Discard, path); err != nil {
		return "", sum, err
	}
	pin = filepath.Join(d.opts.Programs, pinName(path, sum))
	if pin, err = filepath.Abs(pin); err != nil {
		return "", sum, err
	}
	if _, err := os.Stat(pin); err == nil {
		return pin, sum, nil
	}
	return pin, sum, copyProgram(path, pin, sum)
}

func pinName(path string, sum [sha256.Size]byte) string {
	return filepath.Join(hex.EncodeToString(sum[:16]), filepath.Base(path))
}

// PinName returns where [Dir] keeps its copy of the program at path, below the directory of copies, with slashes.
func PinName(path string) (string, error) {
	sum, err := copyHashed(io.Discard, path)
	if err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	return filepath.ToSlash(pinName(path, sum)), nil
}

// errChanging: a file was written while it was read. There will be another look at it.
var errChanging = errors.New("changed while it was read")

func copyHashed(to io.Writer, path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(f, maxProgram+1))
	if err == nil && n > maxProgram {
		err = fmt.Errorf("it is larger than %d bytes", int64(maxProgram))
	}
	return [sha256.Size]byte(h.Sum(nil)), err
}

func copyProgram(path, pin string, sum [sha256.Size]byte) error {
	if err := os.MkdirAll(filepath.Dir(pin), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(pin), ".copy-*")
	if err != nil {
		return err
	}
	got, err := copyHashed(f, path)
	if err == nil && got != sum {
		err = errChanging
	}
	err = errors.Join(err, f.Chmod(0o555), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), pin)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// askAll asks the programs that a scan found to be new, a few at once, and reports whether anything is different. One that hangs holds the
// others up for its time limit, and again each time that it is asked once more.
func (d *Dir) askAll(ctx context.Context) (changed bool) {
	asks := d.asks
	d.asks = nil
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxAsks)
	for name, e := range asks {
		slots <- struct{}{}
		wg.Go(func() { // ends with its program, which is killed at its time limit
			defer func() { <-slots }()
			again := false
			if IsOperator(name) {
				e.op, again = askOperator(ctx, name, e.pin, d.opts.Ask)
				e.file = e.op.file(name)
			} else {
				e.file, again = ask(ctx, name, e.pin, d.opts.Ask)
			}
			if again {
				e.again = time.Now().Add(d.opts.AskAgain)
			}
		})
	}
	wg.Wait()
	for name, e := range asks {
		old := d.files[name]
		d.files[name] = e
		if old == nil || e.op != nil || len(old.file.DAGs)+len(e.file.DAGs) > 0 || old.file.Faults.Error() != e.file.Faults.Error() {
			changed = true
			d.warn(&e.file)
		}
	}
	return changed
}

// ask runs the program and compiles what it prints. again says that another try may end otherwise.
func ask(ctx context.Context, name, path string, limit time.Duration) (f File, again bool) {
	out, fault, again := interview(ctx, name, path, limit)
	if fault != nil {
		return File{Name: name, Faults: Errors{fault}}, again
	}
	f = read(name+" describe", out, reading{files: ofProgram})
	f.Name = name
	return f, false
}

// interview returns what the program at path prints when it is asked to describe itself, or a fault. again says that another try may end
// otherwise.
func interview(ctx context.Context, name, path string, limit time.Duration) (text []byte, fault *Error, again bool) {
	out := &limited{room: MaxBytes, strict: true}
	said := &limited{room: maxSaid}
	err := runDescribe(ctx, path, limit, out, said)
	exit, exited := errors.AsType[*exec.ExitError](err)
	fault = &Error{File: name, Hint: fmt.Sprintf("run %q describe, which must print what it is and end", path)}
	switch {
	case err == nil && !out.full:
		return out.data, nil, false
	case out.full:
		fault.Msg = fmt.Sprintf("describe printed more than %d bytes", MaxBytes)
	case errors.Is(err, context.DeadlineExceeded):
		fault.Msg, again = fmt.Sprintf("describe took more than %v", limit), true
	case errors.Is(err, syscall.ENOEXEC):
		fault.Msg, fault.Hint = "can not be executed: exec format error", `build it for this machine, or begin a script with "#!"`
	case errors.Is(err, fs.ErrPermission):
		fault.Msg, fault.Hint, again = "its copy can not be executed", "is the data directory on a file system that is mounted noexec?", true
	case exited && exit.Exited():
		fault.Msg = fmt.Sprintf("describe failed: exit code %d", exit.ExitCode())
	default:
		fault.Msg, again = fmt.Sprintf("describe failed: %v", err), true
	}
	if text := strings.TrimSpace(strings.ToValidUTF8(string(said.data), "?")); text != "" {
		fault.Msg += "; it says:\n" + text
	}
	return nil, fault, again
}

func runDescribe(ctx context.Context, path string, limit time.Duration, out, said io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for tries := 0; ; tries++ {
		cmd := exec.CommandContext(ctx, path, "describe")
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", programEnv, out, said
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = time.Second // for children that hold its output open
		killAll := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.Cancel = killAll
		err := cmd.Run()
		if err != nil && cmd.Process != nil {
			_ = killAll() // Children that outlive it; ESRCH if there are none.
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, syscall.ETXTBSY) || tries == 10:
			return err
		}
		// A process that was forked while we wrote the copy holds it open until its own exec.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// limited takes so many bytes. More are dropped, or, if it is strict, an error, which closes the pipe that the program writes to. It is no
// bytes.Buffer, whose ReadFrom would take all that there is.
type limited struct {
	data         []byte
	room         int
	strict, full bool
}

var errFull = errors.New("more output than permitted")

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.room-len(l.data))
	l.data = append(l.data, p[:n]...)
	if n == len(p) {
		return n, nil
	}
	l.full = true
	if l.strict {
		return n, errFull
	}
	return len(p), nil
}

// sweepPins removes copies that no file has needed for long. What is not needed gets a mark, and the mark's time counts: so it does not matter
// how long nobody looked.
func (d *Dir) sweepPins(now time.Time) error {
	if d.opts.Programs == "" {
		return nil
	}
	used := map[string]bool{}
	for _, e := range d.files {
		used[filepath.Dir(e.pin)] = true
	}
	pins, err := filepath.Glob(filepath.Join(d.opts.Programs, "*"))
	errs := []error{err}
	for _, dir := range pins {
		if dir, err = filepath.Abs(dir); err != nil {
			return err
		}
		mark := filepath.Join(dir, unusedMark)
		info, err := os.Stat(mark)
		switch {
		case used[dir] && err == nil:
			errs = append(errs, os.Remove(mark))
		case used[dir]:
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, os.WriteFile(mark, nil, 0o644))
		case err == nil && now.Sub(info.ModTime()) > pinKeep:
			errs = append(errs, os.RemoveAll(dir))
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
