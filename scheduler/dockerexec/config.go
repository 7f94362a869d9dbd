//go:build linux

package dockerexec

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"millrace/scheduler"
)

// The files of an attempt within its container; millrace-task knows them by the same names.
const (
	taskDir       = "/millrace"
	inputPath     = taskDir + "/millrace-input.json"
	outputPath    = taskDir + "/millrace-output"
	heartbeatPath = taskDir + "/millrace-heartbeat"
	statePath     = taskDir + "/millrace-state"
	refusedPath   = taskDir + "/millrace-refused"
)

// Labels of containers and volumes.
const (
	labelExecutor = "millrace.executor"
	labelAttempt  = "millrace.attempt"
	labelRun      = "millrace.run"
	labelTask     = "millrace.task"
	// labelRecord has the record as it was when the container was created.
	labelRecord = "millrace.record"
)

// refusal says what an attempt asks for that there is no way to give it here, or "".
func (o Options) refusal(l *scheduler.Launch) string {
	switch {
	case l.Container == nil:
		return "the docker executor runs images only; add image to the task, or name another executor"
	case len(l.Constraints) > 0:
		return fmt.Sprintf("the docker executor has one engine, and can not choose by constraints (%s); name an executor that does, or remove them", l.Constraints[0])
	case l.Container.Containerizer == scheduler.ContainerizerMesos:
		return "the task wants the containerizer of Mesos, and the docker executor has none; name another executor, or remove containerizer"
	case l.Container.Privileged && !o.Privileged:
		return "privileged containers are not permitted on this installation; an operator can permit them, for all tasks, with executors.docker.privileged"
	case len(l.Container.Parameters) > 0:
		return fmt.Sprintf("the docker executor does not execute docker run, and knows no parameters of it (%s)", l.Container.Parameters[0].Key)
	case l.Machine == nil:
		return ""
	case len(l.Machine.URIs) > 0:
		return "the docker executor fetches no URIs; put them into the image, or have millrace-task fetch what the batches name"
	case l.Machine.Health != nil:
		return "the docker executor has no health checks; use timeout.heartbeat, or name another executor"
	}
	for _, p := range l.Machine.Ports {
		if p.Host == 0 {
			return "the docker executor hands out no ports; say which port of the machine it is, or name another executor"
		}
	}
	return ""
}

// plan is the container of an attempt.
func (e *Executor) plan(l *scheduler.Launch, rec *record) (client.ContainerCreateOptions, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return client.ContainerCreateOptions{}, fmt.Errorf("encode record: %w", err)
	}
	labels := map[string]string{
		labelExecutor: e.id, labelAttempt: l.ID, labelRun: l.Run, labelTask: l.Task, labelRecord: string(body),
	}
	c := &container.Config{Image: l.Container.Image, Env: environment(l), Labels: labels}
	if len(l.Argv) > 0 {
		c.Entrypoint, c.Cmd = l.Argv[:1], l.Argv[1:]
		if len(c.Cmd) == 0 {
			c.Cmd = []string{} // else the image's own would follow
		}
	} else {
		c.Cmd = l.Container.Args
	}
	if l.Machine != nil {
		c.User = l.Machine.User
	}
	// An init of the engine's own passes signals on to programs that do not handle them, as a first process would not get those, and reaps.
	init := true
	h := &container.HostConfig{
		Init: &init, Privileged: l.Container.Privileged, NetworkMode: container.NetworkMode(cmp.Or(l.Container.Network, e.opt.Network)),
		Resources: limits(l.Resources), Mounts: e.mounts(l),
		// One that can be read, whatever the engine has by default, from its beginning: in JSON a byte is six at most.
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": strconv.FormatInt(8*e.opt.MaxLog, 10)}},
	}
	if err := ports(l, c, h); err != nil {
		return client.ContainerCreateOptions{}, err
	}
	return client.ContainerCreateOptions{Name: nameOf(e.id, l.ID), Config: c, HostConfig: h}, nil
}

// environment is that of the attempt with what the contract adds. What millrace-task is told is for images whose entrypoint it may be.
func environment(l *scheduler.Launch) []string {
	env := append(slices.Clone(l.Env), "MILLRACE_INPUT="+inputPath, "MILLRACE_OUTPUT="+outputPath, "MILLRACE_STATE="+statePath)
	if l.Heartbeat > 0 {
		env = append(env, "MILLRACE_HEARTBEAT="+heartbeatPath)
	}
	if l.Machine != nil && len(l.Machine.Ports) > 0 {
		var all []string
		for i, p := range l.Machine.Ports {
			all = append(all, strconv.Itoa(p.Host))
			env = append(env, fmt.Sprintf("PORT%d=%d", i, p.Host))
		}
		env = append(env, "PORTS="+strings.Join(all, ","))
	}
	if len(l.Argv) > 0 {
		return env
	}
	env = append(env, "MILLRACE_DIR="+taskDir, "MILLRACE_GRACE="+l.Grace.String())
	var masked []string
	for _, kv := range l.Env {
		if name, val, _ := strings.Cut(kv, "="); slices.Contains(l.Secrets, val) {
			masked = append(masked, name)
		}
	}
	if len(masked) > 0 {
		env = append(env, "MILLRACE_MASK="+strings.Join(masked, ","))
	}
	return env
}

// limits are the bounds on what a container takes. A number of cores that is asked for is its share when they are scarce.
func limits(r *scheduler.Resources) container.Resources {
	var out container.Resources
	if r == nil {
		return out
	}
	out.CPUShares, out.NanoCPUs, out.Memory = int64(r.CPU*1024), int64(r.CPULimit*1e9), cmp.Or(r.MemLimit, r.Mem)
	if r.CPU > 0 {
		out.CPUShares = max(2, out.CPUShares) // the least that kernels take
	}
	out.MemorySwap = out.Memory // no swap beside it
	if r.MemLimit > 0 {
		out.MemoryReservation = r.Mem
	}
	if r.GPU > 0 {
		out.DeviceRequests = []container.DeviceRequest{{Count: r.GPU, Capabilities: [][]string{{"gpu"}}}}
	}
	return out
}

func (e *Executor) mounts(l *scheduler.Launch) []mount.Mount {
	out := []mount.Mount{{
		Type: mount.TypeVolume, Source: e.volumeOf(l), Target: statePath,
		VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{labelExecutor: e.id, labelRun: l.Run}},
	}}
	for _, v := range l.Container.Volumes {
		m := mount.Mount{Type: mount.TypeBind, Source: v.HostPath, Target: v.ContainerPath, ReadOnly: v.ReadOnly}
		if v.HostPath == "" {
			m.Type, m.Source = mount.TypeVolume, v.Name
			if v.Driver != "" {
				m.VolumeOptions = &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: v.Driver}}
			}
		}
		out = append(out, m)
	}
	return out
}

// volumeOf names the volume that all tries of a task in a run share.
func (e *Executor) volumeOf(l *scheduler.Launch) string {
	return nameOf(e.id, l.Run+"."+l.Task+"."+strconv.Itoa(l.MapIndex)+".state")
}

// ports maps those of the machine, where the container has a network of its own.
func ports(l *scheduler.Launch, c *container.Config, h *container.HostConfig) error {
	if l.Machine == nil || h.NetworkMode == scheduler.NetworkHost || h.NetworkMode == scheduler.NetworkNone {
		return nil
	}
	for _, p := range l.Machine.Ports {
		inside, err := network.ParsePort(fmt.Sprintf("%d/%s", cmp.Or(p.Container, p.Host), cmp.Or(p.Protocol, "tcp")))
		if err != nil {
			return fmt.Errorf("map port %d: %w", p.Host, err)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts, h.PortBindings = network.PortSet{}, network.PortMap{}
		}
		c.ExposedPorts[inside] = struct{}{}
		h.PortBindings[inside] = []network.PortBinding{{HostIP: netip.IPv4Unspecified(), HostPort: strconv.Itoa(p.Host)}}
	}
	return nil
}

var unsafe = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`)

// nameOf makes a name of any text that an engine takes. Different texts, and those of different executors, have different names.
func nameOf(executor, text string) string {
	sum := sha256.Sum256([]byte(executor + "\n" + text))
	plain := unsafe.ReplaceAllString(text, "_")
	return "millrace-" + plain[:min(len(plain), 80)] + "-" + hex.EncodeToString(sum[:6])
}

// files is the archive that is put into a container before it is started. Whichever user the image has may write the output.
func files(l *scheduler.Launch) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var errs []error
	add := func(name string, kind byte, mode int64, body []byte) {
		h := &tar.Header{Typeflag: kind, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(body))}
		errs = append(errs, w.WriteHeader(h))
		_, err := w.Write(body)
		errs = append(errs, err)
	}
	add(taskDir+"/", tar.TypeDir, 0o1777, nil)
	add(statePath+"/", tar.TypeDir, 0o1777, nil)
	add(inputPath, tar.TypeReg, 0o444, l.Input)
	add(outputPath, tar.TypeReg, 0o666, nil)
	if l.Heartbeat > 0 {
		add(heartbeatPath, tar.TypeReg, 0o666, nil)
	}
	errs = append(errs, w.Close())
	return b.Bytes(), errors.Join(errs...)
}

// programs are the files in a container that argv[0] may be.
func programs(c *container.Config) []string {
	if len(c.Entrypoint) == 0 {
		return nil
	}
	name := c.Entrypoint[0]
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join(cmp.Or(c.WorkingDir, "/"), name)
		}
		return []string{name}
	}
	dirs := defaultPath
	for _, kv := range c.Env {
		if val, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = val
		}
	}
	var out []string
	for dir := range strings.SplitSeq(dirs, ":") {
		if path.IsAbs(dir) {
			out = append(out, path.Join(dir, name))
		}
	}
	return out
}

// defaultPath is what an engine gives a container whose image has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
