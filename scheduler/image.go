package scheduler

import (
	"context"
	"errors"
	"strings"
	"time"
)

// ErrNoImage says that a registry has no such image for us: it does not exist, or may not be read with the credentials that there are.
// Registries do not tell the two apart.
var ErrNoImage = errors.New("the registry refuses the image")

// Registry says what the tags of images stand for. Safe for concurrent use.
type Registry interface {
	// Digest returns the digest, "sha256:…", of what the reference of an image names now: of the index, for an image of several platforms.
	// ErrNoImage is an answer; any other error is that nothing is known, and may be another one later. Its text is for people, and has no
	// credentials in it. It returns soon after ctx ends.
	Digest(ctx context.Context, image string) (string, error)
}

// ImagePin is an image of a run's tasks, and the digest by which all their attempts have it.
type ImagePin struct {
	// Image is the reference as the DAG has it.
	Image string `json:"image"`
	// Digest is "sha256:…", or "" as long as no registry has said it. Once it is set it does not change.
	Digest string `json:"digest,omitempty"`
	// PinnedAt is when it was said, zero if the DAG gives it. A replay has that of the run that it replays.
	PinnedAt time.Time `json:"pinned_at,omitzero"`
	// Reason is why the registry's refusal was taken as its last word, or "". A clear of a task that needs the image takes it back.
	Reason string `json:"reason,omitempty"`
}

// Open reports whether the registry is to be asked for the digest.
func (p *ImagePin) Open() bool { return p.Digest == "" && p.Reason == "" }

// Ref returns "name@sha256:…", which no registry can make anything else of; "" as long as there is no digest.
func (p *ImagePin) Ref() string {
	if p.Digest == "" {
		return ""
	}
	name, _ := SplitImage(p.Image)
	return name + "@" + p.Digest
}

// SplitImage returns the reference of an image without its tag and digest, and the digest, "" if it has none.
func SplitImage(image string) (name, digest string) {
	name, digest, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name, digest
}

// ImageTag returns the tag of an image, "" if it has none.
func ImageTag(image string) string {
	name, _ := SplitImage(image)
	whole, _, _ := strings.Cut(image, "@")
	return strings.TrimPrefix(whole[len(name):], ":")
}

// ImageHost returns the registry of an image: what is before the first slash, if that can be the name of a host, and Docker's own otherwise.
func ImageHost(image string) string {
	if host, _, ok := strings.Cut(image, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return host
	}
	return "docker.io"
}
