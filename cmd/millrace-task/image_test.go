package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// There is no engine here that would build the image. So its Dockerfile is read by BuildKit's own parser, what it copies is copied to where it says, and
// the entrypoint is started there, as the first process of a container: with that directory as its root and process ids of its own.

const repository = "../.."

// builder does the steps of a Dockerfile that say what is in the image, and notes those that say how it is run.
type builder struct {
	t      *testing.T
	stages []instructions.Stage
	roots  map[string]string // of the stages that were built
	// program is what the stage that compiles yields.
	program string

	env           []string
	user, workdir string
	args          []string // of the entrypoint
	onbuild       []string
}

func parseDockerfile(t *testing.T, text []byte) []instructions.Stage {
	t.Helper()
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("parse the Dockerfile: %v", err)
	}
	stages, _, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		t.Fatalf("parse the instructions: %v", err)
	}
	if len(ast.Warnings) > 0 {
		t.Errorf("the parser warns: %+v", ast.Warnings)
	}
	return stages
}

// build makes the file system of a stage, without that of its base.
func (b *builder) build(name string) string {
	b.t.Helper()
	i := slices.IndexFunc(b.stages, func(s instructions.Stage) bool { return s.Name == name })
	if i < 0 {
		b.t.Fatalf("there is no stage %q", name)
	}
	root := b.t.TempDir()
	b.roots[name] = root
	for _, cmd := range b.stages[i].Commands {
		b.step(root, repository, cmd)
	}
	return root
}

func (b *builder) step(root, from string, cmd instructions.Command) {
	b.t.Helper()
	switch c := cmd.(type) {
	case *instructions.CopyCommand:
		b.copy(root, from, c)
	case *instructions.RunCommand:
		b.install(root, c)
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			b.env = append(b.env, kv.Key+"="+kv.Value)
		}
	case *instructions.WorkdirCommand:
		b.workdir = c.Path
		if err := os.MkdirAll(filepath.Join(root, c.Path), 0o755); err != nil {
			b.t.Fatal(err)
		}
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			b.t.Errorf("the entrypoint %q is for a shell, which would get the signals", c.CmdLine)
		}
		b.args = c.CmdLine
	case *instructions.UserCommand:
		b.user = c.User
	case *instructions.OnbuildCommand:
		b.onbuild = append(b.onbuild, c.Expression)
	default:
		b.t.Fatalf("the test does not know the step %q", cmd.Name())
	}
}

func (b *builder) copy(root, from string, c *instructions.CopyCommand) {
	b.t.Helper()
	for _, src := range c.SourcePaths {
		switch {
		case c.From == "build":
			src = b.program // what `go build` of that stage makes
		case c.From != "":
			src = filepath.Join(b.roots[c.From], src)
		default:
			src = filepath.Join(from, src)
		}
		dst := filepath.Join(root, c.DestPath)
		info, err := os.Stat(src)
		if err != nil {
			b.t.Fatalf("copy %s: %v", c.SourcePaths, err)
		}
		if !info.IsDir() {
			copyFile(b.t, src, dst, info.Mode())
			continue
		}
		err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				copyFile(b.t, path, filepath.Join(dst, strings.TrimPrefix(path, src)), info.Mode())
			}
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, mode.Perm())); err != nil {
		t.Fatal(err)
	}
}

// install does the one command that the base image runs: to make a directory.
func (b *builder) install(root string, c *instructions.RunCommand) {
	b.t.Helper()
	args := slices.Clone([]string(c.CmdLine))
	if len(args) < 2 || args[0] != "install" || args[1] != "-d" {
		b.t.Fatalf("the test can not do RUN %q", args)
	}
	for i, a := range args {
		if strings.HasPrefix(a, "/") {
			args[i] = filepath.Join(root, a)
		}
	}
	if out, err := exec.CommandContext(b.t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		b.t.Fatalf("%q: %v: %s", args, err, out)
	}
}

// compile builds a program without cgo, so that it needs no other file.
func compile(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", dir, err, text)
	}
	return out
}

// TestImage builds the base image and an integration whose Dockerfile is one line, and runs that.
func TestImage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{t: t, stages: parseDockerfile(t, text), roots: map[string]string{}, program: compile(t, ".")}
	b.build("static")
	if want := []string{"/millrace-task", "--"}; !slices.Equal(b.args, want) {
		t.Errorf("the entrypoint of the static image is %q, want %q", b.args, want)
	}
	root := b.build("task")
	b.integrate(root, integration(t))
	// What every engine adds: an empty file is as good as the device for what reads nothing.
	null := filepath.Join(root, "dev/null")
	if err := errors.Join(os.Mkdir(filepath.Dir(null), 0o755), os.WriteFile(null, nil, 0o666), os.Chmod(null, 0o666)); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name string
		args []string
		env  []string
		code int
		want string
	}{
		{"the run's arguments are the program's", []string{"--table", "orders"}, nil, 0, "parent 1 args [--table orders] input {}"},
		{"its exit code", []string{"exit", "3"}, nil, 3, ""},
		{"a signal", []string{"signal"}, nil, 128 + 9, ""},
		{"orphans are reaped", []string{"orphan"}, nil, 0, "no zombie"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, code := b.container(t, root, tt.env, tt.args...)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("got %d and %q, want %d and %q", code, out, tt.code, tt.want)
			}
		})
	}
	if got, err := os.ReadFile(filepath.Join(root, "millrace/millrace-output")); err != nil || string(got) != `{"args":0}` {
		t.Errorf("got the output %q, %v", got, err)
	}
	// The Python package is where PYTHONPATH says, for the Python of the base.
	python := exec.CommandContext(t.Context(), "python3", "-c", "import millrace; print(millrace.__file__)")
	for _, kv := range b.env {
		python.Env = append(python.Env, strings.Replace(kv, "=/", "="+root+"/", 1))
	}
	if out, err := python.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), root) {
		t.Errorf("import of the Python package: %v: %s", err, out)
	}
}

// integration is a directory of an author: the Dockerfile has one line.
func integration(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	copyFile(t, compile(t, "testdata/integration"), filepath.Join(dir, "run"), 0o644) // the step makes it executable
	from := parseDockerfile(t, []byte("FROM millrace/task\n"))
	if len(from) != 1 || len(from[0].Commands) != 0 {
		t.Fatalf("got %+v", from)
	}
	return dir
}

// integrate does the steps that wait for an integration. Commands are for a shell, which the base has.
func (b *builder) integrate(root, context string) {
	b.t.Helper()
	b.user = ""
	steps := parseDockerfile(b.t, []byte("FROM millrace/task\n"+strings.Join(b.onbuild, "\n")+"\n"))
	for _, cmd := range steps[0].Commands {
		run, ok := cmd.(*instructions.RunCommand)
		if !ok {
			b.step(root, context, cmd)
			continue
		}
		script := strings.ReplaceAll(strings.Join(run.CmdLine, " "), "/integration", filepath.Join(root, "integration"))
		sh := exec.CommandContext(b.t.Context(), "sh", "-ec", script)
		sh.Dir = filepath.Join(root, b.workdir)
		if out, err := sh.CombinedOutput(); err != nil {
			b.t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	if b.user == "" || strings.HasPrefix(b.user, "0") {
		b.t.Errorf("the integration runs as the user %q, want one that is not root", b.user)
	}
}

// container runs the image with arguments appended to its entrypoint, as an engine does.
func (b *builder) container(t *testing.T, root string, env []string, args ...string) (string, int) {
	t.Helper()
	argv := append(slices.Clone(b.args), args...)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = b.workdir, append(append(slices.Clone(b.env), "PATH=/usr/bin:/bin", "MILLRACE_INPUT_DATA={}"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Cloneflags: syscall.CLONE_NEWPID}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}}
	} else {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65532, Gid: 65532}
		open(t, root)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("needs root, or user namespaces that users may make: %v", err)
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// open lets every user into a directory of the test's.
func open(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(fmt.Errorf("open %s: %w", d, err))
		}
	}
}
