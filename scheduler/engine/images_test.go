package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// tags is a registry in memory.
type tags struct {
	mu    sync.Mutex
	tags  map[string]string
	down  error
	hold  chan struct{} // if set, questions wait until it is closed
	asked []string
	going int
	most  int
}

func (r *tags) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// Digest implements scheduler.Registry.
func (r *tags) Digest(ctx context.Context, image string) (string, error) {
	r.mu.Lock()
	r.asked = append(r.asked, image)
	r.going++
	r.most = max(r.most, r.going)
	digest, down, hold := r.tags[image], r.down, r.hold
	r.mu.Unlock()
	defer r.set(func() { r.going-- })
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch {
	case down != nil:
		return "", down
	case digest == "":
		return "", fmt.Errorf("%w: MANIFEST_UNKNOWN", scheduler.ErrNoImage)
	}
	return digest, nil
}

func (r *tags) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

func digestOf(char string) string { return "sha256:" + strings.Repeat(char, 64) }

// newImages is newFixture with a registry, which start keeps.
func newImages(t *testing.T, r *tags, files map[string]string) *fixture {
	t.Helper()
	f := newFixture(t, nil)
	f.stop()
	f.startWith(r)
	f.setDAGs(files)
	return f
}

// startWith is start with a registry.
func (f *fixture) startWith(r *tags) {
	f.t.Helper()
	e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{"PATH=/bin"}, Seed: 1, Registry: r})
	if err != nil {
		f.t.Fatal(err)
	}
	f.run(e)
}

// images are those with which attempts were started, in order.
func (w *world) images() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, id := range w.order {
		if c := w.attempts[id].launch.Container; c != nil {
			out = append(out, c.Image)
		}
	}
	return out
}

func (f *fixture) whyTask(run, task string) scheduler.Why {
	f.t.Helper()
	why, err := f.e.ExplainTask(context.Background(), run, task)
	if err != nil {
		f.t.Fatal(err)
	}
	return why.Why
}

// A tag that is moved while a run goes on changes nothing for it: not for a retry, a mapped task, a clear or a replay. A new run has it as it is.
func TestImagesStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &tags{tags: map[string]string{"r.example/load:1": digestOf("a")}}
		f := newImages(t, r, map[string]string{"a.yaml": "dag: a\ntasks: {load: {image: 'r.example/load:1', retry: 1}, " +
			"each: {image: 'r.example/load:1', needs: load, foreach: lists.range(2)}, plain: {run: x}}"})
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			if l.Container != nil {
				r.set(func() { r.tags["r.example/load:1"] = digestOf("b") })
			}
			code := 0
			if l.Task == "load" && l.Try == 1 {
				code = 1
			}
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Exit: code}}
		})
		first := "r.example/load@" + digestOf("a")
		id := f.trigger("a", "x", "").ID
		d := f.wait(id)
		if got := f.world.images(); !slices.Equal(got, []string{first, first, first, first}) || r.count() != 1 || d.Run.State != scheduler.StateSuccess {
			t.Fatalf("%s: got %q, after %d questions", states(d), got, r.count())
		}
		if p := d.Run.Images; len(p) != 1 || p[0].Image != "r.example/load:1" || p[0].Digest != digestOf("a") || p[0].PinnedAt.IsZero() {
			t.Errorf("the run has %+v", p)
		}
		if _, err := f.e.Clear(t.Context(), id, scheduler.Clear{Tasks: []string{"each/1"}}); err != nil {
			t.Fatal(err)
		}
		f.wait(id)
		replay, err := f.e.Replay(t.Context(), id, scheduler.Replay{})
		if err != nil {
			t.Fatal(err)
		}
		f.wait(replay.ID)
		for i, image := range f.world.images() {
			if image != first {
				t.Errorf("attempt %d has %s", i, image)
			}
		}
		if r.count() != 1 {
			t.Errorf("the registry was asked %d times, want once", r.count())
		}
		latest, err := f.e.Replay(t.Context(), id, scheduler.Replay{Pin: scheduler.PinLatest})
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range []string{latest.ID, f.trigger("a", "y", "").ID} {
			if d := f.wait(run); d.Run.Images[0].Digest != digestOf("b") {
				t.Errorf("run %s has %+v, want the tag as it is now", run, d.Run.Images)
			}
		}
	})
}

// A registry that does not answer holds nobody but the tasks that need it: runs are made, other tasks run, explain says what is waited for, and when
// it answers, the tasks start. That holds over a restart while it is asked.
func TestImagesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &tags{tags: map[string]string{"r.example/load:1": digestOf("a")}, down: errors.New("connection refused")}
		files := map[string]string{"a.yaml": "dag: a\ntasks: {load: {image: 'r.example/load:1'}, plain: {run: x}}"}
		f := newImages(t, r, files)
		id := f.trigger("a", "x", "").ID
		f.until(id, func(d *scheduler.RunDetail) bool { return d.Tasks[1].State == scheduler.StateSuccess })
		time.Sleep(10 * time.Second)
		why := f.whyTask(id, "load")
		if why.Code != scheduler.CodeImage || why.Name != "r.example/load:1" || !why.Until.After(time.Now()) || !strings.Contains(why.Text, "connection refused") ||
			!strings.Contains(why.Text, "registry r.example") {
			t.Errorf("got %+v", why)
		}
		if out, err := f.e.Explain(t.Context(), id); err != nil || out.Why.Code != scheduler.CodeImage {
			t.Errorf("the run: got %+v, %v", out, err)
		}
		n := r.count()
		time.Sleep(time.Hour)
		if asked := r.count() - n; asked < 40 || asked > 100 {
			t.Errorf("asked %d times in an hour", asked)
		}
		hold := make(chan struct{})
		r.set(func() { r.down, r.hold = nil, hold })
		time.Sleep(time.Until(f.whyTask(id, "load").Until) + time.Second)
		if why := f.whyTask(id, "load"); !strings.HasSuffix(why.Text, "it is being asked") {
			t.Errorf("got %+v", why)
		}
		f.stop() // while the question is under way
		f.startWith(r)
		f.setDAGs(files)
		synctest.Wait()
		if got := f.world.images(); len(got) != 0 {
			t.Errorf("started %q without a digest", got)
		}
		close(hold)
		if d := f.wait(id); d.Run.State != scheduler.StateSuccess || !slices.Equal(f.world.images(), []string{"r.example/load@" + digestOf("a")}) {
			t.Errorf("got %s with %q", states(d), f.world.images())
		}
	})
}

// An image that the registry refuses fails its tasks after some tries, with what it said; a clear asks again.
func TestImagesRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &tags{tags: map[string]string{}}
		f := newImages(t, r, map[string]string{"a.yaml": "dag: a\ntasks: {load: {image: 'r.example/load:9', retry: 5}, each: {image: 'r.example/load:9', needs: load, " +
			"rule: all_done, foreach: lists.range(3)}}"})
		id := f.trigger("a", "x", "").ID
		d := f.wait(id)
		if got := d.Tasks[0]; got.State != scheduler.StateFailed || !strings.Contains(got.Reason, "MANIFEST_UNKNOWN") || got.Try != 0 || r.count() != maxRefusals {
			t.Errorf("got %+v after %d questions", got, r.count())
		}
		if got := d.Tasks[2]; got.State != scheduler.StateFailed || !strings.Contains(got.Reason, "MANIFEST_UNKNOWN") {
			t.Errorf("of a mapped task: got %+v", got)
		}
		r.set(func() { r.tags["r.example/load:9"] = digestOf("c") })
		if _, err := f.e.Clear(t.Context(), id, scheduler.Clear{Failed: true}); err != nil {
			t.Fatal(err)
		}
		if d := f.wait(id); d.Run.State != scheduler.StateSuccess || d.Run.Images[0].Digest != digestOf("c") || d.Run.Images[0].Reason != "" {
			t.Errorf("after a clear: %s, %+v", states(d), d.Run.Images)
		}
	})
}

// Runs that wait for the same image share questions, but a run does not take the answer to one that was asked before it was made.
func TestImagesAskedAfterTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := &tags{tags: map[string]string{"r.example/load:1": digestOf("a")}, hold: hold}
		f := newImages(t, r, map[string]string{"a.yaml": "dag: a\ntasks: {load: {image: 'r.example/load:1'}}"})
		first := f.trigger("a", "x", "").ID
		synctest.Wait()
		r.set(func() { r.tags["r.example/load:1"] = digestOf("b") })
		var later []string
		for i := range 20 {
			later = append(later, f.trigger("a", fmt.Sprint("y", i), "").ID)
		}
		synctest.Wait()
		close(hold)
		if d := f.wait(first); d.Run.Images[0].Digest != digestOf("a") {
			t.Errorf("the first has %+v", d.Run.Images)
		}
		for _, id := range later {
			if d := f.wait(id); d.Run.Images[0].Digest != digestOf("b") {
				t.Errorf("%s has %+v", id, d.Run.Images)
			}
		}
		if r.count() != 2 {
			t.Errorf("%d questions, want 2", r.count())
		}
	})
}

// What a registry holds is no more than its share of the questions, and the others go on; what a cancelled run waited for is asked for no more.
func TestImagesOfManyRegistries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &tags{tags: map[string]string{}, hold: make(chan struct{})}
		src := "dag: a\ntasks:\n"
		for i := range 20 {
			src += fmt.Sprintf("  s%d: {image: 'slow.example/x%d'}\n", i, i)
		}
		f := newImages(t, r, map[string]string{"a.yaml": src, "b.yaml": "dag: b\ntasks: {ok: {image: 'r.example/load:1'}, by: {image: 'x@" + digestOf("e") + "'}}"})
		id := f.trigger("a", "x", "").ID
		synctest.Wait()
		if r.count() != asksOfOne {
			t.Errorf("a registry is asked %d questions at once, want %d", r.count(), asksOfOne)
		}
		r.set(func() { r.tags["r.example/load:1"], r.hold = digestOf("d"), nil })
		if d := f.wait(f.trigger("b", "y", "").ID); d.Run.State != scheduler.StateSuccess {
			t.Errorf("beside it: %s", states(d))
		}
		if _, err := f.e.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		f.wait(id)
		time.Sleep(10 * time.Minute)
		n := r.count()
		time.Sleep(time.Hour)
		if r.count() != n || r.most > asksOfOne+1 {
			t.Errorf("%d more questions for nobody, %d at once", r.count()-n, r.most)
		}
	})
}
