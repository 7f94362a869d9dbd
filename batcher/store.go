package batcher

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Sentinel errors of the object store seam. Every implementation returns them, wrapped; compare with errors.Is.
var (
	// ErrExists: the key has an object already; it was not touched. The caller must ask whose it is.
	ErrExists = errors.New("object exists")
	// ErrNotFound: no object at the key.
	ErrNotFound = errors.New("object not found")
	// ErrUnavailable: the outcome is unknown or nothing was done; resolve by reading, then try again.
	ErrUnavailable = errors.New("object store unavailable")
	// ErrDamaged: the store has this object and did not give the bytes that were put, at several tries: their checksum is wrong, or its disk
	// does not read them. It is [ErrUnavailable], too, because whoever needs the object can only wait until a person brings it back; a reader
	// of many objects asks for this one first, and goes on with the others.
	ErrDamaged error = damaged{}
	// ErrRefused: the store will never take this object (too large, key not permitted, checksum refused repeatedly).
	ErrRefused = errors.New("object refused")
	// ErrNotSafe: the store does not honour put-if-absent, or cannot make it durable; nothing may be built on it.
	ErrNotSafe = errors.New("object store not safe")
)

// damaged is [ErrDamaged].
type damaged struct{}

func (damaged) Error() string { return "object damaged" }

// Is makes ErrDamaged a kind of ErrUnavailable.
func (damaged) Is(target error) bool { return target == ErrUnavailable }

// ObjectInfo describes an object.
type ObjectInfo struct {
	Key  string
	Size int64
	// ModTime is when the store took it: the batch's committed_at.
	ModTime time.Time
	// Meta is the metadata it was put with; keys are lower case [a-z0-9-]. List leaves it nil.
	Meta map[string]string
}

// ObjectStore keeps objects under keys. Objects never change and nothing here deletes. Reads see every put that has returned nil. Safe for
// concurrent use. Keys consist of [A-Za-z0-9._=%-] and '/', at most 1024 bytes, without empty parts, "." or "..".
type ObjectStore interface {
	// PutIfAbsent creates the object, whole and durable, if the key has none. It returns nil if this call created it, ErrExists if there was
	// one (perhaps by an earlier try of this call), ErrUnavailable if the outcome is unknown, ErrRefused if trying again is pointless.
	// meta is at most 2 KiB in all.
	PutIfAbsent(ctx context.Context, key string, body []byte, meta map[string]string) error
	// Get returns the whole object; ErrNotFound, ErrUnavailable. With ErrDamaged, and only then, come the info and what there is of the bytes,
	// for those who judge what is left of it.
	Get(ctx context.Context, key string) ([]byte, ObjectInfo, error)
	// Stat is Get without the body. What it has reported to exist exists after a power cut, too.
	Stat(ctx context.Context, key string) (ObjectInfo, error)
	// List yields, in byte order of keys, what starts with opts.Prefix and comes after opts.After. It ends with the first error.
	List(ctx context.Context, opts ListOptions) iter.Seq2[ObjectInfo, error]
	// Home names the place for people and for the log's note of where its chain lives: equal for equal places, across restarts and moves.
	Home() string
	// URI is where other programs find the object of a key ("s3://bucket/prefix/key", "file:///…").
	URI(key string) string
}

// ListOptions narrows a List.
type ListOptions struct {
	Prefix string
	// After is exclusive.
	After string
	// Dirs yields, instead of each object, the distinct prefixes up to and including the next '/' after Prefix, as infos with only a Key.
	Dirs bool
}

// Prober is an optional power of an [ObjectStore]: a test at start-up that the place keeps what the protocol needs.
type Prober interface {
	// Probe writes to fresh keys below [PrefixMeta] and returns ErrNotSafe with what it saw, or ErrUnavailable.
	Probe(ctx context.Context) error
}

// Remover is an optional power of an [ObjectStore]: to remove what is not data. Batches, their chains and what belongs to them stay for ever; what
// may go is what the scheduler has put below [PrefixMeta] for a time.
type Remover interface {
	// Remove removes the object; there being none is no error. ErrUnavailable; ErrRefused if the store may not remove this one. A key whose object
	// was removed may be put again.
	Remove(ctx context.Context, key string) error
}

// CheckRemove returns [ErrRefused] for a key whose object must not be removed. Every implementation asks it first.
func CheckRemove(key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	for _, prefix := range removable {
		if strings.HasPrefix(key, prefix) {
			return nil
		}
	}
	return fmt.Errorf("remove %q: only what is below %s may be removed: %w", key, strings.Join(removable, " or "), ErrRefused)
}

// removable are the prefixes of what may be removed.
var removable = []string{PrefixMeta + "outputs/", PrefixMeta + "logs/"}

// Limits of what [ObjectStore.PutIfAbsent] takes.
const (
	MaxKeyBytes  = 1024
	MaxMetaBytes = 2 << 10
)

// CheckKey returns [ErrRefused] with the reason if key is none that a store takes. Every implementation asks it first, so that a key which one
// store would take and another not cannot come into use.
func CheckKey(key string) error {
	if len(key) > MaxKeyBytes {
		return fmt.Errorf("key of %d bytes, at most %d: %w", len(key), MaxKeyBytes, ErrRefused)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("key %q has the part %q: %w", key, part, ErrRefused)
		}
	}
	for i := range len(key) {
		switch c := key[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._=%-/", c) >= 0:
		default:
			return fmt.Errorf("key %q has the character %q: %w", key, c, ErrRefused)
		}
	}
	return nil
}

// CheckPut is CheckKey for the key and the like for the metadata: keys of [a-z0-9-], values of printable ASCII without space at either end,
// [MaxMetaBytes] in all.
func CheckPut(key string, meta map[string]string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	size := 0
	for k, v := range meta {
		size += len(k) + len(v)
		if k == "" || !isMetaKey(k) || strings.TrimSpace(v) != v || !isASCII(v) {
			return fmt.Errorf("metadata %q=%q of %q: %w", k, v, key, ErrRefused)
		}
	}
	if size > MaxMetaBytes {
		return fmt.Errorf("metadata of %q takes %d bytes, at most %d: %w", key, size, MaxMetaBytes, ErrRefused)
	}
	return nil
}

func isMetaKey(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
