package plan

import (
	"fmt"
	"slices"

	"millrace/scheduler"
)

// Pin says which digest the tag of an image stands for: from now on for all attempts of the run. The first one counts.
type Pin struct{ Image, Digest string }

// NoImage says that the registry's refusal of an image is taken as its last word: the tasks that wait for it fail.
type NoImage struct{ Image, Reason string }

// linkImages notes which images the tasks have, each once, in the order of the tasks.
func (d *DAG) linkImages() {
	for i := range d.Tasks {
		c := d.Tasks[i].Container
		if c == nil {
			continue
		}
		at := slices.Index(d.images, c.Image)
		if at < 0 {
			at = len(d.images)
			d.images = append(d.images, c.Image)
		}
		d.nodes[i].image = at + 1
	}
}

// setImages gives a run the images of its DAG: by the digests that these are given by, and by those of the run that it replays if it does so by the
// same version. The others are open. What the row has stays.
func (r *Run) setImages(of *scheduler.Run) {
	if len(r.DAG.images) == len(r.Row.Images) {
		return
	}
	pins := make([]scheduler.ImagePin, len(r.DAG.images))
	for n, image := range r.DAG.images {
		_, digest := scheduler.SplitImage(image)
		pins[n] = scheduler.ImagePin{Image: image, Digest: digest}
		if of != nil && of.Version == r.Row.Version {
			i := slices.IndexFunc(of.Images, func(p scheduler.ImagePin) bool { return p.Image == image && p.Digest != "" })
			if i >= 0 {
				pins[n] = of.Images[i]
			}
		}
	}
	r.Row.Images = pins
}

// Image returns the image of row i as the run has it, nil if it needs none.
func (r *Run) Image(i int) *scheduler.ImagePin {
	n := r.DAG.nodes[r.node(i)].image
	if n == 0 {
		return nil
	}
	return &r.Row.Images[n-1]
}

// imageRef is how the executor is told of the image of task i, "" if that needs none or is not told yet.
func (r *Run) imageRef(i int) string {
	if p := r.Image(i); p != nil {
		return p.Ref()
	}
	return ""
}

// repin changes the image n of the run. The list is replaced: others may be reading the old one.
func (s *step) repin(n int, change func(p *scheduler.ImagePin)) {
	s.Row.Images = slices.Clone(s.Row.Images)
	change(&s.Row.Images[n])
	s.d.Run = true
}

// openImage returns the place of an image whose digest the registry is asked for, or -1.
func (s *step) openImage(image string) int {
	n := slices.Index(s.DAG.images, image)
	if n >= 0 && !s.Row.Images[n].Open() {
		return -1
	}
	return n
}

// needing returns the ready tasks that need image n.
func (s *step) needing(n int) []int {
	var out []int
	for i := range s.Tasks {
		if s.Tasks[i].State == scheduler.StateScheduled && !s.Whole(i) && s.DAG.nodes[s.node(i)].image == n+1 {
			out = append(out, i)
		}
	}
	return out
}

func (e Pin) apply(s *step) {
	n := s.openImage(e.Image)
	if n < 0 {
		return
	}
	s.repin(n, func(p *scheduler.ImagePin) { p.Digest, p.PinnedAt = e.Digest, s.now })
	s.d.Ready = append(s.d.Ready, s.needing(n)...)
}

func (e NoImage) apply(s *step) {
	n := s.openImage(e.Image)
	if n < 0 {
		return
	}
	s.repin(n, func(p *scheduler.ImagePin) { p.Reason = e.Reason })
	for _, i := range s.needing(n) {
		s.move(i, scheduler.StateFailed, NoImageReason(&s.Row.Images[n]))
	}
}

// NoImageReason is why a task fails that needs an image which the registry refuses.
func NoImageReason(p *scheduler.ImagePin) string {
	return fmt.Sprintf("there is no image %s to pin to a digest: %s", p.Image, p.Reason)
}

// askAgain takes back that the registry's refusal was its last word, for a task that is to be executed again.
func (s *step) askAgain(i int) {
	if p := s.Image(i); p != nil && p.Reason != "" {
		s.repin(s.DAG.nodes[s.node(i)].image-1, func(p *scheduler.ImagePin) { p.Reason = "" })
	}
}
