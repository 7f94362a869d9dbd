package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

// backfillFlags are what a person says of a backfill.
type backfillFlags struct {
	id, rule, batch, stream, eventTime, received, disposition, reprocess, order string
	fromSeq, toSeq                                                              int64
	group, most                                                                 int
	params                                                                      []string
	emit, dryRun, wait                                                          bool
	progress                                                                    string
}

func newBackfill(g *global) *cobra.Command {
	var f backfillFlags
	c := group("backfill", "Run a DAG on batches, or nominal times, of the past", newBackfillLs(g), newBackfillShow(g), newBackfillWait(g),
		newBackfillSteer(g, "pause", "Start no more runs of a backfill until it is resumed; those under way go on"),
		newBackfillSteer(g, "resume", "Let a paused backfill go on"),
		newBackfillSteer(g, "cancel", "Start no more runs of a backfill, ever; --runs ends those under way, too"))
	c.Use = "backfill DAG"
	c.Args = exactArgs(1)
	c.Example = `  millrace backfill load --received 2026-11-20..2026-11-23 --dry-run
  millrace backfill load --disposition failed --max-active-runs 2 --wait
  millrace backfill rollup --rule nightly --event-time 2026-11-01..2026-11-08
  millrace backfill load --batch 01M84BPM6ET1WXQZ8VTFBGH5Q9 --reprocess all`
	c.Long = `Run a DAG on batches, or nominal times, of the past. Say which: by id, by a range of entries of a chain, by event time, by time of receipt, by what
became of them; what is said counts together. Of a cron rule, --event-time selects nominal times.

A batch that is named by id is run whatever the rule says of it; of others, those that the rule as it is now wants. What the DAG has had is left out, as
--reprocess says, and what is under way always is. --dry-run shows which runs there would be, of which batches, and what is left out and why.

A backfill is stored: it goes on after a restart, starts runs as --max-active-runs permits, and always behind live runs. Its runs are replays by the
version of the DAG that is in force when it is made, change no disposition, and start no runs of other DAGs unless --emit says so.`
	c.RunE = func(c *cobra.Command, args []string) error {
		spec, err := f.spec(args[0], time.Now())
		if err != nil {
			return err
		}
		return startBackfill(c, g, spec, &f)
	}
	f.register(c)
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func (f *backfillFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.batch, "batch", "", "these batches, with commas between them")
	fl.StringVar(&f.stream, "stream", "", "a chain, as 'millrace batches show -o json' has it, with --from-seq and --to-seq")
	fl.Int64Var(&f.fromSeq, "from-seq", 0, "first entry of the chain")
	fl.Int64Var(&f.toSeq, "to-seq", 0, "last entry of the chain, inclusive")
	fl.StringVar(&f.eventTime, "event-time", "", "FROM..TO: batches with an event in it, or nominal times of a cron rule; times, days, or how long ago (48h..now)")
	fl.StringVar(&f.received, "received", "", "FROM..TO: batches with a record that was received in it")
	fl.StringVar(&f.disposition, "disposition", "", "what became of them for the rule, with commas: run, filtered, dropped, expired, or failed: their newest run failed")
	fl.StringVar(&f.rule, "rule", "", "the rule of the DAG as whose runs they count (default: the only one)")
	fl.StringVar(&f.reprocess, "reprocess", string(scheduler.ReprocessNone), "what the DAG has had: none (only if all runs of it failed), failed (only if the newest did) or all")
	fl.IntVar(&f.group, "batches-per-run", 0, "batches of one run, at most (default: the rule's coalesce.max_batches, or 1)")
	fl.IntVar(&f.most, "max-active-runs", 0, "runs that are under way at once (default 4)")
	fl.StringVar(&f.order, "order", scheduler.OrderOldest, "oldest or newest first")
	fl.StringArrayVar(&f.params, "param", nil, "a parameter, NAME=VALUE; the value is JSON, or else text")
	fl.BoolVar(&f.emit, "emit", false, "let the runs start runs of other DAGs")
	fl.StringVar(&f.id, "id", "", "a name for the backfill: repeated with it, the same backfill is returned")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show what would be done and do nothing")
	fl.BoolVar(&f.wait, "wait", false, "wait for the end; exit code 1 if a run does not succeed")
	fl.StringVar(&f.progress, "progress", "auto", "with --wait: "+progressUsage)
}

// spec makes the request of what was said.
func (f *backfillFlags) spec(dag string, now time.Time) (map[string]any, error) {
	selection := map[string]any{}
	for name, text := range map[string]string{"batches": f.batch, "dispositions": f.disposition} {
		if text != "" {
			selection[name] = strings.Split(text, ",")
		}
	}
	for _, span := range []struct{ flag, name, text string }{{"--event-time", "events", f.eventTime}, {"--received", "received", f.received}} {
		if span.text == "" {
			continue
		}
		s, err := parseSpan(span.flag, span.text, now)
		if err != nil {
			return nil, err
		}
		selection[span.name] = s
	}
	if f.stream != "" {
		selection["stream"] = f.stream
	}
	if f.fromSeq != 0 || f.toSeq != 0 {
		selection["from_seq"], selection["to_seq"] = f.fromSeq, f.toSeq
	}
	out := map[string]any{
		"id": f.id, "dag": dag, "rule": f.rule, "selection": selection, "reprocess": f.reprocess, "group": f.group, "max_active_runs": f.most,
		"order": f.order, "emit": f.emit, "dry_run": f.dryRun, "by": whoAsks(),
	}
	if len(f.params) > 0 {
		out["params"] = paramValues(f.params)
	}
	return out, nil
}

// parseSpan reads FROM..TO. A day begins at midnight in UTC; no TO is now.
func parseSpan(flag, text string, now time.Time) (scheduler.Span, error) {
	from, to, ok := strings.Cut(text, "..")
	if !ok || from == "" {
		return scheduler.Span{}, &codeError{exitUsage, fmt.Errorf("%s %q: want FROM..TO, such as 2026-11-20..2026-11-23 or 48h..now", flag, text)}
	}
	moment := func(text string) (time.Time, error) {
		if day, err := time.Parse(time.DateOnly, text); err == nil {
			return day, nil
		}
		return parseTime(flag, text, now)
	}
	var s scheduler.Span
	var err error
	if s.From, err = moment(from); err != nil {
		return s, err
	}
	if to == "" {
		to = "now"
	}
	s.To, err = moment(to)
	return s, err
}

// startBackfill asks for a plan or a backfill, and shows it.
func startBackfill(c *cobra.Command, g *global, body map[string]any, f *backfillFlags) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	if f.dryRun {
		var p answer[scheduler.BackfillPlan]
		if err := api.call(c.Context(), http.MethodPost, "/backfills", nil, body, &p); err != nil {
			return err
		}
		return printOne(g, p, p.v.Backfill.ID, func(w io.Writer) error { return planTable(w, &p.v) })
	}
	var b answer[newlyStarted]
	if err := api.call(c.Context(), http.MethodPost, "/backfills", nil, body, &b); err != nil {
		return err
	}
	if f.wait {
		if b.v.LeftTotal > 0 {
			_, _ = fmt.Fprintln(g.err, leftText(b.v.LeftTotal))
		}
		return (&backfillWait{g, api, b.v.ID, 0, f.progress}).run(c.Context())
	}
	return printOne(g, b, b.v.ID, func(w io.Writer) error { return startedTable(w, &b.v) })
}

// newlyStarted is the API's answer to a request for a backfill.
type newlyStarted struct {
	scheduler.Backfill
	Left      []scheduler.LeftOut `json:"left_out"`
	LeftTotal int                 `json:"left_out_total"`
}

func startedTable(w io.Writer, b *newlyStarted) error {
	_, _ = fmt.Fprintf(w, "backfill %s is %s: %s\n", b.ID, b.State, counted(b.Counts.Total, "run"))
	if b.LeftTotal > 0 {
		_, _ = fmt.Fprintln(w, leftText(b.LeftTotal))
	}
	_, err := fmt.Fprintf(w, "its progress: millrace backfill wait %s\n", b.ID)
	return err
}

func leftText(n int) string {
	return fmt.Sprintf("%d of what was selected is left out: the same command with --dry-run says why", n)
}

// shownLeft is how many reasons of one kind the table of a plan has; -o json has all.
const shownLeft = 100

func planTable(w io.Writer, p *scheduler.BackfillPlan) error {
	if len(p.Items) > 0 {
		_, _ = fmt.Fprint(w, "RUN\tTRIGGER\tINPUTS\n")
	}
	for i := range p.Items {
		it := &p.Items[i]
		_, _ = fmt.Fprintf(w, "%d\t%s %s\t%s\n", it.N, it.Kind, it.Rule, inputsText(it))
	}
	if len(p.Left) > 0 {
		_, _ = fmt.Fprint(w, "\nLEFT OUT\tSINCE IT\n")
	}
	for _, l := range p.Left[:min(len(p.Left), shownLeft)] {
		what := l.Batch
		if what == "" {
			what = l.Due.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\n", what, l.Reason)
	}
	if more := p.LeftTotal - shownLeft; more > 0 {
		_, _ = fmt.Fprintf(w, "… and %d more\t-o json has %d\n", more, len(p.Left))
	}
	_, err := fmt.Fprintf(w, "\n%s of dag %s at %s, at most %d at once, as of rule %s; %d left out\n", counted(len(p.Items), "run"), p.Backfill.DAG, p.Backfill.Version,
		p.Backfill.MaxActive, p.Backfill.Rule, p.LeftTotal)
	return err
}

// inputsText names the inputs of an item: all of them, if they are few.
func inputsText(it *scheduler.BackfillItem) string {
	if !it.Due.IsZero() {
		return it.Due.UTC().Format(time.RFC3339)
	}
	const few = 3
	text := strings.Join(it.Batches[:min(len(it.Batches), few)], ", ")
	if more := len(it.Batches) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

var backfillColumns = []column[scheduler.Backfill]{
	{"BACKFILL", func(b scheduler.Backfill) string { return b.ID }},
	{"DAG", func(b scheduler.Backfill) string { return b.DAG }},
	{"STATE", func(b scheduler.Backfill) string { return string(b.State) }},
	{"RUNS", func(b scheduler.Backfill) string { return strconv.Itoa(b.Counts.Total) }},
	{"WAITING", func(b scheduler.Backfill) string { return strconv.Itoa(b.Counts.Waiting) }},
	{"RUNNING", func(b scheduler.Backfill) string { return strconv.Itoa(b.Counts.Running) }},
	{"SUCCESS", func(b scheduler.Backfill) string { return strconv.Itoa(b.Counts.Success) }},
	{"FAILED", func(b scheduler.Backfill) string { return strconv.Itoa(b.Counts.Failed) }},
	{"CREATED", func(b scheduler.Backfill) string { return clock(b.CreatedAt) }},
	{"TOOK", func(b scheduler.Backfill) string { return took(b.CreatedAt, b.EndedAt) }},
}

func newBackfillLs(g *global) *cobra.Command {
	var dag, state string
	var limit int
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List backfills, newest first", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if states := []string{"", "running", "paused", "done", "cancelled"}; !slices.Contains(states, state) {
				return &codeError{exitUsage, fmt.Errorf("state %q: want running, paused, done or cancelled%s", state, didYouMean(state, states))}
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "dag", dag)
			setIf(query, "state", state)
			rows, err := list[scheduler.Backfill](c.Context(), api, "/backfills", query, limit)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(b scheduler.Backfill) string { return b.ID }, backfillColumns)
		},
	}
	c.Flags().StringVar(&dag, "dag", "", "only those of this DAG")
	c.Flags().StringVar(&state, "state", "", "only those in this state: running, paused, done or cancelled")
	c.Flags().IntVar(&limit, "limit", 50, "at most so many")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newBackfillSteer(g *global, verb, short string) *cobra.Command {
	var runs bool
	c := &cobra.Command{
		Use: verb + " BACKFILL", Short: short, Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			body := map[string]any{"by": whoAsks(), "runs": runs}
			var b answer[scheduler.Backfill]
			if err := api.call(c.Context(), http.MethodPost, "/backfills/"+url.PathEscape(args[0])+"/"+verb, nil, body, &b); err != nil {
				return err
			}
			return printOne(g, b, b.v.ID, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "backfill %s is %s: %s\n", b.v.ID, b.v.State, countsText(&b.v.Counts))
				return err
			})
		},
	}
	if verb == "cancel" {
		c.Flags().BoolVar(&runs, "runs", false, "cancel the runs that are under way, too")
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}
