package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/mask"
)

// addVariables makes the variables of the installation visible that refs name. One that is not set is an error, unless has() asks for it.
func (r *Run) addVariables(vars *expr.Vars, refs []expr.Ref) error {
	for _, ref := range refs {
		if ref.Root != "vars" {
			continue
		}
		raw, ok := r.DAG.variable(ref.Name)
		if !ok {
			if optional(refs, ref) {
				continue
			}
			return fmt.Errorf("variable %q is not set; set it with: millrace vars set %s VALUE", ref.Name, ref.Name)
		}
		if err := vars.AddVariable(ref.Name, raw); err != nil {
			return err
		}
	}
	return nil
}

func (d *DAG) variable(name string) (json.RawMessage, bool) {
	if d.Values == nil {
		return nil, false
	}
	return d.Values.Variable(name)
}

// optional reports whether has() asks for the value of a reference somewhere.
func optional(refs []expr.Ref, ref expr.Ref) bool {
	return slices.ContainsFunc(refs, func(o expr.Ref) bool { return o.Root == ref.Root && o.Name == ref.Name && o.Optional })
}

// sensitive returns the texts of variables with a sensitive name that task i is given.
func (r *Run) sensitive(i int) []string {
	var out []string
	for _, ref := range r.DAG.launchRefs(i) {
		if ref.Root != "vars" || !scheduler.Sensitive(ref.Name) {
			continue
		}
		if raw, ok := r.DAG.variable(ref.Name); ok {
			out = append(out, textOf(raw)...)
		}
	}
	return out
}

// textOf returns the texts within a variable: itself, or the values of an object or a list.
func textOf(raw json.RawMessage) []string {
	var val any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if dec.Decode(&val) != nil {
		return nil
	}
	out := []string{string(raw)}
	var walk func(any)
	walk = func(val any) {
		switch val := val.(type) {
		case string:
			out = append(out, val)
		case json.Number:
			out = append(out, val.String())
		case []any:
			for _, v := range val {
				walk(v)
			}
		case map[string]any:
			for _, v := range val {
				walk(v)
			}
		}
	}
	walk(val)
	return out
}

// Uses returns what the DAG takes of vars, secrets and conns, each once, in the order of its tasks. Those of `when` are among them.
func (d *DAG) Uses() []expr.Ref {
	var out []expr.Ref
	add := func(refs []expr.Ref) {
		for _, ref := range refs {
			known := slices.ContainsFunc(out, func(o expr.Ref) bool { return o.Root == ref.Root && o.Name == ref.Name })
			if !known && (ref.Root == "vars" || ref.Root == "secrets" || ref.Root == "conns") {
				ref.Optional = optional(refs, ref)
				out = append(out, ref)
			}
		}
	}
	for i := range d.nodes {
		add(d.launchRefs(i))
		for _, prg := range []*expr.Program{d.nodes[i].when, d.nodes[i].items, d.nodes[i].key} {
			if prg != nil {
				add(prg.Refs())
			}
		}
	}
	return out
}

// Pending is an attempt that needs secrets, which are read by somebody who may wait for them. All else was read when it was made; it shares nothing
// with its run that changes.
type Pending struct {
	run  *Run
	a    attempt
	vars *expr.Vars
	refs []expr.Ref
}

// Pend returns nil if task i needs no secret and no connection: then [Run.Launch] is for it. Its arguments and its error are those of that.
func (r *Run) Pend(i, try int, op scheduler.Operator, base []string) (*Pending, error) {
	own := r.node(i)
	refs := r.DAG.launchRefs(own)
	if !slices.ContainsFunc(refs, func(ref expr.Ref) bool { return ref.Root == "secrets" || ref.Root == "conns" }) {
		return nil, nil
	}
	if r.DAG.Values == nil {
		return nil, fmt.Errorf("there are no secrets and connections here")
	}
	snap := &Run{DAG: r.DAG, Row: r.Row, Batches: r.Batches, Tasks: r.Tasks}
	vars, err := snap.vars(refs)
	if err != nil {
		return nil, err
	}
	snap.Tasks = nil // they go on changing
	if err := r.setItem(vars, i); err != nil {
		return nil, err
	}
	return &Pending{run: snap, a: attempt{i: own, t: r.Tasks[i], try: try, op: op, base: base, image: r.imageRef(i)}, vars: vars, refs: refs}, nil
}

// ID is the attempt's.
func (p *Pending) ID() string { return p.a.t.AttemptID(p.a.try) }

// Launch reads the secrets and returns what [Run.Launch] does. An error with scheduler.ErrValueBusy in it may be gone when it is tried again; any other
// says that the task can not be started. No secret is in it.
func (p *Pending) Launch(ctx context.Context) (scheduler.Launch, error) {
	secrets, conns := map[string]string{}, map[string]map[string]string{}
	values := p.run.DAG.Values
	var hidden []string
	for _, ref := range p.refs {
		var err error
		switch {
		case ref.Root == "secrets":
			if secrets[ref.Name], err = values.Secret(ctx, ref.Name); err == nil {
				hidden = append(hidden, secrets[ref.Name])
			}
		case ref.Root == "conns" && conns[ref.Name] == nil:
			conns[ref.Name], err = values.Connection(ctx, ref.Name)
			hidden = append(hidden, secretsOf(conns[ref.Name])...)
		}
		if err != nil {
			return scheduler.Launch{}, err
		}
	}
	l, err := p.run.launch(p.a, p.vars.WithSecrets(secrets, conns))
	if err != nil {
		return l, fmt.Errorf("%s", mask.New(hidden).String(err.Error()))
	}
	l.Secrets = append(l.Secrets, hidden...)
	return l, nil
}

// secretsOf returns what of a connection nobody should see.
func secretsOf(fields map[string]string) []string {
	var out []string
	for name, val := range fields {
		key, extra := strings.CutPrefix(name, "extra.")
		if name == "password" || extra && scheduler.Sensitive(key) {
			out = append(out, val)
		}
	}
	if len(out) > 0 {
		out = append(out, fields["uri"])
	}
	return out
}
