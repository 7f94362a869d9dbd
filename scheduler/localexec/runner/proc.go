//go:build linux

package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exitStatus is how a process ended.
type exitStatus struct {
	known bool
	ws    unix.WaitStatus
	at    time.Time
}

// procStat is what we use of /proc/<pid>/stat; proc_pid_stat(5).
type procStat struct {
	state byte
	ppid  int
	pgid  int
	start uint64
}

func readStat(pid int) (procStat, error) {
	var buf [1024]byte // The fields are numbers, and a name of at most 64 bytes.
	data, err := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	if err != nil {
		return procStat{}, err
	}
	// The name of the program is in parentheses and may contain anything, parentheses too.
	_, rest, ok := bytes.Cut(data, []byte("("))
	i := bytes.LastIndexByte(rest, ')')
	if !ok || i < 0 {
		return procStat{}, fmt.Errorf("read stat of process %d: no name in %q", pid, data)
	}
	f := strings.Fields(string(rest[i+1:]))
	if len(f) < 20 {
		return procStat{}, fmt.Errorf("read stat of process %d: %d fields", pid, len(f))
	}
	var st procStat
	var errs [3]error
	st.state = f[0][0]
	st.ppid, errs[0] = strconv.Atoi(f[1])
	st.pgid, errs[1] = strconv.Atoi(f[2])
	st.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	return st, errors.Join(errs[:]...)
}

// readSmall reads a file of /proc with three calls, where os.ReadFile takes seven: one is read for each process that is started.
func readSmall(name string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	n, err := unix.Read(fd, buf)
	_ = unix.Close(fd) // only read
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return buf[:n], nil
}

func (st procStat) dead() bool { return st.state == 'Z' || st.state == 'X' }

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

func identify(pid int, boot string) (*process, error) {
	st, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	return &process{PID: pid, Start: st.start, Boot: boot, At: time.Now().UTC()}, nil
}

// alive reports whether p still exists, as a zombie too: neither the machine was started anew nor the pid given to another.
func (p *process) alive(boot string) (procStat, bool) {
	if p.Boot != boot {
		return procStat{}, false
	}
	st, err := readStat(p.PID)
	return st, err == nil && st.start == p.Start
}

// allPIDs lists the processes.
func allPIDs() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// groupEmpty reports whether a group has no process, not even a zombie.
func groupEmpty(pgid int) bool { return errors.Is(unix.Kill(-pgid, 0), unix.ESRCH) }

// groupDead reports whether no process of a group can run any more. Zombies that are not ours to reap may remain.
func groupDead(pgid int) bool {
	pids, err := allPIDs()
	if err != nil {
		return false
	}
	for _, pid := range pids {
		if st, err := readStat(pid); err == nil && st.pgid == pgid && !st.dead() {
			return false
		}
	}
	return true
}

// exitedChild returns a child that has ended and was not reaped, 0 if there is none. Until it is reaped, its pid is not given to another.
func exitedChild() int {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || info.Signo == 0 {
			return 0
		}
		// si_pid is the first member of the union behind si_code, which is aligned like a pointer.
		const word = unsafe.Sizeof(uintptr(0))
		at := (unsafe.Offsetof(info.Code) + unsafe.Sizeof(info.Code) + word - 1) &^ (word - 1)
		return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), at)))
	}
}

// reap takes the exit status of an ended child.
func reap(pid int) exitStatus {
	st := exitStatus{at: time.Now().UTC()}
	for {
		got, err := unix.Wait4(pid, &st.ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		st.known = err == nil && got == pid
		return st
	}
}

// reapTime is how long the parent of a process that is not ours may take to reap it, before its exit status counts as unknown.
const reapTime = 2 * time.Second

// awaitOther returns when a process that is not a child has ended, or done is closed. Linux ≥ 6.15 keeps the exit status for those who held
// a pidfd (PIDFD_GET_INFO); elsewhere it stays unknown.
func awaitOther(pidfd *os.File, done <-chan struct{}) exitStatus {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return exitStatus{at: time.Now().UTC()}
	}
	_ = conn.Read(func(fd uintptr) bool { // Parks in the poller: no thread is held. Close ends it.
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	st := exitStatus{at: time.Now().UTC()}
	for deadline := st.at.Add(reapTime); ; {
		_ = conn.Control(func(fd uintptr) {
			info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
			if err := unix.IoctlPidfdInfo(int(fd), &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
				st.known, st.ws = true, unix.WaitStatus(info.Exit_code)
			}
		})
		if st.known || time.Now().After(deadline) {
			return st
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-done:
			return st
		}
	}
}

// openPIDFD returns a file that becomes readable when the process ends, in the poller of the Go runtime.
func openPIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}
