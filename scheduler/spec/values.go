package spec

import (
	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// place says where a text stands, and so which values of the installation may be in it.
type place int

const (
	inPlan place = iota // evaluated by the scheduler: variables
	inArgs              // argv, which everybody on a machine can see: variables, and of connections what is no secret
	inEnv               // environment, or settings that travel in it: all
)

// standing notes where the texts stand that are read until the function that it returns is called.
func (b *builder) standing(p place) (back func()) {
	old := b.stands
	b.stands = p
	return func() { b.stands = old }
}

// inEnv is for the settings of operators, which travel in the environment.
func (b *builder) inEnv(read func(v ast.Node, t *scheduler.Task)) func(v ast.Node, t *scheduler.Task) {
	return func(v ast.Node, t *scheduler.Task) {
		defer b.standing(inEnv)()
		read(v, t)
	}
}

// checkValue checks a name of vars, secrets or conns, and reports whether it is one.
func (b *builder) checkValue(u usedExpr, ref expr.Ref, report func(hint, format string, args ...any)) bool {
	const toEnv = "put it into env: and read the variable"
	switch {
	case ref.Root != "vars" && ref.Root != "secrets" && ref.Root != "conns":
		return false
	case u.what == "group":
		report("use params, or what the trigger has", "%s can change from one run to the next, and a group can not", ref.Root)
	case ref.Secret && u.place == inArgs:
		report(toEnv, "a secret can not stand in an argument: everybody on the machine can read it there")
	case ref.Secret && u.place != inEnv:
		report("", "a secret can only stand in env, and in settings of http, wait, sql and use")
	case ref.Root == "conns" && u.place == inPlan:
		report("use a variable", "connections can only stand in env, in arguments, and in settings of http, wait, sql and use")
	default:
		if err := scheduler.CheckValueName(ref.Name); err != nil {
			report("", "%v", err)
		}
	}
	return true
}

// elsewhere says where to put what people look for in a DAG file.
var elsewhere = map[string]string{
	"variables":   "variables are the installation's: 'millrace vars set NAME VALUE', and ${{ vars.NAME }} here",
	"vars":        "variables are the installation's: 'millrace vars set NAME VALUE', and ${{ vars.NAME }} here",
	"secrets":     "secrets are the installation's: 'millrace vars set --secret NAME -', and ${{ secrets.NAME }} in env",
	"pools":       "pools are the installation's: pools: {NAME: slots} in its configuration, and pool: NAME in a task",
	"connections": "connections are the installation's: 'millrace conns set NAME URI', and ${{ conns.NAME.host }} here, or connection: conn:NAME of sql and http",
	"conns":       "connections are the installation's: 'millrace conns set NAME URI', and ${{ conns.NAME.host }} here, or connection: conn:NAME of sql and http",
}
