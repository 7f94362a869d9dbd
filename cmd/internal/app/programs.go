package app

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/spec"
)

// askTime is how long a program may take to say what its DAGs are, when a person waits for it.
const askTime = time.Minute

// AskDAGs is CheckDAGs for a program of the DAG directory: it runs the file. So it is for files that the user of this process has named, never
// for names that came over a network.
func AskDAGs(file string) ([]scheduler.DAG, []spec.Warning, error) {
	f := spec.Ask(context.Background(), filepath.Base(file), file, askTime)
	if len(f.Faults) > 0 {
		return nil, f.Warnings, errors.New(f.Faults.Detail())
	}
	return f.DAGs, f.Warnings, nil
}
