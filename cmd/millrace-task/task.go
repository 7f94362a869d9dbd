package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"millrace/scheduler/mask"
)

// Names of an attempt's files below its directory; executors know them.
const (
	inputName     = "millrace-input.json"
	outputName    = "millrace-output"
	heartbeatName = "millrace-heartbeat"
	stateName     = "millrace-state"
	refusedName   = "millrace-refused"
)

const (
	dirMode  fs.FileMode = 0o755
	fileMode fs.FileMode = 0o644
)

// task is one attempt.
type task struct {
	*options
	log    *os.File
	masker *mask.Masker
}

func (t *task) path(name string) string { return filepath.Join(t.dir, name) }

// prepare makes the files of the attempt and completes the environment. Files that the executor has made are taken as they are.
func (t *task) prepare() error {
	var err error
	if t.dir, err = filepath.Abs(t.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(t.dir, dirMode); err != nil {
		return fmt.Errorf("make the directory of the attempt: %w; name another with --dir or MILLRACE_DIR", err)
	}
	if err := t.writeInput(); err != nil {
		return err
	}
	if t.output == "" {
		t.output = t.path(outputName)
	}
	if t.state == "" {
		t.state = t.path(stateName)
	}
	if t.heartbeat > 0 && t.heartbeatFile == "" {
		t.heartbeatFile = t.path(heartbeatName)
	}
	for _, name := range []string{t.output, t.heartbeatFile} {
		if name == "" {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, fileMode)
		if err != nil {
			return fmt.Errorf("make a file of the task contract: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("make a file of the task contract: %w", err)
		}
	}
	for name, val := range map[string]string{
		"MILLRACE_INPUT": t.input, "MILLRACE_OUTPUT": t.output, "MILLRACE_STATE": t.state, "MILLRACE_HEARTBEAT": t.heartbeatFile, "MILLRACE_FETCHED": t.fetch,
	} {
		if val != "" {
			t.env = append(t.env, name+"="+val)
		}
	}
	return nil
}

// writeInput makes the file of the input document. Without one, as when a person tries an image, the program has none.
func (t *task) writeInput() error {
	var err error
	if t.fetch != "" {
		if t.fetch, err = filepath.Abs(t.fetch); err != nil {
			return err
		}
	}
	if t.data == "" && t.packed != "" {
		if t.data, err = unpack(t.packed); err != nil {
			return fmt.Errorf("unpack MILLRACE_INPUT_GZIP: %w", err)
		}
	}
	if t.data != "" {
		if !json.Valid([]byte(t.data)) {
			return fmt.Errorf("the input document in the environment (%d bytes) is not JSON: a piece MILLRACE_INPUT_0, _1 … may be missing", len(t.data))
		}
		t.input = t.path(inputName)
		if err := os.WriteFile(t.input, []byte(t.data), fileMode); err != nil {
			return fmt.Errorf("write the input document: %w", err)
		}
		return nil
	}
	if t.input == "" {
		if t.fetch != "" {
			return errors.New("there is nothing to fetch without an input document: set MILLRACE_INPUT or MILLRACE_INPUT_DATA, or --input")
		}
		return nil
	}
	if t.input, err = filepath.Abs(t.input); err != nil {
		return err
	}
	if _, err := os.Stat(t.input); err != nil {
		return fmt.Errorf("find the input document: %w", err)
	}
	return nil
}
