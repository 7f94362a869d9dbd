package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/cmd/internal/bench"
)

func newBench(g *global) *cobra.Command {
	return group("bench", "Measure: what is accepted, how soon a task runs, what a cluster takes", newBenchIngest(g), newBenchE2E(g), newBenchMesos(g), newBenchTarget(g))
}

// benchDir makes the directory whose disk is measured; keep says not to remove it.
func benchDir(parent string) (string, func(), error) {
	dir, err := os.MkdirTemp(parent, "millrace-bench-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

func newBenchIngest(g *global) *cobra.Command {
	o := bench.IngestOptions{}
	var parent, rate string
	c := &cobra.Command{
		Use: "ingest", Short: "Measure accepted events per second, CPU and latency", Args: exactArgs(0),
		Long: `Start a server of its own on an empty directory and measure what it accepts.

First every connection sends as fast as it is answered: events per second and CPU. Then requests are due at fixed times and each is timed from
when it was due: latencies. Afterwards every acknowledged event is looked for in the objects. With --baseline a bare handler that reads the
body and answers 200 is measured before and after. No verdict is given if the generator was the limit.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Rate, err = parseRate(rate); err != nil {
				return err
			}
			dir, remove, err := benchDir(parent)
			if err != nil {
				return err
			}
			defer remove()
			o.Self, o.Dir, o.Notices = runnerArgv()[0], dir, g.err
			r, err := bench.Ingest(c.Context(), o)
			if r != nil {
				if perr := printOne(g, r, "ingest", r.Print); perr != nil {
					return perr
				}
			}
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&o.Connections, "connections", 64, "keep-alive connections")
	f.IntVar(&o.Events, "batch", 1, "events in a request; more than 1 posts to /v1/batch")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "length of each phase")
	f.StringVar(&rate, "rate", "", "events of the latency phase: 5000/s (default: half of the capacity)")
	f.BoolVar(&o.Only, "only-rate", false, "leave the capacity phase out")
	f.BoolVar(&o.Baseline, "baseline", false, "also measure a bare handler, before and after")
	f.BoolVar(&o.LogOnly, "log-only", false, "gateway and log without batcher and scheduler")
	f.StringVar(&parent, "dir", "", "where to work: the disk to be measured (default the system's temporary directory)")
	g.outputFlags(c)
	return c
}

func newBenchE2E(g *global) *cobra.Command {
	o := bench.E2EOptions{}
	var parent string
	c := &cobra.Command{
		Use: "e2e", Short: "Measure from a batch's commit to the start of its task", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, remove, err := benchDir(parent)
			if err != nil {
				return err
			}
			defer remove()
			o.Self, o.Dir, o.Notices = runnerArgv()[0], dir, g.err
			r, err := bench.EndToEnd(c.Context(), o)
			if err != nil {
				return err
			}
			return printOne(g, r, "e2e", func(w io.Writer) error {
				_, _ = fmt.Fprintln(w, "MILLISECONDS\tp50\tp90\tp99\tmax")
				for _, row := range []struct {
					name string
					v    map[string]float64
				}{
					{"committed → task exec", r.Exec}, {"committed → run created", r.Created},
					{"event received → task exec", r.Event}, {"fsync of 4 KiB meanwhile", r.Fsync},
				} {
					_, _ = fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t%.2f\n", row.name, row.v["p50"], row.v["p90"], row.v["p99"], row.v["max"])
				}
				return nil
			})
		},
	}
	c.Flags().IntVar(&o.Tries, "tries", 100, "events, one at a time")
	c.Flags().StringVar(&parent, "dir", "", "where to work: the disk to be measured (default the system's temporary directory)")
	g.outputFlags(c)
	return c
}

// newBenchTarget is what bench starts beside the server itself: a bare handler, gateway and log alone, or a double of Mesos.
func newBenchTarget(g *global) *cobra.Command {
	var listen, logDir string
	var agents int
	c := &cobra.Command{
		Use: "target", Short: "What bench measures against (started by bench)", Hidden: true, Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if agents > 0 {
				return bench.RunDouble(c.Context(), agents, g.out)
			}
			if logDir != "" {
				return app.RunLogOnly(c.Context(), listen, logDir)
			}
			return bench.RunBare(c.Context(), listen)
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address")
	c.Flags().IntVar(&agents, "mesos-agents", 0, "a double of Mesos with so many agents")
	c.Flags().StringVar(&logDir, "log-dir", "", "gateway and log on this directory")
	return c
}
