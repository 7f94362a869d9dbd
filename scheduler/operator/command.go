// Package operator turns tasks into commands. There is one kind so far, "command": what stands under `run` in a DAG file.
//
// Operators are pure: equal tasks give equal commands, and nothing is looked up, so a compiled task can be shown before it runs.
package operator

import (
	"errors"

	"millrace/scheduler"
)

var _ scheduler.Operator = Command{}

// Command runs argv as it stands, or a text through sh.
type Command struct{}

// Kind returns "command".
func (Command) Kind() string { return "command" }

// Validate implements scheduler.Operator.
func (Command) Validate(t *scheduler.Task) error {
	switch {
	case t.Shell != "" && len(t.Run) > 0:
		return errors.New("a command has either arguments or a shell text, not both")
	case t.Shell == "" && (len(t.Run) == 0 || t.Run[0] == ""):
		return errors.New("a command needs a program to run")
	}
	return nil
}

// Compile implements scheduler.Operator. A shell text is one argument of sh, so nothing in it is split or expanded before sh reads it.
func (c Command) Compile(t *scheduler.Task) ([]string, error) {
	if err := c.Validate(t); err != nil {
		return nil, err
	}
	if t.Shell != "" {
		return []string{"sh", "-c", t.Shell}, nil
	}
	return t.Run, nil
}

// All returns the operators that are built in, by kind.
func All() map[string]scheduler.Operator {
	return map[string]scheduler.Operator{Command{}.Kind(): Command{}}
}
