package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// Variable is the variable that an operator's settings travel in, an [Envelope] as JSON. DAG files can not set it: the prefix is reserved.
const Variable = "MILLRACE_OPERATOR"

// MaxOutput is the most that an operator puts out, in bytes: what every task may write to MILLRACE_OUTPUT.
const MaxOutput = 64 << 10

// Envelope is what an operator's process is told. One of HTTP, Wait, SQL and Use is set; texts in it have had their expressions evaluated.
type Envelope struct {
	V    int             `json:"v"`
	HTTP *scheduler.HTTP `json:"http,omitempty"`
	Wait *scheduler.Wait `json:"wait,omitempty"`
	SQL  *scheduler.SQL  `json:"sql,omitempty"`
	// Use is the name of an operator of somebody else, With are its settings.
	Use  string          `json:"use,omitempty"`
	With json.RawMessage `json:"with,omitempty"`
	// AllowPrivate permits HTTP requests to addresses that are not public.
	AllowPrivate bool `json:"allow_private,omitempty"`
	// Objects says where the object store is, in the words of whoever built the operators; for Wait.
	Objects json.RawMessage `json:"objects,omitempty"`
}

// Options say how operators are executed. The zero value works, but for waiting for an object of a store.
type Options struct {
	// Program is this program, where tasks run; "" is "millrace", looked up in the PATH of the task.
	Program string
	// AllowPrivate and Objects are handed on in the envelope.
	AllowPrivate bool
	Objects      json.RawMessage
	// ObjectsEnv are variables that the object store's client needs, as "NAME=value".
	ObjectsEnv []string
}

// All returns the operators that are built in, by kind.
func All(opts Options) map[string]scheduler.Operator {
	if opts.Program == "" {
		opts.Program = "millrace"
	}
	out := map[string]scheduler.Operator{}
	for _, op := range []scheduler.Operator{Command{}, HTTP{opts}, Wait{opts}, SQL{opts}, Use{}, Image{}} {
		out[op.Kind()] = op
	}
	return out
}

// argv is the command of a kind.
func (o Options) argv(kind string) []string { return []string{o.Program, "op", kind} }

// pack returns the variable with an envelope.
func pack(e Envelope) ([]string, error) {
	e.V = 1
	raw, err := marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode the settings: %w", err)
	}
	if len(raw) > expr.MaxValue {
		return nil, fmt.Errorf("the settings have %d bytes, and %d is the most that a process can be given; put the data into an object, "+
			"and its address here", len(raw), expr.MaxValue)
	}
	return []string{Variable + "=" + string(raw)}, nil
}

// marshal is json.Marshal without the escapes for HTML: a body is sent as it was written.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// Open reads the envelope that an operator of a kind was started with.
func Open(kind, text string) (*Envelope, error) {
	if text == "" {
		return nil, Final(fmt.Errorf("%s is not set: this command is for the scheduler, which starts it for tasks that have %s:", Variable, kind))
	}
	var e Envelope
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields() // a setting of a later version must not be ignored
	if err := dec.Decode(&e); err != nil {
		return nil, Final(fmt.Errorf("read %s: %w", Variable, err))
	}
	has := map[string]bool{scheduler.KindHTTP: e.HTTP != nil, scheduler.KindWait: e.Wait != nil, scheduler.KindSQL: e.SQL != nil}
	if e.V != 1 || !has[kind] {
		return nil, Final(fmt.Errorf("read %s: version %d without settings for %q; this program knows version 1", Variable, e.V, kind))
	}
	return &e, nil
}

// Failure is why an operator did not succeed, and what to make of that.
type Failure struct {
	// Exit is scheduler.ExitNoRetry or scheduler.ExitAgain.
	Exit int
	Err  error
}

// Error implements error.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap implements errors.Unwrap.
func (f *Failure) Unwrap() error { return f.Err }

// Final says that trying again is of no use.
func Final(err error) error { return &Failure{scheduler.ExitNoRetry, err} }

// Again says that another try may succeed.
func Again(err error) error { return &Failure{scheduler.ExitAgain, err} }

// ExitOf returns the exit code for the end of an operator.
func ExitOf(err error) int {
	var f *Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		return f.Exit
	}
	return scheduler.ExitAgain
}

// IsSecret reports whether a text is a reference that [Secret] resolves.
func IsSecret(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:")
}

// Secret returns what env:NAME or file:PATH refers to, without the line end of a file; environ is the task's. Any other text is returned as it
// is.
func Secret(text string, environ func(string) (string, bool)) (string, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		val, found := environ(name)
		if !found || val == "" {
			return "", fmt.Errorf("variable %s is not in the task's environment; name it in executors.local.env of the server's configuration "+
				"if the server has it, or set it in env: of the DAG file", name)
		}
		return val, nil
	}
	path, ok := strings.CutPrefix(text, "file:")
	if !ok {
		return text, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	if val := strings.TrimRight(string(raw), "\r\n"); val != "" {
		return val, nil
	}
	return "", fmt.Errorf("read the secret: %s is empty", path)
}
