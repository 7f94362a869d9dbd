package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// digestA and digestB are two of those that a tag may stand for.
var digestA, digestB = "sha256:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("b", 64)

// TestLaunchInAnImage: an executor is told which image, when to fetch it, and what its entrypoint gets, or what takes the entrypoint's place.
func TestLaunchInAnImage(t *testing.T) {
	t.Parallel()
	const image = "registry.example/load:1.4"
	pinned := "registry.example/load@" + digestA
	for _, tt := range []struct {
		name, task string
		argv       []string
		want       *scheduler.Container
	}{
		{"a process of the machine", "{run: [x]}", []string{"x"}, nil},
		{"the image's entrypoint", "{image: " + image + "}", nil, &scheduler.Container{Image: pinned}},
		{"by its digest", "{image: '" + pinned + "'}", nil, &scheduler.Container{Image: pinned}},
		{"with arguments", `{args: [--events, "${{ totals.events }}"], image: ` + image + "}", nil,
			&scheduler.Container{Image: pinned, Args: []string{"--events", "20"}}},
		{"always fetched", "{image: " + image + ", pull: always}", nil, &scheduler.Container{Image: pinned, Pull: scheduler.PullAlways}},
		{"fetched if it is missing", "{image: " + image + ", pull: missing}", nil, &scheduler.Container{Image: pinned}},
		{"a command", "{run: [load, --all], image: " + image + "}", []string{"load", "--all"}, &scheduler.Container{Image: pinned}},
		{"a text for the shell", "{image: " + image + ", run: load --all}", []string{"sh", "-c", "load --all"}, &scheduler.Container{Image: pinned}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, "dag: d\ntasks: {a: "+tt.task+"}\n")
			d.step(Pin{Image: image, Digest: digestA})
			l, err := d.start("a")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, l.Container); diff != "" || !cmp.Equal(l.Argv, tt.argv) {
				t.Errorf("argv %q, want %q; container (-want +got):\n%s", l.Argv, tt.argv, diff)
			}
		})
	}
}

// TestWhoseEnvironment: what is under the environment of tasks is of this machine, and not for what runs in an image or elsewhere.
func TestWhoseEnvironment(t *testing.T) {
	t.Parallel()
	for task, want := range map[string]bool{"{run: [x]}": true, "{run: [x], executor: local}": true, "{image: y, run: [x]}": false, "{run: [x], executor: mesos}": false} {
		d := newDriver(t, "dag: d\nenv: {A: b}\ntasks: {a: "+task+"}\n")
		d.step(Pin{Image: "y", Digest: digestA})
		l, err := d.r.Launch(0, 1, operator.All(operator.Options{})[d.r.Spec(0).Kind], []string{"PATH=/opt/ours"})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(l.Env, "PATH=/opt/ours"); got != want || !slices.Contains(l.Env, "A=b") {
			t.Errorf("%s: got %q", task, l.Env)
		}
	}
}

// start returns what an executor would be told of the next attempt of a task.
func (d *driver) start(task string) (scheduler.Launch, error) {
	i := d.index(task)
	return d.r.Launch(i, d.r.Tasks[i].Try+1, operator.All(operator.Options{})[d.r.Spec(i).Kind], nil)
}

const imagesDAG = "dag: d\ntasks: {a: {image: 'r.example/x:1', retry: 1}, b: {image: 'r.example/x:1', needs: a}, c: {image: y}, d: {run: x}, e: {image: 'z@" +
	"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc'}}\n"

// TestImagesArePinnedOnce: a run has each image once, and the first digest that is said for it stays for every try.
func TestImagesArePinnedOnce(t *testing.T) {
	t.Parallel()
	d := newDriver(t, imagesDAG)
	want := []scheduler.ImagePin{{Image: "r.example/x:1"}, {Image: "y"}, {Image: "z@sha256:" + strings.Repeat("c", 64), Digest: "sha256:" + strings.Repeat("c", 64)}}
	if diff := cmp.Diff(want, d.r.Row.Images); diff != "" {
		t.Fatalf("a new run (-want +got):\n%s", diff)
	}
	if _, err := d.start("a"); err == nil || !strings.Contains(err.Error(), "is not pinned") {
		t.Errorf("a launch before the digest is known: %v", err)
	}
	before := d.r.Row.Images
	delta := d.step(Pin{Image: "r.example/x:1", Digest: digestA})
	if !delta.Run || !cmp.Equal(delta.Ready, []int{0}) {
		t.Errorf("pinning: run %v, ready %v", delta.Run, delta.Ready)
	}
	if before[0].Digest != "" {
		t.Error("the list was changed in place, which others may be reading")
	}
	if again := d.step(Pin{Image: "r.example/x:1", Digest: digestB}); !again.Empty() {
		t.Errorf("pinning again: %+v", again)
	}
	for try := 1; try <= 2; try++ {
		if l, err := d.start("a"); err != nil || l.Container.Image != "r.example/x@"+digestA {
			t.Errorf("try %d: %+v, %v", try, l.Container, err)
		}
		d.launch("a")
		d.exit("a", 2-try)
	}
	if got := d.r.Row.Images[0]; got.Digest != digestA || !got.PinnedAt.Equal(t0) {
		t.Errorf("the row has %+v", got)
	}
	if l, err := d.start("b"); err != nil || l.Container.Image != "r.example/x@"+digestA {
		t.Errorf("another task: %+v, %v", l.Container, err)
	}
}

// TestImageRefused: the tasks that wait for an image fail with what the registry said, those behind them do not run, and a clear asks again.
func TestImageRefused(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {image: 'r.example/x:1', retry: 3}, b: {run: x, needs: a}, c: {image: y}}\n")
	d.step(NoImage{Image: "r.example/x:1", Reason: "no such tag"})
	if got := d.states(); got["a"] != "failed" || got["b"] != "upstream_failed" || got["c"] != "scheduled" {
		t.Fatalf("got %v", got)
	}
	if reason := d.r.Tasks[0].Reason; reason != "there is no image r.example/x:1 to pin to a digest: no such tag" || d.r.Tasks[0].Try != 0 {
		t.Errorf("got %q, try %d", reason, d.r.Tasks[0].Try)
	}
	if d.step(Pin{Image: "r.example/x:1", Digest: digestA}); d.r.Row.Images[0].Digest != "" {
		t.Error("an answer that came too late was taken")
	}
	d.r.Clear([]int{0}, "", t0)
	if p := d.r.Row.Images[0]; !p.Open() || d.states()["a"] != "scheduled" {
		t.Errorf("after a clear: %+v, %v", p, d.states())
	}
	d.step(Pin{Image: "r.example/x:1", Digest: digestA})
	if l, err := d.start("a"); err != nil || l.Container.Image != "r.example/x@"+digestA {
		t.Errorf("got %+v, %v", l.Container, err)
	}
}

// TestImagesOfReplays: a replay has the digests of the run that it replays, unless it is by another version, which may mean other images.
func TestImagesOfReplays(t *testing.T) {
	t.Parallel()
	d := newDriver(t, imagesDAG)
	d.step(Pin{Image: "y", Digest: digestB})
	f := firing(testBatches(2)...)
	f.Replay = 1
	for name, tt := range map[string]struct {
		src  string
		want string
	}{
		"the same version": {imagesDAG, digestB},
		"another":          {imagesDAG + "owner: o@example.com\n", ""},
	} {
		r, _ := NewRunOn(dagOf(t, tt.src), f, Terms{Of: &d.r.Row}, t0.Add(time.Hour))
		if got := r.Row.Images[1]; got.Digest != tt.want || tt.want != "" && !got.PinnedAt.Equal(t0) || !r.Row.Images[0].Open() {
			t.Errorf("%s: got %+v", name, r.Row.Images)
		}
	}
}

// TestImagesOfOlderRuns: a run that was stored before there were pins has its images open.
func TestImagesOfOlderRuns(t *testing.T) {
	t.Parallel()
	d := newDriver(t, imagesDAG)
	row := d.r.Row
	row.Images = nil
	r, err := Restore(d.r.DAG, &scheduler.LiveRun{Run: row, Tasks: d.r.Tasks, Batches: d.r.Batches})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.r.Row.Images, r.Row.Images); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCacheOfImages: what another image has put out under the same tag is not taken.
func TestCacheOfImages(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, digest := range []string{digestA, digestB, digestA} {
		d := newDriver(t, "dag: d\ntasks: {a: {image: 'x:1', cache: {key: 'run.dag'}}}\n")
		d.step(Pin{Image: "x:1", Digest: digest})
		id, err := d.r.CacheID(0)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	if len(ids) != 2 {
		t.Errorf("got %d ids for 2 digests", len(ids))
	}
}
