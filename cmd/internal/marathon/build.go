package marathon

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/configs"
)

// home is where the images have what they keep.
var home = map[string]string{Ingest: "/var/lib/millrace", Schedule: "/var/lib/millrace", Postgres: "/var/lib/postgresql/data"}

// roles are those of the applications that are millrace. The log is on the disk of who ingests, so who batches is the same process.
var roles = map[string][]string{Ingest: {configs.RoleIngest, configs.RoleBatch}, Schedule: {configs.RoleSchedule}}

// Build returns the group for a configuration, with what is to be seen to besides.
//
// Errors say what of the configuration does not work apart, or can not go along, and what of o is wrong.
func Build(cfg *configs.Loaded, o Options) (g *Group, notices []string, err error) {
	if err := errors.Join(o.Validate(), apart(cfg)); err != nil {
		return nil, nil, err
	}
	if err := o.amounts(&cfg.Config); err != nil {
		return nil, nil, err
	}
	ingest, err := portOf("ingest.listen", cfg.Ingest.Listen)
	if err != nil {
		return nil, nil, err
	}
	console, err := portOf("console.listen", cfg.Console.Listen)
	if err == nil {
		err = checked(cfg.Console.Listen)
	}
	if err != nil {
		return nil, nil, err
	}
	env, err := o.environment(cfg)
	if err != nil {
		return nil, nil, err
	}
	if o.Postgres {
		env.files = append(env.files, o.PasswordFile)
	}
	if notices, err = o.missing(env.files); err != nil {
		return nil, nil, err
	}
	b := &builder{cfg: cfg, o: &o, env: env}
	g = &Group{ID: o.ID, Apps: []App{b.ingest(ingest, console), b.schedule(console)}}
	if o.Postgres {
		g.Apps = append(g.Apps, b.postgres())
		notices = append(notices, "nothing of millrace keeps anything in Postgres yet: it is for DAGs, as a connection")
	}
	if len(env.secrets) > 0 {
		notices = append(notices, "Marathon has to know the secrets "+strings.Join(slices.Sorted(maps.Keys(env.secrets)), ", ")+
			", which takes its feature 'secrets' and a plugin; without, write them as file:PATH")
	}
	return g, notices, nil
}

// apart checks that the processes can be apart.
func apart(cfg *configs.Loaded) error {
	var errs []error
	for _, app := range []string{Ingest, Schedule} {
		one := *cfg
		one.Roles = roles[app]
		if err := one.Validate(); err != nil && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("as the process of the roles %s: %w", strings.Join(roles[app], ", "), err))
		}
	}
	return errors.Join(errs...)
}

func portOf(key, listen string) (int, error) {
	_, text, err := net.SplitHostPort(listen)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65534 {
		return 0, fmt.Errorf("%s has the port %q: want a number, by which others find it", key, text)
	}
	return port, nil
}

// checked reports whether agents can check the console's health: they ask the loopback address.
func checked(listen string) error {
	host, _, _ := net.SplitHostPort(listen) // It has been split before.
	if ip := net.ParseIP(host); host != "" && host != "localhost" && (ip == nil || !ip.IsUnspecified() && !ip.IsLoopback()) {
		return fmt.Errorf("console.listen is on %s alone, and agents check its health at 127.0.0.1: use 127.0.0.1, or 0.0.0.0 with console.tls", host)
	}
	return nil
}

type builder struct {
	cfg *configs.Loaded
	o   *Options
	env *environment
}

// app returns what all applications have in common.
func (b *builder) app(name string) App {
	return App{
		ID: b.o.ID + "/" + name, Instances: 1, CPUs: b.o.CPUs[name], Mem: b.o.Mem[name], Disk: 512,
		Container:    Container{Type: "DOCKER", Volumes: b.volumes(name)},
		Networks:     []Network{{"host"}}, // Behind a bridge all senders have one address.
		RequirePorts: true, Labels: map[string]string{},
		// Killing one before the next starts is the only way: the next one wants its volume.
		Upgrade: Upgrade{}, Unreachable: "disabled", Residency: Residency{"WAIT_FOREVER"}, MaxLaunchDelay: 60,
	}
}

// volumes maps a persistent volume to where an image wants it: the volume itself can be in the sandbox only.
func (b *builder) volumes(name string) []Volume {
	const inSandbox = "data"
	out := []Volume{
		{ContainerPath: inSandbox, Mode: "RW", Persistent: &Persistent{"root", b.o.Volume[name]}},
		{ContainerPath: home[name], HostPath: inSandbox, Mode: "RW"},
	}
	for _, dir := range b.o.HostDirs {
		out = append(out, Volume{ContainerPath: dir, HostPath: dir, Mode: "RO"})
	}
	return out
}

// process returns an application that is millrace, with a console at a port.
func (b *builder) process(name string, console int) App {
	a := b.app(name)
	a.Container.Docker.Image = b.o.Image
	// Mesos gives volumes to the user of the task, which is root unless Marathon was told otherwise.
	a.Container.Docker.Parameters = []Parameter{{"user", "0:0"}}
	a.Labels["MILLRACE_ROLES"] = strings.Join(roles[name], ",")
	a.Args = []string{"serve", "--roles", strings.Join(roles[name], ",")}
	if b.o.ConfigPath != "" {
		a.Args = append(a.Args, "--config", b.o.ConfigPath)
	}
	a.Env, a.Secrets = maps.Clone(b.env.vars), b.env.secrets
	host, _, _ := net.SplitHostPort(b.cfg.Console.Listen) // It has been split before.
	a.Env["MILLRACE_CONSOLE__LISTEN"] = net.JoinHostPort(host, strconv.Itoa(console))
	a.Env["MILLRACE_DATA_DIR"] = home[name]
	a.KillGraceSeconds = int((b.cfg.Shutdown.Delay+b.cfg.Shutdown.Timeout)/time.Second) + 5
	return a
}

// alive asks what says only whether the process is there: a process that is not ready is not mended by being killed.
func alive(port int, tls configs.TLS) HealthCheck {
	protocol := "MESOS_HTTP"
	if tls.On() {
		protocol = "MESOS_HTTPS"
	}
	return HealthCheck{
		Protocol: protocol, Path: "/livez", PortIndex: &port,
		DelaySeconds: 2, GraceSeconds: 300, IntervalSeconds: 10, TimeoutSeconds: 5, MaxFailures: 6,
	}
}

// ingest returns what ingests and batches. Its console is one port further on, so that it can be beside the one that schedules.
func (b *builder) ingest(port, console int) App {
	a := b.process(Ingest, console+1)
	a.Instances = b.o.Instances
	a.Constraints = [][]string{{"hostname", "UNIQUE"}}
	a.Env["MILLRACE_INGEST__LISTEN"] = net.JoinHostPort("0.0.0.0", strconv.Itoa(port))
	a.Ports = []Port{{port, "ingest", "tcp"}, {console + 1, "console", "tcp"}}
	a.HealthChecks = []HealthCheck{alive(0, b.cfg.Ingest.TLS)}
	protocol := "HTTP"
	if b.cfg.Ingest.TLS.On() {
		protocol = "HTTPS"
	}
	a.ReadinessChecks = []ReadinessCheck{{"accepts", protocol, "/readyz", "ingest", 5, 4, []int{200}}}
	if a.Instances > 1 {
		a.Upgrade.MinimumHealth = 0.5 // The most that is allowed.
	}
	return a
}

// single is the label by which Marathon refuses more than one instance, also from a person who scales.
const single = "MARATHON_SINGLE_INSTANCE_APP"

// schedule returns what schedules. Of it there is one, whose store nobody else may have open.
func (b *builder) schedule(console int) App {
	a := b.process(Schedule, console)
	a.Ports = []Port{{console, "console", "tcp"}}
	a.HealthChecks = []HealthCheck{alive(0, b.cfg.Console.TLS)}
	a.Labels[single] = "true"
	if b.o.Postgres {
		a.Dependencies = []string{b.o.ID + "/" + Postgres}
	}
	return a
}

// postgres returns a server for DAGs.
func (b *builder) postgres() App {
	a := b.app(Postgres)
	a.Container.Docker.Image = b.o.PostgresImage
	a.Env = map[string]any{
		"POSTGRES_PASSWORD_FILE": b.o.PasswordFile,
		"PGPORT":                 strconv.Itoa(b.o.PostgresPort),
		"PGDATA":                 home[Postgres] + "/pgdata", // A volume of its own may have a lost+found, beside which nothing is made.
	}
	a.Labels[single] = "true"
	a.Ports = []Port{{b.o.PostgresPort, "postgres", "tcp"}}
	a.HealthChecks = []HealthCheck{{
		Protocol: "COMMAND", Command: &Command{"pg_isready -U postgres -h 127.0.0.1"},
		DelaySeconds: 5, GraceSeconds: 300, IntervalSeconds: 10, TimeoutSeconds: 5, MaxFailures: 6,
	}}
	a.KillGraceSeconds = 60 // A fast shutdown writes a checkpoint.
	return a
}
