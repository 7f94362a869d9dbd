package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler/archive"
)

func newAdminArchive(g *global) *cobra.Command {
	return group("archive", "Look at the runs that have left the scheduler's state", newArchiveLs(g), newArchiveShow(g), newArchiveNow(g))
}

var archiveColumns = []column[archive.Item]{
	{"DAY", func(i archive.Item) string { return i.Day }},
	{"BYTES", func(i archive.Item) string { return bytesText(i.Bytes) }},
	{"ARCHIVED", func(i archive.Item) string { return i.At.UTC().Format(time.DateTime) }},
	{"KEY", func(i archive.Item) string { return i.Key }},
}

func newArchiveLs(g *global) *cobra.Command {
	limit := 100
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the objects of the archive, by the day on which their runs ended", Args: exactArgs(0),
		Long: `List the objects of the archive, by the day (UTC) on which their runs ended. Each is gzipped NDJSON, a run a line, in the order of the ends; its
name has the first and the last. Any program that reads the object store can read them.`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[archive.Item](c.Context(), api, "/archive", url.Values{}, limit)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(i archive.Item) string { return i.Key }, archiveColumns)
		},
	}
	c.Flags().IntVar(&limit, "limit", limit, "at most so many")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newArchiveShow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "show KEY", Short: "Print the runs of an object of the archive, a JSON document a line", Args: exactArgs(1),
		Long: `Print the runs of an object of the archive, a JSON document a line: the run with its tasks, attempts, batches, moves and dispositions, and the
ends of its logs. One run alone is shown by 'millrace runs show' and 'millrace runs logs', which read it from there.`,
		Example: `  millrace admin archive show _millrace/archive/dt=2026-10-01/rabc-rxyz.ndjson.gz | jq -r .run.id`,
		RunE: func(c *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[0], archive.Prefix) {
				return &codeError{exitUsage, fmt.Errorf("%q is no key of the archive, which begin with %s; a run is shown by: millrace runs show RUN", args[0], archive.Prefix)}
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			return api.stream(c.Context(), "/archive/object", url.Values{"key": {args[0]}}, g.out)
		},
	}
	g.serverFlags(c)
	return c
}

// archivedNow is what a round did.
type archivedNow struct {
	Runs    int   `json:"runs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Batches int   `json:"batches"`
	Outputs int   `json:"outputs"`
	Logs    int   `json:"logs"`
}

func newArchiveNow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "now", Short: "Archive and forget what is older than store.retention, as is done once a day", Args: exactArgs(0),
		Long: `Archive and forget what is older than store.retention, as is done once a day anyway: runs that ended before, batches that were cut before
and are needed by nothing, large outputs that nothing names, and logs in the object store of runs that are forgotten.`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var done answer[archivedNow]
			if err := api.call(c.Context(), http.MethodPost, "/admin/archive", nil, nil, &done); err != nil {
				return err
			}
			return printOne(g, done, fmt.Sprint(done.v.Runs), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "runs\t%d, in %d objects of %s\nbatches\t%d\noutputs\t%d\nlogs\tof %d runs\n",
					done.v.Runs, done.v.Objects, bytesText(done.v.Bytes), done.v.Batches, done.v.Outputs, done.v.Logs)
				return err
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}
