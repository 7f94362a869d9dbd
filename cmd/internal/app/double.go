package app

import (
	"context"
	"fmt"
	"os/user"
	"strings"
	"time"

	"millrace/configs"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesossim"
)

// Double is a double of a Mesos cluster in this process: what it is told to run it runs as processes of this machine.
type Double struct {
	cluster *mesossim.Cluster
	// Says is what people should know of it.
	Says string
}

// doubleNote is what the console says, where there is little room.
const doubleNote = "a double in this process, not a cluster"

// StartDouble starts a master with three small agents, which differ in hostname and rack. The caller closes it.
func StartDouble() (*Double, error) {
	o := mesossim.Options{}
	for i := range 3 {
		o.Agents = append(o.Agents, mesossim.AgentOptions{
			Hostname: fmt.Sprintf("agent-%d", i+1), Resources: mesossim.Resources(2, 2048, 4096),
			Attributes: []mesos.Attribute{{Name: "rack", Type: mesos.TypeText, Text: &mesos.Text{Value: fmt.Sprintf("r%d", i%2+1)}}},
		})
	}
	c, err := mesossim.New(o)
	if err != nil {
		return nil, err
	}
	return &Double{c, fmt.Sprintf(
		"a double at %s, not a cluster: 3 agents of 2 CPUs and 2 GiB in this process, which run commands as processes of this machine, isolate nothing, run no images, and end with it",
		strings.TrimPrefix(c.URL(), "http://"))}, nil
}

// Configure makes the double the cluster of a configuration.
func (d *Double) Configure(l *configs.Loaded, origin string) {
	m := &l.Executors.Mesos
	m.Masters, m.Principal, m.Secret, m.Token, m.CA, m.Roles = d.cluster.Masters(), "", "", "", "", []string{"*"}
	m.Settle = 5 * time.Second // Its agents are there from the start.
	if u, err := user.Current(); err == nil {
		m.User = u.Username // Others only root may run as.
	}
	l.Origin["executors.mesos.masters"] = origin
}

// Close ends the double and what it runs.
func (d *Double) Close() error { return d.cluster.Close() }

// confirmDouble gives tasks up that an earlier double was running: it is gone for sure, so there is nobody to be asked.
func (a *app) confirmDouble(ctx context.Context, ex *mesosexec.Executor) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if ex.View().Hold == "" {
			continue
		}
		if err := ex.Confirm(ctx); err != nil {
			a.log.Warn("the double of a cluster could not be confirmed", "err", err)
			continue
		}
		a.log.Warn("the cluster is a new double for sure: tasks of an earlier double are given up")
	}
}
