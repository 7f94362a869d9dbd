package main

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

// itemQuery selects items of a mapped task.
type itemQuery struct {
	run, task, state string
	limit            int
}

// itemColumns are those of tasks, with what each is about.
var itemColumns = slices.Insert(slices.Clone(taskColumns), 1, column[scheduler.TaskRun]{"ITEM", itemText})

func listItems(c *cobra.Command, g *global, api *client, q itemQuery) error {
	query := url.Values{"task": {q.task}}
	setIf(query, "state", q.state)
	rows, err := list[scheduler.TaskRun](c.Context(), api, "/runs/"+url.PathEscape(q.run)+"/tasks", query, q.limit)
	if err != nil {
		return err
	}
	return printRows(g, rows, func(t scheduler.TaskRun) string { return t.ID() }, itemColumns)
}

// itemText is an item's key, or the beginning of the item.
func itemText(t scheduler.TaskRun) string {
	const most = 60
	switch {
	case t.Item == nil:
		return "-"
	case t.Item.Key != "":
		return t.Item.Key
	case len(t.Item.Value) > most:
		return strings.ToValidUTF8(string(t.Item.Value[:most]), "") + "…"
	}
	return string(t.Item.Value)
}

// mappedCounts says how the items of mapped tasks are.
func mappedCounts(w io.Writer, d scheduler.RunDetail) {
	head := "\nTASK\tITEMS\t\n"
	for _, t := range d.Tasks {
		if t.Map == nil {
			continue
		}
		var parts []string
		for _, state := range slices.Sorted(maps.Keys(d.Mapped[t.Task])) {
			parts = append(parts, fmt.Sprintf("%d %s", d.Mapped[t.Task][state], state))
		}
		_, _ = fmt.Fprintf(w, "%s%s\t%d\t%s\n", head, t.Task, t.Map.Count, strings.Join(parts, ", "))
		head = ""
	}
	if head == "" {
		_, _ = fmt.Fprintf(w, "\nitems:\tmillrace tasks ls %s --task TASK --state failed\n", d.Run.ID)
	}
}
