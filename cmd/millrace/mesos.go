package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/marathon"
	"millrace/configs"
)

func newMesos(g *global) *cobra.Command {
	return group("mesos", "Run on a Mesos cluster: what a person does there", newMesosStatus(g), newMesosConfirm(g), newMesosRegister(g), newMesosTeardown(g),
		newMesosMarathon(g))
}

func newMesosMarathon(g *global) *cobra.Command {
	o := marathon.DefaultOptions()
	var cpus, mem, volume map[string]string
	c := &cobra.Command{
		Use: "marathon", Short: "Write the Marathon application group that runs this configuration", Args: exactArgs(0),
		Long: `Write the Marathon application group that runs this configuration, as JSON: ingest (which batches, too: the log is on its disk), schedule, and
with --postgres a Postgres for DAGs. Nothing is asked of a cluster.

What is configured goes along as variables, unless --config-path says where the containers find the configuration. No secret does: env:NAME becomes a
secret of Marathon, file:PATH stays a path, which the image has or an agent, in a directory that --host-dir names.

Ports are those of ingest.listen and console.listen, and agents have to offer them, as with --resources='ports:[8080-8082,31000-32000]'; the console of
ingest is one port further on. Log, store and databases are on persistent volumes, so each instance stays on its agent, and Marathon needs a role and a
principal that may reserve. docs/mesos.md says more.`,
		Example: `  millrace mesos marathon --config /etc/millrace/millrace.yaml --image registry.example.com/millrace:1.0 > group.json
  millrace mesos marathon --instances 3 --app-cpus ingest=2,schedule=2 --app-mem schedule=4096 --host-dir /etc/millrace
  curl -X PUT -H 'Content-Type: application/json' --data @group.json http://marathon.example.com:8080/v2/groups`,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			if err := amounts(&o, cpus, mem, volume); err != nil {
				return &codeError{exitUsage, err}
			}
			built, notices, err := marathon.Build(l, o)
			if err != nil {
				return err
			}
			for _, n := range notices {
				_, _ = fmt.Fprintln(g.err, "note:", n)
			}
			return writeGroup(g.out, built)
		},
	}
	f := c.Flags()
	f.StringVar(&o.ID, "id", o.ID, "path of the group")
	f.StringVar(&o.Image, "image", o.Image, "image of millrace")
	f.IntVar(&o.Instances, "instances", o.Instances, "how many ingest, each on an agent of its own")
	f.StringToStringVar(&cpus, "app-cpus", nil, "CPUs by application (default 1 each)")
	f.StringToStringVar(&mem, "app-mem", nil, "memory by application, in MiB (default worked out of the configuration)")
	f.StringToStringVar(&volume, "app-volume", nil, "persistent volume by application, in MiB (default: what the log may have, 10240 for others)")
	f.StringSliceVar(&o.HostDirs, "host-dir", nil, "directory of the agents that containers see, read-only, at the same place; may be repeated")
	f.StringVar(&o.ConfigPath, "config-path", "", "where containers find the configuration (default: it goes along as variables)")
	f.BoolVar(&o.Postgres, "postgres", false, "add a Postgres, for DAGs")
	f.StringVar(&o.PostgresImage, "postgres-image", o.PostgresImage, "its image")
	f.IntVar(&o.PostgresPort, "postgres-port", o.PostgresPort, "its port, which an agent has to offer")
	f.StringVar(&o.PasswordFile, "postgres-password-file", o.PasswordFile, "file with the password of its superuser, within the container")
	return c
}

// amounts reads flags such as ingest=2,schedule=1.
func amounts(o *marathon.Options, cpus, mem, volume map[string]string) error {
	o.CPUs, o.Mem, o.Volume = map[string]float64{}, map[string]int{}, map[string]int{}
	for app, text := range cpus {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("--app-cpus %s=%s: want a number", app, text)
		}
		o.CPUs[app] = n
	}
	for flag, m := range map[string]struct {
		from map[string]string
		to   map[string]int
	}{"mem": {mem, o.Mem}, "volume": {volume, o.Volume}} {
		for app, text := range m.from {
			n, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("--app-%s %s=%s: want a whole number of MiB", flag, app, strings.TrimSpace(text))
			}
			m.to[app] = n
		}
	}
	return o.Validate()
}

func writeGroup(w io.Writer, group *marathon.Group) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(group)
}
