package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"millrace/configs"
	"millrace/ingest/wal"
)

func newLog(g *global) *cobra.Command {
	return group("log", "Look after the embedded log", newLogCheck(g), newLogAcceptLoss(g))
}

var damageColumns = []column[wal.Damage]{
	{"SEGMENT", func(d wal.Damage) string { return d.Segment }},
	{"BYTES", func(d wal.Damage) string { return fmt.Sprintf("%d-%d", d.From, d.To) }},
	{"OFFSETS", func(d wal.Damage) string {
		if d.Next == d.First {
			return "none"
		}
		return fmt.Sprintf("%d-%d", d.First, d.Next-1)
	}},
	{"WHY", func(d wal.Damage) string { return d.Reason }},
}

func newLogCheck(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Read the whole log and report damage", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			damage, err := wal.Check(c.Context(), nil, l.Data("log"))
			if err != nil {
				return err
			}
			if len(damage) == 0 && g.output == "table" {
				_, err := fmt.Fprintln(g.out, "ok: no damage")
				return err
			}
			if err := printRows(g, answers(damage), func(d wal.Damage) string { return d.Segment }, damageColumns); err != nil {
				return err
			}
			if len(damage) > 0 {
				return &codeError{exitFailed, errSilent}
			}
			return nil
		},
	}
	g.outputFlags(c)
	return c
}

func newLogAcceptLoss(g *global) *cobra.Command {
	var first, last int64
	var yes bool
	c := &cobra.Command{
		Use: "accept-loss --first OFFSET --last OFFSET", Short: "Go on without records that the log can no longer read", Args: exactArgs(0),
		Long: `Go on without records that the log can no longer read.

The server must be stopped. 'millrace log check' names the damaged ranges. What is accepted here is named in the chain as lost,
and 'millrace verify' reports it for ever. Restoring the disk from a good copy comes before this.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("first") || !c.Flags().Changed("last") || last < first {
				return &codeError{exitUsage, errors.New("give --first and --last, as 'millrace log check' prints them")}
			}
			if !yes {
				return &codeError{exitUsage, fmt.Errorf("this gives up the unreadable records among offsets %d to %d: add --yes if that is meant", first, last)}
			}
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			accepted, err := wal.AcceptLoss(c.Context(), nil, l.Data("log"), first, last)
			if err != nil {
				return err
			}
			if len(accepted) == 0 {
				return &codeError{exitNotFound, fmt.Errorf("no damage lies wholly within offsets %d to %d; nothing was changed", first, last)}
			}
			return printRows(g, answers(accepted), func(d wal.Damage) string { return d.Segment }, damageColumns)
		},
	}
	c.Flags().Int64Var(&first, "first", 0, "first offset")
	c.Flags().Int64Var(&last, "last", 0, "last offset, inclusive")
	c.Flags().BoolVar(&yes, "yes", false, "really")
	g.outputFlags(c)
	return c
}
