package operator

import (
	"errors"
	"fmt"

	"millrace/scheduler"
)

var _ scheduler.Configured = Use{}

// Use executes an operator of somebody else, an executable that speaks the protocol of programs that describe DAGs:
//
//	describe         prints its description and the JSON Schema of its settings
//	run-task <task>  executes a task, within the task contract; its settings are in [Variable], an [Envelope] with Use and With
type Use struct{}

// Kind returns "use".
func (Use) Kind() string { return scheduler.KindUse }

// Validate implements scheduler.Operator.
func (Use) Validate(t *scheduler.Task) error {
	switch {
	case t.Use == nil:
		return errors.New("there is no use")
	case t.Use.Program == "":
		return fmt.Errorf("operator %q has no program here: its file, %[1]s.op, belongs into the DAG directory of the server", t.Use.Name)
	}
	return nil
}

// Compile implements scheduler.Operator.
func (o Use) Compile(t *scheduler.Task) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	return []string{t.Use.Program, "run-task", t.ID}, nil
}

// Settings implements scheduler.Configured.
func (o Use) Settings(t *scheduler.Task, eval scheduler.Eval) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	with, err := FillJSON(t.Use.With, eval)
	if err != nil {
		return nil, fmt.Errorf("with: %w", err)
	}
	return pack(Envelope{Use: t.Use.Name, With: with})
}
