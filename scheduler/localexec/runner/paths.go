//go:build linux

package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// Names in the directory of a runner.
const (
	socketName   = "socket"
	lockName     = "LOCK"
	journalName  = "journal"
	logsDir      = "logs"
	attemptsDir  = "attempts"
	stderrName   = "runner.log"
	inputName    = "input.json"
	outputName   = "output.json"
	workName     = "work"
	maxNameBytes = 150
)

// LogName returns where the output of an attempt is, relative to the runner's directory: logs/<run>/<task>.<map index>.<try>.log. It depends
// on the id alone. Different ids have different names.
func LogName(attempt string) string {
	run, rest, _ := strings.Cut(attempt, ".")
	return filepath.Join(logsDir, safeName(run), safeName(rest)+".log")
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
