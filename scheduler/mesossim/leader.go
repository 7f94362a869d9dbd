package mesossim

import (
	"fmt"
	"slices"
	"strings"

	"millrace/scheduler/mesos"
)

// leader is what a leading master knows. It is gone with the master.
type leader struct {
	c                                   *Cluster
	m                                   *master
	dead                                bool
	id                                  string
	frameworks                          map[string]*framework
	order                               []*framework
	completed                           map[string]bool // frameworks that are not to come back
	members                             map[string]*member
	ranks                               []*member // members in the order in which they came
	offers                              map[string]*offer
	used                                map[string]*offer // with Easy.Offers, those that are no more
	inverse                             map[string]*inverse
	recovered                           map[string]bool // agents of the registry that have not come back yet
	nextOffer, nextFramework, nextAgent int
}

// framework is one, connected or not.
type framework struct {
	id          string
	info        mesos.FrameworkInfo
	constraints *mesos.OfferConstraints
	stream      *stream // nil: not connected
	principal   string
	suppressed  map[string]bool
	filters     []*filter
	tasks       map[string]*known
	order       []string          // of tasks
	lost        map[string]*known // those of agents that are unreachable
	grants      map[string]int    // by role, how often it was offered something
	removal     *timer
}

// known is what the master knows of a task.
type known struct {
	agent     string
	executor  string // of its group, else empty
	name      string
	labels    *mesos.Labels
	role      string
	state     mesos.TaskState // as the framework was told
	status    *mesos.ContainerStatus
	used      bundle
	freed     bool
	since     int64 // when its agent was lost
	resources []mesos.Resource
}

// member is an agent that has registered with this leader.
type member struct {
	a         *agent
	connected bool
	total     bundle
	free      bundle
	executors map[string]bundle // of groups, by framework and id
	timeout   *timer
	window    *mesos.Unavailability
	asked     map[string]bool
}

func newLeader(c *Cluster, m *master) *leader {
	_, id := newUUID()
	l := &leader{c: c, m: m, id: id, frameworks: map[string]*framework{}, completed: map[string]bool{}, members: map[string]*member{},
		offers: map[string]*offer{}, used: map[string]*offer{}, inverse: map[string]*inverse{}, recovered: map[string]bool{}}
	for id, r := range c.registry {
		if !r.unreachable && !r.gone {
			l.recovered[id] = true
		}
	}
	return l
}

func (l *leader) info() *mesos.MasterInfo {
	return &mesos.MasterInfo{ID: l.id, IP: 16777343, Port: uint32(l.m.port), PID: "master@" + hostPort(l.m.port), Hostname: "127.0.0.1",
		Version: Version, Address: address("127.0.0.1", l.m.port), Capabilities: []mesos.Capability{{Type: "AGENT_UPDATE"}, {Type: "AGENT_DRAINING"}, {}}}
}

// can reports whether a framework has a capability.
func (f *framework) can(capability string) bool {
	return slices.Contains(f.info.Capabilities, mesos.Capability{Type: capability})
}

// roles are those that a framework is in.
func (f *framework) roles() []string {
	if f.can(mesos.CapMultiRole) {
		return f.info.Roles
	}
	if f.info.Role != "" {
		return []string{f.info.Role}
	}
	return []string{"*"}
}

// checkInfo returns what is wrong with a framework, as Mesos says it.
func checkInfo(info mesos.FrameworkInfo) string {
	f := framework{info: info}
	if f.can(mesos.CapMultiRole) && info.Role != "" {
		return "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
	}
	if !f.can(mesos.CapMultiRole) && len(info.Roles) > 0 {
		return "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
	}
	for _, role := range f.roles() {
		if why := checkRole(role); why != "" {
			return "'FrameworkInfo.roles' contains invalid role: " + why
		}
	}
	return ""
}

func checkRole(role string) string {
	if role == "*" {
		return ""
	}
	if role == "" {
		return "Empty role name is invalid"
	}
	for component := range strings.SplitSeq(role, "/") {
		switch {
		case component == "":
			return fmt.Sprintf("Role '%s' cannot start with a slash or have empty components", role)
		case component == "." || component == "..":
			return fmt.Sprintf("Role '%s' cannot include '%s' as a component", role, component)
		case component == "*":
			return fmt.Sprintf("Role '%s' cannot include '*' as a component", role)
		case component[0] == '-':
			return fmt.Sprintf("Role component '%s' is invalid because it begins with a dash", component)
		}
	}
	return ""
}

// subscribe takes a framework onto a stream, new or back.
func (l *leader) subscribe(call *mesos.Call, principal string, s *stream) {
	info := call.Subscribe.FrameworkInfo
	why := checkInfo(info)
	if why == "" && info.ID.Value != "" && l.completed[info.ID.Value] {
		why = "Framework has been removed"
	}
	if why != "" {
		s.send(&mesos.Event{Type: mesos.EventError, Error: &mesos.Error{Message: why}})
		s.end(false)
		return
	}
	f, back := l.frameworks[info.ID.Value], info.ID.Value != ""
	active := f != nil && f.stream != nil
	if active {
		f.stream.send(&mesos.Event{Type: mesos.EventError, Error: &mesos.Error{Message: "Framework failed over"}})
		f.stream.end(false)
		l.takeBack(f)
	}
	if f == nil {
		f = l.addFramework(info)
	}
	f.removal.stop()
	f.stream, f.principal, s.f, s.l = s, principal, f, l
	f.update(call.Subscribe)
	s.send(&mesos.Event{Type: mesos.EventSubscribed, Subscribed: &mesos.Subscribed{FrameworkID: mesos.ID{Value: f.id},
		HeartbeatIntervalSeconds: l.c.opt.Heartbeat.Seconds(), MasterInfo: l.info()}})
	s.beat()
	if !active {
		l.c.allocate() // One that takes over has to wait for the next interval.
	}
	if back {
		l.c.after(3*milli, func() { l.resend(f.id, false) })
	}
}

// addFramework makes one known, by the id that it says it has: nobody checks that.
func (l *leader) addFramework(info mesos.FrameworkInfo) *framework {
	id := info.ID.Value
	if id == "" {
		id = fmt.Sprintf("%s-%04d", l.id, l.nextFramework)
		l.nextFramework++
	}
	f := &framework{id: id, info: info, tasks: map[string]*known{}, lost: map[string]*known{}, grants: map[string]int{}, suppressed: map[string]bool{}}
	f.info.ID.Value = id
	l.frameworks[id] = f
	l.order = append(l.order, f)
	return f
}

// update takes what a framework says of itself.
func (f *framework) update(s *mesos.Subscribe) {
	f.info = s.FrameworkInfo
	f.info.ID.Value = f.id
	f.constraints = s.OfferConstraints
	f.suppressed = map[string]bool{}
	for _, role := range s.SuppressedRoles {
		f.suppressed[role] = true
	}
}

// disconnected is when a stream has ended: offers are taken back, tasks run on until the time for a failover is over.
func (l *leader) disconnected(s *stream) {
	f := s.f
	if f == nil || f.stream != s || l.dead {
		return
	}
	f.stream = nil
	s.end(true)
	l.takeBack(f)
	l.expect(f)
}

// expect removes a framework that does not come back in time.
func (l *leader) expect(f *framework) {
	f.removal.stop()
	f.removal = l.c.after(l.c.opt.seconds(f.info.FailoverTimeout), func() { l.remove(f) })
}

// takeBack takes all offers of a framework, without a word.
func (l *leader) takeBack(f *framework) {
	for id, o := range l.offers {
		if o.f == f {
			l.recover(id)
		}
	}
	for id, o := range l.inverse {
		if o.f == f {
			delete(l.inverse, id)
		}
	}
	f.filters = nil
}

// remove ends a framework for ever, with its tasks.
func (l *leader) remove(f *framework) {
	if l.dead || l.frameworks[f.id] != f {
		return
	}
	l.takeBack(f)
	f.removal.stop()
	delete(l.frameworks, f.id)
	l.order = slices.DeleteFunc(l.order, func(o *framework) bool { return o == f })
	l.completed[f.id] = true
	for _, t := range f.tasks {
		l.free(f, t)
	}
	for _, m := range l.ranks {
		for key, used := range m.executors {
			if strings.HasPrefix(key, f.id+"/") {
				delete(m.executors, key)
				m.free = m.free.add(used)
			}
		}
		if m.connected {
			m.a.drop(f.id)
		}
	}
	if f.stream != nil {
		f.stream.end(false)
		f.stream = nil
	}
}

// free gives back what a task used, once.
func (l *leader) free(f *framework, t *known) {
	if t.freed {
		return
	}
	t.freed = true
	if m := l.members[t.agent]; m != nil {
		m.free = m.free.add(t.used)
	}
}
