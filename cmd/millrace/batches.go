package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"millrace/batcher"
	"millrace/scheduler"
)

func newBatches(g *global) *cobra.Command {
	return group("batches", "Look at committed batches", newBatchesLs(g), newBatchesShow(g), newBatchesCat(g), newBatchesTail(g))
}

var batchColumns = []column[batcher.Batch]{
	{"BATCH", func(b batcher.Batch) string { return b.ID }},
	{"SOURCE", func(b batcher.Batch) string { return b.Source }},
	{"EVENTS", func(b batcher.Batch) string { return strconv.FormatInt(b.Events, 10) }},
	{"SIZE", func(b batcher.Batch) string { return bytesText(b.Bytes) }},
	{"OFFSETS", func(b batcher.Batch) string { return fmt.Sprintf("%d-%d", b.First, b.Last) }},
	{"COMMITTED", func(b batcher.Batch) string { return clock(b.CommittedAt) }},
	{"OBJECT", func(b batcher.Batch) string { return b.Key }},
}

func newBatchesLs(g *global) *cobra.Command {
	var source, tenant string
	var limit int
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List batches, newest first", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "source", source)
			setIf(query, "tenant", tenant)
			rows, err := list[batcher.Batch](c.Context(), api, "/batches", query, limit)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(b batcher.Batch) string { return b.ID }, batchColumns)
		},
	}
	c.Flags().StringVar(&source, "source", "", "only batches of this source")
	c.Flags().StringVar(&tenant, "tenant", "", "only batches of this tenant")
	c.Flags().IntVar(&limit, "limit", 50, "at most so many")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newBatchesShow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "show BATCH", Short: "Show one batch and what became of it", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var d answer[scheduler.BatchDetail]
			if err := api.get(c.Context(), "/batches/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return printOne(g, d, d.v.Batch.ID, func(w io.Writer) error { return batchTable(w, d.v) })
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func batchTable(w io.Writer, d scheduler.BatchDetail) error {
	b := d.Batch
	for _, line := range [][2]string{
		{"batch", b.ID}, {"source", b.Tenant + "/" + b.Source}, {"lane", string(b.Lane)},
		{"events", strconv.FormatInt(b.Events, 10)}, {"size", bytesText(b.Bytes) + " (" + bytesText(b.RawBytes) + " as rows)"},
		{"offsets", fmt.Sprintf("%d-%d of %s", b.First, b.Last, b.Stream)}, {"entry", fmt.Sprintf("%d, cut %d", b.Seq, b.Cut)},
		{"received", clock(b.ReceivedMin) + " to " + clock(b.ReceivedMax)}, {"cut", clock(b.CreatedAt)},
		{"committed", clock(b.CommittedAt)}, {"object", b.URI}, {"void", b.Void},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
		}
	}
	for _, dis := range d.Dispositions {
		what := string(dis.Fate)
		switch {
		case dis.Run != "":
			what += " " + dis.Run
		case dis.Group != "":
			what += " " + dis.Group
		case dis.Reason != "":
			what += " (" + dis.Reason + ")"
		}
		_, _ = fmt.Fprintf(w, "rule %s\t%s\n", dis.Rule, what)
	}
	return nil
}

func newBatchesCat(g *global) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "cat BATCH", Short: "Print a batch's rows as NDJSON", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if limit > 0 {
				query.Set("limit", strconv.Itoa(limit))
			}
			return api.stream(c.Context(), "/batches/"+url.PathEscape(args[0])+"/rows", query, g.out)
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "at most so many rows (0: all)")
	g.serverFlags(c)
	return c
}

// tailedBatch is a line of batches tail.
type tailedBatch struct {
	batcher.Batch
	Cursor string `json:"cursor"`
}

func newBatchesTail(g *global) *cobra.Command {
	var from string
	c := &cobra.Command{
		Use: "tail", Short: "Follow batches in the order of the chain", Args: exactArgs(0),
		Long: `Follow batches in the order of the chain, one JSON object a line unless -o says otherwise.

Every committed batch comes exactly once and in order, unlike messages of the bus, which are hints. Each line has a cursor;
--from CURSOR goes on after it, --from start begins with the first batch, --from now (the default) with the next one. The connection is made
again when it breaks.`,
		RunE: func(c *cobra.Command, _ []string) error {
			cols := batchColumns
			return follow(c, g, "/batches/tail", url.Values{"from": {from}}, 0, tailOf[tailedBatch]{
				cursor: func(b tailedBatch) string { return b.Cursor },
				rows:   newRowStream(g, func(b tailedBatch) string { return b.ID }, columnsOf(cols, func(b tailedBatch) batcher.Batch { return b.Batch })),
			})
		},
	}
	c.Flags().StringVar(&from, "from", "now", "start, now, or a cursor")
	g.serverFlags(c)
	g.streamFlags(c, "jsonl")
	return c
}

func setIf(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}
