package plan

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/output"
)

// DAG is one version, with its graph and its expressions ready for use. It does not change, and is safe for concurrent use.
type DAG struct {
	scheduler.DAG
	// Version is the hash of the canonical form.
	Version string
	// Values are those of the installation; nil: there are none. Set it before the first run is made of the DAG.
	Values scheduler.Values

	nodes []node
	// images are those of the tasks, each once.
	images []string
	env    []binding
	tells  bool
}

// node is a task with what is derived from it.
type node struct {
	// children are those that have it among their parents or setups.
	parents, setups, children []int
	// image is the place of the task's in the DAG's images, from 1; 0: it has none.
	image    int
	teardown bool
	// leaf says that a run fails if it does: nothing comes after it, but teardowns; or it is a teardown of which that is asked.
	leaf bool

	when       *expr.Program
	items, key *expr.Program // of foreach
	// argv is that of run, args that of an image's entrypoint.
	argv, args []*expr.Text
	env        []binding
	settings   map[string]*expr.Text
	cache      *expr.Program
	form       [sha256.Size]byte // of what a cached output depends on, if there is a cache
	schema     *output.Schema
}

// binding is a variable with the text of its value.
type binding struct {
	name string
	text *expr.Text
}

// Compile makes a stored version ready for use. It fails on a version that this binary does not understand.
func Compile(v scheduler.DAGVersion) (*DAG, error) {
	d := &DAG{Version: v.Version}
	if err := json.Unmarshal(v.Canonical, &d.DAG); err != nil {
		return nil, fmt.Errorf("read version %s of dag %s: %w", v.Version, v.DAG, err)
	}
	if d.V != 1 {
		return nil, fmt.Errorf("read version %s of dag %s: its form is %d, and this binary knows form 1", v.Version, v.DAG, d.V)
	}
	if err := d.link(); err != nil {
		return nil, fmt.Errorf("read version %s of dag %s: %w", v.Version, v.DAG, err)
	}
	return d, nil
}

// Of compiles a DAG that was just read, and returns its version to be stored as well.
func Of(dag *scheduler.DAG) (*DAG, scheduler.DAGVersion, error) {
	raw, err := dag.Canonical()
	if err != nil {
		return nil, scheduler.DAGVersion{}, err
	}
	v := scheduler.DAGVersion{Version: scheduler.VersionOf(raw), DAG: dag.ID, Canonical: raw}
	d, err := Compile(v)
	return d, v, err
}

func (d *DAG) link() error {
	index := map[string]int{}
	for i := range d.Tasks {
		index[d.Tasks[i].ID] = i
	}
	d.nodes, d.tells = make([]node, len(d.Tasks)), tells(&d.DAG)
	var err error
	if d.env, err = bindings(expr.ScopeTask, d.Env); err != nil {
		return err
	}
	for i := range d.Tasks {
		t, n := &d.Tasks[i], &d.nodes[i]
		if n.parents, err = d.after(i, t.Needs, index); err != nil {
			return err
		}
		if n.setups, err = d.after(i, t.Setups, index); err != nil {
			return err
		}
		if err := n.compile(t); err != nil {
			return fmt.Errorf("task %s: %w", t.ID, err)
		}
		if n.form, err = d.formOf(t); err != nil {
			return fmt.Errorf("task %s: %w", t.ID, err)
		}
	}
	d.linkImages()
	d.markLeaves()
	return nil
}

// after makes task i a child of others, and returns their indexes.
func (d *DAG) after(i int, ids []string, index map[string]int) ([]int, error) {
	var out []int
	for _, id := range ids {
		p, ok := index[id]
		if !ok {
			return nil, fmt.Errorf("task %s needs %s, which does not exist", d.Tasks[i].ID, id)
		}
		out = append(out, p)
		d.nodes[p].children = append(d.nodes[p].children, i)
	}
	return out, nil
}

func (n *node) compile(t *scheduler.Task) error {
	var err error
	scope := expr.ScopeOf(t)
	if t.When != "" {
		if n.when, err = expr.CompileBool(scope, t.When); err != nil {
			return fmt.Errorf("when: %w", err)
		}
	}
	if err := n.compileForeach(t.Foreach, scope); err != nil {
		return err
	}
	if n.env, err = bindings(scope, t.Env); err != nil {
		return err
	}
	if n.argv, err = arguments(scope, t.Run); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if t.Container != nil {
		if n.args, err = arguments(scope, t.Container.Args); err != nil {
			return fmt.Errorf("args: %w", err)
		}
	}
	if n.settings, err = settingsTexts(scope, t); err != nil {
		return err
	}
	return n.compileOutput(scope, t)
}

func arguments(scope expr.Scope, list []string) ([]*expr.Text, error) {
	var out []*expr.Text
	for _, arg := range list {
		text, err := expr.CompileTextIn(scope, arg)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

func (n *node) compileForeach(f *scheduler.Foreach, scope expr.Scope) error {
	if f == nil {
		return nil
	}
	var err error
	if n.items, err = expr.CompileItems(f.Items); err != nil {
		return fmt.Errorf("foreach: items: %w", err)
	}
	if f.Key != "" {
		if n.key, err = expr.CompileKeyText(scope, f.Key); err != nil {
			return fmt.Errorf("foreach: key: %w", err)
		}
	}
	return nil
}

func bindings(scope expr.Scope, env map[string]string) ([]binding, error) {
	var out []binding
	for _, name := range slices.Sorted(maps.Keys(env)) {
		text, err := expr.CompileTextIn(scope, env[name])
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", name, err)
		}
		out = append(out, binding{name: name, text: text})
	}
	return out, nil
}
