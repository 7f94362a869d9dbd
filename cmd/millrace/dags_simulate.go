package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/scheduler/api"
	"millrace/scheduler/spec/diff"
	"millrace/trigger"
	"millrace/trigger/whatif"
)

// simulateAll asks the server what each change would have meant for the batches since a time. DAGs that do not change are asked for as well:
// what the server makes of those shows how far its answers can be believed.
func simulateAll(ctx context.Context, a *client, changes []dagChange, local map[string]localDAG, from time.Time) ([]dagChange, error) {
	known := map[string]bool{}
	for _, c := range changes {
		known[c.DAG] = true
	}
	for id, l := range local {
		if !known[id] {
			changes = append(changes, dagChange{DAG: id, Change: unchanged, File: l.file, Fields: []diff.Field{}})
		}
	}
	slices.SortFunc(changes, func(a, b dagChange) int { return cmp.Compare(a.DAG, b.DAG) })
	to := time.Now().UTC()
	for i := range changes {
		q := api.WhatIf{From: from, To: to}
		if l, ok := local[changes[i].DAG]; ok {
			q.On = append([]trigger.Rule{}, l.dag.On...)
		}
		report := new(whatif.Report)
		if err := a.call(ctx, http.MethodPost, "/dags/"+url.PathEscape(changes[i].DAG)+"/simulate", nil, q, report); err != nil {
			return nil, fmt.Errorf("simulate dag %s: %w", changes[i].DAG, err)
		}
		changes[i].Simulation = report
	}
	return changes, nil
}

// printSimulation writes what a change would have meant.
func printSimulation(w io.Writer, r *whatif.Report) error {
	span := r.To.Sub(r.From).Round(time.Second)
	if len(r.Rules) == 0 {
		_, err := fmt.Fprintln(w, "    no rule of it starts runs by itself")
		return err
	}
	if _, err := fmt.Fprintf(w, "    with what came since %s (%v, %s):\n", r.From.Format(time.RFC3339), span, batches(r.Batches)); err != nil {
		return err
	}
	for i := range r.Rules {
		if err := printSimulated(w, &r.Rules[i], r.Since); err != nil {
			return err
		}
	}
	return nil
}

func printSimulated(w io.Writer, r *whatif.Rule, since time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value func(*whatif.Runs) string) {
		_, _ = fmt.Fprintf(t, "      %s\t", name)
		for _, side := range []*whatif.Runs{&r.Happened, r.Before, r.After} {
			text := "–"
			if side != nil {
				text = value(side)
			}
			_, _ = fmt.Fprintf(t, "%s\t", text)
		}
		_, _ = fmt.Fprintln(t)
	}
	_, _ = fmt.Fprintf(t, "      rule %s\thappened\tin force\tnew\t\n", r.Rule)
	row("runs", func(s *whatif.Runs) string { return fmt.Sprint(s.Runs) })
	if r.Kind != trigger.KindCron {
		row("batches", func(s *whatif.Runs) string { return fmt.Sprint(s.Batches) })
		row("events", func(s *whatif.Runs) string { return fmt.Sprint(s.Events) })
		for _, q := range []struct {
			name string
			of   func(*whatif.Delay) float64
		}{
			{"delay p50", func(d *whatif.Delay) float64 { return d.P50 }},
			{"p99", func(d *whatif.Delay) float64 { return d.P99 }},
			{"max", func(d *whatif.Delay) float64 { return d.Max }},
		} {
			row(q.name, func(s *whatif.Runs) string {
				if s.Delay == nil {
					return "–"
				}
				return seconds(q.of(s.Delay))
			})
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range remarks(r, since) {
		if _, err := fmt.Fprintln(w, "      "+line); err != nil {
			return err
		}
	}
	return nil
}

// remarks are sentences about what figures do not say.
func remarks(r *whatif.Rule, since time.Time) []string {
	var out []string
	for _, e := range []struct {
		of   whatif.Examples
		text string
	}{{r.Lost, "would be in no run any more"}, {r.Gained, "would be in a run, and were in none"}} {
		if e.of.Count > 0 {
			out = append(out, fmt.Sprintf("%s %s: %s", batches(e.of.Count), e.text, some(e.of.First, e.of.Count)))
		}
	}
	if r.After != nil {
		if fates := others(r.After.Fates); fates != "" {
			out = append(out, "with the new rule the others are "+fates)
		}
	}
	if r.Before == nil {
		return out
	}
	check := fmt.Sprintf("the rule in force yields %d of the %d runs that happened", r.Reproduced, r.Checked)
	if !since.IsZero() {
		check += " since it is so (" + since.Format(time.RFC3339) + ")"
	}
	if n := len(r.Unlike); n > 0 {
		check += "; unlike are " + some(r.Unlike, n) + ": a pause, or a server that was down, is not in a DAG file"
	}
	return append(out, check)
}

// others are the fates of batches that are in no run.
func others(fates map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fates)) {
		if name != string(trigger.FateRun) {
			parts = append(parts, fmt.Sprintf("%d %s", fates[name], name))
		}
	}
	return strings.Join(parts, ", ")
}

// some names the first few of count things.
func some(ids []string, count int) string {
	const shown = 3
	text := strings.Join(ids[:min(shown, len(ids))], ", ")
	if count > shown {
		text += fmt.Sprintf(" and %d more", count-shown)
	}
	return text
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
