package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"millrace/cmd/internal/bench"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/zkdetect"
)

// mesosFlags say where a cluster is, and who we are there.
type mesosFlags struct {
	masters                     []string
	principal, secret, token    string
	authority, certificate, key string
	https                       bool
}

func (m *mesosFlags) add(f *pflag.FlagSet) {
	f.StringSliceVar(&m.masters, "master", nil, "masters, like http://10.0.0.1:5050, with commas; or zk://host:2181,host:2181/mesos")
	f.StringVar(&m.principal, "principal", "", "who we are to the masters")
	f.StringVar(&m.secret, "secret-file", "", "file with the principal's secret")
	f.StringVar(&m.token, "token-file", "", "file with a token, for masters that want one")
	f.StringVar(&m.authority, "tls-ca", "", "file with the authority of the masters' certificates, in PEM (default: the machine's)")
	f.StringVar(&m.certificate, "tls-cert", "", "file with our certificate, for masters that want one")
	f.StringVar(&m.key, "tls-key", "", "file with its key")
	f.BoolVar(&m.https, "https", false, "masters that ZooKeeper names speak TLS")
}

// fill sets where the masters are and who we are.
func (m *mesosFlags) fill(o *bench.MesosOptions) error {
	var err error
	switch {
	case len(m.masters) == 0:
		return errors.New("no master: give --master, like http://10.0.0.1:5050 or zk://10.0.0.1:2181/mesos; --double measures without a cluster")
	case strings.HasPrefix(m.masters[0], "zk://"):
		var d *zkdetect.Detector
		// The commas between its hosts were taken for those between masters.
		if d, err = zkdetect.New(strings.Join(m.masters, ","), zkdetect.Options{HTTPS: m.https}); err == nil {
			o.Masters, o.Run = d, d.Run
		}
	default:
		o.Masters, err = mesosexec.NewList(m.masters...)
	}
	switch {
	case err != nil:
		return err
	case m.token != "" && m.secret+m.principal != "":
		return errors.New("--token-file goes without --principal and --secret-file")
	case (m.principal == "") != (m.secret == ""):
		return errors.New("--principal and --secret-file go together")
	case m.token != "":
		o.Credentials = mesosexec.Bearer(mesosexec.SecretFile(m.token))
	case m.secret != "":
		o.Credentials, o.Principal = mesosexec.Basic(m.principal, mesosexec.SecretFile(m.secret)), m.principal
	}
	if m.authority+m.certificate+m.key != "" {
		o.TLS, err = mesosexec.TLS(m.authority, m.certificate, m.key)
	}
	return err
}

func newBenchMesos(g *global) *cobra.Command {
	var m mesosFlags
	var o bench.MesosOptions
	var profile string
	var double int
	c := &cobra.Command{
		Use: "mesos", Short: "Measure a Mesos cluster: tasks per second, and how soon they start", Args: exactArgs(0),
		Long: `Launch short tasks on a Mesos cluster and measure tasks per second, and the time from the call that launches a task to its start and its end.

It registers a framework of its own, millrace-bench, which is removed at the end, also on ^C, and with it its tasks. Meanwhile it holds the offers that it gets:
others of the same cluster get none of what it holds. With --cold it gives back at once what it does not use, and each task waits for an offer, as the first one
does after a quiet time; the wait is a part of what is printed. --parallel 1 launches one after the other, for latencies.

With --double it measures itself: masters and agents are a double in a process of its own on this machine, which runs the tasks as processes.`,
		Example: `  millrace bench mesos --master http://10.0.0.1:5050 --tasks 2000
  millrace bench mesos --master zk://10.0.0.1:2181,10.0.0.2:2181/mesos --principal millrace --secret-file secret --role batch
  millrace bench mesos --master http://10.0.0.1:5050 --tasks 30 --parallel 1 --cold -o json
  millrace bench mesos --double 20 --tasks 2000 --profile client.pprof`,
		RunE: func(c *cobra.Command, _ []string) error {
			if double > 0 {
				master, stop, err := bench.StartDouble(context.WithoutCancel(c.Context()), runnerArgv()[0], double)
				if err != nil {
					return err
				}
				defer stop()
				m.masters = []string{master}
			}
			err := cmp.Or(m.fill(&o), o.Validate())
			if err != nil {
				return &codeError{exitUsage, err}
			}
			return g.benchMesos(c.Context(), o, profile)
		},
	}
	f := c.Flags()
	m.add(f)
	f.IntVar(&o.Tasks, "tasks", 200, "how many tasks")
	f.IntVar(&o.Parallel, "parallel", 0, "how many at once (default as many as the offers take)")
	f.Float64Var(&o.CPUs, "cpus", 0.1, "CPUs of a task")
	f.Float64Var(&o.Mem, "mem", 32, "memory of a task, in MiB")
	f.StringVar(&o.Command, "command", "true", "what a task runs, by a shell")
	f.StringVar(&o.Role, "role", "*", "role whose resources are used")
	f.StringVar(&o.User, "user", "root", "user of the agents that tasks run as")
	f.BoolVar(&o.Cold, "cold", false, "hold no offers: each task waits for one")
	f.DurationVar(&o.Patience, "patience", 2*time.Minute, "give up after so long without a change")
	f.StringVar(&profile, "profile", "", "file for a CPU profile of this process")
	f.IntVar(&double, "double", 0, "measure a double with so many agents instead of a cluster")
	g.outputFlags(c)
	return c
}

// benchMesos measures and prints.
func (g *global) benchMesos(ctx context.Context, o bench.MesosOptions, profile string) error {
	o.Notices = g.err
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		o.Profile = f
	}
	r, err := bench.Mesos(ctx, o)
	if r != nil {
		err = errors.Join(err, printOne(g, r, "mesos", r.Print))
	}
	switch {
	case errors.Is(err, mesosexec.ErrUnauthorised):
		return &codeError{exitAuth, err}
	case errors.Is(err, bench.ErrNoMaster), errors.Is(err, mesosexec.ErrNotMesos):
		return &codeError{exitUnreachable, err}
	case err == nil && r.Finished < r.Tasks:
		return &codeError{exitFailed, fmt.Errorf("%d of %d tasks did not finish: %s", r.Tasks-r.Finished, r.Tasks, r.Why)}
	}
	return err
}
