package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// head is what is current of a DAG.
type head struct {
	row scheduler.DAGHead
	dag *plan.DAG // of row.Version; nil if there is none
}

// version is a compiled version with the number of heads and live runs that use it.
type version struct {
	dag  *plan.DAG
	refs int
}

// hold returns the compiled version, and counts its user.
func (c *core) hold(v scheduler.DAGVersion) (*plan.DAG, error) {
	have := c.versions[v.Version]
	if have == nil {
		dag, err := plan.Compile(v)
		if err != nil {
			return nil, err
		}
		dag.Values = c.values
		have = &version{dag: dag}
		c.versions[v.Version] = have
	}
	have.refs++
	return have.dag, nil
}

func (c *core) release(id string) {
	if v := c.versions[id]; v != nil {
		if v.refs--; v.refs <= 0 {
			delete(c.versions, id)
		}
	}
}

// lookup brings a version to memory, from the store if need be. It stays there while it is used.
func (c *core) lookup(ctx context.Context, id string) (*plan.DAG, error) {
	if v := c.versions[id]; v != nil {
		return v.dag, nil
	}
	stored, err := c.read.Version(ctx, id)
	if err != nil {
		return nil, err
	}
	dag, err := plan.Compile(*stored)
	if err != nil {
		return nil, err
	}
	dag.Values = c.values
	c.versions[id] = &version{dag: dag}
	return dag, nil
}

// restoreHeads takes over the heads. A version that this binary does not understand starts nothing until its file is read again.
func (c *core) restoreHeads(rows []scheduler.DAGHead, stored map[string]scheduler.DAGVersion) {
	for _, row := range rows {
		h := &head{row: row}
		if v, ok := stored[row.Version]; ok {
			var err error
			if h.dag, err = c.hold(v); err != nil {
				h.row.Error = err.Error()
			}
		}
		c.heads[row.ID] = h
	}
}

// rules returns the rules of all DAGs that are in force, by DAG and in the order of their files.
func (c *core) rules() trigger.RuleSet {
	set := trigger.RuleSet{Gen: c.gen}
	for _, id := range slices.Sorted(maps.Keys(c.heads)) {
		h := c.heads[id]
		if h.dag == nil || h.row.Removed {
			continue
		}
		for _, r := range h.dag.On {
			r.Version, r.Paused, r.Gated = h.row.Version, h.row.Paused, collects(h.dag.Concurrency, &r)
			set.Rules = append(set.Rules, r)
		}
	}
	return set
}

// dagSet is the DAG files as they are now.
type dagSet struct {
	set  spec.Set
	done answer
}

func (in *dagSet) decide(_ context.Context, c *core) {
	present := map[string]string{} // DAGs that a file has, good or bad, with its name
	files := map[string]bool{}
	for i := range in.set.Files {
		f := &in.set.Files[i]
		files[f.Name] = true
		c.setFile(f, present)
	}
	for _, id := range slices.Sorted(maps.Keys(c.heads)) {
		h := c.heads[id]
		if present[id] != "" || h.row.Removed || in.set.Partial && !files[h.row.File] {
			continue
		}
		row := h.row
		row.Removed, row.Error = true, ""
		c.setHead(h, row, h.dag)
	}
	c.tx.files = true
	c.then(in.done, nil)
}

// setFile takes over the good DAGs of a file, and shows its faults where the last good version stays in force. Of two files with one DAG the
// first by name wins.
func (c *core) setFile(f *spec.File, present map[string]string) {
	faults := map[string][]string{}
	for _, e := range f.Faults {
		faults[e.DAG] = append(faults[e.DAG], e.Detail())
	}
	for i := range f.DAGs {
		dag := &f.DAGs[i]
		if c.claim(present, dag.ID, f.Name) {
			if err := c.setDAG(f, dag); err != nil {
				c.setFault(f.Name, dag.ID, err.Error())
			}
		}
	}
	whole := strings.Join(faults[""], "\n\n")
	delete(faults, "")
	for _, id := range slices.Sorted(maps.Keys(faults)) {
		if present[id] != f.Name && c.claim(present, id, f.Name) {
			c.setFault(f.Name, id, strings.Join(faults[id], "\n\n"))
		}
	}
	if whole != "" {
		c.setFileFault(f, whole, present)
	}
}

// claim reports whether the DAG is this file's; if another file has it, that one's head shows the clash.
func (c *core) claim(present map[string]string, id, file string) bool {
	if owner := present[id]; owner != "" {
		c.setFault(owner, id, fmt.Sprintf("%s: dag %q stands in %s as well, which is in force", file, id, owner))
		return false
	}
	present[id] = file
	return true
}

// setFileFault deals with a fault that belongs to no DAG and so may hide any: whatever came from this file stays as it was. A file that never
// had a good DAG is shown under a name of its own.
func (c *core) setFileFault(f *spec.File, text string, present map[string]string) {
	shown := len(f.DAGs) > 0
	for _, id := range slices.Sorted(maps.Keys(c.heads)) {
		h := c.heads[id]
		if h.row.File != f.Name || h.row.Removed {
			continue
		}
		shown = true
		if present[id] == "" {
			present[id] = f.Name
			c.setFault(f.Name, id, text)
		}
	}
	if id := nameOf(f.Name); !shown && present[id] == "" && c.heads[id] == nil {
		present[id] = f.Name
		c.setFault(f.Name, id, text)
	}
}

// nameOf stands for the id of a DAG in a file that never could be read.
func nameOf(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return strings.Map(func(r rune) rune {
		if spec.CheckID("x"+string(r)) != nil {
			return '_'
		}
		return r
	}, name)
}

// setDAG puts a good DAG into force, unless this installation can not run it.
func (c *core) setDAG(f *spec.File, dag *scheduler.DAG) error {
	file := f.Name
	for i := range dag.Tasks {
		t := &dag.Tasks[i]
		if t.Parks() != "" {
			continue
		}
		op := c.operators[t.Kind]
		if op == nil {
			return fmt.Errorf("%s: task %q has the kind %q, which this installation does not have", file, t.ID, t.Kind)
		}
		if err := op.Validate(t); err != nil {
			return fmt.Errorf("%s: task %q: %w", file, t.ID, err)
		}
		if ex := cmp.Or(t.Executor, plan.DefaultExecutor); c.queues[ex] == nil {
			return fmt.Errorf("%s: task %q runs on executor %q, which is not configured (there is %s)", file, t.ID, ex,
				strings.Join(slices.Sorted(maps.Keys(c.queues)), ", "))
		}
		if err := c.checkPool(t); err != nil {
			return fmt.Errorf("%s: task %q %w", file, t.ID, err)
		}
	}
	h := c.head(dag.ID)
	compiled, v, err := plan.Of(dag)
	if err != nil {
		return err
	}
	compiled.Values = c.values
	row := h.row
	if f.Builtin {
		file = "" // as DAGHead.File has it
	}
	row.Version, row.File, row.Error, row.Removed = v.Version, file, "", false
	if row.Version != h.row.Version {
		v.CreatedAt = c.tx.now
		c.tx.change.Versions = append(c.tx.change.Versions, v)
	} else if h.dag != nil {
		compiled = h.dag
	}
	c.setHead(h, row, compiled)
	return nil
}

// setFault shows why a file's present content is not in force.
func (c *core) setFault(file, id, text string) {
	h := c.head(id)
	row := h.row
	row.File, row.Error, row.Removed = file, text, false
	c.setHead(h, row, h.dag)
}

func (c *core) head(id string) *head {
	h := c.heads[id]
	if h == nil {
		h = &head{row: scheduler.DAGHead{ID: id}}
		c.heads[id] = h
	}
	return h
}

// setHead changes a head, if anything is different. New rules get a new generation.
func (c *core) setHead(h *head, row scheduler.DAGHead, dag *plan.DAG) {
	if row == h.row {
		return
	}
	fresh := dag != nil && (h.dag == nil || row.Version != h.row.Version)
	if fresh {
		if h.dag != nil {
			c.release(h.row.Version)
		}
		v := c.versions[row.Version]
		if v == nil {
			v = &version{dag: dag}
			c.versions[row.Version] = v
		}
		v.refs++
		h.dag = v.dag
	}
	if fresh || row.Removed != h.row.Removed || row.Paused != h.row.Paused {
		c.tx.rules = true
		c.gen++
	}
	row.UpdatedAt = c.tx.now
	h.row = row
	c.tx.heads = true
	if fresh {
		c.readmit(row.ID) // its limit may be another
		c.rearm(row.ID)
	}
	heads := &c.tx.change.Heads
	if i := slices.IndexFunc(*heads, func(o scheduler.DAGHead) bool { return o.ID == row.ID }); i >= 0 {
		(*heads)[i] = row
		return
	}
	*heads = append(*heads, row)
}
