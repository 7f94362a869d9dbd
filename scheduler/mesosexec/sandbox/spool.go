package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
)

// state is what is known of a spool, in the file beside it.
type state struct {
	V int `json:"v"`
	// Bytes of the spool are good, and Sum is their CRC-32C. What is behind them was written after this.
	Bytes int64  `json:"bytes"`
	Sum   uint32 `json:"sum"`
	// Files says how far the files of the sandbox are in the spool.
	Files map[string]mark `json:"files"`
	// Full says that the log has reached its bound, Ended that nothing more is collected, and Missing why it is not whole.
	Full    bool   `json:"full,omitempty"`
	Ended   bool   `json:"ended,omitempty"`
	Missing string `json:"missing,omitempty"`
	// Read says that Result has all but the log; Done, since when, that it has that as well.
	Read   bool      `json:"read,omitempty"`
	Done   time.Time `json:"done,omitzero"`
	Result Result    `json:"result"`
}

// mark is a place in a file: what is before Offset is in the spool, and Covered bytes behind it are the end of a secret that is masked there.
type mark struct {
	Offset  int64 `json:"offset"`
	Covered int   `json:"covered,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	spoolSuffix = ".log"
	stateSuffix = ".json"
	tempSuffix  = ".new"
)

// spool is the log of an attempt on this disk. It is for one goroutine; readers open the file themselves.
type spool struct {
	path string // without suffix
	state
	dirty bool
	saved time.Time
}

// spoolPath returns where the spool of an attempt is, without suffix; an error if it is no id of an attempt.
func spoolPath(dir, attempt string) (string, error) {
	run, rest, ok := strings.Cut(attempt, ".")
	if !ok || strings.Contains(attempt, "/") || batcher.CheckKey(run+"/"+rest) != nil {
		return "", fmt.Errorf("the attempt %q is not named as attempts are: %w", attempt, scheduler.ErrInvalid)
	}
	return filepath.Join(dir, run, rest), nil
}

// openSpool opens or makes the spool at path. One that does not agree with its state is begun anew.
func openSpool(path string) (*spool, error) {
	s := &spool{path: path}
	st, err := readState(path)
	if err == nil && st.Bytes > 0 && st.Done.IsZero() {
		err = st.check(path)
	}
	switch {
	case err == nil && !st.Done.IsZero():
		s.state = *st
		return s, nil // The spool itself may have been removed.
	case err == nil:
		s.state = *st
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errSpool):
		s.state = state{}
	default:
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s.V = 1
	if s.Files == nil {
		s.Files = map[string]mark{}
	}
	if err := s.fit(); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return s, nil
}

// fit makes the spool as long as its state says, empty if there is none.
func (s *spool) fit() error {
	f, err := os.OpenFile(s.path+spoolSuffix, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
			return err
		}
		f, err = os.OpenFile(s.path+spoolSuffix, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != s.Bytes {
		err = f.Truncate(s.Bytes)
	}
	return errors.Join(err, f.Close())
}

// errSpool says that a spool does not agree with its state, or that this can not be read.
var errSpool = errors.New("the spool is damaged")

func readState(path string) (*state, error) {
	text, err := os.ReadFile(path + stateSuffix)
	if err != nil {
		return nil, err
	}
	st := new(state)
	if err := json.Unmarshal(text, st); err != nil || st.V != 1 || st.Bytes < 0 {
		return nil, errSpool
	}
	return st, nil
}

// check compares the spool with its state.
func (st *state) check(path string) error {
	f, err := os.Open(path + spoolSuffix)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, io.LimitReader(f, st.Bytes))
	if err != nil {
		return err
	}
	if n != st.Bytes || sum.Sum32() != st.Sum {
		return errSpool
	}
	return nil
}

// write appends to the spool.
func (s *spool) write(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path+spoolSuffix, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	_, err = f.WriteAt(text, s.Bytes)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	s.Bytes += int64(len(text))
	s.Sum = crc32.Update(s.Sum, castagnoli, text)
	s.dirty = true
	return nil
}

// writeLine appends a line of its own.
func (s *spool) writeLine(text string) error {
	f, err := os.Open(s.path + spoolSuffix)
	if err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	var last [1]byte
	if s.Bytes > 0 {
		_, err = f.ReadAt(last[:], s.Bytes-1)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	if s.Bytes > 0 && last[0] != '\n' {
		text = "\n" + text
	}
	return s.write([]byte(text + "\n"))
}

// save writes the state.
func (s *spool) save() error {
	text, err := json.Marshal(&s.state)
	if err != nil {
		return fmt.Errorf("save state of spool: %w", err)
	}
	if err := os.WriteFile(s.path+tempSuffix, text, 0o600); err != nil {
		return fmt.Errorf("save state of spool: %w", err)
	}
	if err := os.Rename(s.path+tempSuffix, s.path+stateSuffix); err != nil {
		return fmt.Errorf("save state of spool: %w", err)
	}
	s.dirty, s.saved = false, time.Now()
	return nil
}

// removeSpool removes all of a spool. A spool without its state is begun anew, so the state goes first.
func removeSpool(path string) error {
	var errs []error
	for _, suffix := range []string{tempSuffix, stateSuffix, spoolSuffix} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	_ = os.Remove(filepath.Dir(path)) // if it was the last of its run
	return errors.Join(errs...)
}
