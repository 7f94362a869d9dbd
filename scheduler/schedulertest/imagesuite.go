package schedulertest

import (
	"strings"
	"time"

	"millrace/scheduler"
)

// testImages: the images of a run are there as they were written, open, pinned or refused, in its row, in lists and after a restart.
func testImages(t *storeTest) {
	c, _, r := started(1)
	images := []scheduler.ImagePin{
		{Image: "r.example/load:1"}, {Image: "x", Digest: "sha256:" + strings.Repeat("a", 64), PinnedAt: Epoch.Add(time.Second)},
		{Image: "y:2", Reason: `no "y:2", and why`},
	}
	c.NewRuns[0].Run.Images = images
	t.apply(c)
	t.same("a new run's images", t.run(r.Run.ID).Run.Images, images)
	upd := c.NewRuns[0].Run
	upd.Rev, upd.Images = 1, append([]scheduler.ImagePin{{Image: "r.example/load:1", Digest: "sha256:" + strings.Repeat("b", 64), PinnedAt: Epoch.Add(time.Minute)}}, images[1:]...)
	t.apply(&scheduler.Change{Runs: []scheduler.Run{upd}})
	t.reopen()
	t.same("images that were pinned", t.run(r.Run.ID).Run.Images, upd.Images)
	page, _, err := t.Runs(t.Context(), scheduler.RunQuery{ID: r.Run.ID})
	if err != nil || len(page) != 1 {
		t.Fatalf("runs: %v, %v", page, err)
	}
	t.same("images in a list", page[0].Images, upd.Images)
	snap, err := t.Load(t.Context())
	if err != nil || len(snap.Live) != 1 {
		t.Fatalf("load: %v", err)
	}
	t.same("images of a live run", snap.Live[0].Run.Images, upd.Images)
}
