package mesosexec

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
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

// The variables that have the input of a task which runs its image's own entrypoint: one of the two, the second as gzip makes it and in base64.
const (
	inputDataVar = "MILLRACE_INPUT_DATA"
	inputGzipVar = "MILLRACE_INPUT_GZIP"
)

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

// entrypoint is for the program of the image itself. It gets no files, since only a wrapper could make them, and the input as a variable: as it is, or
// compressed, or, if neither fits, not at all.
func (b *taskBuilder) entrypoint() error {
	c, container := b.info.Command, b.l.Container
	if container == nil {
		return fmt.Errorf("the task has no command")
	}
	c.Arguments = container.Args
	env := b.times(c.Environment)
	c.Environment = env
	if err := b.fits(); err != nil {
		return err
	}
	for _, v := range []mesos.Variable{{Name: inputDataVar, Value: string(b.l.Input)}, {Name: inputGzipVar, Value: compressed(b.l.Input)}} {
		c.Environment = &mesos.Environment{Variables: append(slices.Clone(env.Variables), v)}
		if len(v.Value) <= partBytes && b.fits() == nil {
			return nil
		}
	}
	if c.Environment = env; len(env.Variables) == 0 {
		c.Environment = nil
	}
	return nil
}

// times adds what millrace-task, if that is the entrypoint, has to know of the attempt's limits.
func (b *taskBuilder) times(env *mesos.Environment) *mesos.Environment {
	out := &mesos.Environment{}
	if env != nil {
		out.Variables = slices.Clone(env.Variables)
	}
	for name, d := range map[string]time.Duration{"MILLRACE_GRACE": b.l.Grace, "MILLRACE_HEARTBEAT_TIMEOUT": b.l.Heartbeat} {
		if d > 0 {
			out.Variables = append(out.Variables, mesos.Variable{Name: name, Value: d.String()})
		}
	}
	slices.SortStableFunc(out.Variables, func(x, y mesos.Variable) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// compressed returns an input as gzip makes it, in base64.
func compressed(input []byte) string {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err := z.Write(input)
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err) // A buffer takes all.
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes())
}

// wrapped starts the command by way of the wrapper, with the input as it is, or compressed if it is too large for that.
func (b *taskBuilder) wrapped() error {
	b.arguments("plain", b.parts(string(b.l.Input)))
	if b.fits() == nil {
		return nil
	}
	b.arguments("gzip", b.parts(compressed(b.l.Input)))
	return b.fits()
}

// parts splits an input, between characters: what is sent is text.
func (b *taskBuilder) parts(input string) []string {
	if !b.docker() {
		return []string{input}
	}
	var out []string
	for rest := input; rest != "" || out == nil; {
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
func (b *taskBuilder) arguments(code string, parts []string) {
	c, l := b.info.Command, b.l
	dir, beat := workDir, "no"
	if len(b.machine.URIs) > 0 {
		dir = "."
	}
	if l.Heartbeat > 0 {
		beat = "yes"
	}
	args := []string{"-c", wrapperOf(l.Env), "sh", dir, beat, code, strconv.Itoa(len(parts))}
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
		n := 0
		for _, arg := range c.Arguments {
			n += len(arg)
		}
		if n > maxParts*partBytes {
			return fmt.Errorf("command and input take %d bytes, more than the %d that can be sent to Docker; the input has %d: bound the batches of a run, with coalesce",
				n, maxParts*partBytes, len(b.l.Input))
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
