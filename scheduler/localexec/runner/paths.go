//go:build linux

package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Names in the directory of a runner.
const (
	socketName  = "socket"
	lockName    = "LOCK"
	journalName = "journal"
	logsDir     = "logs"
	attemptsDir = "attempts"
	stateDir    = "state"
	stderrName  = "runner.log"
	inputName   = "input.json"
	outputName  = "output.json"
	workName    = "work"
	// heartbeatName is there for attempts that have to beat. Their directories are not used again: see [place.recycle].
	heartbeatName = "heartbeat"
	maxNameBytes  = 150
)

// LogName returns where the output of an attempt is, relative to the runner's directory: logs/<run>/<task>.<map index>.<try>.log. It depends
// on the id alone. Different ids have different names.
func LogName(attempt string) string {
	run, rest, _ := strings.Cut(attempt, ".")
	return filepath.Join(logsDir, safeName(run), safeName(rest)+".log")
}

// LogDir returns where the logs of a run's attempts are, relative to the runner's directory.
func LogDir(run string) string { return filepath.Join(logsDir, safeName(run)) }

// StateName returns where the tries of a task may keep what the next one is to find, relative to the runner's directory:
// state/<run>/<task>.<map index>. It is made by the first try that wants it, with what is above it, and removed with the run's, see package
// localexec: most tasks want none, and directories are what a start costs.
func StateName(run, task string, mapIndex int) string {
	return filepath.Join(stateDir, safeName(run), safeName(task+"."+strconv.Itoa(mapIndex)))
}

// States returns the runs that have state below the runner's directory dir. A name that is not the run's own id is left out: it could not be
// asked after.
func States(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var runs []string
	for _, e := range entries {
		if name := e.Name(); safeName(name) == name {
			runs = append(runs, name)
		}
	}
	return runs, err
}

// RemoveLogs removes the logs of a run.
func RemoveLogs(dir, run string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(LogDir(run)), root.Close())
}

// RemoveState removes what the tasks of a run have kept. It is safe while one of them runs: that one loses what it wrote.
func RemoveState(dir, run string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(filepath.Join(stateDir, safeName(run))), root.Close())
}

// StderrName returns where the runner of dir writes what it has to say.
func StderrName(dir string) string { return filepath.Join(dir, stderrName) }

func attemptName(attempt string) string { return filepath.Join(attemptsDir, safeName(attempt)) }

// safeName makes one path element of any text: letters, digits, '_', '-' and inner dots stay, other bytes become %xx, and a long name ends in
// '~' and its hash, which no other can have because '~' itself is escaped.
func safeName(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	switch name := b.String(); {
	case name == "":
		return "%"
	case len(name) > maxNameBytes:
		sum := sha256.Sum256([]byte(s))
		return name[:maxNameBytes] + "~" + hex.EncodeToString(sum[:16])
	default:
		return name
	}
}

// ExeID identifies the program in a file, so that two builds differ although their paths are the same.
func ExeID(path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", fmt.Errorf("identify program %q: %w", path, err)
	}
	return fmt.Sprintf("%d:%d:%d:%d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec), nil
}
