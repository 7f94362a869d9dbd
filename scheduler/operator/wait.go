package operator

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"millrace/scheduler"
)

var _ scheduler.Configured = Wait{}

// Wait waits until there is an object.
type Wait struct{ opts Options }

// MinPoll is the least time from one look to the next.
const MinPoll = 100 * time.Millisecond

// Kind returns "wait".
func (Wait) Kind() string { return scheduler.KindWait }

// Validate implements scheduler.Operator.
func (Wait) Validate(t *scheduler.Task) error {
	switch w := t.Wait; {
	case w == nil:
		return errors.New("there is no wait")
	case w.Object == "":
		return errors.New("wait names no object")
	case w.Poll < MinPoll:
		return fmt.Errorf("poll is %v, want at least %v", w.Poll, MinPoll)
	case t.Timeout.Run <= 0:
		return errors.New("a task that waits needs a timeout: it holds a slot until the object is there")
	}
	return nil
}

// Compile implements scheduler.Operator.
func (o Wait) Compile(t *scheduler.Task) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	return o.opts.argv(o.Kind()), nil
}

// Settings implements scheduler.Configured.
func (o Wait) Settings(t *scheduler.Task, eval scheduler.Eval) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	w := *t.Wait
	var err error
	if w.Object, err = eval.Text(w.Object, nil); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	if err := checkPlace(w.Object); err != nil {
		return nil, err
	}
	list, err := pack(Envelope{Wait: &w, Objects: o.opts.Objects})
	if _, file := File(w.Object); file {
		return list, err // needs no store
	}
	return append(list, o.opts.ObjectsEnv...), err
}

// checkPlace refuses what a value could lead elsewhere with.
func checkPlace(object string) error {
	for _, segment := range strings.Split(object, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("object %q has the part %q, which leads elsewhere", object, segment)
		}
	}
	if strings.ContainsFunc(object, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("object %q has a control character", object)
	}
	return nil
}

// File returns the path that an object names, if it is a file: an absolute path, or a file URI. A URI of a directory store is one.
func File(object string) (string, bool) {
	if filepath.IsAbs(object) {
		return object, true
	}
	if u, err := url.Parse(object); err == nil && u.Scheme == "file" && u.Host == "" && u.Path != "" {
		return u.Path, true
	}
	return "", false
}
