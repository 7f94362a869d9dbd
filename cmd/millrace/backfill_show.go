package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

// backfillDetail is a backfill with its items.
type backfillDetail struct {
	Backfill answer[scheduler.Backfill]       `json:"backfill"`
	Items    []answer[scheduler.BackfillItem] `json:"items"`
}

func newBackfillShow(g *global) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "show BACKFILL", Short: "Show a backfill with its runs, and why those wait that do", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			d, err := detail(c.Context(), api, args[0], limit)
			if err != nil {
				return err
			}
			return printOne(g, d, d.Backfill.v.ID, func(w io.Writer) error { return backfillTable(w, d) })
		},
	}
	c.Flags().IntVar(&limit, "limit", 50, "at most so many")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func detail(ctx context.Context, api *client, id string, limit int) (*backfillDetail, error) {
	path := "/backfills/" + url.PathEscape(id)
	d := &backfillDetail{Items: []answer[scheduler.BackfillItem]{}}
	if err := api.get(ctx, path, nil, &d.Backfill); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return d, nil
	}
	items, err := list[scheduler.BackfillItem](ctx, api, path+"/items", url.Values{}, limit)
	d.Items = append(d.Items, items...)
	return d, err
}

func backfillTable(w io.Writer, d *backfillDetail) error {
	b := &d.Backfill.v
	for _, line := range [][2]string{
		{"backfill", b.ID}, {"dag", b.DAG + " at " + b.Version + ", rule " + b.Rule}, {"state", string(b.State)}, {"reason", b.Reason}, {"runs", countsText(&b.Counts)},
		{"next", nextText(b)}, {"reprocess", string(b.Reprocess)}, {"params", string(b.Params)}, {"asked by", b.By}, {"created", clock(b.CreatedAt)},
		{"took", took(b.CreatedAt, b.EndedAt)},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
		}
	}
	_, _ = fmt.Fprint(w, "\nN\tSTATE\tRUN\tINPUTS\tREASON\n")
	for i := range d.Items {
		it := &d.Items[i].v
		run := it.Run
		if run == "" {
			run = "-"
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", it.N, it.State, run, inputsText(it), it.Reason)
	}
	if more := b.Counts.Total - len(d.Items); more > 0 {
		_, _ = fmt.Fprintf(w, "… and %d more: --limit\n", more)
	}
	return nil
}

// countsText says what became of the runs of a backfill, without what there is none of.
func countsText(c *scheduler.BackfillCounts) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{c.Success, "succeeded"}, {c.Failed, "failed"}, {c.Cancelled, "cancelled"}, {c.Skipped, "skipped"}, {c.Running, "under way"}, {c.Waiting, "waiting"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return fmt.Sprintf("%d in all: %s", c.Total, strings.Join(parts, ", "))
}

// nextText says for what the next run waits.
func nextText(b *scheduler.Backfill) string {
	switch {
	case b.Counts.Waiting == 0 || b.State.Ended():
		return ""
	case b.State == scheduler.BackfillPaused:
		return "waits until it is resumed: millrace backfill resume " + b.ID
	}
	return fmt.Sprintf("waits for a place: %d of %d runs are under way", b.Counts.Running, b.MaxActive)
}

func newBackfillWait(g *global) *cobra.Command {
	var timeout time.Duration
	var progress string
	c := &cobra.Command{
		Use: "wait BACKFILL", Short: "Wait for the end of a backfill; the exit code says how it ended", Args: exactArgs(1),
		Long: `Wait until all runs of a backfill have ended, with a bar on a terminal, and show it. The exit code is 0 if none failed or was cancelled, else 1; 124
if --timeout has passed, and the backfill goes on. A restart of the server meanwhile does not end the wait, if it is back within a minute.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			return (&backfillWait{g, api, args[0], timeout, progress}).run(c.Context())
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "wait at most so long (default: for ever)")
	c.Flags().StringVar(&progress, "progress", "auto", progressUsage)
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// backfillWait is a wait for the end of a backfill. A timeout of 0 is none; progress is how it is shown.
type backfillWait struct {
	g        *global
	api      *client
	id       string
	timeout  time.Duration
	progress string
}

// run waits for the end of the backfill and of its runs, shows it, and returns an error if not all succeeded.
func (wt *backfillWait) run(ctx context.Context) error {
	b, err := wt.await(ctx)
	if err != nil {
		return err
	}
	d, err := detail(ctx, wt.api, wt.id, 50)
	if err != nil {
		return err
	}
	if err := printOne(wt.g, d, wt.id, func(w io.Writer) error { return backfillTable(w, d) }); err != nil {
		return err
	}
	if c := &b.Counts; b.State == scheduler.BackfillCancelled || c.Failed+c.Cancelled > 0 {
		return &codeError{exitFailed, fmt.Errorf("backfill %s is %s, %s", wt.id, b.State, countsText(c))}
	}
	return nil
}

// await asks again and again: a backfill takes minutes to days.
func (wt *backfillWait) await(ctx context.Context) (*scheduler.Backfill, error) {
	limited := ctx
	if wt.timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, wt.timeout)
		defer cancel()
	}
	var last scheduler.Backfill
	bar, err := newProgress(wt.g, wt.progress, "runs", 0)
	if err != nil {
		return nil, err
	}
	var lost time.Time // since when the server is away
	err = every(limited, 500*time.Millisecond, func() (bool, error) {
		var b scheduler.Backfill
		if err := wt.api.get(limited, "/backfills/"+url.PathEscape(wt.id), nil, &b); err != nil {
			if lost.IsZero() {
				lost = time.Now()
			}
			if limited.Err() != nil || last.ID == "" || !mayComeBack(err) || time.Since(lost) > awayMost {
				return false, errors.Join(limited.Err(), err)
			}
			return false, nil
		}
		last, lost = b, time.Time{}
		bar.total = int64(b.Counts.Total)
		bar.add(int64(b.Counts.Total-b.Counts.Waiting-b.Counts.Running) - bar.n)
		return b.State.Ended() && b.Counts.Running == 0, nil
	})
	bar.end()
	if limited.Err() != nil && ctx.Err() == nil && err != nil {
		return nil, &codeError{exitTimedOut, fmt.Errorf("backfill %s is %s after %v, %s", wt.id, last.State, wt.timeout, countsText(&last.Counts))}
	}
	return &last, err
}
