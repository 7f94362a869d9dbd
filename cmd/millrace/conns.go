package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newConns(g *global) *cobra.Command {
	return group("conns", "Connections of DAGs to databases and other systems", newConnsLs(g), newConnsGet(g), newConnsSet(g), newConnsTest(g), newConnsRm(g))
}

// connURI writes a connection as a URI again, with *** for what is not shown.
func connURI(c scheduler.Connection) string {
	var b strings.Builder
	b.WriteString(c.Type + "://")
	if c.Login != "" || c.Password != "" {
		b.WriteString(c.Login)
		if c.Password != "" {
			b.WriteString(":" + c.Password)
		}
		b.WriteString("@")
	}
	b.WriteString(c.Host)
	if c.Port != 0 {
		b.WriteString(":" + strconv.Itoa(c.Port))
	}
	if c.Schema != "" {
		b.WriteString("/" + c.Schema)
	}
	for i, name := range slices.Sorted(maps.Keys(c.Extra)) {
		b.WriteString(map[bool]string{true: "?", false: "&"}[i == 0] + name + "=" + c.Extra[name])
	}
	return b.String()
}

var connColumns = []column[scheduler.Connection]{
	{"NAME", func(c scheduler.Connection) string { return c.Name }},
	{"URI", func(c scheduler.Connection) string { return oneLine(connURI(c)) }},
	{"ORIGIN", func(c scheduler.Connection) string { return c.Origin }},
	{"DESCRIPTION", func(c scheduler.Connection) string { return oneLine(c.Description) }},
}

func newConnsLs(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List connections, without their passwords", Args: exactArgs(0),
		Example: `  millrace conns ls
  millrace conns ls -o json`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.Connection](c.Context(), api, "/connections", url.Values{}, 1_000_000)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(v scheduler.Connection) string { return v.Name }, connColumns)
		},
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newConnsGet(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "get NAME", Short: "Print a connection, without its password", Args: exactArgs(1),
		Example: `  millrace conns get warehouse`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var v answer[scheduler.Connection]
			if err := api.get(c.Context(), "/connections/"+url.PathEscape(args[0]), nil, &v); err != nil {
				return err
			}
			return printOne(g, v, v.v.Name, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s\t# %s\n", connURI(v.v), v.v.Origin)
				return err
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newConnsSet(g *global) *cobra.Command {
	var description string
	c := &cobra.Command{
		Use: "set NAME URI", Short: "Set a connection in the store", Args: exactArgs(2),
		Long: `Set a connection in the store of the server, encrypted. URI is type://login:password@host:port/schema?name=value, as Airflow writes it; what is
special in login and password is escaped, as %40 for @. URI - reads it from standard input, which keeps the password out of the shell's history.

Tasks with sql or http use it as connection: conn:NAME. In expressions it is conns.NAME, with the fields type, host, port, login, schema, and, in env alone,
password, uri and extra.`,
		Example: `  echo 'postgres://etl:secret@db.example.com:5432/prod?sslmode=require' | millrace conns set warehouse -
  millrace conns test warehouse`,
		RunE: func(c *cobra.Command, args []string) error {
			uri, err := g.fromInput(args[1])
			if err != nil {
				return err
			}
			body := map[string]any{"uri": uri, "by": whoAsks()}
			if c.Flags().Changed("description") {
				body["description"] = description
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			var v answer[scheduler.Connection]
			if err := api.call(c.Context(), http.MethodPut, "/connections/"+url.PathEscape(args[0]), nil, body, &v); err != nil {
				return err
			}
			return printOne(g, v, v.v.Name, func(w io.Writer) error { return saySet(w, "connection", args[0], v.v.Origin) })
		},
	}
	c.Flags().StringVar(&description, "description", "", "what it is for")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newConnsTest(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "test NAME", Short: "Speak to what a connection leads to, from the server", Args: exactArgs(1),
		Long: `Speak to what a connection leads to, from the server. A database of the types postgres and sqlite is asked a query; of any other type it is seen
whether its port answers. The exit code is 1 if it does not.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var out struct {
				OK   bool   `json:"ok"`
				Text string `json:"text"`
			}
			if err := api.call(c.Context(), http.MethodPost, "/connections/"+url.PathEscape(args[0])+"/test", nil, nil, &out); err != nil {
				return err
			}
			if !out.OK {
				return fmt.Errorf("connection %s does not work: %s", args[0], out.Text)
			}
			_, err = fmt.Fprintf(g.out, "connection %s works: %s\n", args[0], out.Text)
			return err
		},
	}
	g.serverFlags(c)
	return c
}

func newConnsRm(g *global) *cobra.Command { return newRemove(g, "connections", "/connections/") }
