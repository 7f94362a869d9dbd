package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kinds of tasks that are built in.
const (
	KindCommand = "command" // runs [Task.Run] or [Task.Shell]
	KindHTTP    = "http"    // sends [Task.HTTP]
	KindWait    = "wait"    // waits for [Task.Wait]
	KindSQL     = "sql"     // executes [Task.SQL]
	KindUse     = "use"     // executes the operator of [Task.Use]
	KindImage   = "image"   // runs in the container image of [Task.Container]
)

// HTTP is one request, and which answers are a success. Expressions may stand in the path and the query of URL, in values of Headers, and
// in texts within Body.
type HTTP struct {
	Method string `json:"method"`
	// Connection is conn:NAME, a connection of the installation whose URI comes before URL, or "". It may have headers and credentials.
	Connection string            `json:"connection,omitempty"`
	URL        string            `json:"url"`
	Headers    map[string]string `json:"headers,omitempty"`
	// Body is JSON: a string is sent as the text that it is, anything else as JSON. nil is no body.
	Body json.RawMessage `json:"body,omitempty"`
	// Expect are the statuses that are a success.
	Expect []StatusRange `json:"expect"`
	// Timeout is that of one attempt's request and answer.
	Timeout time.Duration `json:"timeout"`
}

// StatusRange has both of its ends.
type StatusRange struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// Expected reports whether an answer with the status is a success.
func (h *HTTP) Expected(status int) bool {
	return slices.ContainsFunc(h.Expect, func(r StatusRange) bool { return r.From <= status && status <= r.To })
}

// Wait is for an object that is to appear.
type Wait struct {
	// Object is a key of the installation's object store, a URI of an object in it, or a file: an absolute path or a file URI.
	Object string `json:"object"`
	// Poll is the time from one look to the next.
	Poll time.Duration `json:"poll"`
}

// SQL are statements that are executed in one transaction.
type SQL struct {
	// Connection is conn:NAME, a connection of the installation; env:NAME or file:PATH, where the URL of the database is found; or a URL without a
	// secret.
	Connection string `json:"connection"`
	// Statements, or the path of a file that has one. Values are never put into the text.
	Statements []string `json:"statements,omitempty"`
	File       string   `json:"file,omitempty"`
	// Params are the values of the statements' parameters, each a JSON value; in texts there may be expressions.
	Params map[string]json.RawMessage `json:"params,omitempty"`
	// MaxRows bounds the rows of a result that become the output.
	MaxRows int `json:"max_rows"`
}

// Use is an operator of somebody else: an executable beside the DAG files.
type Use struct {
	Name string `json:"name"`
	// Program is the executable. It is started as `<Program> run-task <task>`.
	Program string `json:"program,omitempty"`
	// With are the settings, a JSON object; in texts there may be expressions.
	With json.RawMessage `json:"with"`
}

// Container is an image that a task runs in. [Task.Run] or [Task.Shell] replace the image's own entrypoint.
type Container struct {
	// Image is a reference as registries have it: "registry.example/load:1.4", or with a digest.
	Image string `json:"image"`
	// Args are appended to the image's own entrypoint. There are none beside Run or Shell.
	Args []string `json:"args,omitempty"`
	// Pull is PullMissing or PullAlways; "" is PullMissing.
	Pull string `json:"pull,omitempty"`
	// Containerizer is ContainerizerMesos or ContainerizerDocker, for executors that have both; "": the installation says.
	Containerizer string `json:"containerizer,omitempty"`
	// Network is one of the networks below, or the name of one that the machines have; "" is NetworkHost.
	Network string `json:"network,omitempty"`
	// Volumes are what is mounted into the container besides its image.
	Volumes []Volume `json:"volumes,omitempty"`
	// Privileged, and flags of docker run, are refused where the installation does not permit them.
	Privileged bool        `json:"privileged,omitempty"`
	Parameters []Parameter `json:"parameters,omitempty"`
}

// Parameter is a flag of docker run, without its dashes, and its value.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// What runs containers on machines that have several.
const (
	ContainerizerMesos  = "mesos"
	ContainerizerDocker = "docker"
)

// The networks that need no name of their own.
const (
	NetworkHost   = "host"   // that of the machine
	NetworkBridge = "bridge" // one of the machine's own: ports are mapped
	NetworkNone   = "none"   // none at all
)

// Volume is a directory in a container. It is of the machine, if HostPath is set, or of a volume driver.
type Volume struct {
	// ContainerPath is where it is seen: absolute.
	ContainerPath string `json:"container_path"`
	// HostPath is absolute.
	HostPath string `json:"host_path,omitempty"`
	// Name is that of a volume of Driver, "": the default one.
	Name   string `json:"name,omitempty"`
	Driver string `json:"driver,omitempty"`
	// ReadOnly says that nothing can be written to it.
	ReadOnly bool `json:"read_only,omitempty"`
}

// When an image is fetched.
const (
	PullMissing = "missing" // if it is not there
	PullAlways  = "always"  // for each attempt, so that its credentials are asked for each time; the digest is that of the run
)

// Eval evaluates the expressions in an operator's settings.
type Eval interface {
	// Text returns text with each ${{ }} replaced by its value as escape returns it; what stands around them is not escaped. nil escapes
	// nothing. An error of escape is a sentence about the value.
	Text(text string, escape func(val string) (string, error)) (string, error)
	// JSON returns the value of text: that of its expression, with its type, if it has nothing else, and a string otherwise.
	JSON(text string) (json.RawMessage, error)
}

// Configured is an operator whose tasks have settings, which travel in the environment: argv can be seen by everybody on a machine.
type Configured interface {
	Operator
	// Settings returns variables ("NAME=value") for an attempt of t, which is not changed. They win over all others. An error says that the
	// task can never be started; it is a sentence for people.
	Settings(t *Task, eval Eval) ([]string, error)
}

// ConnPrefix is what a setting begins with that names a connection of the installation.
const ConnPrefix = "conn:"

// ConnText is the text whose value is the URI of a connection.
func ConnText(name string) string { return fmt.Sprintf("${{ conns[%q].uri }}", name) }

// Texts returns all texts of the settings of t in which expressions may stand.
func (t *Task) Texts() []string {
	var out []string
	if t.HTTP != nil {
		if name, ok := strings.CutPrefix(t.HTTP.Connection, ConnPrefix); ok {
			out = append(out, ConnText(name))
		}
		out = append(out, t.HTTP.URL)
		for _, name := range slices.Sorted(maps.Keys(t.HTTP.Headers)) {
			out = append(out, t.HTTP.Headers[name])
		}
		out = append(out, jsonTexts(t.HTTP.Body)...)
	}
	if t.Wait != nil {
		out = append(out, t.Wait.Object)
	}
	if t.SQL != nil {
		if name, ok := strings.CutPrefix(t.SQL.Connection, ConnPrefix); ok {
			out = append(out, ConnText(name))
		}
		for _, name := range slices.Sorted(maps.Keys(t.SQL.Params)) {
			out = append(out, jsonTexts(t.SQL.Params[name])...)
		}
	}
	if t.Use != nil {
		out = append(out, jsonTexts(t.Use.With)...)
	}
	return append(out, t.parkedTexts()...)
}

// jsonTexts returns the strings within a JSON value that are not keys.
func jsonTexts(raw json.RawMessage) []string {
	var val any
	if len(raw) == 0 || json.Unmarshal(raw, &val) != nil {
		return nil
	}
	var out []string
	var walk func(val any)
	walk = func(val any) {
		switch val := val.(type) {
		case string:
			out = append(out, val)
		case []any:
			for _, v := range val {
				walk(v)
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(val)) {
				walk(val[k])
			}
		}
	}
	walk(val)
	return out
}
