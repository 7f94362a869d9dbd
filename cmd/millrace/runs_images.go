package main

import (
	"cmp"
	"fmt"
	"io"

	"millrace/scheduler"
)

// imageTable prints which images the tasks of a run have.
func imageTable(w io.Writer, images []scheduler.ImagePin) {
	for i := range images {
		p := &images[i]
		text := "not pinned to a digest yet"
		switch {
		case p.Digest != "":
			text = p.Digest
		case p.Reason != "":
			text = "refused: " + p.Reason
		}
		tag := scheduler.ImageTag(p.Image)
		name, digest := scheduler.SplitImage(p.Image)
		if digest == "" {
			name += ":" + cmp.Or(tag, "latest")
		}
		_, _ = fmt.Fprintf(w, "image\t%s\t%s\n", name, text)
	}
}
