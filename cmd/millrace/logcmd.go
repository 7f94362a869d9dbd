package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/configs"
	"millrace/ingest/wal"
)

func newLog(g *global) *cobra.Command {
	return group("log", "Look after the embedded log", newLogCheck(g), newLogAcceptLoss(g))
}

var damageColumns = []column[wal.Damage]{
	{"SEGMENT", func(d wal.Damage) string { return cmp.Or(d.Segment, "-") }},
	{"BYTES", func(d wal.Damage) string {
		if d.Segment == "" {
			return "-"
		}
		return fmt.Sprintf("%d-%d", d.From, d.To)
	}},
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
		Long: `Read the whole log and report damage.

The log is compared with its chain, too: records that the chain has claimed for an object which does not exist, and that this log does not
hold, are reported without a segment. Then this log is an older copy, or its disk acknowledged what it did not store: look for the true one.`,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			damage, err := wal.Check(c.Context(), nil, l.Data("log"))
			if err != nil {
				return err
			}
			behind, err := app.Behind(c.Context(), l)
			if damage = append(damage, behind...); len(damage) == 0 && (err != nil || g.output == "table") {
				if err == nil {
					_, err = fmt.Fprintln(g.out, "ok: no damage, and the chain claims nothing that is not here")
				}
				return err
			}
			if err := printRows(g, answers(damage), func(d wal.Damage) string { return d.Segment }, damageColumns); err != nil {
				return err
			}
			if err == nil && len(damage) > 0 {
				err = &codeError{exitFailed, errSilent}
			}
			return err
		},
	}
	g.rowFlags(c)
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
			behind, err := app.AcceptBehind(c.Context(), l, first, last)
			if accepted = append(accepted, behind...); len(accepted) == 0 {
				return cmp.Or(err, error(&codeError{exitNotFound,
					fmt.Errorf("no damage lies wholly within offsets %d to %d; nothing was changed", first, last)}))
			}
			return errors.Join(err, printRows(g, answers(accepted), func(d wal.Damage) string { return d.Segment }, damageColumns))
		},
	}
	c.Flags().Int64Var(&first, "first", 0, "first offset")
	c.Flags().Int64Var(&last, "last", 0, "last offset, inclusive")
	c.Flags().BoolVar(&yes, "yes", false, "really")
	g.rowFlags(c)
	return c
}
