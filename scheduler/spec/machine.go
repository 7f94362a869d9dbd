package spec

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// Bounds of what a task may ask of a machine besides amounts.
const (
	maxPort       = 65535
	maxPorts      = 100
	maxURIs       = 100
	maxVolumes    = 100
	maxParameters = 100
	maxFailures   = 1000
)

var (
	portNumber     = value{"port", node{"type": "integer", "minimum": 1, "maximum": maxPort}}
	protocols      = []string{"tcp", "udp"}
	schemes        = []string{"http", "https"}
	containerizers = []string{scheduler.ContainerizerMesos, scheduler.ContainerizerDocker}
	volumeModes    = []string{"rw", "ro"}
	dockerFlags    = value{"mapping of text, or lists of it", node{"type": "object", "additionalProperties": oneOrMore(anyScalar.schema)}}
	lists          = map[string]node{
		"ports": {"anyOf": []node{{"type": "integer", "minimum": 0, "maximum": maxPorts}, {"type": "array", "items": portNumber.schema, "maxItems": maxPorts}}},
		"uris":  oneOrMore(anyText.schema),
	}
)

// machineKeys are what a task asks for of the machine that it runs on, besides amounts and constraints.
var machineKeys = []Key{
	is("tasks.*.ports", value{"whole number, or list of ports", lists["ports"]}, "Ports of the machine that it listens on: so many, or each by itself. It finds their numbers in PORT0, PORT1 … and PORTS. The local executor refuses them.").of(portNumber.schema),
	is("tasks.*.ports[].host", portNumber, "Its number on the machine. Default: one that is free."),
	is("tasks.*.ports[].container", portNumber, "Its number in a container with a network of its own. Default: the same."),
	is("tasks.*.ports[].protocol", word(protocols...), "Of a port that is mapped to one of a container. Default: tcp."),
	is("tasks.*.uris", value{"URI, or list of URIs", lists["uris"]}, "What is fetched into the directory in which it starts. A text is a URI alone. The local executor refuses them.").of(anyText.schema),
	is("tasks.*.uris[].value", anyText, "The URI: http, https, or what else the machines can fetch. Required."),
	is("tasks.*.uris[].extract", boolean, "It is an archive, and is unpacked. Default: by its name, unless it is executable."),
	is("tasks.*.uris[].executable", boolean, "It is a program. Default: false."),
	is("tasks.*.uris[].cache", boolean, "The machine may keep it for other attempts. Default: false."),
	is("tasks.*.uris[].output_file", anyText, "What it is called, relative to the directory. Default: the last part of the URI."),
	is("tasks.*.health_check", mapping, "It is ended if it does not pass this again and again: one of http, tcp and command. The local executor refuses it."),
	is("tasks.*.health_check.http", mapping, "A request that it answers with 200 to 399."),
	is("tasks.*.health_check.http.port", portNumber, "The port where it runs, in a container that of the container."),
	is("tasks.*.health_check.http.port_index", count(maxPorts), "Instead of port: which of its ports, from 0. Default: 0."),
	is("tasks.*.health_check.http.path", anyText, "Begins with a slash. Default: /."),
	is("tasks.*.health_check.http.scheme", word(schemes...), "Default: http."),
	is("tasks.*.health_check.tcp", mapping, "A port that it takes connections on."),
	is("tasks.*.health_check.tcp.port", portNumber, "The port where it runs, in a container that of the container."),
	is("tasks.*.health_check.tcp.port_index", count(maxPorts), "Instead of port: which of its ports, from 0. Default: 0."),
	is("tasks.*.health_check.command", command, "A command that exits with 0, in the machine's sandbox or the container: a list of arguments, or text for sh -c."),
	is("tasks.*.health_check.delay", duration, "From the start to the first check. Default: 15s, of Mesos."),
	is("tasks.*.health_check.interval", duration, "From one check to the next. Default: 10s, of Mesos."),
	is("tasks.*.health_check.timeout", duration, "How long a check may take. Default: 20s, of Mesos."),
	is("tasks.*.health_check.failures", count(maxFailures), "So many in a row end it. Default: 3, of Mesos."),
	is("tasks.*.health_check.grace", duration, "Failures so soon after the start do not count, until the first success. Default: 10s, of Mesos."),
	is("tasks.*.container", mapping, "What goes with image, for executors on machines with several kinds of containers."),
	is("tasks.*.container.containerizer", word(containerizers...), "What runs the container. Default: what the installation says."),
	is("tasks.*.container.network", anyText, "host, bridge, none, or the name of a network that the machines have. Default: host."),
	is("tasks.*.container.volumes", value{"list of volumes", nil}, "What is mounted into the container."),
	is("tasks.*.container.volumes[].container_path", anyText, "Where: an absolute path. Required."),
	is("tasks.*.container.volumes[].host_path", anyText, "A directory of the machine: an absolute path."),
	is("tasks.*.container.volumes[].name", anyText, "Instead of host_path: a volume of a volume driver of Docker."),
	is("tasks.*.container.volumes[].driver", anyText, "That driver. Default: the machine's."),
	is("tasks.*.container.volumes[].mode", word(volumeModes...), "Whether it can be written to. Default: rw."),
	is("tasks.*.container.privileged", boolean, "With all rights on the machine, if the installation permits that. Containerizer docker only. Default: false."),
	is("tasks.*.container.parameters", dockerFlags, "Flags of docker run, without dashes, if the installation permits them. Containerizer docker only."),
}

func (b *builder) machineFields(p *placed, t *scheduler.Task) fields {
	m := func() *scheduler.Machine {
		if t.Machine == nil {
			t.Machine = &scheduler.Machine{}
		}
		return t.Machine
	}
	return fields{
		"ports": func(v ast.Node) {
			if ports := b.ports(v); len(ports) > 0 {
				m().Ports = ports
			}
		},
		"uris": func(v ast.Node) {
			if uris := b.uris(v); len(uris) > 0 {
				m().URIs = uris
			}
		},
		"health_check": func(v ast.Node) { m().Health = b.health(v) },
		"container":    func(v ast.Node) { p.own.container = v; b.container(v, &p.own.box) },
	}
}

var userRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?$`)

func (b *builder) user(n ast.Node) string {
	user := b.scalar(n, "user")
	if user != "" && !userRule.MatchString(user) {
		b.errorf(n, "", "%q can not be the name of a user", user)
		return ""
	}
	return user
}

// fixed reads a text in which no expression may stand.
func (b *builder) fixed(n ast.Node, what string) string {
	text := b.str(n, what)
	switch {
	case expr.HasExpr(text):
		b.errorf(n, "write a task for each, with when", "${{ }} can not stand in %s", what)
	case strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		b.errorf(n, "", "%s has control characters", what)
	default:
		return text
	}
	return ""
}

// absolute reads an absolute path.
func (b *builder) absolute(n ast.Node, what string) string {
	text := b.fixed(n, what)
	if text != "" && (!path.IsAbs(text) || strings.ContainsRune(text, ':')) {
		b.errorf(n, "", "%s is %q: want an absolute path without colons", what, text)
		return ""
	}
	return text
}

// ports reads a number of them, or a list.
func (b *builder) ports(n ast.Node) []scheduler.Port {
	if _, ok := b.resolve(n).(*ast.IntegerNode); ok {
		return make([]scheduler.Port, b.integer(n, "ports", maxPorts))
	}
	var out []scheduler.Port
	for _, v := range b.atMost(maxPorts, n, "ports", false) {
		p := b.portOf(v)
		if p.Host > 0 && slices.ContainsFunc(out, func(o scheduler.Port) bool { return o.Host == p.Host }) {
			b.errorf(v, "", "port %d of the machine stands twice", p.Host)
		}
		out = append(out, p)
	}
	return out
}

// portOf reads one port: its number on the machine, or a mapping.
func (b *builder) portOf(n ast.Node) (p scheduler.Port) {
	if _, ok := b.resolve(n).(*ast.IntegerNode); ok {
		p.Host = b.port(n, "a port")
		return p
	}
	b.mapping(n, "a port", fields{
		"host":      func(v ast.Node) { p.Host = b.port(v, "host") },
		"container": func(v ast.Node) { p.Container = b.port(v, "container") },
		"protocol":  func(v ast.Node) { p.Protocol = b.protocol(v) },
	})
	return p
}

// protocol returns "" for the default, which has one spelling in the compiled form.
func (b *builder) protocol(n ast.Node) string {
	if word := b.oneOf(n, "protocol", protocols); word != protocols[0] {
		return word
	}
	return ""
}

func (b *builder) port(n ast.Node, what string) int {
	num := b.integer(n, what, maxPort)
	if _, ok := b.resolve(n).(*ast.IntegerNode); ok && num == 0 {
		b.errorf(n, "leave it out for one that is free", "%s must be from 1 to %d", what, maxPort)
	}
	return int(num)
}

// archives are the ends of names of what Mesos's fetcher unpacks.
var archives = []string{".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".gz"}

func (b *builder) uris(n ast.Node) []scheduler.URI {
	var out []scheduler.URI
	for _, v := range b.atMost(maxURIs, n, "uris", true) {
		out = append(out, b.uri(v))
	}
	return out
}

func (b *builder) uri(n ast.Node) (u scheduler.URI) {
	var extract, executable ast.Node
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		b.mapping(n, "a uri", fields{
			"value":       func(v ast.Node) { u.Value = b.fixed(v, "value") },
			"extract":     func(v ast.Node) { extract, u.Extract = v, b.boolean(v, "extract") },
			"executable":  func(v ast.Node) { executable, u.Executable = v, b.boolean(v, "executable") },
			"cache":       func(v ast.Node) { u.Cache = b.boolean(v, "cache") },
			"output_file": func(v ast.Node) { u.OutputFile = b.outputFile(v) },
		})
	default:
		u.Value = b.fixed(n, "a uri")
	}
	name := u.OutputFile
	if name == "" {
		name, _, _ = strings.Cut(path.Base(u.Value), "?")
	}
	switch {
	case u.Value == "" || !strings.Contains(u.Value, ":") && !path.IsAbs(u.Value):
		b.errorf(n, `write it like https://files.example/tool.tar.gz`, "a uri is %q, and names nothing that could be fetched", u.Value)
	case u.Extract && u.Executable:
		b.errorf(executable, "", "a uri is an archive or a program, and not both")
	case extract == nil && !u.Executable:
		u.Extract = slices.ContainsFunc(archives, func(end string) bool { return strings.HasSuffix(name, end) })
	}
	if base := path.Base(path.Clean("/" + name)); strings.HasPrefix(base, "millrace-") {
		b.errorf(n, "add output_file, with another name", "a uri becomes the file %s, and millrace has its own files by such names", base)
	}
	return u
}

func (b *builder) outputFile(n ast.Node) string {
	text := b.fixed(n, "output_file")
	if text != "" && (path.IsAbs(text) || path.Clean(text) != text || strings.HasPrefix(text, "..") || text == ".") {
		b.errorf(n, "", "output_file is %q: want a relative path without dots", text)
		return ""
	}
	return text
}

func (b *builder) health(n ast.Node) *scheduler.Health {
	h := &scheduler.Health{}
	kinds := 0
	before := len(b.errs)
	span := func(to **time.Duration, what string) func(v ast.Node) {
		return func(v ast.Node) { d := b.duration(v, what); *to = &d }
	}
	b.mapping(n, "health_check", fields{
		"http":     func(v ast.Node) { kinds++; h.HTTP = b.healthHTTP(v) },
		"tcp":      func(v ast.Node) { kinds++; h.TCP = &scheduler.HealthPort{}; b.mapping(v, "tcp", b.healthPort(h.TCP)) },
		"command":  func(v ast.Node) { kinds++; b.healthCommand(v, h) },
		"delay":    span(&h.Delay, "delay"),
		"interval": span(&h.Interval, "interval"),
		"timeout":  span(&h.Timeout, "timeout"),
		"grace":    span(&h.Grace, "grace"),
		"failures": func(v ast.Node) {
			if h.Failures = int(b.integer(v, "failures", maxFailures)); h.Failures == 0 {
				b.errorf(v, "leave it out for as many as the executor has", "failures must be at least 1")
			}
		},
	})
	switch {
	case len(b.errs) > before:
	case kinds != 1:
		b.errorf(n, "write one of http, tcp and command", "health_check has %d of http, tcp and command", kinds)
	case h.Timeout != nil && *h.Timeout == 0:
		b.errorf(n, "", "the timeout of health_check has to be longer than 0")
	}
	return h
}

func (b *builder) healthPort(p *scheduler.HealthPort) fields {
	return fields{
		"port":       func(v ast.Node) { p.Port = b.port(v, "port") },
		"port_index": func(v ast.Node) { p.Index = int(b.integer(v, "port_index", maxPorts)) },
	}
}

// finishMachine checks what needs both the ports and the check.
func (b *builder) finishMachine(p *placed, t *scheduler.Task) {
	if t.Machine == nil || t.Machine.Health == nil {
		return
	}
	h := t.Machine.Health
	at := h.TCP
	if h.HTTP != nil {
		at = &h.HTTP.HealthPort
	}
	if at != nil && at.Port == 0 && at.Index >= len(t.Machine.Ports) {
		b.errorf(p.at, "add port, or ports: 1", "task %q has a health_check of its port %d (they count from 0), and %d ports", t.ID, at.Index, len(t.Machine.Ports))
	}
}

func (b *builder) healthHTTP(n ast.Node) *scheduler.HealthHTTP {
	h := &scheduler.HealthHTTP{}
	b.mapping(n, "http", with(b.healthPort(&h.HealthPort), fields{
		"path": func(v ast.Node) {
			if h.Path = b.fixed(v, "path"); h.Path != "" && !strings.HasPrefix(h.Path, "/") {
				b.errorf(v, "", "path is %q, and does not begin with a slash", h.Path)
			}
		},
		"scheme": func(v ast.Node) {
			if h.Scheme = b.oneOf(v, "scheme", schemes); h.Scheme == schemes[0] {
				h.Scheme = ""
			}
		},
	}))
	return h
}

func (b *builder) healthCommand(n ast.Node, h *scheduler.Health) {
	if _, ok := b.resolve(n).(*ast.SequenceNode); !ok {
		if h.Shell = b.str(n, "command"); expr.HasExpr(h.Shell) || strings.TrimSpace(h.Shell) == "" {
			b.errorf(n, "", "the command of health_check is empty, or has ${{ }}")
		}
		return
	}
	for _, v := range b.list(n, "command", false) {
		arg := b.scalar(v, "an argument of command")
		if expr.HasExpr(arg) {
			b.errorf(v, "put it into env of the task, and read the variable", "${{ }} can not stand in the command of health_check")
		}
		h.Command = append(h.Command, arg)
	}
	if len(h.Command) == 0 || h.Command[0] == "" {
		b.errorf(n, "", "the command of health_check names no program")
	}
}
