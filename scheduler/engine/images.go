package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// Bounds of asking a registry about one image.
const (
	imagePause    = time.Second // before the second question; each further one waits twice as long
	maxImagePause = time.Minute
	maxRefusals   = 3 // of a run's questions: the last is taken as final, since the image may have been on its way when the first was asked
)

// imaging are the images whose digests live runs wait for. What a run knows is in its row: the rest is made anew after a restart, and registries
// are asked again. Runs that need the same image share its questions, but none takes the answer to one that was asked before it was made: the tag
// may have been moved between the two.
type imaging struct {
	images map[string]*imageWait // by reference
	// gated are ready tasks with an image, to be looked at once in this round.
	gated []ref
}

// imageWait is an image of which no digest is known yet.
type imageWait struct {
	runs map[*live]*imageRun
	// asking is the question under way, nil if there is none. The next is asked at next.
	asking *imageAsk
	next   time.Time
	// tries are the questions in a row that brought no digest; the last answer came at answered.
	tries    int
	answer   string
	answered time.Time
}

// imageRun is a run that waits for an image.
type imageRun struct {
	asked   *imageAsk // the first question after the run had come to wait, nil if it was not asked yet
	refused int
}

// imageAsk is one question. It has an identity: answers to questions of an earlier memory are nobody's.
type imageAsk struct{ image string }

// noteImages has a run wait for those of its images that are open, and for no others.
func (c *core) noteImages(l *live) {
	over := l.Row.State.Terminal()
	for i := range l.Row.Images {
		p := &l.Row.Images[i]
		w := c.images[p.Image]
		switch {
		case over || !p.Open():
			if w != nil {
				delete(w.runs, l)
			}
		case w == nil:
			c.images[p.Image] = &imageWait{runs: map[*live]*imageRun{l: {}}, next: c.tx.now}
		case w.runs[l] == nil:
			w.runs[l] = &imageRun{}
		}
	}
}

// passGate lets those ready tasks go on whose images are pinned, and fails those whose images are refused. The others are left where they are: what
// pins their image makes them ready again.
func (c *core) passGate() {
	for len(c.gated) > 0 {
		r := c.gated[0]
		c.gated = c.gated[1:]
		switch p := r.run.Image(r.task); {
		case !r.ready() || p.Open():
		case p.Digest == "":
			c.step(r.run, plan.Refuse{Task: r.task, Reason: plan.NoImageReason(p)})
		default:
			c.pushPinned(r)
		}
	}
}

// askImages makes the questions whose time has come.
func (c *core) askImages(now time.Time) {
	for _, image := range slices.Sorted(maps.Keys(c.images)) {
		w := c.images[image]
		switch {
		case w.asking != nil:
		case len(w.runs) == 0:
			delete(c.images, image)
		case !w.next.After(now):
			w.asking = &imageAsk{image: image}
			for _, ir := range w.runs {
				ir.asked = w.asking
			}
			c.tx.asks = append(c.tx.asks, w.asking)
		}
	}
}

// nextQuestion returns when the next question is to be asked, zero if none is.
func (c *core) nextQuestion() (at time.Time) {
	for _, w := range c.images {
		if w.asking == nil && (at.IsZero() || w.next.Before(at)) {
			at = w.next
		}
	}
	return at
}

// imageAnswer is what a registry said.
type imageAnswer struct {
	ask    *imageAsk
	digest string
	err    error
	done   answer
}

func (in *imageAnswer) fail(err error) { in.done <- err }

func (in *imageAnswer) decide(_ context.Context, c *core) {
	c.then(in.done, nil)
	w := c.images[in.ask.image]
	if w == nil || w.asking != in.ask {
		return
	}
	w.asking, w.next = nil, c.tx.now
	if in.err == nil {
		w.tries, w.answer = 0, ""
	} else {
		w.tries++
		w.answer, w.answered = in.err.Error(), c.tx.now
		pause := min(maxImagePause, imagePause<<min(w.tries-1, 10))
		w.next = c.tx.now.Add(pause + time.Duration(c.rng.Int64N(int64(pause)/4)))
	}
	byID := func(a, b *live) int { return cmp.Compare(a.Row.ID, b.Row.ID) }
	for _, l := range slices.SortedFunc(maps.Keys(w.runs), byID) {
		if ir := w.runs[l]; ir != nil && ir.asked == in.ask {
			in.tell(c, l, ir)
		}
	}
}

// tell brings a run that waited the answer.
func (in *imageAnswer) tell(c *core, l *live, ir *imageRun) {
	ir.asked = nil
	if in.err == nil {
		c.step(l, plan.Pin{Image: in.ask.image, Digest: in.digest})
		return
	}
	if !errors.Is(in.err, scheduler.ErrNoImage) {
		return
	}
	if ir.refused++; ir.refused >= maxRefusals {
		c.step(l, plan.NoImage{Image: in.ask.image, Reason: in.err.Error()})
	}
}

// whyImage is why a ready task was not let through the gate.
func (c *core) whyImage(r ref) scheduler.Why {
	t, image := &r.run.Tasks[r.task], r.run.Image(r.task).Image
	why := scheduler.Why{Code: scheduler.CodeImage, Name: image}
	why.Text = fmt.Sprintf("waits since %s for registry %s to say which digest image %s stands for", clock(t.Since), scheduler.ImageHost(image), image)
	w := c.images[image]
	if w.tries > 0 {
		why.Text += fmt.Sprintf("; %s brought none, the last answer, at %s: %s", counted(w.tries, "question"), clock(w.answered), w.answer)
	}
	if ir := w.runs[r.run]; ir.refused > 0 {
		why.Text += fmt.Sprintf("; the task fails if it is refused %s more", counted(maxRefusals-ir.refused, "time"))
	}
	if w.asking != nil {
		why.Text += "; it is being asked"
		return why
	}
	why.Until = w.next
	why.Text += "; it is asked at " + clock(w.next)
	return why
}
