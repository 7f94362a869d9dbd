package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newVars(g *global) *cobra.Command {
	return group("vars", "Variables and secrets of DAGs", newVarsLs(g), newVarsGet(g), newVarsSet(g), newVarsRm(g), newVarsImport(g), newVarsExport(g))
}

func variableKind(v scheduler.Variable) string {
	if v.Secret {
		return "secret"
	}
	return "variable"
}

// oneLine shortens a value for a table.
func oneLine(text string) string {
	const most = 60
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// originOf says where a value comes from, and what it hides.
func originOf(v scheduler.Variable) string {
	if len(v.Hides) == 0 {
		return v.Origin
	}
	return v.Origin + ", hides " + strings.Join(v.Hides, " and ")
}

var variableColumns = []column[scheduler.Variable]{
	{"NAME", func(v scheduler.Variable) string { return v.Name }},
	{"KIND", variableKind},
	{"VALUE", func(v scheduler.Variable) string { return oneLine(v.Value) }},
	{"ORIGIN", originOf},
	{"DESCRIPTION", func(v scheduler.Variable) string { return oneLine(v.Description) }},
}

func newVarsLs(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List variables and secrets, with where they come from", Args: exactArgs(0),
		Long: `List variables and secrets, with where they come from.

Secrets are shown as ***, and so are variables whose name has password, secret, token or the like in it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.Variable](c.Context(), api, "/variables", url.Values{}, 1_000_000)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(v scheduler.Variable) string { return v.Name }, variableColumns)
		},
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newVarsGet(g *global) *cobra.Command {
	var origin bool
	c := &cobra.Command{
		Use: "get NAME", Short: "Print the value of a variable", Args: exactArgs(1),
		Long: `Print the value of a variable as DAGs get it: of the environment of the server (MILLRACE_VAR_<NAME>), or else of its configuration (variables),
or else as 'millrace vars set' has set it. Secrets are printed as ***, and so are variables whose name has password, secret, token or the like in it.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var v answer[scheduler.Variable]
			if err := api.get(c.Context(), "/variables/"+url.PathEscape(args[0]), nil, &v); err != nil {
				return err
			}
			return printOne(g, v, v.v.Name, func(w io.Writer) error {
				if origin {
					_, err := fmt.Fprintf(w, "%s\t# %s: %s\n", v.v.Value, variableKind(v.v), originOf(v.v))
					return err
				}
				_, err := fmt.Fprintln(w, v.v.Value)
				return err
			})
		},
	}
	c.Flags().BoolVar(&origin, "origin", false, "say where it comes from, and what it hides")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// fromInput returns text, or all of standard input for "-", without its last line end.
func (g *global) fromInput(text string) (string, error) {
	if text != "-" {
		return text, nil
	}
	b, err := io.ReadAll(io.LimitReader(g.in, 10<<20))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

func newVarsSet(g *global) *cobra.Command {
	var secret bool
	var description string
	c := &cobra.Command{
		Use: "set NAME VALUE", Short: "Set a variable or a secret in the store", Args: exactArgs(2),
		Long: `Set a variable, ${{ vars.NAME }} in DAGs, or a secret, ${{ secrets.NAME }}, in the store of the server. VALUE - reads it from standard input,
which keeps a secret out of the shell's history.

Text that is a JSON object, a list, true, false, a number or a text in quotes has that type in expressions. A secret is encrypted in the store, and
masked in the logs of the tasks that are given it. Tasks get the value that is there when their attempt is launched.`,
		Example: `  millrace vars set region eu-west-1
  millrace vars set limits '{"rows": 5000}'
  pass show stripe | millrace vars set --secret stripe -`,
		RunE: func(c *cobra.Command, args []string) error {
			value, err := g.fromInput(args[1])
			if err != nil {
				return err
			}
			body := map[string]any{"value": value, "secret": secret, "by": whoAsks()}
			if c.Flags().Changed("description") {
				body["description"] = description
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			var v answer[scheduler.Variable]
			if err := api.call(c.Context(), http.MethodPut, "/variables/"+url.PathEscape(args[0]), nil, body, &v); err != nil {
				return err
			}
			return printOne(g, v, v.v.Name, func(w io.Writer) error { return saySet(w, variableKind(v.v), args[0], v.v.Origin) })
		},
	}
	c.Flags().BoolVar(&secret, "secret", false, "encrypt it, never show it, and mask it in logs")
	c.Flags().StringVar(&description, "description", "", "what it is for")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// saySet warns if what was set does not take effect.
func saySet(w io.Writer, kind, name, origin string) error {
	if origin != scheduler.FromStore {
		_, err := fmt.Fprintf(w, "%s %s is set in the store, but the %s of the server has one, and that comes first\n", kind, name, origin)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s is set\n", kind, name)
	return err
}

// newRemove is the command that removes a value.
func newRemove(g *global, what, path string) *cobra.Command {
	c := &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove", "delete"}, Short: "Remove " + what + " from the store", Args: minArgs(1),
		Long: "Remove " + what + ` from the store of the server. What comes from its environment or its configuration can only be removed there. A task
that needs what is gone fails when it is launched, with a sentence that says so.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			for _, name := range args {
				var out struct{ Removed string }
				query := url.Values{"by": {whoAsks()}}
				if err := api.call(c.Context(), http.MethodDelete, path+url.PathEscape(name), query, nil, &out); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(g.out, "%s is removed\n", out.Removed); err != nil {
					return err
				}
			}
			return nil
		},
	}
	g.serverFlags(c)
	return c
}

func newVarsRm(g *global) *cobra.Command { return newRemove(g, "variables or secrets", "/variables/") }

// givenVariable is one of an import, as the API takes it.
type givenVariable struct {
	Name        string  `json:"name"`
	Value       string  `json:"value"`
	Description *string `json:"description,omitempty"`
}

// readVariables reads what 'vars export' writes, and 'airflow variables export': an object with a text, or any JSON, by name; one that has value and
// description, and nothing else, is these.
func readVariables(text []byte) ([]givenVariable, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New(`want a JSON object, like {"region": "eu-west-1", "limits": {"rows": 5000}}`)
	}
	var out []givenVariable
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("variable %v: %w", name, err)
		}
		given := givenVariable{Name: fmt.Sprint(name)}
		var both struct {
			Value       *json.RawMessage `json:"value"`
			Description *string          `json:"description"`
		}
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		if strict.Decode(&both) == nil && both.Value != nil && both.Description != nil {
			raw, given.Description = *both.Value, both.Description
		}
		if json.Unmarshal(raw, &given.Value) != nil {
			given.Value = string(raw)
		}
		out = append(out, given)
	}
	_, err := dec.Token()
	return out, err
}

func newVarsImport(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "import FILE", Short: "Set the variables of a JSON file, all of them or none", Args: exactArgs(1),
		Long: `Set the variables of a JSON file, as 'millrace vars export' and 'airflow variables export' write it, all of them or none. FILE - is standard input.`,
		RunE: func(c *cobra.Command, args []string) error {
			var text []byte
			var err error
			if args[0] == "-" {
				text, err = io.ReadAll(io.LimitReader(g.in, 10<<20))
			} else {
				text, err = os.ReadFile(args[0])
			}
			if err != nil {
				return err
			}
			given, err := readVariables(text)
			if err != nil {
				return &codeError{exitUsage, fmt.Errorf("read %s: %w", args[0], err)}
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			var out struct{ Set int }
			if err := api.call(c.Context(), http.MethodPost, "/variables", nil, map[string]any{"variables": given, "by": whoAsks()}, &out); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s set\n", counted(out.Set, "variable"))
			return err
		},
	}
	g.serverFlags(c)
	return c
}

func newVarsExport(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "export [FILE]", Short: "Write the variables as JSON, without secrets", Args: cobra.MaximumNArgs(1),
		Long: `Write all variables as a JSON object, to FILE or to standard output. What is not shown is not in it: secrets, and variables whose name has
password, secret, token or the like in it; how many that are is said on standard error.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.Variable](c.Context(), api, "/variables", url.Values{}, 1_000_000)
			if err != nil {
				return err
			}
			vals, left := map[string]any{}, 0
			for _, r := range rows {
				switch v := r.v; {
				case v.Secret || scheduler.Sensitive(v.Name):
					left++
				case v.Description != "":
					vals[v.Name] = map[string]string{"value": v.Value, "description": v.Description}
				default:
					vals[v.Name] = v.Value
				}
			}
			text, err := json.MarshalIndent(vals, "", "  ")
			if err != nil {
				return err
			}
			text = append(text, '\n')
			if left > 0 {
				_, _ = fmt.Fprintf(g.err, "%s left out: their values are not shown\n", counted(left, "secret"))
			}
			if file := cmp.Or(append(args, "-")[0], "-"); file != "-" {
				return os.WriteFile(file, text, 0o600)
			}
			_, err = g.out.Write(text)
			return err
		},
	}
	g.serverFlags(c)
	return c
}
