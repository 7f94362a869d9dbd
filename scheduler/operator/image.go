package operator

import (
	"errors"
	"fmt"
	"regexp"

	"millrace/scheduler"
)

var _ scheduler.Operator = Image{}

// Image runs in a container: the image's own entrypoint with arguments, or a command in place of it. It is the executor that knows how.
type Image struct{}

// Kind returns "image".
func (Image) Kind() string { return scheduler.KindImage }

// reference is the grammar of the distribution project for names of images, as far as it can be said in one expression: host with port, path of
// lower case, tag, digest.
var reference = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*` +
	`(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// CheckImage reports whether a text can name an image.
func CheckImage(text string) error {
	if len(text) > 1024 || !reference.MatchString(text) {
		return fmt.Errorf("image %q is no reference of an image; write it like registry.example/load:1.4", text)
	}
	return nil
}

// Validate implements scheduler.Operator.
func (Image) Validate(t *scheduler.Task) error {
	c := t.Container
	switch {
	case c == nil:
		return errors.New("there is no image")
	case len(c.Args) > 0 && len(t.Run)+len(t.Shell) > 0:
		return errors.New("args are for the image's own entrypoint, which run replaces; write them into run")
	}
	return CheckImage(c.Image)
}

// Compile implements scheduler.Operator. It returns no command for an image's own entrypoint.
func (o Image) Compile(t *scheduler.Task) ([]string, error) {
	if err := o.Validate(t); err != nil || len(t.Run)+len(t.Shell) == 0 {
		return nil, err
	}
	return Command{}.Compile(t)
}
