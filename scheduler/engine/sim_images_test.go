package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"millrace/scheduler"
)

// simImages is what registries do: every tag is moved after every question, so that an attempt which has its image by another answer than the
// others of its run is seen.
type simImages struct {
	said    []*imageAnswer // what registries have answered, and the engine was not told yet
	asked   int
	digests map[string]string // by which the attempts of a run were launched, by run and image
}

// simPinned counts the images of runs that were pinned, simRefused the tasks that failed for want of one, in all schedules.
var simPinned, simRefused atomic.Int64

// askRegistry has registries answer what the engine asks them.
func (s *sim) askRegistry() {
	for ask := s.e.asker.take(); ask != nil; ask = s.e.asker.take() {
		in := &imageAnswer{ask: ask}
		switch {
		case s.chance(25):
			in.err = errors.New("connection refused")
		case ask.image == "r.example/c" && s.chance(95):
			in.err = fmt.Errorf("%w: MANIFEST_UNKNOWN", scheduler.ErrNoImage)
		default:
			s.asked++
			in.digest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(fmt.Sprint(ask.image, s.asked))))
		}
		s.said = append(s.said, in)
	}
}

// hear tells the engine one answer, in any order. If the round fails, nobody tells it again.
func (s *sim) hear(done answer) (input, func()) {
	i := s.rng.IntN(len(s.said))
	in := s.said[i]
	s.said = append(s.said[:i:i], s.said[i+1:]...)
	in.done = done
	s.e.asker.done(in.ask)
	return in, func() {
		if err := s.answered(done); err != nil {
			panic(violation("an answer of a registry: " + err.Error()))
		}
	}
}

func (s *sim) hearAll() {
	for s.askRegistry(); len(s.said) > 0; {
		in, then := s.hear(make(answer, 1))
		s.round(in)
		then()
	}
}

// checkImages requires that what runs wait for is what is asked for: a question that was due when the round began is under way.
func (s *sim) checkImages(began time.Time) {
	c := s.e.core
	for _, l := range c.runs {
		for i := range l.Row.Images {
			p := &l.Row.Images[i]
			w := c.images[p.Image]
			if waits := w != nil && w.runs[l] != nil; waits != p.Open() {
				panic(violation(fmt.Sprintf("run %s: image %+v, and that it is waited for is %v", l.Row.ID, p, waits)))
			}
		}
	}
	for image, w := range c.images {
		for l := range w.runs {
			if c.runs[l.Row.ID] != l {
				panic(violation(fmt.Sprintf("run %s waits for image %s, and is not live", l.Row.ID, image)))
			}
		}
		if w.asking == nil && (len(w.runs) == 0 || !w.next.After(began)) {
			panic(violation(fmt.Sprintf("image %s: %d runs wait, and nobody is asked before %v", image, len(w.runs), w.next)))
		}
	}
}

// checkImage requires that an attempt has its image by the digest that its run has in the store, which is that of all others of the run.
func (s *sim) checkImage(d *scheduler.RunDetail, l *scheduler.Launch, task *scheduler.Task) {
	if task.Container == nil {
		return
	}
	stored := ""
	for i := range d.Run.Images {
		if p := &d.Run.Images[i]; p.Image == task.Container.Image {
			stored = p.Ref()
		}
	}
	key := d.Run.ID + " " + task.Container.Image
	if before := s.digests[key]; stored == "" || stored != l.Container.Image || before != "" && before != stored {
		panic(violation(fmt.Sprintf("%s has image %s; its run has %q, and an earlier attempt had %q", l.ID, l.Container.Image, stored, before)))
	}
	s.digests[key] = stored
}

// checkPins looks at the images of a run that has ended: what was pinned before the run was made is of a run of the same trigger, which it replays.
func (s *sim) checkPins(d *scheduler.RunDetail) {
	for i := range d.Moves {
		if strings.HasPrefix(d.Moves[i].Reason, "there is no image") {
			simRefused.Add(1)
		}
	}
	for _, p := range d.Run.Images {
		if p.Digest != "" {
			simPinned.Add(1)
		}
		if !p.PinnedAt.IsZero() && p.PinnedAt.Before(d.Run.CreatedAt) && !s.pinnedBefore(&d.Run, p) {
			panic(violation(fmt.Sprintf("run %s, a replay of %q, has image %+v of nobody", d.Run.ID, d.Run.ReplayOf, p)))
		}
	}
}

// pinnedBefore reports whether another run of the same trigger has an image by the same answer.
func (s *sim) pinnedBefore(r *scheduler.Run, p scheduler.ImagePin) bool {
	others, _, err := s.store.Runs(context.Background(), scheduler.RunQuery{ReplayOf: r.ReplayOf, Limit: 1000})
	if err != nil || r.ReplayOf == "" {
		return false
	}
	if of, err := s.store.Run(context.Background(), r.ReplayOf); err == nil {
		others = append(others, of.Run)
	}
	return slices.ContainsFunc(others, func(o scheduler.Run) bool { return o.ID != r.ID && slices.Contains(o.Images, p) })
}
