package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func checkPorts(_ context.Context, e *Env) []Finding {
	return []Finding{
		checkPort("ingest.listen", e.Config.Ingest.Listen, e.Config.Data(".")),
		checkPort("console.listen", e.Config.Console.Listen, e.Config.Data(".")),
	}
}

func checkPort(key, addr, dataDir string) Finding {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		_ = ln.Close()
		return ok("%s %s is free", key, addr)
	}
	other := "choose another address with " + key + " (" + variable(key) + ")"
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		pid, who := owner(addr)
		if pid > 0 && holds(pid, dataDir) {
			return ok("%s %s is taken by the server of this data directory (pid %d)", key, addr, pid)
		}
		if pid == 0 {
			return Finding{Result: Fail, Why: fmt.Sprintf("%s %s is taken", key, addr), Fix: "find out by whom (as root: ss -ltnp), end it, or " + other}
		}
		return Finding{Result: Fail, Why: fmt.Sprintf("%s %s is taken by pid %d: %s", key, addr, pid, who), Fix: fmt.Sprintf("end it (kill %d), or %s", pid, other)}
	case errors.Is(err, unix.EACCES):
		return Finding{Result: Fail, Why: fmt.Sprintf("%s %s: ports below 1024 are for root", key, addr), Fix: "permit it (setcap cap_net_bind_service=+ep on the binary, AmbientCapabilities in systemd), or " + other}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return Finding{Result: Fail, Why: fmt.Sprintf("%s %s: this machine has no such address", key, addr), Fix: other}
	}
	return Finding{Result: Fail, Why: fmt.Sprintf("%s %s: %v", key, addr, err), Fix: other}
}

// owner returns the process that listens at addr and its command line, as far as /proc tells; 0 if not.
func owner(addr string) (pid int, command string) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, ""
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return 0, ""
	}
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for _, inode := range listeners(string(text), number) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || !sockets[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			line, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may have ended
			return pid, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return 0, ""
}

// listeners returns the inodes of the sockets that listen on a port, from the text of /proc/net/tcp (proc_pid_net(5)).
func listeners(table string, port int) []string {
	const listening = "0A"
	var out []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != listening {
			continue
		}
		_, hexPort, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseInt(hexPort, 16, 32); err == nil && int(n) == port {
			out = append(out, f[9])
		}
	}
	return out
}

// holds reports whether a process has a file below dir open.
func holds(pid int, dir string) bool {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, abs+string(filepath.Separator)) {
			return true
		}
	}
	return false
}
