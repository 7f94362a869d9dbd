package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"millrace/configs"
	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
)

// warnNotSet: a DAG uses a variable, a secret or a connection that no source of the server has.
const warnNotSet = "not-set"

// valuesTime is how long 'dags lint' waits for a server's word about values.
const valuesTime = 5 * time.Second

// heldValues are the names that a server knows, by the root under which expressions have them.
type heldValues struct {
	names map[string][]string
	// vault says that there may be more secrets than it can list.
	vault bool
}

// heldValues asks the server, if one is named. Only it knows: its environment, its configuration and its store have the values, not those of this
// machine. nil: there is none to ask, or it does not answer, which is said and is no error.
func (g *global) heldValues(ctx context.Context) *heldValues {
	named := cmp.Or(g.server, os.Getenv("MILLRACE_SERVER"))
	if named == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, valuesTime)
	defer cancel()
	held, err := g.askValues(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(g.err, "whether variables, secrets and connections are set was not checked: %v\n", err)
		return nil
	}
	return held
}

func (g *global) askValues(ctx context.Context) (*heldValues, error) {
	api, err := g.client()
	if err != nil {
		return nil, err
	}
	const most = 1_000_000
	vars, err := list[scheduler.Variable](ctx, api, "/variables", url.Values{}, most)
	if err != nil {
		return nil, err
	}
	conns, err := list[scheduler.Connection](ctx, api, "/connections", url.Values{}, most)
	if err != nil {
		return nil, err
	}
	var conf []configs.Value
	if err := api.get(ctx, "/config", nil, &conf); err != nil {
		return nil, err
	}
	held := &heldValues{names: map[string][]string{}, vault: slices.ContainsFunc(conf, func(v configs.Value) bool {
		return v.Path == "vault.address" && v.Value != ""
	})}
	for _, v := range vars {
		root := "vars"
		if v.v.Secret {
			root = "secrets"
		}
		held.names[root] = append(held.names[root], v.v.Name)
	}
	for _, c := range conns {
		held.names["conns"] = append(held.names["conns"], c.v.Name)
	}
	return held, nil
}

// unset warns of the values that DAGs use and the server does not have. What an expression asks for by has() may be missing.
func (h *heldValues) unset(files []spec.File) []spec.Warning {
	var out []spec.Warning
	for _, f := range files {
		for i := range f.DAGs {
			dag, _, err := plan.Of(&f.DAGs[i])
			if err != nil {
				continue // a fault, which is shown
			}
			for _, ref := range dag.Uses() {
				if ref.Optional || slices.Contains(h.names[ref.Root], ref.Name) || ref.Root == "secrets" && h.vault {
					continue
				}
				out = append(out, spec.Warning{Code: warnNotSet, File: f.Name, DAG: f.DAGs[i].ID, Hint: howToSet(ref.Root, ref.Name, h.names[ref.Root]),
					Msg: fmt.Sprintf("%s.%s is not set on the server, and a task that uses it will fail", ref.Root, ref.Name)})
			}
		}
	}
	return out
}

func howToSet(root, name string, known []string) string {
	if meant := spec.Suggest(name, known); meant != "" {
		return meant
	}
	return map[string]string{
		"vars": "millrace vars set " + name + " VALUE", "secrets": "millrace vars set --secret " + name + " -", "conns": "millrace conns set " + name + " -",
	}[root]
}
