//go:build linux

package runner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// open opens a file below the runner's directory. As with os.Root, no symbolic link leads out of it; but the kernel sees to that, in one call,
// where os.Root opens one directory after the other: with six files for each attempt that was a third of what the runner did.
//
// openat2(2) is there since Linux 5.6. Older kernels, and sandboxes that do not know it, have os.Root.
func (p *place) open(name string, flag int, perm fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flag | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH}
	if flag&os.O_CREATE != 0 {
		how.Mode = uint64(perm.Perm())
	}
	for {
		fd, err := unix.Openat2(int(p.top.Fd()), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(p.dir, name)), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // EAGAIN: something was renamed meanwhile
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			return p.root.OpenFile(name, flag, perm)
		default:
			return nil, &fs.PathError{Op: "openat2", Path: name, Err: err}
		}
	}
}

// write makes a file with just this content, of one that may be there, too.
//
// It is not emptied first: ext4 takes an emptied file that is written and closed for the replacement of something dear, and begins to write
// it to the disk at once.
func (p *place) write(name string, data []byte) error {
	f, err := p.open(name, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr); err == nil && info.Size() > int64(len(data)) {
		err = f.Truncate(int64(len(data)))
	}
	return errors.Join(err, f.Close())
}

// rename renames an attempt's directory, or a spare.
func (p *place) rename(from, to string) error {
	return os.NewSyscallError("renameat", unix.Renameat(int(p.attempts.Fd()), filepath.Base(from), int(p.attempts.Fd()), filepath.Base(to)))
}
