package spec

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// Bounds of what a task may ask of a machine, far above what any has.
const (
	maxCores       = 100_000
	maxDevices     = 10_000
	maxConstraints = 50
)

// executorLocal is the executor of tasks that name none.
const executorLocal = "local"

// asks is what a task, or `defaults`, asks of the machine that it runs on.
type asks struct {
	resources   scheduler.Resources
	constraints []scheduler.Constraint
	user        string
	fast        bool
}

func (b *builder) askFields(a *asks) fields {
	return fields{
		"resources":          func(v ast.Node) { b.resources(v, &a.resources) },
		"constraints":        func(v ast.Node) { a.constraints = b.constraints(v) },
		"user":               func(v ast.Node) { a.user = b.user(v) },
		"at_least_once_fast": func(v ast.Node) { a.fast = b.boolean(v, "at_least_once_fast") },
	}
}

// set gives a task what it said, or else what defaults did.
func (a *asks) set(t *scheduler.Task) {
	if a.resources != (scheduler.Resources{}) {
		t.Resources = &a.resources
	}
	t.Constraints, t.Fast = a.constraints, a.fast
	if a.user != "" {
		if t.Machine == nil {
			t.Machine = &scheduler.Machine{}
		}
		t.Machine.User = a.user
	}
}

// resources reads the keys that change what r says already.
func (b *builder) resources(n ast.Node, r *scheduler.Resources) {
	b.mapping(n, "resources", fields{
		"cpu":       func(v ast.Node) { r.CPU = b.float(v, "cpu", 0, maxCores) },
		"cpu_limit": func(v ast.Node) { r.CPULimit = b.float(v, "cpu_limit", 0, maxCores) },
		"mem":       func(v ast.Node) { r.Mem = b.size(v, "mem") },
		"mem_limit": func(v ast.Node) { r.MemLimit = b.size(v, "mem_limit") },
		"disk":      func(v ast.Node) { r.Disk = b.size(v, "disk") },
		"gpu":       func(v ast.Node) { r.GPU = int(b.integer(v, "gpu", maxDevices)) },
	})
	if r.CPULimit > 0 && r.CPULimit < r.CPU {
		b.errorf(n, "raise cpu_limit, or leave it out for no limit", "cpu_limit is %g, less than cpu, which is %g", r.CPULimit, r.CPU)
	}
	if r.MemLimit > 0 && r.MemLimit < r.Mem {
		b.errorf(n, "raise mem_limit, or leave it out for no more than mem", "mem_limit is %d bytes, less than mem, which is %d", r.MemLimit, r.Mem)
	}
}

func (b *builder) constraints(n ast.Node) []scheduler.Constraint {
	var out []scheduler.Constraint
	for _, v := range b.atMost(maxConstraints, n, "constraints", false) {
		if c, ok := b.constraint(v); ok {
			out = append(out, c)
		}
	}
	return out
}

// constraintHint is how one is written.
const constraintHint = `write it like [rack, unlike, rack-9]`

var attributeRule = regexp.MustCompile(`^[A-Za-z0-9@_][A-Za-z0-9@_.:/-]{0,127}$`)

// otherOps are words for operators that people know from elsewhere.
var otherOps = map[string]string{"equals": scheduler.OpIs, "equal": scheduler.OpIs, "==": scheduler.OpIs, "eq": scheduler.OpIs, "matches": scheduler.OpLike,
	"regexp": scheduler.OpLike, "not_like": scheduler.OpUnlike, "groupby": scheduler.OpGroupBy, "maxper": scheduler.OpMaxPer}

// constraint reads [attribute, operator] or [attribute, operator, value].
func (b *builder) constraint(n ast.Node) (c scheduler.Constraint, ok bool) {
	before := len(b.errs)
	parts := b.list(n, "a constraint", false)
	if len(parts) < 2 || len(parts) > 3 {
		if len(b.errs) == before {
			b.errorf(n, constraintHint, "a constraint has an attribute, an operator and perhaps a value; this one has %d parts", len(parts))
		}
		return c, false
	}
	c.Attribute = b.scalar(parts[0], "the attribute of a constraint")
	if c.Attribute != "" && !attributeRule.MatchString(c.Attribute) {
		b.errorf(parts[0], "", "%q can not be the name of an attribute", c.Attribute)
	}
	op := strings.ToLower(b.str(parts[1], "the operator of a constraint")) // Marathon writes them in capitals
	if c.Op = op; op != "" && !slices.Contains(scheduler.Ops, op) {
		hint := suggest(op, slices.Clone(scheduler.Ops))
		if known, ok := otherOps[op]; ok {
			hint = "did you mean \"" + known + "\"?"
		} else if hint == "" {
			hint = "known operators: " + strings.Join(scheduler.Ops, ", ")
		}
		b.errorf(parts[1], hint, "the operator of a constraint is %q, which is not known", op)
		return c, false
	}
	var value ast.Node
	if len(parts) == 3 {
		value, c.Value = parts[2], b.scalar(parts[2], "the value of a constraint")
	}
	b.constraintValue(n, value, &c)
	return c, len(b.errs) == before
}

// constraintValue checks what an operator compares with.
func (b *builder) constraintValue(n, value ast.Node, c *scheduler.Constraint) {
	needs, takes := true, true
	switch c.Op {
	case scheduler.OpExists, scheduler.OpNotExists, scheduler.OpUnique:
		needs, takes = false, false
	case scheduler.OpCluster, scheduler.OpGroupBy:
		needs = false
	}
	switch {
	case value == nil && needs:
		b.errorf(n, constraintHint, "operator %s needs a value", c.Op)
	case value == nil || c.Value == "":
		return
	case !takes:
		b.errorf(value, "remove it", "operator %s takes no value", c.Op)
	case c.Op == scheduler.OpLike || c.Op == scheduler.OpUnlike:
		if _, err := regexp.Compile(c.Value); err != nil {
			b.errorf(value, "the syntax is that of RE2", "the value of %s is no regular expression: %v", c.Op, err)
		}
	case c.Op == scheduler.OpGroupBy || c.Op == scheduler.OpMaxPer:
		if num, err := strconv.Atoi(c.Value); err != nil || num < 1 || num > maxSlots {
			b.errorf(value, "", "the value of %s must be a whole number from 1 to %d", c.Op, maxSlots)
		}
	}
}

// Kinds of warnings about what the local executor does not do.
const (
	// WarnNotEnforced: a task asks for resources of an executor that does not bound them.
	WarnNotEnforced = "not-enforced"
	// WarnRefused: a task asks for what its executor refuses, so that it never starts.
	WarnRefused = "refused"
)

// lintAsks warns of what the local executor does not give.
func (b *builder) lintAsks() {
	var loose []string
	var first ast.Node
	for i := range b.dag.Tasks {
		t, at := &b.dag.Tasks[i], b.tasks[i].at
		if t.Executor != "" && t.Executor != executorLocal || t.Parks() != "" {
			continue
		}
		if what := localRefuses(t); what != "" {
			b.warnf(at, WarnRefused, "name an executor that does, with executor", "task %s never starts: the local executor %s", t.ID, what)
			continue
		}
		if t.Resources != nil {
			if first == nil {
				first = at
			}
			loose = append(loose, t.ID)
		}
	}
	if len(loose) > 0 {
		b.warnf(first, WarnNotEnforced, "a pool bounds how many run at once", "the local executor enforces no resources: %s",
			named(loose, "may take more than it asks for", "may take more than they ask for"))
	}
}

// localRefuses says which wish of a task the local executor refuses, or "".
func localRefuses(t *scheduler.Task) string {
	switch {
	case t.Container != nil:
		return "runs no images"
	case len(t.Constraints) > 0:
		return "has one machine, and refuses constraints"
	case t.Resources != nil && t.Resources.GPU > 0:
		return "hands out no GPUs"
	case t.Machine != nil:
		return "gives a task no " + strings.Join(t.Machine.Wishes(), ", no ")
	}
	return ""
}
