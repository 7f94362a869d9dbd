package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// TestLargeList: the outputs of a mapped task are small, and their list is not: it goes through the object store to the task that comes next, which waits while
// the store is away.
func TestLargeList(t *testing.T) {
	t.Parallel()
	const n = 20_000
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.stop()
		s := &shelf{bodies: map[string]string{}, away: 1}
		f.world.set(func() { f.world.slots = 64 })
		e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{}, Outputs: s})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{"wide.yaml": fmt.Sprintf("dag: wide\ntasks:\n"+
			"  load: {run: x, foreach: {items: lists.range(%d), max_concurrent: 64}}\n"+
			"  sum: {run: x, needs: load}\n", n)})
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			rep := scheduler.Report{Outcome: scheduler.OutcomeExited, StartedAt: time.Now(), EndedAt: time.Now()}
			if l.Task == "load" && l.MapIndex != 3 {
				rep.Output = fmt.Appendf(nil, `{"rows":%d}`, l.MapIndex)
			}
			return []scheduler.Report{rep}
		})
		d := f.wait(f.trigger("wide", "1", "{}").ID)
		var load, sum *scheduler.TaskRun
		for i := range d.Tasks {
			switch t := &d.Tasks[i]; {
			case t.Task == "load" && t.MapIndex == scheduler.NoMap:
				load = t
			case t.Task == "sum":
				sum = t
			}
		}
		if load.State != scheduler.StateSuccess || sum.State != scheduler.StateSuccess || !strings.Contains(load.Reason, "below upstream_refs") {
			t.Fatalf("got load %s (%s), sum %s (%s)", load.State, load.Reason, sum.State, sum.Reason)
		}
		if sum.Lost != 1 || s.away != 0 {
			t.Errorf("got %d attempts lost to a store that was away, want 1", sum.Lost)
		}
		id := sum.AttemptID(sum.Try)
		var doc scheduler.Input
		if err := json.Unmarshal(f.world.attempts[id].launch.Input, &doc); err != nil {
			t.Fatal(err)
		}
		if _, near := doc.Upstream["load"]; near || doc.UpstreamRefs["load"].URI != "s3://bucket/"+id || doc.UpstreamRefs["load"].Bytes != int64(len(s.bodies[id])) {
			t.Errorf("sum was told %+v, %s", doc.UpstreamRefs, doc.Upstream)
		}
		var list []*struct{ Rows int }
		if err := json.Unmarshal([]byte(s.bodies[id]), &list); err != nil || len(list) != n || list[3] != nil || list[n-1].Rows != n-1 {
			t.Errorf("got a list of %d, %v", len(list), err)
		}
	})
}
