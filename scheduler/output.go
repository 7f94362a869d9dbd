package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Bounds of what a task puts out, in bytes.
const (
	// MaxOutput is the most that is kept in the task's row, and seen by expressions.
	MaxOutput = 64 << 10
	// MaxSpilled is the most that is taken at all. What is above MaxOutput goes to the object store.
	MaxSpilled = 64 << 20
	// MaxChecked is the most that is held against a schema: a value in memory takes many times the room of its text.
	MaxChecked = 8 << 20
)

// OutputTooLarge says why an output of so many bytes, above MaxSpilled, can not be taken.
func OutputTooLarge(size int64) string {
	return fmt.Sprintf("has %d bytes, and %d (64 MiB) is the most that a task may put out; write it to an object, and put out its address", size, MaxSpilled)
}

// OutputRef says where an output is that is too large for a row.
type OutputRef struct {
	// Ref is the key of its object.
	Ref string `json:"ref"`
	// SHA256 is that of the content, in hex; Bytes its size.
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// UpstreamRef is an output in the object store as the task that reads it is told of it.
type UpstreamRef struct {
	OutputRef
	// URI is where the object is, for programs that read the store by themselves; Path is a file with the same content on the machine of the
	// task, or "".
	URI  string `json:"uri"`
	Path string `json:"path,omitempty"`
}

// Output says what a task's output must be.
type Output struct {
	// Schema is a JSON Schema that needs no other document.
	Schema json.RawMessage `json:"schema"`
}

// Cache lets a task take the output of an earlier one instead of being executed.
type Cache struct {
	// Key is a CEL expression as in [Task.When], which yields a text, a number, a bool or a time. Two tasks are the same if they are the same task
	// of the same DAG, were compiled to the same, and have the same key.
	Key string `json:"key"`
	// TTL is how long after its end the output of a task is taken.
	TTL time.Duration `json:"ttl"`
}

// Cached is the output of a task that others may take.
type Cached struct {
	// ID says whose output it is: see [Cache.Key].
	ID   string
	DAG  string
	Task string
	// From is the task, as in [TaskRun.ID], that was executed for it, and Try its attempt.
	From string
	Try  int

	Output    json.RawMessage
	OutputRef *OutputRef
	CreatedAt time.Time
	ExpiresAt time.Time
}

// CacheReader is an optional power of a [Store]: it returns what [Change.Cached] has written.
type CacheReader interface {
	// Cached returns the entry, also one that has expired; ErrNotFound.
	Cached(ctx context.Context, id string) (*Cached, error)
}

// OutputPlacer is an optional power of an [Executor] whose tasks can not read the object store by themselves.
type OutputPlacer interface {
	// PlaceOutput returns the path at which the tasks of a run find the content of ref. Calls may be repeated. ErrUnavailable: not now.
	PlaceOutput(ctx context.Context, run string, ref OutputRef) (path string, err error)
}
