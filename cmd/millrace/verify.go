package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"millrace/batcher/verify"
	"millrace/cmd/internal/app"
	"millrace/configs"
)

func newVerify(g *global) *cobra.Command {
	var offline bool
	c := &cobra.Command{
		Use: "verify", Short: "Check that every accepted event is in exactly one object", Args: exactArgs(0),
		Long: `Walk the chain against the objects and report rows that are lost, doubled or damaged. Exit code 1 if there are any.

Without flags a running server is asked. With --offline, everything is read from the configuration alone: no server needs to run, and one
that does is not disturbed. What is in flight is reported apart and is no failure.`,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := g.verify(c, offline)
			if err != nil {
				return err
			}
			if err := printOne(g, r, "verify", func(w io.Writer) error { return verifyTable(w, r) }); err != nil {
				return err
			}
			if !r.OK {
				return &codeError{exitFailed, errSilent}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "read log, chain and objects from the configuration, without a server")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func (g *global) verify(c *cobra.Command, offline bool) (*verify.Report, error) {
	if offline {
		l, err := g.load(configs.Default())
		if err != nil {
			return nil, err
		}
		return app.Verify(c.Context(), l)
	}
	api, err := g.client()
	if err != nil {
		return nil, err
	}
	body, err := api.do(c.Context(), http.MethodPost, "/verify", nil, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	var r verify.Report
	return &r, json.NewDecoder(body).Decode(&r)
}

// pending reports whether records wait for their cut or their object, which is no fault.
func pending(r *verify.Report) bool {
	return r.InFlight.Items > 0 || r.Log != nil && r.Log.InFlight+r.Log.NotCut > 0
}

func verifyTable(w io.Writer, r *verify.Report) error {
	_, _ = fmt.Fprintf(w, "chains\t%d, %d entries\n", r.Streams, r.Entries)
	_, _ = fmt.Fprintf(w, "objects\t%d, %d rows, %s\n", r.Batches, r.Rows, bytesText(r.Bytes))
	if l := r.Log; l != nil {
		_, _ = fmt.Fprintf(w, "log\t%d records held: %d in objects, %d duplicates, %d not cut yet\n", l.Records, l.InObjects, l.Duplicates, l.NotCut)
	}
	_, _ = fmt.Fprintf(w, "in flight\t%d batches, %d rows\n", r.InFlight.Items, r.InFlight.Rows)
	for _, kind := range slices.Sorted(maps.Keys(r.Totals)) {
		_, _ = fmt.Fprintf(w, "%s\t%d, %d rows\n", kind, r.Totals[kind].Items, r.Totals[kind].Rows)
	}
	for _, p := range r.Problems {
		what := p.What
		if p.Key != "" {
			what = p.Key + ": " + what
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s (offsets %d-%d of %s, entry %d)\n", p.Kind, what, p.First, p.Last, p.Stream, p.Seq)
	}
	if r.Totals[verify.BeyondLog].Items > 0 {
		_, _ = fmt.Fprintln(w, "next\tfind the log that has what is beyond_log: 'millrace log check' names it, 'millrace log accept-loss' gives it up")
	}
	verdict := "ok: every accepted event that was cut is in exactly one object"
	if !r.OK {
		verdict = "FAULTS: see above"
	}
	_, err := fmt.Fprintf(w, "verdict\t%s\n", verdict)
	return err
}
