package mesossim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"millrace/scheduler/mesos"
)

// begin runs a task in a goroutine, which ends with its process.
func (t *task) begin() {
	if t.killed || t.dropped {
		if t.killed {
			t.report(mesos.TaskKilled, mesos.ReasonTaskKilledDuringLaunch, mesos.SourceAgent, "A task was killed before delivered to the executor")
		}
		t.close()
		return
	}
	if t.a.c.closed {
		return
	}
	t.a.c.running.Go(t.run)
}

// run is the life of a task: sandbox, STARTING, process, RUNNING, and what became of it.
func (t *task) run() {
	c := t.a.c
	out, err := t.prepare()
	c.mu.Lock()
	if err != nil {
		t.report(mesos.TaskFailed, mesos.ReasonContainerLaunchFailed, mesos.SourceAgent,
			fmt.Sprintf("Failed to launch container: Failed to fetch all URIs for container '%s': exited with status 1", t.id))
		t.close()
		c.mu.Unlock()
		return
	}
	t.report(mesos.TaskStarting, "", mesos.SourceExecutor, "")
	cmd := t.command(t.info.Command, out)
	c.mu.Unlock()
	err = cmd.Start()
	c.mu.Lock()
	if err == nil {
		t.proc = cmd.Process
		out.log("Forked command at %d", cmd.Process.Pid)
	}
	if !t.killed {
		t.report(mesos.TaskRunning, "", mesos.SourceExecutor, "")
	}
	if err == nil {
		t.watch(out)
	}
	if d := t.info.MaxCompletionTime; d != nil {
		t.limit = c.after(c.opt.seconds(d.Nanoseconds.Seconds()), func() { t.expire() })
	}
	if t.killed && !t.dropped {
		t.signal(syscall.SIGTERM)
	} else if t.dropped {
		t.signal(syscall.SIGKILL)
	}
	c.mu.Unlock()

	message, ok := "Command exited with status 1", false
	if err == nil {
		_ = cmd.Wait() // What became of it is in its state.
		message, ok = ending(cmd.ProcessState)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.signal(syscall.SIGKILL) // Children that outlive their parent go with the container.
	out.log("%s (pid: %d)", message, t.pid())
	out.close()
	t.exited(message, ok)
}

// exited reports the end of the process.
func (t *task) exited(message string, ok bool) {
	t.ended = true
	switch {
	case t.killed:
		t.report(mesos.TaskKilled, "", mesos.SourceExecutor, message)
	case t.late:
		t.report(mesos.TaskFailed, mesos.ReasonMaxCompletionTime, mesos.SourceExecutor, message)
	case ok:
		t.report(mesos.TaskFinished, "", mesos.SourceExecutor, message)
	default:
		t.report(mesos.TaskFailed, "", mesos.SourceExecutor, message)
	}
	t.close()
	if g := t.group; g != nil && t.state == mesos.TaskFailed {
		for _, other := range g.tasks {
			if !other.state.Terminal() && !other.killed {
				other.kill(3)
			}
		}
	}
}

// close is the end of a task on its agent.
func (t *task) close() {
	t.ended = true
	t.grace.stop()
	t.limit.stop()
	t.health.next.stop()
}

// expire ends a task that took too long: SIGTERM, and SIGKILL without any grace, whatever its kill policy says (unobserved; as in src/launcher/executor.cpp of Mesos).
func (t *task) expire() {
	t.late = true
	t.signal(syscall.SIGTERM)
	t.grace = t.a.c.after(0, func() { t.signal(syscall.SIGKILL) })
}

// policy returns the seconds of grace that the task's own kill policy gives it.
func (t *task) policy() float64 {
	if p := t.info.KillPolicy; p != nil && p.GracePeriod != nil {
		return p.GracePeriod.Nanoseconds.Seconds()
	}
	return 3
}

// kill asks a task to end, and makes it after so many seconds.
func (t *task) kill(seconds float64) {
	t.killed = true
	if t.state != mesos.TaskStaging && t.owns(mesos.CapTaskKilling) {
		t.report(mesos.TaskKilling, "", mesos.SourceExecutor, "")
	}
	t.signal(syscall.SIGTERM)
	t.grace = t.a.c.after(t.a.c.opt.seconds(seconds), func() { t.signal(syscall.SIGKILL) })
}

// finish ends a task at once.
func (t *task) finish() {
	t.grace.stop()
	t.signal(syscall.SIGKILL)
}

func (t *task) owns(capability string) bool {
	f := framework{info: t.owner}
	return f.can(capability)
}

// signal signals the group of a task's process, if there is one.
func (t *task) signal(s syscall.Signal) {
	if t.proc != nil && !t.ended {
		_ = syscall.Kill(-t.proc.Pid, s) // It may be gone.
	}
}

// ending says how a process ended, in Mesos's words, and whether it was well.
func ending(s *os.ProcessState) (message string, ok bool) {
	w, _ := s.Sys().(syscall.WaitStatus)
	if w.Signaled() {
		name := w.Signal().String()
		return "Command terminated with signal " + strings.ToUpper(name[:1]) + name[1:], false
	}
	return fmt.Sprintf("Command exited with status %d", w.ExitStatus()), w.ExitStatus() == 0
}

// output has the files of a task.
type output struct{ stdout, stderr *os.File }

// log writes a line like those of Mesos's executor.
func (o *output) log(format string, args ...any) {
	fmt.Fprintf(o.stderr, "I%s %d executor.cpp:1] %s\n", time.Now().UTC().Format("0102 15:04:05.000000"), os.Getpid(), fmt.Sprintf(format, args...))
}

func (o *output) close() { _ = errors.Join(o.stdout.Close(), o.stderr.Close()) }

// prepare makes the sandbox and fetches into it.
func (t *task) prepare() (*output, error) {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return nil, err
	}
	runs := filepath.Dir(t.dir)
	if t.group != nil {
		runs = filepath.Dir(t.group.dir)
	}
	latest := filepath.Join(runs, "latest")
	if target, err := os.Readlink(latest); err != nil || filepath.Base(target) != t.runID() {
		_ = os.Remove(latest)
		if err := os.Symlink(t.runID(), latest); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	stdout, err := os.Create(filepath.Join(t.dir, "stdout"))
	if err != nil {
		return nil, err
	}
	stderr, err := os.OpenFile(filepath.Join(t.dir, "stderr"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, errors.Join(err, stdout.Close())
	}
	out := &output{stdout, stderr}
	if t.group == nil {
		out.log("Version: %s", Version)
		out.log("Starting task %s", t.info.TaskID.Value)
	}
	if err := t.become(stdout, stderr); err != nil {
		out.log("%v", err)
		out.close()
		return nil, err
	}
	for _, uri := range t.info.Command.URIs {
		if err := fetch(uri, t.dir); err != nil {
			out.log("Failed to fetch '%s': %v", uri.Value, err)
			out.close()
			return nil, err
		}
	}
	return out, nil
}

// runID is the name of the directory that "latest" stands for.
func (t *task) runID() string {
	if t.group != nil {
		return t.group.container
	}
	return t.id
}

// command is what a task executes, or a check of its health, in a process group of its own and with an environment that has nothing of this process's.
func (t *task) command(info *mesos.CommandInfo, out *output) *exec.Cmd {
	cmd := &exec.Cmd{Path: info.Value, Args: info.Arguments, Dir: t.dir, Stdout: out.stdout, Stderr: out.stderr}
	if info.Shell == nil || *info.Shell {
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", info.Value}
	} else if entrypoint := t.entrypoint(); info.Value == "" && entrypoint != "" {
		cmd.Path, cmd.Args = entrypoint, append([]string{entrypoint}, info.Arguments...)
	} else if !strings.Contains(info.Value, "/") {
		cmd.Path = t.a.c.find(info.Value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: t.credential}
	cmd.Env = []string{"PATH=" + t.a.c.opt.Path, "LIBPROCESS_PORT=0", "MESOS_AGENT_ENDPOINT=" + hostPort(t.a.port), "MESOS_ALLOCATION_ROLE=" + t.role,
		"MESOS_CHECKPOINT=" + number(t.owner.Checkpoint), "MESOS_DIRECTORY=" + t.dir, "MESOS_EXECUTOR_ID=" + t.executor(),
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs", "MESOS_FRAMEWORK_ID=" + t.framework,
		"MESOS_HTTP_COMMAND_EXECUTOR=" + number(t.a.c.opt.HTTPCommandExecutor), "MESOS_RECOVERY_TIMEOUT=15mins", "MESOS_SANDBOX=" + t.dir,
		"MESOS_SLAVE_ID=" + t.a.id, "MESOS_SLAVE_PID=slave(1)@" + hostPort(t.a.port), "MESOS_SUBSCRIPTION_BACKOFF_MAX=2secs"}
	cmd.Env = append(cmd.Env, variables(t.info.Command.Environment)...)
	if info != t.info.Command {
		cmd.Env = append(cmd.Env, variables(info.Environment)...)
	}
	return cmd
}

// entrypoint is the one that a task of the docker containerizer has instead of its image's, "" if it has that: there are no images here.
func (t *task) entrypoint() string {
	if c := t.info.Container; c != nil && c.Docker != nil {
		for _, p := range c.Docker.Parameters {
			if p.Key == "entrypoint" {
				return p.Value
			}
		}
	}
	return ""
}

// variables are those of a message, as a process has them.
func variables(e *mesos.Environment) []string {
	if e == nil {
		return nil
	}
	var out []string
	for _, v := range e.Variables {
		value := v.Value
		if v.Secret != nil && v.Secret.Value != nil {
			value = string(v.Secret.Value.Data)
		}
		out = append(out, v.Name+"="+value)
	}
	return out
}

// find looks a program up in the PATH of tasks.
func (c *Cluster) find(name string) string {
	for _, dir := range filepath.SplitList(c.opt.Path) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return filepath.Join(dir, name)
		}
	}
	return name
}

func number(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
