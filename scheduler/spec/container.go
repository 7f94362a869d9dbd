package spec

import (
	"maps"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// container reads what goes with an image.
func (b *builder) container(n ast.Node, c *scheduler.Container) {
	var flags, rights ast.Node
	b.mapping(n, "container", fields{
		"containerizer": func(v ast.Node) { c.Containerizer = b.oneOf(v, "containerizer", containerizers) },
		"network":       func(v ast.Node) { c.Network = b.network(v) },
		"volumes":       func(v ast.Node) { c.Volumes = b.volumes(v) },
		"privileged":    func(v ast.Node) { rights, c.Privileged = v, b.boolean(v, "privileged") },
		"parameters":    func(v ast.Node) { flags, c.Parameters = v, b.parameters(v) },
	})
	if c.Containerizer != scheduler.ContainerizerMesos {
		return
	}
	if flags != nil && len(c.Parameters) > 0 {
		b.errorf(flags, "", "parameters are for containerizer docker, and the task has %s", c.Containerizer)
	}
	if c.Privileged {
		b.errorf(rights, "", "privileged is for containerizer docker, and the task has %s", c.Containerizer)
	}
}

var networkRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// network returns "" for the default, which has one spelling in the compiled form.
func (b *builder) network(n ast.Node) string {
	name := b.fixed(n, "network")
	if name != "" && !networkRule.MatchString(name) {
		b.errorf(n, "", "%q can not be the name of a network", name)
	}
	if name == scheduler.NetworkHost {
		return ""
	}
	return name
}

func (b *builder) volumes(n ast.Node) []scheduler.Volume {
	var out []scheduler.Volume
	for _, v := range b.atMost(maxVolumes, n, "volumes", false) {
		out = append(out, b.volume(v))
	}
	return out
}

func (b *builder) volume(n ast.Node) (v scheduler.Volume) {
	before := len(b.errs)
	b.mapping(n, "a volume", fields{
		"container_path": func(f ast.Node) { v.ContainerPath = b.absolute(f, "container_path") },
		"host_path":      func(f ast.Node) { v.HostPath = b.absolute(f, "host_path") },
		"name":           func(f ast.Node) { v.Name = b.volumeName(f, "name") },
		"driver":         func(f ast.Node) { v.Driver = b.volumeName(f, "driver") },
		"mode":           func(f ast.Node) { v.ReadOnly = b.oneOf(f, "mode", volumeModes) == "ro" },
	})
	switch {
	case len(b.errs) > before:
	case v.ContainerPath == "":
		b.errorf(n, "add container_path: /data", "a volume does not say where it is mounted")
	case (v.HostPath == "") == (v.Name == ""):
		b.errorf(n, "write one of host_path and name", "a volume is either a directory of the machine or one of a driver")
	case v.Driver != "" && v.Name == "":
		b.errorf(n, "write name instead of host_path", "a volume has a driver, and is a directory of the machine")
	}
	return v
}

var volumeRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]{0,254}$`)

func (b *builder) volumeName(n ast.Node, what string) string {
	name := b.fixed(n, what)
	if name != "" && !volumeRule.MatchString(name) {
		b.errorf(n, "", "the %s of a volume can not be %q", what, name)
	}
	return name
}

var flagRule = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

// ownFlags are flags of docker run that other keys are for, or that Mesos or millrace sets.
var ownFlags = map[string]string{"entrypoint": "run", "user": "user", "net": "container.network", "network": "container.network", "name": "", "privileged": "container.privileged",
	"volume": "container.volumes", "env": "env", "publish": "ports", "memory": "resources.mem", "rm": "", "detach": ""}

// parameters reads flags and their values, by name.
func (b *builder) parameters(n ast.Node) []scheduler.Parameter {
	at := map[string][]scheduler.Parameter{}
	count := 0
	for _, p := range b.pairs(n, "parameters") {
		instead, own := ownFlags[p.key]
		switch {
		case !flagRule.MatchString(p.key):
			b.errorf(p.node, "write it without dashes, like shm-size: 1g", "%q can not be a flag of docker run", p.key)
		case own && instead != "":
			b.errorf(p.node, "write the key "+instead, "the flag %s of docker run is not for parameters", p.key)
		case own:
			b.errorf(p.node, "remove it", "the flag %s of docker run is Mesos's to set", p.key)
		}
		for _, v := range b.list(p.value, "parameter "+p.key, true) {
			at[p.key] = append(at[p.key], scheduler.Parameter{Key: p.key, Value: b.parameterValue(v, p.key)})
			count++
		}
	}
	if count > maxParameters {
		b.errorf(n, "", "there are %d parameters, the limit is %d", count, maxParameters)
	}
	var out []scheduler.Parameter
	for _, key := range slices.Sorted(maps.Keys(at)) {
		out = append(out, at[key]...)
	}
	return out
}

// parameterValue reads a value, which is a text, or a number or a bool as it stands.
func (b *builder) parameterValue(n ast.Node, key string) string {
	switch b.resolve(n).(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return b.scalar(n, "parameter "+key)
	}
	return b.fixed(n, "parameter "+key)
}
