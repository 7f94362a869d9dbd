package spec

import (
	"slices"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/operator"
)

var pulls = []string{scheduler.PullMissing, scheduler.PullAlways}

// image reads the reference of an image. What goes with it may stand before it.
func (b *builder) image(n ast.Node, t *scheduler.Task) {
	t.Container = &scheduler.Container{Image: b.str(n, "image")}
	switch {
	case expr.HasExpr(t.Container.Image):
		b.errorf(n, "write a task for each, with when", "${{ }} can not stand in image: a value could choose what is run")
	case t.Container.Image != "":
		b.check(n, operator.CheckImage(t.Container.Image))
	}
}

// finishImage reads what goes with an image.
func (b *builder) finishImage(p *placed, t *scheduler.Task, run ast.Node) {
	at := p.own
	if t.Container == nil {
		for key, n := range map[string]ast.Node{"args": at.args, "pull": at.pull, "container": at.container} {
			if n != nil {
				b.errorf(n, "add image, or write the arguments into run", "task %q has %s, and no image", t.ID, key)
			}
		}
		return
	}
	box := p.own.box
	box.Image = t.Container.Image
	t.Container = &box
	if at.pull != nil {
		if t.Container.Pull = b.oneOf(at.pull, "pull", pulls); t.Container.Pull == scheduler.PullMissing {
			t.Container.Pull = "" // is the default, and has one spelling in the compiled form
		}
	}
	if at.args == nil {
		return
	}
	if run != nil {
		b.errorf(at.args, "write the arguments into run", "task %q has args, which are for the image's own entrypoint, and run, which replaces it", t.ID)
		return
	}
	t.Container.Args = b.arguments(at.args, "args", t.ID)
}

// arguments reads a list of arguments in which there may be expressions, but not beside one after which a program takes code. The first of run
// is the program itself.
func (b *builder) arguments(n ast.Node, what, task string) []string {
	defer b.standing(inArgs)()
	nodes := b.list(n, what, what != "run")
	var out []string
	for _, v := range nodes {
		out = append(out, b.scalar(v, "an argument of "+what))
	}
	flag := slices.IndexFunc(out, func(arg string) bool { return slices.Contains(evalFlags, arg) })
	for i, arg := range out {
		switch {
		case !expr.HasExpr(arg):
		case i == 0 && what == "run":
			b.errorf(nodes[0], "", "${{ }} can not stand for the program itself")
		case flag >= 0:
			b.errorf(nodes[i], "put it into env: and read the variable",
				"${{ }} can not stand in a command with %s: the value might be read as code", out[flag])
		default:
			b.text(nodes[i], arg, task, what)
		}
	}
	return out
}
