package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

// State is what the tries of one task in one run share: values in JSON by key, such as the id of a job that was submitted, so that the next
// try finds the job instead of submitting another. It is there until the run has ended. Safe for concurrent use within one attempt.
//
// Each value is a file of its own, <key>.json, which the Python package reads too. A Put that has returned survives the process and the
// machine; one that was interrupted leaves the value of before.
type State struct {
	dir    string
	mu     sync.Mutex // guards memory, which stands for the directory if dir is ""
	memory map[string][]byte
}

var keyRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Get reads the value of key into out, and reports whether there is one.
func (s *State) Get(key string, out any) (bool, error) {
	text, err := s.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return false, fmt.Errorf("get state %q: %w", key, err)
	}
	return true, nil
}

// Put sets the value of key, durably. A key has at most 100 letters, digits, '.', '_' and '-', and starts with a letter or a digit.
func (s *State) Put(key string, value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		err = s.write(key, text)
	}
	if err != nil {
		return fmt.Errorf("put state %q: %w", key, err)
	}
	return nil
}

// Delete removes the value of key, if there is one.
func (s *State) Delete(key string) error {
	path, err := s.path(key)
	if err == nil && s.dir == "" {
		s.mu.Lock()
		delete(s.memory, key)
		s.mu.Unlock()
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("delete state %q: %w", key, err)
	}
	return nil
}

func (s *State) path(key string) (string, error) {
	if !keyRule.MatchString(key) {
		return "", errors.New("a key starts with a letter or a digit and has at most 100 letters, digits, '.', '_' and '-'")
	}
	return filepath.Join(s.dir, key+".json"), nil
}

func (s *State) read(key string) ([]byte, error) {
	path, err := s.path(key)
	if err != nil || s.dir != "" {
		return readIf(path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.memory[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return text, nil
}

func readIf(path string, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// write makes the file beside its place and then moves it there: a reader finds the old value or the new one.
func (s *State) write(key string, text []byte) error {
	path, err := s.path(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" {
		s.memory[key] = text
		return nil
	}
	// The directory is the task's to make: most tasks have no state, and then it costs nothing.
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, "."+key+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(s.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
