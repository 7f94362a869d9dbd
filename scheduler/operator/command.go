package operator

import (
	"errors"

	"millrace/scheduler"
)

var _ scheduler.Operator = Command{}

// Command runs argv as it stands, or a text through sh.
type Command struct{}

// Kind returns "command".
func (Command) Kind() string { return scheduler.KindCommand }

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
