package mesossim

import (
	"bytes"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"millrace/scheduler/mesos"
)

// agent is one, and what it runs.
type agent struct {
	c      *Cluster
	opt    AgentOptions
	id     string
	number int
	work   string // its directory
	server *httptest.Server
	port   int
	up     bool    // it runs
	linked bool    // it reaches the master
	came   *leader // to which it registered last
	tasks  map[string]*task
	order  []*task
	groups map[string]*group
}

// group is an executor of task groups.
type group struct {
	id, framework string
	info          mesos.ExecutorInfo
	container     string
	dir           string
	tasks         []*task
	ended         bool
}

// task is one on an agent, from its launch until its last update is acknowledged; after that, over says so.
type task struct {
	a         *agent
	framework string
	owner     mesos.FrameworkInfo
	role      string
	info      mesos.TaskInfo
	group     *group
	id        string // of the container
	dir       string
	state     mesos.TaskState
	over      bool
	dropped   bool // nobody is to hear of it any more
	queue     []*mesos.TaskStatus
	retry     *timer
	wait      int // in how many intervals the head comes again
	proc      *os.Process
	killed    bool
	ended     bool // no process will run any more
	grace     *timer
	limit     *timer
	late      bool // max_completion_time is over
	health    health
	// credential is the user that the command is executed as, nil: this process's.
	credential *syscall.Credential
}

func (c *Cluster) addAgent(o AgentOptions) {
	a := &agent{c: c, opt: o.withDefaults(), number: len(c.agents), up: true, linked: true, tasks: map[string]*task{}, groups: map[string]*group{}}
	a.work = filepath.Join(c.dir, "agent"+strconv.Itoa(a.number))
	a.server = httptest.NewServer(c.agentHandler(a))
	a.port = a.server.Listener.Addr().(*net.TCPAddr).Port
	c.agents = append(c.agents, a)
	a.register()
}

func (a *agent) url() *mesos.URL {
	return &mesos.URL{Scheme: "http", Address: *address(a.opt.Hostname, a.port), Path: "/slave(1)"}
}

func key(framework, id string) string { return framework + "/" + id }

// executorIDs are those of a framework's groups on an agent.
func (a *agent) executorIDs(framework string) []mesos.ID {
	var out []mesos.ID
	for _, g := range a.groups {
		if g.framework == framework && !g.ended {
			out = append(out, mesos.ID{Value: g.id})
		}
	}
	slices.SortFunc(out, func(x, y mesos.ID) int { return bytes.Compare([]byte(x.Value), []byte(y.Value)) })
	return out
}

// launch takes tasks, each alone or all in an executor.
func (a *agent) launch(owner mesos.FrameworkInfo, role string, infos []mesos.TaskInfo, ex *mesos.ExecutorInfo) {
	var g *group
	if ex != nil {
		g = a.groups[key(owner.ID.Value, ex.ExecutorID.Value)]
		if g == nil || g.ended {
			_, id := newUUID()
			g = &group{id: ex.ExecutorID.Value, framework: owner.ID.Value, info: *ex, container: id}
			g.dir = filepath.Join(a.sandboxes(g.framework, g.id), id)
			a.groups[key(g.framework, g.id)] = g
		}
	}
	for _, info := range infos {
		_, id := newUUID()
		t := &task{a: a, framework: owner.ID.Value, owner: owner, role: role, info: info, group: g, id: id, state: mesos.TaskStaging}
		t.dir = filepath.Join(a.sandboxes(t.framework, info.TaskID.Value), id)
		if g != nil {
			t.dir = filepath.Join(g.dir, "tasks", info.TaskID.Value)
			g.tasks = append(g.tasks, t)
		}
		a.tasks[key(t.framework, info.TaskID.Value)] = t
		a.order = append(a.order, t)
		if d := a.c.opt.StartDelay; d > 0 {
			a.c.after(d, t.begin)
			continue
		}
		t.begin()
	}
}

// executor is what the status calls the executor of a task: that of its group, or the task itself.
func (t *task) executor() string {
	if t.group != nil {
		return t.group.id
	}
	return t.info.TaskID.Value
}

// container is the status of a task's container. A nested one has a process only as long as it runs.
func (t *task) container(running bool) *mesos.ContainerStatus {
	cs := &mesos.ContainerStatus{ContainerID: &mesos.ContainerID{Value: t.id}}
	if t.group != nil {
		cs.ContainerID.Parent = &mesos.ContainerID{Value: t.group.container}
	}
	if t.group == nil || running {
		cs.NetworkInfos = []mesos.NetworkInfo{{IPAddresses: []mesos.IPAddress{{Protocol: "IPv4", IPAddress: "127.0.0.1"}}}}
		cs.ExecutorPID = uint32(os.Getpid()) // The executor is this process.
	}
	return cs
}

// report queues an update: it is sent when those before it are acknowledged.
func (t *task) report(state mesos.TaskState, reason mesos.Reason, source, message string) {
	if t.state.Terminal() || t.dropped {
		return
	}
	t.state = state
	id, _ := newUUID()
	s := &mesos.TaskStatus{TaskID: t.info.TaskID, State: state, Message: message, Source: source, Reason: reason, AgentID: mesos.ID{Value: t.a.id},
		ExecutorID: mesos.ID{Value: t.executor()}, Timestamp: t.a.c.stamp(), UUID: id, Healthy: t.health.is}
	if source == mesos.SourceExecutor {
		s.ContainerStatus = t.container(state == mesos.TaskRunning || state == mesos.TaskKilling)
	}
	t.queue = append(t.queue, s)
	if t.a.c.opt.Easy.Acks {
		t.emit()
		t.queue, t.over = nil, state.Terminal()
		return
	}
	if len(t.queue) == 1 {
		t.wait = 1
		t.forward()
	}
}

// told is the state that the master would have been told last.
func (t *task) told() mesos.TaskState {
	if len(t.queue) > 0 {
		return t.queue[0].State
	}
	return t.state
}

// forward sends the oldest update that is not acknowledged, now and again later.
func (t *task) forward() {
	if len(t.queue) == 0 || t.dropped {
		return
	}
	t.emit()
	t.retry.stop()
	t.retry = t.a.c.after(min(t.a.c.opt.Retry<<min(t.wait-1, 20), t.a.c.opt.MaxRetry), func() {
		t.wait++
		t.forward()
	})
}

func (t *task) emit() {
	a := t.a
	if l := a.c.lead; l != nil && a.up && a.linked && l.members[a.id] != nil && l.members[a.id].connected {
		l.status(a, t.framework, t.queue[0], t.state)
	}
}

// resend sends what is not acknowledged of a framework; twice, an update that is the last of its task, as was seen after a failover of masters.
func (a *agent) resend(framework string, twice bool) {
	for _, t := range slices.Clone(a.order) {
		if t.framework != framework || len(t.queue) == 0 || t.dropped {
			continue
		}
		t.wait = 1
		if twice && t.queue[0].State.Terminal() {
			t.emit()
		}
		t.forward()
	}
}

// acknowledge takes the oldest update off, if it is the one, and reports whether the task is over by that.
func (a *agent) acknowledge(framework, id string, uuid []byte) bool {
	t := a.tasks[key(framework, id)]
	if t == nil || len(t.queue) == 0 || !bytes.Equal(t.queue[0].UUID, uuid) {
		return false
	}
	done := t.queue[0].State.Terminal()
	t.queue = t.queue[1:]
	t.retry.stop()
	t.wait = 1
	t.over = done
	t.forward()
	if done && a.c.faults.wipe {
		_ = os.RemoveAll(t.dir) // What is left of it stays.
	}
	if done && t.group != nil {
		t.group.end(a)
	}
	return done
}

// kill ends a task: SIGTERM, and after its grace SIGKILL.
func (a *agent) kill(framework, id string, policy *mesos.KillPolicy) {
	t := a.tasks[key(framework, id)]
	if t == nil || t.over || t.killed || t.state.Terminal() {
		return
	}
	d := t.policy()
	if policy != nil && policy.GracePeriod != nil && a.c.opt.HTTPCommandExecutor {
		d = policy.GracePeriod.Nanoseconds.Seconds()
	}
	t.kill(d)
}

// shutdown ends an executor with its tasks.
func (a *agent) shutdown(framework, executor string) {
	for _, t := range slices.Clone(a.order) {
		if t.framework == framework && t.executor() == executor && !t.state.Terminal() && !t.killed {
			t.kill(5)
		}
	}
}

// drop kills all of a framework that nobody is to hear of any more.
func (a *agent) drop(framework string) {
	for _, t := range a.order {
		if t.framework == framework && !t.over {
			t.dropped, t.over = true, true
			t.retry.stop()
			t.finish()
		}
	}
}

// killAll kills all that runs, without a word.
func (a *agent) killAll() {
	for _, t := range a.order {
		t.dropped = true
		t.retry.stop()
		t.finish()
	}
}

// forget makes an agent one that never ran anything.
func (a *agent) forget() {
	a.killAll()
	a.tasks, a.order, a.groups = map[string]*task{}, nil, map[string]*group{}
}

// end ends an executor a moment after all that its tasks had to say was acknowledged.
func (g *group) end(a *agent) {
	for _, t := range g.tasks {
		if !t.over {
			return
		}
	}
	a.c.after(50*milli, func() {
		if g.ended {
			return
		}
		g.ended = true
		if l := a.c.lead; l != nil && a.up && a.linked {
			l.executorEnded(a, g.framework, g.id)
		}
	})
}

func (t *task) pid() int {
	if t.proc == nil {
		return 0
	}
	return t.proc.Pid
}

func (t *task) String() string { return fmt.Sprintf("task %s of %s", t.info.TaskID.Value, t.framework) }
