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
	"syscall"
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
	sparePrefix = "~spare" // No attempt's directory begins with '~'.
)

// discarded is the directory of an attempt whose end was taken.
type discarded struct {
	name  string
	reuse bool
}

// discard gives up the directories of attempts; their logs stay.
func (r *runner) discard(all []*attempt) {
	strays := r.strays()
	for _, a := range all {
		select {
		case r.janitor <- discarded{attemptName(a.id), a.start != nil && !a.adopted && !strays}:
		default: // It is far behind: the next start removes what is left.
		}
	}
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
	if names, err := p.list(name); err != nil || !slices.Equal(names, []string{inputName, outputName, workName}) {
		return errors.Join(err, errUsed)
	}
	if names, err := p.list(filepath.Join(name, workName)); err != nil || len(names) > 0 {
		return errors.Join(err, errUsed)
	}
	for sub, mode := range map[string]fs.FileMode{
		"": dirMode | fs.ModeDir, workName: dirMode | fs.ModeDir, inputName: fileMode, outputName: fileMode,
	} {
		if err := p.asNew(filepath.Join(name, sub), mode); err != nil {
			return err
		}
	}
	spare := filepath.Join(attemptsDir, sparePrefix+strconv.Itoa(n))
	if err := p.root.Rename(name, spare); err != nil {
		return err
	}
	p.spares <- spare // There is room: only the janitor adds.
	return nil
}

// asNew checks kind, mode, owner and number of names, and empties a file.
func (p *place) asNew(name string, mode fs.FileMode) error {
	info, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	// The mask of the process may have taken bits away.
	if !ok || info.Mode()&^mode != 0 || info.IsDir() != mode.IsDir() || int(st.Uid) != os.Geteuid() || !info.IsDir() && st.Nlink != 1 {
		return fmt.Errorf("%s: %w", name, errUsed)
	}
	if info.IsDir() || info.Size() == 0 {
		return nil
	}
	f, err := p.root.OpenFile(name, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// list returns the sorted names in a directory.
func (p *place) list(name string) ([]string, error) {
	d, err := p.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(16) // More than there may be.
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.Sort(names)
	return names, err
}

// freshDir makes the directory of an attempt, with an empty input, output and working directory.
func (p *place) freshDir(name string) error {
	if _, err := p.root.Lstat(name); err == nil {
		if err := p.root.RemoveAll(name); err != nil {
			return err
		}
	}
	select {
	case spare := <-p.spares:
		if err := p.root.Rename(spare, name); err == nil {
			return nil
		}
	default:
	}
	if err := p.root.MkdirAll(filepath.Join(name, workName), dirMode); err != nil {
		return err
	}
	return p.root.WriteFile(filepath.Join(name, outputName), nil, fileMode)
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
