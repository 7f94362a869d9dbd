package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// puts is the script of tasks that put out what the function says.
func puts(out func(l scheduler.Launch) string) func(scheduler.Launch) []scheduler.Report {
	return func(l scheduler.Launch) []scheduler.Report {
		return []scheduler.Report{{Outcome: scheduler.OutcomeExited, StartedAt: time.Now(), EndedAt: time.Now(), Output: []byte(out(l))}}
	}
}

const cacheDAG = `
dag: cached
params: {day: {type: string, default: mon}}
tasks:
  make: {run: x, cache: {key: params.day, ttl: 1h}}
  take: {run: [x, "${{ tasks.make.output.by }}"], needs: make}
`

// TestCache: a second run with the same key executes nothing of the task that has a cache; another key, a clear, an expired entry, another form of
// the task and a restart are what they should be.
func TestCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"cached.yaml": cacheDAG})
		f.world.play(puts(func(l scheduler.Launch) string { return fmt.Sprintf(`{"by": %q}`, l.ID) }))
		run := func(id, day string) *scheduler.RunDetail {
			t.Helper()
			return f.wait(f.trigger("cached", id, `{"day": "`+day+`"}`).ID)
		}
		first := run("1", "mon")
		if got := states(first); got != "success make=success take=success" || len(first.Attempts) != 2 {
			t.Fatalf("the first run: got %s with %d attempts", got, len(first.Attempts))
		}
		second := run("2", "mon")
		made, taken := first.Tasks[0], second.Tasks[0]
		if states(second) != states(first) || len(second.Attempts) != 1 || taken.Try != 0 || string(taken.Output) != string(made.Output) ||
			taken.CachedFrom != made.ID()+".1" || taken.Reason != "cached from run "+first.Run.ID+", try 1" || taken.EndedAt.IsZero() {
			t.Errorf("the second run has %d attempts, and the task is %+v", len(second.Attempts), taken)
		}
		if argv := f.world.attempts[second.Tasks[1].AttemptID(1)].launch.Argv; argv[1] != made.AttemptID(1) {
			t.Errorf("the next task was told %q, want what the first run's task put out", argv)
		}
		if why, err := f.e.Explain(t.Context(), second.Run.ID); err != nil || !strings.Contains(why.Tasks[0].Why.Text, "cached from run "+first.Run.ID) {
			t.Errorf("explain: got %+v, %v", why, err)
		}
		if other := run("3", "tue"); other.Tasks[0].CachedFrom != "" || len(other.Attempts) != 2 {
			t.Errorf("another key: got %+v", other.Tasks[0])
		}

		f.clear(second.Run.ID, scheduler.Clear{Tasks: []string{"make"}, Downstream: true})
		cleared := f.wait(second.Run.ID)
		if made := cleared.Tasks[0]; made.Try != 1 || made.CachedFrom != "" || made.Reason != "" || !strings.Contains(string(made.Output), second.Run.ID) {
			t.Errorf("a task that was cleared: got %+v, want it executed", made)
		}
		if again := run("4", "mon"); again.Tasks[0].CachedFrom != second.Tasks[0].ID()+".1" {
			t.Errorf("after the clear: got %q, want the newer output", again.Tasks[0].CachedFrom)
		}

		f.stop()
		f.start()
		f.setDAGs(map[string]string{"cached.yaml": cacheDAG})
		if d := run("5", "mon"); d.Tasks[0].CachedFrom == "" {
			t.Error("a restart forgot the cache")
		}
		f.setDAGs(map[string]string{"cached.yaml": strings.Replace(cacheDAG, "make: {run: x", "make: {run: y", 1)})
		if d := run("6", "mon"); d.Tasks[0].CachedFrom != "" {
			t.Error("the task is another, and took an output of the old one")
		}
		time.Sleep(time.Hour)
		if d := run("7", "mon"); d.Tasks[0].CachedFrom != "" {
			t.Error("an entry was taken after its time")
		}
		f.world.play(failing("make"))
		f.wait(f.trigger("cached", "8", `{"day": "wed"}`).ID)
		f.world.play(nil)
		if d := run("9", "wed"); d.Tasks[0].CachedFrom != "" {
			t.Error("what failed was taken")
		}
	})
}

// A task whose key has no value fails and says so, and a run that waits for its place in a group takes nothing before it has it.
func TestCacheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{
			"bad.yaml":   "dag: bad\ntasks: {a: {run: x, cache: {key: batch.id}}}",
			"alone.yaml": "dag: alone\nconcurrency: 1\ntasks: {a: {run: x, cache: {key: \"'k'\"}}, b: {run: x, needs: a}}",
		})
		d := f.wait(f.trigger("bad", "1", "{}").ID)
		if got := states(d); got != "failed a=failed" || !strings.Contains(d.Run.Reason, "cache.key: ") || !strings.Contains(d.Run.Reason, "this run has no batch") {
			t.Errorf("got %s, %q", got, d.Run.Reason)
		}
		f.wait(f.trigger("alone", "1", "{}").ID)
		f.world.play(runs)
		holder := f.trigger("alone", "2", "{}").ID
		f.until(holder, func(d *scheduler.RunDetail) bool { return d.Tasks[1].State == scheduler.StateRunning })
		waits := f.trigger("alone", "3", "{}").ID
		synctest.Wait()
		if d, err := f.store.Run(t.Context(), waits); err != nil || states(d) != "queued a=scheduled b=none" {
			t.Errorf("without a place: got %s, %v", states(d), err)
		}
		if _, err := f.e.Cancel(t.Context(), holder); err != nil {
			t.Fatal(err)
		}
		d = f.until(waits, func(d *scheduler.RunDetail) bool { return d.Tasks[1].State == scheduler.StateRunning })
		if d.Tasks[0].CachedFrom == "" || d.Run.State != scheduler.StateRunning {
			t.Errorf("with its place: got %s", states(d))
		}
		if _, err := f.e.Cancel(t.Context(), waits); err != nil {
			t.Fatal(err)
		}
		f.wait(waits)
	})
}

// shelf is an object store that may be away.
type shelf struct {
	mu     sync.Mutex // guards the two
	bodies map[string]string
	away   int // so many calls fail
}

func (s *shelf) Put(_ context.Context, attempt string, body []byte, _ time.Time) (*scheduler.OutputRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away > 0 {
		s.away--
		return nil, scheduler.ErrUnavailable
	}
	s.bodies[attempt] = string(body)
	return &scheduler.OutputRef{Ref: attempt, SHA256: "00", Bytes: int64(len(body))}, nil
}

func (s *shelf) Get(_ context.Context, ref scheduler.OutputRef) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away > 0 {
		s.away--
		return nil, scheduler.ErrUnavailable
	}
	return []byte(s.bodies[ref.Ref]), nil
}

func (s *shelf) URI(ref scheduler.OutputRef) string { return "s3://bucket/" + ref.Ref }

// large is a report with an output in the object store.
func large(key string, bytes int64) scheduler.Report {
	return scheduler.Report{Outcome: scheduler.OutcomeExited, StartedAt: time.Now(), EndedAt: time.Now(),
		OutputRef: &scheduler.OutputRef{Ref: key, SHA256: "00", Bytes: bytes}}
}

const schemaDAG = `
dag: checked
tasks:
  a: {run: x, retry: 1, output: {schema: {type: object, required: [n], properties: {n: {type: integer}}}}}
  b: {run: x, needs: a}
`

// TestOutputSchema: an output that does not fit is a failed try, with its place, whether it is in the report or in the object store.
func TestOutputSchema(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.stop()
		s := &shelf{bodies: map[string]string{"bad": `{"n": "x"}`, "good": `{"n": 1}`}, away: 3}
		e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{}, Outputs: s})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{"checked.yaml": schemaDAG})
		run := func(id string, tries ...scheduler.Report) *scheduler.RunDetail {
			t.Helper()
			f.world.play(func(l scheduler.Launch) []scheduler.Report {
				if l.Task == "b" {
					return []scheduler.Report{{Outcome: scheduler.OutcomeExited, StartedAt: time.Now(), EndedAt: time.Now()}}
				}
				return tries[l.Try-1 : l.Try]
			})
			return f.wait(f.trigger("checked", id, "{}").ID)
		}
		put := func(text string) scheduler.Report {
			return scheduler.Report{Outcome: scheduler.OutcomeExited, StartedAt: time.Now(), EndedAt: time.Now(), Output: []byte(text)}
		}
		const fault = "it does not fit output.schema: at /n: got string, want integer"
		if d := run("1", put(`{"n": "x"}`), put(`{"n": 2}`)); states(d) != "success a=success b=success" || d.Tasks[0].Try != 2 || !strings.Contains(d.Attempts[0].Reason, fault) {
			t.Errorf("a bad try and a good one: got %s, %+v", states(d), d.Attempts)
		}
		if d := run("2", put(""), put("")); states(d) != "failed a=failed b=upstream_failed" || !strings.Contains(d.Run.Reason, "got null, want object") {
			t.Errorf("no output: got %s, %q", states(d), d.Run.Reason)
		}
		d := run("3", large("bad", 70_000), large("good", 70_000))
		if states(d) != "success a=success b=success" || !strings.Contains(d.Attempts[0].Reason, fault) || s.away != 0 {
			t.Fatalf("outputs in the store, which was away: got %s, %+v, away %d", states(d), d.Attempts, s.away)
		}
		var doc scheduler.Input
		if err := json.Unmarshal(f.world.attempts[d.Tasks[1].AttemptID(1)].launch.Input, &doc); err != nil {
			t.Fatal(err)
		}
		ref := doc.UpstreamRefs["a"]
		if _, near := doc.Upstream["a"]; near || ref.Ref != "good" || ref.URI != "s3://bucket/good" || ref.Bytes != 70_000 || ref.SHA256 != "00" {
			t.Errorf("the next task was told %+v, %s", ref, doc.Upstream)
		}
		if d := run("4", large("good", scheduler.MaxChecked+1), large("good", scheduler.MaxChecked+1)); !strings.Contains(d.Run.Reason, "an output that has a schema may have") {
			t.Errorf("too large to be checked: got %q", d.Run.Reason)
		}
		if d := run("5", scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: 3, Output: []byte(`1`)}, put(`{"n": 3}`)); !strings.HasPrefix(d.Attempts[0].Reason, "exit code 3") {
			t.Errorf("a failed attempt is not checked: got %q", d.Attempts[0].Reason)
		}
		synctest.Wait()
		f.e.schemas.Range(func(id, _ any) bool { t.Errorf("the schema of attempt %s is kept", id); return true })
	})
}

// An expression that asks for an output in the object store fails and says what to do.
func TestExpressionOnLargeOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"far.yaml": "dag: far\ntasks:\n" +
			"  a: {run: x}\n" +
			"  b: {run: [x, \"${{ tasks.a.output.n }}\"], needs: a}\n" +
			"  c: {run: [x, \"${{ tasks.a.output_ref.bytes }}\"], needs: a, when: tasks.a.output_ref != null}\n"})
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			if l.Task == "a" {
				return []scheduler.Report{large("key", 70_000)}
			}
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited}}
		})
		d := f.wait(f.trigger("far", "1", "{}").ID)
		if got := states(d); got != "failed a=success b=failed c=success" ||
			!strings.Contains(d.Run.Reason, "the output of task a has 70000 bytes and is in the object store") || !strings.Contains(d.Run.Reason, "use tasks.a.output_ref") {
			t.Errorf("got %s, %q", got, d.Run.Reason)
		}
		if argv := f.world.attempts[d.Tasks[2].AttemptID(1)].launch.Argv; argv[1] != "70000" {
			t.Errorf("got %q", argv)
		}
	})
}
