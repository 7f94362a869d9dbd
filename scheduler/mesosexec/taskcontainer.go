package mesosexec

import (
	"cmp"
	"fmt"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// container says in what the command runs.
func (b *taskBuilder) container() error {
	c := b.l.Container
	if c == nil {
		return nil
	}
	out := &mesos.ContainerInfo{Type: mesos.ContainerMesos}
	b.info.Container = out
	for _, v := range c.Volumes {
		out.Volumes = append(out.Volumes, volumeOf(v))
	}
	if b.docker() {
		return b.dockerContainer(c, out)
	}
	return b.mesosContainer(c, out)
}

func volumeOf(v scheduler.Volume) mesos.Volume {
	out := mesos.Volume{Mode: "RW", ContainerPath: v.ContainerPath, HostPath: v.HostPath}
	if v.ReadOnly {
		out.Mode = "RO"
	}
	if v.HostPath == "" {
		out.Source = &mesos.VolumeSource{Type: "DOCKER_VOLUME"}
		out.Source.DockerVolume = &struct {
			Driver string `json:"driver,omitempty"`
			Name   string `json:"name"`
		}{v.Driver, v.Name}
	}
	return out
}

// dockerContainer is for the docker containerizer, which executes docker run.
func (b *taskBuilder) dockerContainer(c *scheduler.Container, out *mesos.ContainerInfo) error {
	if r := b.l.Resources; r != nil && r.GPU > 0 {
		return fmt.Errorf("%d GPUs are asked for, and the docker containerizer hands out none; use the containerizer mesos", r.GPU)
	}
	if !b.o.DockerOptions && (c.Privileged || len(c.Parameters) > 0) {
		return fmt.Errorf("privileged containers and parameters of docker are not permitted on this installation; an operator can permit them, for all tasks")
	}
	d := &mesos.DockerInfo{Image: c.Image, ForcePullImage: c.Pull == scheduler.PullAlways, Privileged: c.Privileged}
	out.Type, out.Docker = mesos.ContainerDocker, d
	switch c.Network {
	case "", scheduler.NetworkHost:
		d.Network = "HOST"
	case scheduler.NetworkBridge:
		d.Network = "BRIDGE"
	case scheduler.NetworkNone:
		d.Network = "NONE"
	default:
		d.Network, out.NetworkInfos = "USER", []mesos.NetworkInfo{{Name: c.Network}}
	}
	if d.Network == "BRIDGE" || d.Network == "USER" {
		d.PortMappings = b.mappings()
	}
	if len(b.l.Argv) > 0 {
		d.Parameters = append(d.Parameters, mesos.Parameter{Key: "entrypoint", Value: shell})
	}
	if b.machine.User != "" {
		d.Parameters = append(d.Parameters, mesos.Parameter{Key: "user", Value: b.machine.User})
	}
	for _, p := range c.Parameters {
		d.Parameters = append(d.Parameters, mesos.Parameter(p))
	}
	return nil
}

// mesosContainer is for the containerizer of Mesos itself.
func (b *taskBuilder) mesosContainer(c *scheduler.Container, out *mesos.ContainerInfo) error {
	if c.Privileged || len(c.Parameters) > 0 {
		return fmt.Errorf("the task is privileged or has parameters of docker, and the containerizer mesos knows neither; use the containerizer docker")
	}
	image := &mesos.Image{Type: "DOCKER", Docker: &mesos.Name{Name: c.Image}}
	if c.Pull == scheduler.PullAlways {
		image.Cached = new(bool)
	}
	out.Mesos = &mesos.MesosInfo{Image: image}
	switch c.Network {
	case "", scheduler.NetworkHost:
	case scheduler.NetworkBridge, scheduler.NetworkNone:
		return fmt.Errorf("the containerizer mesos has no network called %s: name one of the agents' CNI networks, or use the containerizer docker", c.Network)
	default:
		out.NetworkInfos = []mesos.NetworkInfo{{Name: c.Network, PortMappings: b.mappings()}}
	}
	return nil
}

// mappings forward the ports of the machine to those in the container.
func (b *taskBuilder) mappings() []mesos.PortMapping {
	var out []mesos.PortMapping
	for i, p := range b.machine.Ports {
		out = append(out, mesos.PortMapping{HostPort: b.ports[i], ContainerPort: cmp.Or(p.Container, b.ports[i]), Protocol: cmp.Or(p.Protocol, "tcp")})
	}
	return out
}

// health is how the agent finds out whether the task works. A command finds the task's environment: that of its executor has it, or docker exec.
func (b *taskBuilder) health() error {
	h := b.machine.Health
	if h == nil {
		return nil
	}
	out := &mesos.HealthCheck{DelaySeconds: seconds(h.Delay), IntervalSeconds: seconds(h.Interval), TimeoutSeconds: seconds(h.Timeout), GracePeriodSeconds: seconds(h.Grace)}
	if h.Failures > 0 {
		out.ConsecutiveFailures = &h.Failures
	}
	b.info.HealthCheck = out
	switch {
	case h.HTTP != nil:
		port, err := b.checked(h.HTTP.HealthPort)
		if err != nil {
			return err
		}
		out.Type, out.HTTP = "HTTP", &mesos.HTTPCheck{Scheme: h.HTTP.Scheme, Port: port, Path: h.HTTP.Path}
	case h.TCP != nil:
		port, err := b.checked(*h.TCP)
		if err != nil {
			return err
		}
		out.Type, out.TCP = "TCP", &mesos.TCPCheck{Port: port}
	case h.Shell != "":
		shell := true
		out.Type, out.Command = "COMMAND", &mesos.CommandInfo{Shell: &shell, Value: h.Shell}
	case len(h.Command) > 0:
		out.Type, out.Command = "COMMAND", &mesos.CommandInfo{Shell: new(bool), Value: h.Command[0], Arguments: h.Command}
	default:
		return fmt.Errorf("the health check says nothing of what is checked")
	}
	return nil
}

// checked returns the number that a checked port has where the task runs: in a container with a network of its own, that in the container.
func (b *taskBuilder) checked(p scheduler.HealthPort) (int, error) {
	if p.Port > 0 {
		return p.Port, nil
	}
	if p.Index >= len(b.ports) {
		return 0, fmt.Errorf("the health check is for port %d of the task, which asks for %d (they count from 0)", p.Index, len(b.ports))
	}
	if c := b.l.Container; c != nil && c.Network != "" && c.Network != scheduler.NetworkHost {
		return cmp.Or(b.machine.Ports[p.Index].Container, b.ports[p.Index]), nil
	}
	return b.ports[p.Index], nil
}
