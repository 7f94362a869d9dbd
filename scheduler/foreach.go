package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// MaxItems bounds the items of one mapped task.
const MaxItems = 100_000

// MaxMapKey bounds the key of an item, in bytes.
const MaxMapKey = 256

// DefaultItem is what expressions call an item if the DAG file gives no other name.
const DefaultItem = "item"

// Foreach makes a task mapped: when it is its turn, a list is made, and each item of it becomes a task of its own.
type Foreach struct {
	// Items is a CEL expression that yields a list, or a map, whose entries are the items then. As is what expressions call one of them; "" is
	// [DefaultItem].
	Items string `json:"items"`
	As    string `json:"as,omitempty"`
	// Key is a CEL expression over the item that names it for people; "": it has none.
	Key string `json:"key,omitempty"`
	// MaxConcurrent is how many may wait for a slot or be under way at once; 0: all.
	MaxConcurrent int `json:"max_concurrent,omitempty"`
	// Tolerate is how many may fail without the task failing; TolerancePercent says the same as a part of all, rounded down.
	Tolerate         int     `json:"tolerate,omitempty"`
	TolerancePercent float64 `json:"tolerance_percent,omitempty"`
}

// Name is what expressions call an item.
func (f *Foreach) Name() string { return cmp.Or(f.As, DefaultItem) }

// Tolerance is how many of count may fail.
func (f *Foreach) Tolerance(count int) int {
	return max(f.Tolerate, int(float64(count)*f.TolerancePercent/100+1e-9))
}

// Mapping is what the row of a mapped task, the whole, knows of its items.
type Mapping struct {
	// Count is how many items the list has; Made of them have rows. Digest is that of the list, so that it is the same after a restart.
	Count  int    `json:"count"`
	Made   int    `json:"made"`
	Digest string `json:"digest,omitempty"`
	// How the items ended, once all have.
	Succeeded int `json:"succeeded,omitempty"`
	Failed    int `json:"failed,omitempty"`
	Skipped   int `json:"skipped,omitempty"`
	Cancelled int `json:"cancelled,omitempty"`
	// Far is how many of their outputs are in the object store: they are null in the list. Large is the size of the list in bytes, if it is too
	// large to be the whole's output.
	Far   int `json:"far,omitempty"`
	Large int `json:"large,omitempty"`
}

// Item is what a mapped task is about: one element of its list, frozen when the list was made.
type Item struct {
	Value json.RawMessage `json:"value"`
	// Key names the item for people, "" if it has no name.
	Key string `json:"key,omitempty"`
}

// InputMap is the place of a mapped task's item in the input document.
type InputMap struct {
	Index int    `json:"index"`
	Count int    `json:"count"`
	Key   string `json:"key,omitempty"`
}

// TaskName names a task within its run: "load", or "load/3" if it is mapped.
func TaskName(task string, index int) string {
	if index == NoMap {
		return task
	}
	return task + "/" + strconv.Itoa(index)
}

// ParseTaskName reads what TaskName wrote. The error is ErrNotFound.
func ParseTaskName(name string) (task string, index int, err error) {
	task, at, mapped := strings.Cut(name, "/")
	if !mapped {
		return task, NoMap, nil
	}
	if index, err = strconv.Atoi(at); err != nil || index < 0 {
		return task, NoMap, fmt.Errorf("find task %q: %w: what follows its name is no map index", name, ErrNotFound)
	}
	return task, index, nil
}

// MappedQuery selects mapped tasks of one task, in the order of their items. Zero fields do not select.
type MappedQuery struct {
	Run, Task string
	State     State
	// After is the cursor that the page before returned; Limit is 1 to 1000, default 100.
	After string
	Limit int
}

// TaskDetail is a task with its attempts, oldest first.
type TaskDetail struct {
	Task     TaskRun   `json:"task"`
	Attempts []Attempt `json:"attempts"`
}

// MappedStore reads runs that may have a hundred thousand tasks, without reading all of them. It is a part of [Store].
type MappedStore interface {
	// Look is [Store.Run] with the tasks, attempts and moves of what is not mapped; the rest is counted.
	Look(ctx context.Context, id string) (*RunDetail, error)
	// Mapped returns a page of mapped tasks and the cursor of the next one ("" at the end). None of an unknown run.
	Mapped(ctx context.Context, q MappedQuery) ([]TaskRun, string, error)
	// Rows returns a run with all of its tasks, without attempts and moves, and how it was when it was read.
	Rows(ctx context.Context, id string) (*RunDetail, Ended, error)
	// AsOf returns how a run is now, whether it has ended or not; ErrNotFound.
	AsOf(ctx context.Context, id string) (Ended, error)
	// Task returns one task, index being NoMap for one that is not mapped; ErrNotFound.
	Task(ctx context.Context, run, task string, index int) (*TaskDetail, error)
}
