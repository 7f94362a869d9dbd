package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler"
	"millrace/scheduler/vars"
)

func newAdminRotateKey(g *global) *cobra.Command {
	var drop bool
	c := &cobra.Command{
		Use: "rotate-key", Short: "Make a new key for secrets, and encrypt all of the store's with it", Args: exactArgs(0),
		Long: `Make a new key for secrets, put it first into the key file, and encrypt all secrets and connections of the store with it. The keys before it stay
in the file, since a backup of the state that was made before needs them; --drop forgets them.

If the keys are kept elsewhere (secret_key in the configuration), put a new one before the others there, restart the server, and call this: it
encrypts everything with the first key.`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var r answer[vars.Rotated]
			body := map[string]any{"drop": drop, "by": whoAsks()}
			if err := api.call(c.Context(), http.MethodPost, "/admin/rotate-key", nil, body, &r); err != nil {
				return err
			}
			return printOne(g, r, r.v.Key, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s encrypted with key %s; there are %s\n", counted(r.v.Resealed, "value"), r.v.Key, counted(r.v.Keys, "key"))
				return err
			})
		},
	}
	c.Flags().BoolVar(&drop, "drop", false, "forget the keys before it")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

var auditColumns = []column[scheduler.Audit]{
	{"AT", func(a scheduler.Audit) string { return a.At.Local().Format(time.DateTime) }},
	{"BY", func(a scheduler.Audit) string { return a.By }},
	{"ACTION", func(a scheduler.Audit) string { return a.Action }},
	{"KIND", func(a scheduler.Audit) string { return a.Kind }},
	{"NAME", func(a scheduler.Audit) string { return a.Name }},
}

func newAdminAudit(g *global) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "audit", Short: "Say who changed which variable, secret, connection or key, newest first", Args: exactArgs(0),
		Example: `  millrace admin audit
  millrace admin audit -o json`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.Audit](c.Context(), api, "/audit", url.Values{}, limit)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(a scheduler.Audit) string { return a.Kind + "/" + a.Name }, auditColumns)
		},
	}
	c.Flags().IntVar(&limit, "limit", 100, "at most so many lines, up to 1000")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}
