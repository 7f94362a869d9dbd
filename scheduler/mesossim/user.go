package mesossim

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// become makes the task's command be executed as the user that it names, to whom its sandbox is given (unobserved; as in src/slave/slave.cpp of Mesos). A framework's user is
// not looked at: this process may be anybody's. If that is not root it can not become another, and all tasks are its own, as with --no-switch_user.
func (t *task) become(files ...*os.File) error {
	name := t.info.Command.User
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("look up the user '%s': %v", name, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("look up the user '%s': its ids are %s and %s", name, u.Uid, u.Gid)
	}
	if os.Geteuid() != 0 || uid == 0 {
		return nil
	}
	if err := os.Chown(t.dir, int(uid), int(gid)); err != nil {
		return fmt.Errorf("give the sandbox %s to '%s': %v", filepath.Base(t.dir), name, err)
	}
	for _, f := range files {
		if err := f.Chown(int(uid), int(gid)); err != nil {
			return fmt.Errorf("give %s to '%s': %v", filepath.Base(f.Name()), name, err)
		}
	}
	t.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}
