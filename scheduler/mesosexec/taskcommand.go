package mesosexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// Bounds of what a command can carry. Linux takes no argument or variable of more than 128 KiB (MAX_ARG_STRLEN), and 2 MiB of all together unless its limit of
// the stack was raised.
const (
	// partBytes is the size of a part of an input, where there can be several.
	partBytes = 96 << 10
	// maxParts bounds an input in parts.
	maxParts = 10
	// maxMessage is how much an agent's command executor can carry: it hands the command and the environment to its launcher as one argument, as
	// JSON, the environment twice. 16 KiB are for what the agent adds. Source: launchTaskSubprocess in src/launcher/executor.cpp of Mesos 1.11.
	maxMessage = 128<<10 - 16<<10
)

// inputDataVar has the input of a task that runs its image's own entrypoint.
const inputDataVar = "MILLRACE_INPUT_DATA"

// command says what is executed, with which environment, and what is fetched for it.
func (b *taskBuilder) command() error {
	c := &mesos.CommandInfo{Shell: new(bool), User: b.machine.User}
	if c.User == "" {
		c.User = b.o.User
	}
	b.info.Command = c
	for _, u := range b.machine.URIs {
		c.URIs = append(c.URIs, mesos.URI{Value: u.Value, Executable: u.Executable, Extract: &u.Extract, Cache: u.Cache, OutputFile: u.OutputFile})
	}
	if err := b.environment(); err != nil {
		return err
	}
	if len(b.l.Argv) == 0 {
		return b.entrypoint()
	}
	if err := checkArgv(b.l.Argv); err != nil {
		return err
	}
	return b.wrapped()
}

func checkArgv(argv []string) error {
	switch {
	case argv[0] == "":
		return fmt.Errorf("the task has no command")
	case strings.HasPrefix(argv[0], "-"):
		return fmt.Errorf("command %q begins with a dash, and a shell would take it for an option", argv[0])
	}
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) || !utf8.ValidString(arg) {
			return fmt.Errorf("argument %q is no text, and nothing else can be sent to Mesos", arg)
		}
	}
	return nil
}

// environment is that of the attempt, and the numbers of its ports.
func (b *taskBuilder) environment() error {
	env := b.l.Env
	if len(b.ports) > 0 {
		env = append(env[:len(env):len(env)], portsEnv(b.ports)...)
	}
	out := &mesos.Environment{}
	at := map[string]int{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if strings.ContainsRune(value, 0) || !utf8.ValidString(kv) {
			return fmt.Errorf("the value of variable %s is no text, and nothing else can be sent to Mesos", name)
		}
		v := mesos.Variable{Name: name, Value: value}
		if b.o.Secrets == SecretsTyped && b.secret(value) {
			if b.docker() {
				return fmt.Errorf("variable %s has a secret, and the docker containerizer does not know variables of type SECRET; use the containerizer mesos, or send secrets as plain variables", name)
			}
			v = mesos.Variable{Name: name, Type: "SECRET", Secret: secretOf(value)}
		}
		if i, ok := at[name]; ok { // The last one counts, as for exec.
			out.Variables[i] = v
			continue
		}
		at[name] = len(out.Variables)
		out.Variables = append(out.Variables, v)
	}
	if len(out.Variables) > 0 {
		b.info.Command.Environment = out
	}
	return nil
}

// secret reports whether a text that must not be seen is in a value.
func (b *taskBuilder) secret(value string) bool {
	for _, s := range b.l.Secrets {
		if s != "" && strings.Contains(value, s) {
			return true
		}
	}
	return false
}

func secretOf(value string) *mesos.Secret {
	s := &mesos.Secret{Type: "VALUE"}
	s.Value = &struct {
		Data []byte `json:"data"`
	}{[]byte(value)}
	return s
}

// portsEnv are the variables with the numbers of ports on the machine.
func portsEnv(ports []int) []string {
	var out, all []string
	for i, p := range ports {
		all = append(all, strconv.Itoa(p))
		out = append(out, "PORT"+strconv.Itoa(i)+"="+strconv.Itoa(p))
	}
	return append(out, "PORTS="+strings.Join(all, ","))
}

// entrypoint is for the program of the image itself. It gets no files, since only a wrapper could make them, and the input as a variable if it fits.
func (b *taskBuilder) entrypoint() error {
	c, container := b.info.Command, b.l.Container
	if container == nil {
		return fmt.Errorf("the task has no command")
	}
	c.Arguments = container.Args
	if err := b.fits(); err != nil {
		return err
	}
	if len(b.l.Input) > partBytes {
		return nil
	}
	env := c.Environment
	with := &mesos.Environment{Variables: []mesos.Variable{{Name: inputDataVar, Value: string(b.l.Input)}}}
	if env != nil {
		with.Variables = append(env.Variables[:len(env.Variables):len(env.Variables)], with.Variables...)
	}
	c.Environment = with
	if b.fits() != nil {
		c.Environment = env
	}
	return nil
}

// wrapped starts the command by way of the wrapper, with the input in parts, or fetched if it is too large for that.
func (b *taskBuilder) wrapped() error {
	b.arguments(b.parts())
	err := b.fits()
	if err == nil || b.o.InputURI == nil {
		return err
	}
	uri, err := b.o.InputURI(b.l)
	if err != nil {
		return fmt.Errorf("the input has %d bytes, and can not be fetched: %w", len(b.l.Input), err)
	}
	b.info.Command.URIs = append(b.info.Command.URIs, mesos.URI{Value: uri, Extract: new(bool), OutputFile: inputFile})
	b.arguments(nil)
	return b.fits()
}

// parts splits the input, between characters: what is sent is text.
func (b *taskBuilder) parts() []string {
	if !b.docker() {
		return []string{string(b.l.Input)}
	}
	var out []string
	for rest := string(b.l.Input); rest != "" || out == nil; {
		n := min(partBytes, len(rest))
		for n < len(rest) && !utf8.RuneStart(rest[n]) {
			n--
		}
		out, rest = append(out, rest[:n]), rest[n:]
	}
	return out
}

// arguments are those of the wrapper. Docker's containerizer has its own way to say what is executed: it adds a value to the image's entrypoint, so
// that this is what has to be replaced.
func (b *taskBuilder) arguments(parts []string) {
	c, l := b.info.Command, b.l
	dir, beat := workDir, "no"
	if len(b.machine.URIs) > 0 {
		dir = "."
	}
	if l.Heartbeat > 0 {
		beat = "yes"
	}
	args := []string{"-c", wrapperOf(l.Env), "sh", dir, beat, strconv.Itoa(len(parts))}
	args = append(append(args, parts...), l.Argv...)
	if b.docker() {
		c.Arguments = args
		return
	}
	c.Value, c.Arguments = shell, append([]string{"sh"}, args...)
}

// shell is the program that executes wrappers.
const shell = "/bin/sh"

// fits says why an agent could not hand on the command.
func (b *taskBuilder) fits() error {
	c := b.info.Command
	if b.docker() {
		if n := len(b.l.Input); n > maxParts*partBytes {
			return fmt.Errorf("the input has %d bytes, more than the %d that can be sent to Docker: bound the batches of a run, with coalesce", n, maxParts*partBytes)
		}
		return nil
	}
	n, err := sent(struct {
		*mesos.CommandInfo
		Again *mesos.Environment `json:"again,omitempty"`
	}{c, c.Environment})
	if err != nil {
		return err
	}
	if len(b.l.Argv) == 0 { // The agent hands on what it made of the image's entrypoint as a text within such JSON.
		text, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encode command: %w", err)
		}
		twice, err := sent(struct {
			Command string             `json:"command"`
			Again   *mesos.Environment `json:"again,omitempty"`
		}{string(text), c.Environment})
		if err != nil {
			return err
		}
		n = max(n, twice)
	}
	if n > maxMessage {
		return fmt.Errorf("command, environment and input take %d bytes, and an agent of Mesos hands on %d at most; the input has %d: bound the batches of a run, with coalesce",
			n, maxMessage, len(b.l.Input))
	}
	return nil
}

// sent returns how long v is as an agent writes it: as JSON, with the slashes escaped.
func sent(v any) (int, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return 0, fmt.Errorf("encode command: %w", err)
	}
	return buf.Len() + bytes.Count(buf.Bytes(), []byte("/")), nil
}

// docker reports whether the docker containerizer runs the task.
func (b *taskBuilder) docker() bool {
	c := b.l.Container
	if c == nil {
		return false
	}
	if c.Containerizer != "" {
		return c.Containerizer == scheduler.ContainerizerDocker
	}
	return b.o.Containerizer == scheduler.ContainerizerDocker
}
