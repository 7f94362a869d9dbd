//go:build unix && !linux

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Sync of package os is F_FULLFSYNC on darwin, which is what is wanted there.
func datasync(f *os.File) error { return f.Sync() }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }

func syncAll(*os.File) error { return unix.Sync() }
