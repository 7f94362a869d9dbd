package sdk

import "time"

// Resources is what an attempt needs of the machine that it runs on, for executors that see to it. It is a [Default], and where a task has it, it
// takes the place of that of the DAG as a whole. Zero fields ask for nothing.
type Resources struct {
	// CPU is in cores, such as 0.5. CPULimit is how many it may take if they are idle; 0 is what the executor permits.
	CPU, CPULimit float64
	// Mem and Disk are in bytes. MemLimit is how much memory it may take if there is some to spare; 0 is Mem.
	Mem, MemLimit, Disk int64
	GPU                 int
}

func (r Resources) apply(t *task) { t.keys = t.keys.with("resources", r) }
func (r Resources) shared()       {}

func (r Resources) describe(whole bool) object {
	o := object{}
	o = o.unless(r.CPU == 0 && !whole, "cpu", r.CPU).unless(r.CPULimit == 0 && !whole, "cpu_limit", r.CPULimit)
	o = o.unless(r.Mem == 0 && !whole, "mem", r.Mem).unless(r.MemLimit == 0 && !whole, "mem_limit", r.MemLimit).unless(r.Disk == 0 && !whole, "disk", r.Disk)
	return o.unless(r.GPU == 0 && !whole, "gpu", r.GPU)
}

// Op is what a [Constraint] asks of an attribute of a machine.
type Op string

// The operators of constraints. Those after OpUnlike look at where other attempts of the task are, too; docs/tasks.md has them.
const (
	OpExists    Op = "exists"
	OpNotExists Op = "not_exists"
	OpIs        Op = "is"
	OpLike      Op = "like"
	OpUnlike    Op = "unlike"
	OpUnique    Op = "unique"
	OpCluster   Op = "cluster"
	OpGroupBy   Op = "group_by"
	OpMaxPer    Op = "max_per"
)

// Constraint names machines on which a task may run: {"rack", OpUnlike, "rack-9"}. Value is "" for operators that take none.
type Constraint struct {
	Attribute string
	Op        Op
	Value     string
}

// Constraints are all to be met. Those of a task take the place of those of the DAG.
func Constraints(all ...Constraint) Default {
	list := [][]string{}
	for _, c := range all {
		parts := []string{c.Attribute, string(c.Op)}
		if c.Value != "" {
			parts = append(parts, c.Value)
		}
		list = append(list, parts)
	}
	return sharedKey("constraints", list)
}

// AtLeastOnceFast says whether an attempt that the executor does not reach is given up and tried again at once, while it may still run. Without it, only
// after the unreachable grace.
func AtLeastOnceFast(yes bool) Default { return sharedKey("at_least_once_fast", yes) }

// User names the user of the machine as which the task runs; without it, the executor says.
func User(name string) Default { return sharedKey("user", name) }

// Port is one on which a task listens. It finds the numbers on the machine in PORT0, PORT1 … and PORTS. The zero Port is any that is free.
type Port struct {
	// Host is its number on the machine, Container that in a container with a network of its own. 0: one that is free, and the same.
	Host, Container int
	// UDP: it is mapped for UDP, and not for TCP.
	UDP bool
}

// Ports are those that the task listens on, for executors that hand them out.
func Ports(all ...Port) Option {
	list := []object{}
	for _, p := range all {
		o := object{}
		o = o.unless(p.Host == 0, "host", p.Host).unless(p.Container == 0, "container", p.Container)
		list = append(list, o.unless(!p.UDP, "protocol", "udp"))
	}
	return Set("ports", list)
}

// URI is something that is fetched into the directory in which a task starts.
type URI struct {
	Value string
	// Archive: it is unpacked. Executable: it is a program. Without either its name says whether it is an archive; Plain: it is none, whatever its name.
	Archive, Executable, Plain bool
	// Cache: the machine may keep it for other attempts.
	Cache bool
	// OutputFile is what it is called, relative to the directory; "" is the last part of Value.
	OutputFile string
}

// Fetch has URIs fetched before the task starts, for executors that can.
func Fetch(all ...URI) Option {
	list := []object{}
	for _, u := range all {
		o := object{{"value", u.Value}}
		o = o.unless(!u.Archive && !u.Plain, "extract", u.Archive).unless(!u.Executable, "executable", true).unless(!u.Cache, "cache", true)
		list = append(list, o.unless(u.OutputFile == "", "output_file", u.OutputFile))
	}
	return Set("uris", list)
}

// HealthCheck ends an attempt that does not pass it again and again, for executors that check. It has one of HTTP, TCP and Command, and is an [Option].
type HealthCheck struct {
	HTTP *HTTPCheck
	TCP  *CheckedPort
	// Command exits with 0.
	Command []string
	// Delay is from the start to the first check; 0 is what the executor has. [Immediately] is none.
	Delay time.Duration
	// Interval, Timeout and Failures are as the executor has them if they are 0. Failures within Grace of the start do not count.
	Interval, Timeout, Grace time.Duration
	Failures                 int
}

// Immediately is for [HealthCheck.Delay] and [HealthCheck.Grace].
const Immediately = -1

// CheckedPort is a port by its number where the task runs, or, if that is 0, one of its [Ports], counted from 0.
type CheckedPort struct{ Number, Index int }

func (p CheckedPort) describe() object {
	o := object{}
	return o.unless(p.Number == 0, "port", p.Number).unless(p.Number > 0, "port_index", p.Index)
}

// HTTPCheck is a request that the task answers with 200 to 399.
type HTTPCheck struct {
	Port CheckedPort
	// Path is "" for "/".
	Path string
	TLS  bool
}

func (h HealthCheck) apply(t *task) {
	o := object{}
	if h.HTTP != nil {
		check := h.HTTP.Port.describe().unless(h.HTTP.Path == "", "path", h.HTTP.Path)
		o = o.with("http", check.unless(!h.HTTP.TLS, "scheme", "https"))
	}
	if h.TCP != nil {
		o = o.with("tcp", h.TCP.describe())
	}
	o = o.unless(len(h.Command) == 0, "command", h.Command)
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"delay", h.Delay}, {"interval", h.Interval}, {"timeout", h.Timeout}, {"grace", h.Grace}} {
		o = o.unless(d.value == 0, d.key, max(d.value, 0).String())
	}
	t.keys = t.keys.with("health_check", o.unless(h.Failures == 0, "failures", h.Failures))
}

// Box is what goes with the image of a task, for executors on machines with several kinds of containers. The zero value is what the installation has.
type Box struct {
	// Containerizer is what runs it.
	Containerizer Containerizer
	// Network is [NetworkHost], [NetworkBridge], [NetworkNone] or the name of a network that the machines have; "" is [NetworkHost].
	Network string
	Volumes []Volume
	// Privileged, and flags of docker run without their dashes, are refused where the installation does not permit them.
	Privileged bool
	Parameters map[string][]string
}

// The networks that have no name of their own.
const (
	NetworkHost   = "host"
	NetworkBridge = "bridge"
	NetworkNone   = "none"
)

// Containerizer is what runs containers.
type Containerizer string

// The containerizers.
const (
	ContainerizerMesos  Containerizer = "mesos"
	ContainerizerDocker Containerizer = "docker"
)

// Volume is mounted into a container at Path: a directory of the machine, or a volume of a driver.
type Volume struct {
	Path, HostPath string
	Name, Driver   string
	ReadOnly       bool
}

func (b *Box) describe() object {
	var volumes []object
	for _, v := range b.Volumes {
		o := object{{"container_path", v.Path}}
		o = o.unless(v.HostPath == "", "host_path", v.HostPath).unless(v.Name == "", "name", v.Name).unless(v.Driver == "", "driver", v.Driver)
		volumes = append(volumes, o.unless(!v.ReadOnly, "mode", "ro"))
	}
	o := object{}
	o = o.unless(b.Containerizer == "", "containerizer", b.Containerizer).unless(b.Network == "", "network", b.Network).unless(len(volumes) == 0, "volumes", volumes)
	return o.unless(!b.Privileged, "privileged", true).unless(len(b.Parameters) == 0, "parameters", b.Parameters)
}
