package sdk

import "slices"

// Place is where a task stands: a [DAG], a [Group] of it, or what [DAG.Setup] and [DAG.Teardown] return.
type Place interface {
	put(t *task)
}

func (d *DAG) put(t *task) { t.dag = d }

// The parts of a DAG that are not its tasks.
const (
	partSetup    = "setup"
	partTeardown = "teardown"
)

// Setup is the place of tasks that come before others: those that [DAG.Cover] names, or all that a setup does not need. A task that is covered
// starts only when the setup has succeeded, and may take its output. The setup called "cluster" is the task cluster_setup.
func (d *DAG) Setup() Place { return part{d, partSetup} }

// Teardown is the place of tasks that come after all that the setup of the same name covers, whatever became of it, also if the run is
// cancelled. A teardown may take the output of its setup, and nothing else. One without a setup comes after all tasks, or those that [DAG.Cover] names.
// The teardown called "cluster" is the task cluster_teardown.
func (d *DAG) Teardown() Place { return part{d, partTeardown} }

type part struct {
	dag  *DAG
	name string
}

func (p part) put(t *task) { t.dag, t.part, t.id = p.dag, p.name, t.name+"_"+p.name }

// Cover says which tasks, or groups, a setup is for, or a teardown that has no setup. Tasks that take the output of a setup are covered by it in
// any case.
func (d *DAG) Cover(by Node, tasks ...Node) *DAG {
	t := by.node().task
	if t == nil || t.part == "" || t.dag != d {
		d.fault("%q covers nothing: it is neither a setup nor a teardown of this DAG", by.node().id)
		return d
	}
	for _, n := range tasks {
		t.cover(n.node())
	}
	return d
}

func (t *task) cover(n ref) {
	switch {
	case n.dag != t.dag:
		t.dag.fault("%s %q covers %q, which is of dag %q", t.part, t.name, n.id, n.dag.id)
	case !slices.Contains(t.covers, n):
		t.covers = append(t.covers, n)
	}
}

// Group is some tasks of a DAG that belong together. What needs a group needs its last tasks, those that no other of it needs. A group is a
// [Place], for its tasks, and a [Node], for what needs it.
type Group struct {
	dag   *DAG
	name  string
	text  string
	needs []ref
}

// Group returns the group of that name.
func (d *DAG) Group(name string) *Group {
	if i := slices.IndexFunc(d.groups, func(g *Group) bool { return g.name == name }); i >= 0 {
		return d.groups[i]
	}
	g := &Group{dag: d, name: name}
	d.groups = append(d.groups, g)
	return g
}

// Description says what the group is for.
func (g *Group) Description(text string) *Group {
	g.text = text
	return g
}

// Needs names what the first tasks of the group need, those that need no other of it.
func (g *Group) Needs(steps ...Node) *Group {
	for _, s := range steps {
		n := s.node()
		if n.dag != g.dag {
			g.dag.fault("group %q needs %q, which is of dag %q", g.name, n.id, n.dag.id)
		}
		g.needs = append(g.needs, n)
	}
	return g
}

func (g *Group) put(t *task) { t.dag, t.group = g.dag, g.name }
func (g *Group) node() ref   { return ref{g.dag, g.name, nil} }

func (g *Group) describe() object {
	o := object{}
	o = o.unless(g.text == "", "description", g.text)
	return o.unless(len(g.needs) == 0, "needs", ids(g.needs))
}

// ref is a task or a group, for those that name it.
type ref struct {
	dag  *DAG
	id   string
	task *task // nil for a group
}

func ids(refs []ref) []string {
	var out []string
	for _, r := range refs {
		if !slices.Contains(out, r.id) {
			out = append(out, r.id)
		}
	}
	return out
}

// resolve turns what the task takes and needs into what its description says, and finds what no description could.
func (t *task) resolve() {
	t.parents = nil
	for i, n := range slices.Concat(t.inputs, t.needs) {
		switch isInput := i < len(t.inputs); {
		case n.dag != t.dag:
			t.dag.fault("task %q needs %q, which is a task of dag %q", t.id, n.id, n.dag.id)
		case t.part == partTeardown && isInput && n.isPart(partSetup) && n.task.name == t.name:
			// is given to it anyway
		case t.part == partTeardown && isInput:
			t.dag.fault("teardown %q takes the output of %q: a teardown is given that of its setup alone, which has its name", t.name, n.id)
		case t.part == partTeardown:
			t.dag.fault("teardown %q needs %q: it comes after all that its setup covers, and needs nothing", t.name, n.id)
		case t.part == partSetup && n.isPart(partSetup):
			t.parent(n.task.name)
		case n.isPart(partSetup):
			n.task.takers = append(n.task.takers, ref{t.dag, t.id, t})
		default:
			t.parent(n.id)
		}
	}
}

func (n ref) isPart(part string) bool { return n.task != nil && n.task.part == part }

func (t *task) parent(name string) {
	if !slices.Contains(t.parents, name) {
		t.parents = append(t.parents, name)
	}
}

// covered is what `for` of a setup or teardown says; nothing stands for all.
func (t *task) covered() []string {
	if len(t.covers) == 0 {
		return nil
	}
	takers := slices.DeleteFunc(slices.Clone(t.takers), func(n ref) bool {
		return slices.ContainsFunc(t.covers, func(c ref) bool { return c.task == nil && c.id == n.task.group }) // with its group
	})
	return ids(slices.Concat(t.covers, takers))
}
