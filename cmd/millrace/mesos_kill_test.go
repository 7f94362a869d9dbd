package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesossim"
)

// mesosDAG maps a task over numbers on Mesos; each execution adds a line to a file of its attempt in @DIR. @ITEMS is replaced.
const mesosDAG = `dag: spread
on: [{manual: true}]
defaults: {executor: mesos}
env: {DIR: "@DIR"}
params: {items: [@ITEMS]}
tasks:
  each:
    foreach: {items: params.items}
    resources: {cpu: 0.1, mem: 16MiB}
    infra_retry: 5
    run: |
      echo >> "$DIR/each.$MILLRACE_MAP_INDEX.$MILLRACE_TRY"
      while [ ! -e "$DIR/gate" ]; do sleep 0.2; done
      echo "number $MILLRACE_MAP_INDEX"
      echo "{\"n\": $MILLRACE_MAP_INDEX}" > "$MILLRACE_OUTPUT"
  sum:
    needs: each
    run: cat "$MILLRACE_INPUT" > "$MILLRACE_OUTPUT"
`

// onMesos starts a double of a cluster in this process, and returns the environment of a server that uses it.
func onMesos(t *testing.T, opt mesossim.Options) (*mesossim.Cluster, []string) {
	t.Helper()
	opt.Dir = t.TempDir()
	sim, err := mesossim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim, []string{"MILLRACE_EXECUTORS__MESOS__MASTERS=" + strings.Join(sim.Masters(), ","), "MILLRACE_EXECUTORS__MESOS__SETTLE=15s"}
}

// TestMesosOverKills: a server with hundreds of tasks on a cluster is killed again and again, at any moment of launching them, of their running and of their
// ends. None is lost, executed twice or left behind, and each has its log and its output.
func TestMesosOverKills(t *testing.T) {
	t.Parallel()
	mesosOverKills(t, 120, 6)
}

func mesosOverKills(t *testing.T, items, kills int) {
	t.Helper()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	agents := make([]mesossim.AgentOptions, 5)
	for i := range agents {
		agents[i].Resources = mesossim.Resources(float64(items)/10/float64(len(agents))*3/4, 8192, 20480) // three quarters of them fit at once
	}
	sim, env := onMesos(t, mesossim.Options{Agents: agents, Allocation: 50 * time.Millisecond, Retry: time.Second, Heartbeat: 5 * time.Second})
	dir := t.TempDir()
	dag := strings.NewReplacer("@DIR", dir, "@ITEMS", numbersTo(items)).Replace(mesosDAG)
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"spread.yaml": dag}))
	s.env = append(s.env, env...)
	s.start()
	s.head("spread", func(h scheduler.DAGHead) bool { return h.Version != "" || h.Error != "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "spread")
	executed := func() int {
		files, err := filepath.Glob(filepath.Join(dir, "each.*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	s.waitFor("executing the first tasks", func() bool { return executed() > 0 })
	for i := range kills {
		at := time.Now().Add(time.Duration(rng.IntN(300)) * time.Millisecond)
		s.waitFor("having lived for a while", func() bool { return time.Now().After(at) })
		s.kill()
		s.start()
		if i == kills/2 {
			s.waitFor("executing half of the tasks", func() bool { return executed() >= items/2 })
			write(t, filepath.Join(dir, "gate"), "") // from here on they end
		}
	}
	if _, code := s.cli("runs", "wait", r.ID); code != exitOK {
		text, _ := s.cli("mesos", "status")
		explained, _ := s.cli("explain", "run", r.ID)
		t.Errorf("runs wait: exit %d\n%s\n%s", code, text, explained)
	}
	s.onlyOnce(dir, r.ID, items)
	for _, one := range sim.Tasks() {
		if !one.State.Terminal() {
			t.Errorf("task %s is left behind as %s", one.ID, one.State)
		}
	}
	var v mesosexec.View
	s.cliJSON(&v, "mesos", "status")
	if !v.Subscribed || v.Hold != "" || len(v.Tasks) != 0 {
		t.Errorf("in the end the executor is %+v", v)
	}
}

// onlyOnce requires that each item was executed by the attempt that succeeded, and by no other; that its log is there, and that the sum has its output.
func (s *server) onlyOnce(dir, run string, items int) {
	s.t.Helper()
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "show", run)
	lost := 0
	for _, a := range d.Attempts {
		name := fmt.Sprintf("each.%d.%d", a.MapIndex, a.Try)
		text, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case a.Task != "each":
		case a.State == scheduler.StateSuccess && (err != nil || len(text) != 1):
			s.t.Errorf("%s succeeded, and was executed %d times (%v)", name, len(text), err)
		case a.State != scheduler.StateSuccess:
			if lost++; err == nil {
				s.t.Errorf("%s ended as %s (%s), and was executed", name, a.State, a.Reason)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "each.*"))
	if err != nil || len(files) != items {
		s.t.Errorf("%d executions, want %d (%v)", len(files), items, err)
	}
	s.t.Logf("measured: %d items, %d attempts that were lost before they were started", items, lost)
	// The command shows the first hundred; the others are archived like them.
	logs, code := s.cli("runs", "logs", run, "--task", "each")
	if n := strings.Count(logs, "number "); code != exitOK || n != min(items, 100) {
		s.t.Errorf("logs: exit %d, %d of %d items", code, n, items)
	}
	if files, err := filepath.Glob(filepath.Join(s.dir, "objects", "_millrace", "logs", run, "each.*", "log.gz")); err != nil || len(files) != items {
		s.t.Errorf("%d logs are archived, want %d (%v)", len(files), items, err)
	}
	out, code := s.cli("tasks", "output", run, "sum")
	if n := strings.Count(out, `"n":`); code != exitOK || n != items {
		s.t.Errorf("output of sum: exit %d, %d of %d outputs: %.300s", code, n, items, out)
	}
}
