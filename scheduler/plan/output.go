package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/output"
)

// Cached takes the output of an earlier task for a ready one, which is not executed.
type Cached struct {
	Task  int
	Entry scheduler.Cached
}

// compileOutput makes the task's schema and the key of its cache ready for use.
func (n *node) compileOutput(scope expr.Scope, t *scheduler.Task) error {
	var err error
	if t.Output != nil {
		if n.schema, err = output.CompileSchema(t.Output.Schema); err != nil {
			return fmt.Errorf("output.schema: %w", err)
		}
	}
	if t.Cache != nil {
		if n.cache, err = expr.CompileKey(scope, t.Cache.Key); err != nil {
			return fmt.Errorf("cache.key: %w", err)
		}
	}
	return nil
}

// formOf is a hash of what an output depends on besides the key: the task as it was compiled, and the variables of the DAG.
func (d *DAG) formOf(t *scheduler.Task) (sum [sha256.Size]byte, err error) {
	if t.Cache == nil {
		return sum, nil
	}
	raw, err := json.Marshal(struct {
		Task *scheduler.Task   `json:"task"`
		Env  map[string]string `json:"env"`
	}{t, d.Env})
	return sha256.Sum256(raw), err
}

// Schema returns what the output of task i is held against, or nil.
func (r *Run) Schema(i int) *output.Schema { return r.DAG.nodes[r.node(i)].schema }

// Caches reports whether task i, which is ready, may take another's output.
func (r *Run) Caches(i int) bool {
	return r.DAG.nodes[r.node(i)].cache != nil && !r.Tasks[i].NoCache && !r.Whole(i)
}

// CacheID names the outputs that task i may take, and for which its own may be taken. An error says that the key has no value; it is a sentence
// for people.
func (r *Run) CacheID(i int) (string, error) {
	n, t := &r.DAG.nodes[r.node(i)], &r.Tasks[i]
	vars, err := r.vars(n.cache.Refs())
	if err == nil {
		err = r.setItem(vars, i)
	}
	if err != nil {
		return "", err
	}
	key, err := n.cache.Key(vars)
	if err != nil {
		return "", fmt.Errorf("cache.key: %w", err)
	}
	parts := []string{"cache1", r.DAG.ID, t.Task, r.cacheItem(i), hex.EncodeToString(n.form[:]), key}
	if image := r.imageRef(i); image != "" {
		parts = append(parts, image) // what was put out by what the tag stood for before does not count
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:]), nil
}

// cacheItem tells the outputs of one item from those of another, wherever they stand in their lists.
func (r *Run) cacheItem(i int) string {
	if t := &r.Tasks[i]; t.Item != nil {
		return "item:" + string(t.Item.Value)
	}
	return strconv.Itoa(r.Tasks[i].MapIndex)
}

// keep takes over the output of a task that has ended, for others, too, if it succeeded and has a cache.
func (s *step) keep(i int, rep *scheduler.Report, state scheduler.State) {
	t, task := &s.Tasks[i], s.Spec(i)
	if len(rep.Output) > 0 {
		t.Output = json.RawMessage(rep.Output)
	}
	t.OutputRef = rep.OutputRef
	if task.Cache == nil || state != scheduler.StateSuccess {
		return
	}
	id, err := s.CacheID(i)
	if err != nil {
		return // It had a value when the task was started, unless it was cleared: then it has one when it is started again.
	}
	s.d.Cached = append(s.d.Cached, scheduler.Cached{
		ID: id, DAG: s.DAG.ID, Task: t.Task, From: t.ID(), Try: t.Try, Output: t.Output, OutputRef: t.OutputRef,
		CreatedAt: s.now, ExpiresAt: s.now.Add(task.Cache.TTL),
	})
}

func (e Cached) apply(s *step) {
	t := &s.Tasks[e.Task]
	if t.State != scheduler.StateScheduled {
		return
	}
	if s.Row.State == scheduler.StateQueued {
		s.begin()
	}
	t.External, t.Kill, t.Exit = "", "", noExit
	t.Output, t.OutputRef = e.Entry.Output, e.Entry.OutputRef
	t.CachedFrom = e.Entry.From + "." + strconv.Itoa(e.Entry.Try)
	t.StartedAt, t.EndedAt = s.now, s.now
	run, _, _ := strings.Cut(e.Entry.From, "/")
	s.move(e.Task, scheduler.StateSuccess, fmt.Sprintf("cached from run %s, try %d", run, e.Entry.Try))
}

// uncache has a task executed that a person has cleared, if it has a cache.
func (s *step) uncache(i int) {
	if t := &s.Tasks[i]; s.DAG.nodes[s.node(i)].cache != nil && !t.NoCache {
		t.NoCache = true
		s.touch(i)
	}
}
