package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/configs"
	"millrace/ingest/vfs"
)

func newAdmin(g *global) *cobra.Command {
	return group("admin", "Back up and restore the scheduler's state, look at its archive, move the objects, rotate the key of secrets",
		newAdminBackup(g), newAdminRestore(g), newAdminResume(g), newAdminMoveChain(g), newAdminArchive(g), newAdminRotateKey(g), newAdminAudit(g))
}

func newAdminBackup(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write the scheduler's state to a new file, beside a running server", Args: exactArgs(1),
		Long: `Write the scheduler's state (runs, dispositions, cursors) to a new file, beside a running server or without one.

The log and the objects are not in it: the objects are their own record, and the log is emptied into them.`,
		Example: "  millrace admin backup /backup/state-$(date +%F).db",
		RunE: func(c *cobra.Command, args []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			if err := app.Backup(c.Context(), l, args[0]); err != nil {
				return adminError(err)
			}
			return printOne(g, map[string]string{"backup": args[0]}, args[0], func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "the state is in %s\n", args[0])
				return err
			})
		},
	}
	g.outputFlags(c)
	return c
}

func newAdminRestore(g *global) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Go back to a backup of the scheduler's state; dispatch stays off until 'admin resume'", Args: exactArgs(1),
		Long: `Put a backup in the place of the scheduler's state. The server must have ended; the state that was there is kept beside it.

A backup is older than the objects: it does not know which batches have started runs since. So dispatch stays off after it: the server takes
events, batches them and shows what there is, and starts nothing for new batches, until 'millrace admin resume --since' says from when on it
should.`,
		Example: `  systemctl stop millrace
  millrace admin restore /backup/state-2026-11-23.db --yes
  systemctl start millrace
  millrace admin resume --since 2026-11-23T14:30:00Z`,
		RunE: func(c *cobra.Command, args []string) error {
			if !yes {
				return &codeError{exitUsage, errors.New("this replaces the state of runs and dispatch: add --yes if that is meant")}
			}
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			old, err := app.Restore(c.Context(), l, args[0])
			if err != nil {
				return adminError(err)
			}
			answer := map[string]string{"restored": l.Data("state.db"), "old": old}
			return printOne(g, answer, l.Data("state.db"), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "restored\t%s\nold state\t%s\nnext\tstart the server, look around, then: millrace admin resume --since TIME\n", l.Data("state.db"), dash(old))
				return err
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "really")
	g.outputFlags(c)
	return c
}

func newAdminMoveChain(g *global) *cobra.Command {
	var to, mode string
	c := &cobra.Command{
		Use: "move-chain --to FILE", Short: "Move all objects, and with them the log's chain, to another place", Args: exactArgs(0),
		Long: `Move all objects to the place that another configuration names: from a directory to S3, to another bucket or prefix, or back.

A log knows where its chain is, and batching does not start with its objects elsewhere: else events would be in both places, or in neither.
This copies everything, counts all rows in both places, and only then tells the log. Start the server with the new configuration afterwards.

The server must have ended. A move that was broken off is repeated with the same command. Nothing is removed from the old place: runs of the
past have its addresses as their inputs.`,
		Example: `  systemctl stop millrace
  millrace admin move-chain --config millrace.yaml --to millrace-s3.yaml
  mv millrace-s3.yaml millrace.yaml
  systemctl start millrace`,
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return &codeError{exitUsage, errors.New("give the configuration whose objects are the new place: --to FILE")}
			}
			from, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			next, err := configs.Load(configs.Default(), to, os.Environ())
			if err != nil {
				return err
			}
			if g.dataDir != "" {
				next.DataDir = from.Data(".")
			}
			bar, err := newProgress(g, mode, "copied objects:", 0)
			if err != nil {
				return err
			}
			m, err := app.MoveChain(c.Context(), from, next, func(int64) { bar.add(1) })
			bar.end()
			if err != nil {
				return adminError(err)
			}
			return printOne(g, m, m.To, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "from\t%s\nto\t%s\nobjects\t%d, %s; %d were there already\nrows\t%d, counted in both places\nnext\tstart the server with %s\n",
					m.From, m.To, m.Objects, bytesText(m.Bytes), m.Present, m.Rows, to)
				return err
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "the configuration whose objects are the new place")
	c.Flags().StringVar(&mode, "progress", "auto", progressUsage)
	g.outputFlags(c)
	return c
}

// adminError gives faults of files their exit codes, and the next step.
func adminError(err error) error {
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return &codeError{exitConflict, fmt.Errorf("%w\nA server has it: end it first", err)}
	case errors.Is(err, fs.ErrExist):
		return &codeError{exitConflict, err}
	case errors.Is(err, fs.ErrNotExist):
		return &codeError{exitNotFound, fmt.Errorf("%w\nIs --data-dir right?", err)}
	}
	return err
}

// resumed is the API's answer.
type resumed struct {
	Since   time.Time `json:"since"`
	Chains  int       `json:"chains"`
	Batches int       `json:"batches"`
}

func newAdminResume(g *global) *cobra.Command {
	var since string
	c := &cobra.Command{
		Use: "resume --since TIME", Short: "Let a restored server dispatch again, for batches from a time on", Args: exactArgs(0),
		Long: `Let a server dispatch again whose state was restored.

Batches that were cut before --since and that the restored state does not know are recorded as dropped (restored) and start nothing: they are
taken to have run before the restore. Batches that were cut later start runs, also those that did so before: choose the time up to which
you know that runs were done. A run whose record is gone may run once more; its tasks get the same idempotency key as before.`,
		Example: `  millrace admin resume --since 2026-11-23T14:30:00Z
  millrace admin resume --since 2h     # two hours ago
  millrace admin resume --since now    # nothing of the past`,
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := parseSince(since, time.Now())
			if err != nil {
				return err
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			var r answer[resumed]
			if err := api.call(c.Context(), http.MethodPost, "/admin/resume", nil, map[string]time.Time{"since": at}, &r); err != nil {
				return err
			}
			return printOne(g, r, r.v.Since.Format(time.RFC3339), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "dispatch is on\tfor batches cut from %s on\nrecorded as dropped\t%s of %s\n",
					clock(r.v.Since), batches(r.v.Batches), counted(r.v.Chains, "chain"))
				return err
			})
		},
	}
	c.Flags().StringVar(&since, "since", "", "a time (RFC 3339), how long ago (2h), or now")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// parseSince reads the flag --since.
func parseSince(text string, now time.Time) (time.Time, error) {
	return parseTime("--since", text, now)
}

// parseTime reads the value of a flag that is a time, or how long ago it was.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now.UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UTC(), nil
	}
	return time.Time{}, &codeError{exitUsage, fmt.Errorf("%s %q: want a time such as 2026-11-23T14:30:00Z, how long ago such as 2h, or now", flag, text)}
}

func batches(n int) string {
	if n == 1 {
		return "1 batch"
	}
	return fmt.Sprintf("%d batches", n)
}
