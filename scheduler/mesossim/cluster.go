package mesossim

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"millrace/scheduler/mesos"
)

// Cluster is masters, agents and what they run.
type Cluster struct {
	opt  Options
	dir  string
	temp bool

	mu       sync.Mutex // guards all below, and what leader, agent, framework and stream have
	closed   bool
	clock    clock
	masters  []*master
	leading  int     // the master that leads, -1 for none
	named    int     // the master that followers take for the leader, -1 for none
	lead     *leader // what that one knows
	agents   []*agent
	registry map[string]*record // by agent id; all that a new leader has
	election *timer
	faults   faults
	running  sync.WaitGroup // the goroutines of tasks
}

// master is a process that serves, or would if it were up.
type master struct {
	i      int
	up     bool
	server *httptest.Server
	port   int
}

// record is what the registry knows of an agent.
type record struct {
	unreachable bool
	since       int64 // nanoseconds since 1970
	gone        bool
}

// New starts a cluster: its masters listen, its agents have registered. The caller closes it.
func New(o Options) (*Cluster, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("options of a double of Mesos: %w", err)
	}
	o = o.withDefaults()
	c := &Cluster{opt: o, dir: o.Dir, registry: map[string]*record{}, leading: -1, named: -1}
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "mesossim")
		if err != nil {
			return nil, err
		}
		c.dir, c.temp = dir, true
	}
	c.clock.manual = o.Manual
	c.clock.at = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range o.Masters {
		m := &master{i: i, up: true}
		m.server = httptest.NewServer(c.masterHandler(m))
		m.port = m.server.Listener.Addr().(*net.TCPAddr).Port
		c.masters = append(c.masters, m)
	}
	c.elect()
	for _, a := range o.Agents {
		c.addAgent(a)
	}
	if !o.Manual {
		c.tick()
	}
	return c, nil
}

// tick offers what is free, again and again.
func (c *Cluster) tick() {
	c.after(c.opt.Allocation, func() {
		c.allocate()
		c.tick()
	})
}

// Allocate offers what is free, as each interval of allocation does.
func (c *Cluster) Allocate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allocate()
}

// Close kills what runs, ends all streams and stops serving. It may be called twice.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	for _, a := range c.agents {
		a.killAll()
	}
	c.dropLeader()
	servers := make([]*httptest.Server, 0, len(c.masters)+len(c.agents))
	for _, m := range c.masters {
		servers = append(servers, m.server)
	}
	for _, a := range c.agents {
		servers = append(servers, a.server)
	}
	c.mu.Unlock()
	for _, s := range servers {
		s.CloseClientConnections()
		s.Close()
	}
	c.running.Wait()
	if c.temp {
		return os.RemoveAll(c.dir)
	}
	return nil
}

// URL returns where the leader is, or, without one, the first master.
func (c *Cluster) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.masters[max(c.leading, 0)].server.URL
}

// Masters returns where all masters are, in the order of their numbers.
func (c *Cluster) Masters() []string {
	var out []string
	for _, m := range c.masters {
		out = append(out, m.server.URL)
	}
	return out
}

// Leader returns the number of the master that leads, or -1.
func (c *Cluster) Leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leading
}

// Agent returns the id of an agent by its number in Options.Agents. It changes when an agent is removed and starts again.
func (c *Cluster) Agent(i int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[i].id
}

// AgentURL returns where an agent serves its files, by its number.
func (c *Cluster) AgentURL(i int) string { return c.agents[i].server.URL }

// Task is what a cluster has of a task, for tests to look at.
type Task struct {
	ID, Agent, Framework string
	State                mesos.TaskState // the newest, acknowledged or not
	PID                  int             // of its process, 0 before
	Dir                  string          // its sandbox
}

// Tasks returns all tasks that the agents know, those that have ended included.
func (c *Cluster) Tasks() []Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Task
	for _, a := range c.agents {
		for _, t := range a.order {
			out = append(out, Task{t.info.TaskID.Value, a.id, t.framework, t.state, t.pid(), t.dir})
		}
	}
	return out
}

// elect makes the first master that is up the leader, if most are; otherwise it is one that never has finished its recovery.
func (c *Cluster) elect() {
	up, first := 0, -1
	for _, m := range c.masters {
		if m.up {
			up++
			if first < 0 {
				first = m.i
			}
		}
	}
	c.named, c.leading = first, -1
	if first < 0 || up*2 <= len(c.masters) {
		return
	}
	c.leading = first
	c.lead = newLeader(c, c.masters[first])
}

// dropLeader ends what a leader has to do, hard: its streams are cut.
func (c *Cluster) dropLeader() {
	if c.lead == nil {
		return
	}
	for _, f := range c.lead.frameworks {
		f.removal.stop()
		if f.stream != nil {
			f.stream.end(true)
		}
	}
	for _, o := range c.lead.offers {
		o.timeout.stop()
	}
	c.lead.dead = true
	c.lead, c.leading = nil, -1
}

// KillMaster kills a master as SIGKILL does: its streams end without a last chunk, and connections to it are closed as soon as they are made. If it led, another
// leads after Options.Election.
func (c *Cluster) KillMaster(i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < 0 || i >= len(c.masters) {
		return fmt.Errorf("kill master %d: %w", i, ErrUnknown)
	}
	c.masters[i].up = false
	if c.leading == i || c.leading < 0 {
		c.dropLeader()
		c.election.stop()
		c.election = c.after(c.opt.Election, c.succeed)
	}
	return nil
}

// StartMaster starts a master that was killed. It has forgotten all but the registry, and leads if nobody does.
func (c *Cluster) StartMaster(i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < 0 || i >= len(c.masters) {
		return fmt.Errorf("start master %d: %w", i, ErrUnknown)
	}
	c.masters[i].up = true
	if c.leading < 0 {
		c.election.stop()
		c.succeed()
	}
	return nil
}

// RestartMaster kills the leader and starts it at once. Agents return after Options.AgentReturn.
func (c *Cluster) RestartMaster() error {
	i := c.Leader()
	return errors.Join(c.KillMaster(i), c.StartMaster(i))
}

// Elect ends the wait for an election now.
func (c *Cluster) Elect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading < 0 {
		c.election.stop()
		c.succeed()
	}
}

// succeed makes a new leader, to which the agents come.
func (c *Cluster) succeed() {
	c.elect()
	if c.lead == nil {
		return
	}
	for _, a := range c.agents {
		if a.up && a.linked {
			lead := c.lead
			c.after(c.opt.AgentReturn, func() {
				if c.lead == lead && a.up && a.linked {
					a.register()
				}
			})
		}
	}
}

// ReturnAgents lets agents return at once: those that have not yet come to a new leader do so now.
func (c *Cluster) ReturnAgents() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.agents {
		if a.up && a.linked && c.lead != nil && c.lead.members[a.id] == nil {
			a.register()
		}
	}
}

// NewCluster replaces the cluster by one that was never heard of, at the same addresses: all tasks die, agents get new ids, and frameworks may come with
// whatever id they say they have.
func (c *Cluster) NewCluster() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLeader()
	c.registry = map[string]*record{}
	for _, a := range c.agents {
		a.forget()
		a.id = ""
	}
	c.elect()
	for _, a := range c.agents {
		if a.up && a.linked && c.lead != nil {
			a.register()
		}
	}
}

// newUUID returns a random UUID, as bytes and as text.
func newUUID() ([]byte, string) {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // It never fails.
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return b, h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// sandboxes is where an agent keeps those of a framework's executor.
func (a *agent) sandboxes(framework, executor string) string {
	return filepath.Join(a.work, "slaves", a.id, "frameworks", framework, "executors", executor, "runs")
}

func address(hostname string, port int) *mesos.Address {
	return &mesos.Address{Hostname: hostname, IP: "127.0.0.1", Port: port}
}

func hostPort(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
