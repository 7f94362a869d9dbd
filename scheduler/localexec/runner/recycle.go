//go:build linux

package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Directories of attempts are used again instead of being removed and made anew: ext4 does not hand out an inode again for one to five
// minutes after its removal, and skips such inodes one by one, so that 500 removals a second soon make each new file cost milliseconds.
//
// A directory is used again only if it is as new: nothing in the working directory, nothing beside it, nobody else has a name of the
// files, and no process that left its group may still have it open. Such a process is, or descends from, a child of ours that is not in any
// group we know, because orphans come to us: while there is one, nothing is used again. The orphans of adopted attempts go elsewhere, so
// their directories are removed.

const (
	maxSpares   = 512
	sweepMany   = 64
	sparePrefix = "~spare" // No attempt's directory begins with '~'.
)

// discarded is the directory of an attempt whose end was taken.
type discarded struct {
	name  string
	reuse bool
}

// discard gives up the directories of attempts; their logs stay. It waits until there are many, or for [sweepPoll]: to look for strays is to read
// a file of each thread.
func (r *runner) discard(all []*attempt) {
	if r.spent = append(r.spent, all...); len(r.spent) >= sweepMany {
		r.sweep()
	}
}

// sweep hands what was discarded to the janitor.
func (r *runner) sweep() {
	r.sweepTick = nil
	strays := r.strays()
	for _, a := range r.spent {
		select {
		case r.janitor <- discarded{attemptName(a.id), a.start != nil && !a.adopted && !strays}:
		default: // It is far behind: the next start removes what is left.
		}
	}
	r.spent = nil
}

// strays reports whether a process that has left the group of its task may live.
func (r *runner) strays() bool {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return true
	}
	for _, th := range threads {
		data, err := os.ReadFile("/proc/self/task/" + th.Name() + "/children")
		if errors.Is(err, fs.ErrNotExist) && th.Name() != strconv.Itoa(pid) {
			continue // The thread has ended; its children are another's.
		}
		if err != nil {
			return true // The kernel does not say.
		}
		for f := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(f)
			if err != nil || r.running[child] == nil {
				return true // Or a member of a group that lingers, or a leader to be reaped: never mind, it is about to go.
			}
		}
	}
	return false
}

// clean deals with discarded directories until the loop has ended.
func (r *runner) clean() {
	for n := 0; ; n++ {
		select {
		case d := <-r.janitor:
			if d.reuse && len(r.place.spares) < maxSpares && r.place.recycle(d.name, n) == nil {
				continue
			}
			r.removeDir(d.name)
		case <-r.done:
			return
		}
	}
}

func (r *runner) removeDir(name string) {
	if err := r.place.root.RemoveAll(name); err != nil {
		r.log.Warn("attempt directory can not be removed", "dir", name, "err", err)
	}
}

// errUsed: a directory is not as new.
var errUsed = errors.New("is not as new")

// recycle makes a directory a spare, or fails and leaves it to be removed.
func (p *place) recycle(name string, n int) error {
	dir, err := p.open(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := asNew(dir, inputName, outputName, workName); err != nil {
		return err
	}
	// The next input is written over this one.
	for _, file := range []string{inputName, outputName} {
		if err := fileAsNew(dir, file, file == outputName); err != nil {
			return err
		}
	}
	work, err := openIn(dir, workName, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer work.Close()
	if err := asNew(work); err != nil {
		return err
	}
	spare := filepath.Join(attemptsDir, sparePrefix+strconv.Itoa(n))
	if err := p.rename(name, spare); err != nil {
		return err
	}
	p.spares <- spare // There is room: only the janitor adds.
	return nil
}

func openIn(dir *os.File, name string, flag int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

// asNew checks mode, owner and content of a directory.
func asNew(dir *os.File, want ...string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	names, err := dir.Readdirnames(len(want) + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	slices.Sort(names)
	if !ours(&st, unix.S_IFDIR, dirMode) || !slices.Equal(names, want) {
		return fmt.Errorf("%s: %w", dir.Name(), errUsed)
	}
	return nil
}

// fileAsNew checks kind, mode, owner and number of names of a file, and empties it if it must be.
func fileAsNew(dir *os.File, name string, empty bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if !ours(&st, unix.S_IFREG, fileMode) || st.Nlink != 1 {
		return fmt.Errorf("%s: %w", filepath.Join(dir.Name(), name), errUsed)
	}
	if !empty || st.Size == 0 {
		return nil
	}
	f, err := openIn(dir, name, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return err
	}
	return f.Close()
}

// ours reports whether a file is of a kind, belongs to us, and permits no more than mode: the mask of the process may have taken bits away.
func ours(st *unix.Stat_t, kind uint32, mode fs.FileMode) bool {
	return st.Mode&unix.S_IFMT == kind && st.Mode&^(unix.S_IFMT|uint32(mode.Perm())) == 0 && int(st.Uid) == os.Geteuid()
}

// freshDir makes the directory of an attempt, with an input of some earlier one or none, an empty output and an empty working directory.
func (p *place) freshDir(name string) error {
	select {
	case spare := <-p.spares:
		if err := p.rename(spare, name); err == nil {
			return nil
		}
	default:
	}
	// One of that name may be there: a machine that died may have kept it and have forgotten the journal's claim.
	if err := p.root.RemoveAll(name); err != nil {
		return err
	}
	if err := p.root.MkdirAll(filepath.Join(name, workName), dirMode); err != nil {
		return err
	}
	return p.write(filepath.Join(name, outputName), nil)
}

// leftovers returns the attempt directories that belong to no attempt that is still to be taken.
func (r *runner) leftovers() ([]string, error) {
	dir, err := r.place.root.Open(attemptsDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, a := range r.tab.sorted() {
		known[attemptName(a.id)] = true
	}
	var out []string
	for _, name := range names {
		if name = filepath.Join(attemptsDir, name); !known[name] {
			out = append(out, name)
		}
	}
	return out, nil
}
