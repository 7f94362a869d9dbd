package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newPools(g *global) *cobra.Command {
	return group("pools", "Look at the slots of executors and pools, and who holds them", newPoolsLs(g))
}

var poolColumns = []column[scheduler.Slots]{
	{"NAME", func(s scheduler.Slots) string { return s.Name }},
	{"KIND", func(s scheduler.Slots) string { return s.Kind }},
	{"SLOTS", func(s scheduler.Slots) string { return strconv.Itoa(s.Slots) }},
	{"USED", func(s scheduler.Slots) string { return strconv.Itoa(s.Used) }},
	{"WAITING", func(s scheduler.Slots) string { return strconv.Itoa(s.Waiting) }},
	{"HELD BY", holders},
}

// holders names the first few, with their slots where that is not one.
func holders(s scheduler.Slots) string {
	const shown = 3
	var names []string
	for _, h := range s.Holders[:min(len(s.Holders), shown)] {
		name := h.Task
		if h.Slots > 1 {
			name += fmt.Sprintf(" (%d)", h.Slots)
		}
		names = append(names, name)
	}
	text := strings.Join(names, ", ")
	if more := len(s.Holders) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func newPoolsLs(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List executors and pools: slots, how many are used, how many tasks wait", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.Slots](c.Context(), api, "/pools", url.Values{}, 100_000)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(s scheduler.Slots) string { return s.Name }, poolColumns)
		},
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}
