package mesosexec

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
)

// TaskOptions are the installation's settings for tasks. The zero value works.
type TaskOptions struct {
	// Containerizer is for tasks with an image that do not say: [scheduler.ContainerizerMesos], which is the default, or [scheduler.ContainerizerDocker].
	Containerizer string
	// User is that of tasks which do not say, "": that of the framework.
	User string
	// CPU, a number of cores, and Mem, in bytes, are for tasks that ask for none. Default: 0.1, and 128 MiB.
	CPU float64
	Mem int64
	// Secrets says how variables with a secret in them are sent: SecretsPlain, which is the default, or SecretsTyped.
	Secrets string
	// DockerOptions permits tasks to be privileged, and to have flags of docker run.
	DockerOptions bool
	// Labels are added to those of each task.
	Labels map[string]string
}

// How variables with a secret in them are sent.
const (
	SecretsPlain = "plain"  // like all others
	SecretsTyped = "secret" // as variables of type SECRET, by value: what shows messages of agents need not show them
)

// The labels of a task, besides those of [TaskOptions].
const (
	labelDAG      = "millrace.dag"
	labelRun      = "millrace.run"
	labelTask     = "millrace.task"
	labelMapIndex = "millrace.map_index"
	labelTry      = "millrace.try"
	labelAttempt  = "millrace.attempt"
)

const (
	// overtime is how much later than we an agent ends a task that takes too long.
	overtime = time.Minute
	// defaultCPU and defaultMem are what a task gets that asks for nothing.
	defaultCPU = 0.1
	defaultMem = 128 * mib
	mib        = 1 << 20
)

func (o TaskOptions) withDefaults() TaskOptions {
	o.Containerizer = cmp.Or(o.Containerizer, scheduler.ContainerizerMesos)
	o.CPU, o.Mem = cmp.Or(o.CPU, defaultCPU), cmp.Or(o.Mem, defaultMem)
	o.Secrets = cmp.Or(o.Secrets, SecretsPlain)
	return o
}

// Validate reports all that is wrong with o.
func (o TaskOptions) Validate() error {
	var errs []error
	if !slices.Contains([]string{"", scheduler.ContainerizerMesos, scheduler.ContainerizerDocker}, o.Containerizer) {
		errs = append(errs, fmt.Errorf("containerizer %q is not known: want mesos or docker", o.Containerizer))
	}
	if !slices.Contains([]string{"", SecretsPlain, SecretsTyped}, o.Secrets) {
		errs = append(errs, fmt.Errorf("secrets are %q: want plain or secret", o.Secrets))
	}
	if !(o.CPU >= 0 && o.CPU < math.MaxInt32) || o.Mem < 0 {
		errs = append(errs, fmt.Errorf("%g CPUs and %d bytes of memory: want amounts", o.CPU, o.Mem))
	}
	return errors.Join(errs...)
}

// taskID returns the id of the task of an attempt: the attempt's own if Mesos takes it, else a digest of it.
func taskID(attempt string) string {
	bad := func(r rune) bool { return r < 0x20 || r == 0x7f || r == '/' || r == '\\' || r == '\uFFFD' }
	if attempt != "" && attempt != "." && attempt != ".." && len(attempt) <= 255 && !strings.ContainsFunc(attempt, bad) {
		return attempt
	}
	sum := sha256.Sum256([]byte(attempt))
	return "sha256-" + hex.EncodeToString(sum[:])
}

// streamsOf returns the files of the sandbox that are the attempt's log: one if the wrapper merges them.
func streamsOf(l *scheduler.Launch) []string {
	if len(l.Argv) > 0 {
		return []string{"stdout"}
	}
	return []string{"stdout", "stderr"}
}

// needsOf returns what an attempt needs of an offer.
func needsOf(l *scheduler.Launch, o TaskOptions) []match.Need {
	o = o.withDefaults()
	r := scheduler.Resources{}
	if l.Resources != nil {
		r = *l.Resources
	}
	if r.CPU == 0 {
		r.CPU = o.CPU
		if r.CPULimit > 0 {
			r.CPU = min(r.CPU, r.CPULimit)
		}
	}
	if r.Mem == 0 {
		r.Mem = o.Mem
		if r.MemLimit > 0 {
			r.Mem = min(r.Mem, r.MemLimit)
		}
	}
	count := 0
	var fixed []uint64
	for _, p := range machineOf(l).Ports {
		if p.Host > 0 {
			fixed = append(fixed, uint64(p.Host))
		} else {
			count++
		}
	}
	return match.Needs(&r, count, fixed...)
}

// machineOf returns what an attempt asks for of its machine.
func machineOf(l *scheduler.Launch) scheduler.Machine {
	if l.Machine == nil {
		return scheduler.Machine{}
	}
	return *l.Machine
}

// variable returns a variable of an attempt's environment.
func variable(l *scheduler.Launch, name string) string {
	for _, kv := range l.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// taskOf returns what is launched for an attempt that was placed on an agent. An error says why it can never be launched, as a sentence for people.
func taskOf(l *scheduler.Launch, p *match.Placed, agent mesos.ID, o TaskOptions) (*mesos.TaskInfo, error) {
	b := &taskBuilder{l: l, o: o.withDefaults(), machine: machineOf(l), info: &mesos.TaskInfo{
		Name: nameOf(l), TaskID: mesos.ID{Value: taskID(l.ID)}, AgentID: agent, Resources: p.Resources,
	}}
	for _, step := range []func() error{
		func() error { return b.placePorts(p.Ports) }, b.container, b.command, b.health,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	b.limits()
	b.labels()
	if l.Timeout > 0 {
		// Agents end it then without a grace: that is for when we are not there to end it with one.
		b.info.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: l.Timeout + l.Grace + overtime}
	}
	if l.Grace > 0 {
		b.info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: l.Grace}}
	}
	return b.info, nil
}

// nameOf is what people see in Mesos's own pages: dag.task, with the index of a mapped one.
func nameOf(l *scheduler.Launch) string {
	name := l.Task
	if dag := variable(l, "MILLRACE_DAG_ID"); dag != "" {
		name = dag + "." + name
	}
	if l.MapIndex >= 0 {
		name += "[" + strconv.Itoa(l.MapIndex) + "]"
	}
	return name
}

// taskBuilder makes one TaskInfo.
type taskBuilder struct {
	l       *scheduler.Launch
	o       TaskOptions
	machine scheduler.Machine
	info    *mesos.TaskInfo
	ports   []int // on the machine, in the order of machine.Ports
}

// placePorts gives each of the task's ports its number on the machine.
func (b *taskBuilder) placePorts(placed []uint64) error {
	free := slices.Clone(placed)
	for _, p := range b.machine.Ports {
		free = slices.DeleteFunc(free, func(v uint64) bool { return v == uint64(p.Host) })
	}
	for _, p := range b.machine.Ports {
		number := p.Host
		if number == 0 {
			if len(free) == 0 {
				return fmt.Errorf("was placed with %d ports, and asks for %d", len(placed), len(b.machine.Ports))
			}
			number, free = int(free[0]), free[1:]
		}
		b.ports = append(b.ports, number)
	}
	return nil
}

// limits are what the task may take beyond what it is given.
func (b *taskBuilder) limits() {
	r := b.l.Resources
	if r == nil {
		return
	}
	limits := map[string]mesos.Scalar{}
	if r.CPULimit > 0 {
		limits[mesos.CPUs] = mesos.Scalar{Value: match.Wanted(r.CPULimit).Float()}
	}
	if r.MemLimit > 0 {
		limits[mesos.Mem] = mesos.Scalar{Value: math.Ceil(float64(r.MemLimit) / mib)}
	}
	if len(limits) > 0 {
		b.info.Limits = limits
	}
}

func (b *taskBuilder) labels() {
	l := b.l
	all := map[string]string{labelDAG: variable(l, "MILLRACE_DAG_ID"), labelRun: l.Run, labelTask: l.Task, labelMapIndex: strconv.Itoa(l.MapIndex),
		labelTry: strconv.Itoa(l.Try), labelAttempt: l.ID}
	maps.Copy(all, b.o.Labels)
	b.info.Labels = &mesos.Labels{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b.info.Labels.Labels = append(b.info.Labels.Labels, mesos.Label{Key: key, Value: all[key]})
	}
}

// seconds returns a duration as messages of health checks have it.
func seconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}
