package engine

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"millrace/scheduler"
	"millrace/trigger"
)

// TestGate: dispatch is shown which groups have a place, as it is after each commit and after a restart, and told when one becomes free.
func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\nconcurrency: {when_full: coalesce, max_runs: 2, group: '${{ trigger.lane_key }}'}\n" +
			"params: {p: {default: 1}}\non: [{id: r, batch: {}, key: batch.source}, {id: n, cron: '@daily'}]\ntasks: {a: {run: x}}",
			"b.yaml": "dag: b\nconcurrency: 1\non: [{id: latest, batch: {}, order: latest_only}, {id: any, batch: {}}]\ntasks: {a: {run: x}}"}
		f := newFixture(t, files)
		f.world.play(runs)
		gated := map[string]bool{}
		var rule trigger.Rule
		set, _ := f.e.Rules()
		for _, r := range set.Rules {
			if gated[r.Name()] = r.Gated; r.ID == "r" {
				rule = r
			}
		}
		want(t, gated, map[string]bool{"a/r": true, "a/n": false, "b/latest": true, "b/any": false})
		free := func(key string, n int) {
			t.Helper()
			group := f.e.Group(&rule, key)
			if got := f.e.Free(group); got != n || group != "a/"+key {
				t.Errorf("group %q: got %d free places, want %d in a/%s", group, got, n, key)
			}
			switch why, err := f.e.WhyFull(t.Context(), &rule, key); {
			case err != nil:
				t.Error(err)
			case n > 0 && why != nil:
				t.Errorf("got %+v, want no reason", why)
			case n <= 0 && (why == nil || why.Code != scheduler.CodeConcurrency || why.Used != 2 || len(why.On) != 2 || !strings.Contains(why.Text, "takes 2 runs at a time")):
				t.Errorf("got %+v, want who has the places", why)
			}
		}
		var ids []string
		for n := range 3 {
			b := testBatch(n + 1)
			fire := trigger.Firing{Kind: trigger.KindBatch, DAG: "a", Rule: "r", Key: b.ID, Version: rule.Version, LaneKey: "web"}
			fire.Batches = append(fire.Batches, b)
			free("web", 2-n)
			opened := f.e.Opened()
			if err := f.e.Start(context.Background(), trigger.Intake{Gen: set.Gen, Firings: []trigger.Firing{fire}}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-opened:
				t.Error("told of a place when one was taken")
			default:
			}
			ids = append(ids, fire.RunID())
		}
		free("web", -1)
		free("app", 2)
		f.restart(files)
		free("web", -1)
		opened := f.e.Opened()
		f.end(ids[0], "a")
		select {
		case <-opened:
		default:
			t.Error("not told that there is more room")
		}
		free("web", 0)
		opened = f.e.Opened()
		f.setDAGs(map[string]string{"a.yaml": strings.Replace(files["a.yaml"], "max_runs: 2", "max_runs: 5", 1), "b.yaml": files["b.yaml"]})
		synctest.Wait()
		select {
		case <-opened:
		default:
			t.Error("not told of a higher limit")
		}
		free("web", 3)
		for _, id := range ids[1:] {
			f.end(id, "a")
		}
		free("web", 5)
	})
}
