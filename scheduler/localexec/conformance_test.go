//go:build linux

package localexec_test

import (
	"sync"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
	"millrace/scheduler/schedulertest"
)

func TestExecutorConformance(t *testing.T) {
	t.Parallel()
	var opened sync.Map // A test opens its directory again; its last cleanup is for the end of both.
	schedulertest.TestExecutor(t, func(t *testing.T, dir string) scheduler.Executor {
		t.Helper()
		e, err := localexec.New(dir, localexec.Options{RunnerArgv: argv(), Wait: waitTime})
		must(t, err)
		if _, again := opened.LoadOrStore(dir, true); !again {
			t.Cleanup(func() { awaitNoRunner(t, dir) })
		}
		return e
	})
}
