package sdk

import (
	"encoding/json"
	"time"
)

// Command adds a task that is another program: argv as it stands, in which ${{ }} is as in a DAG file. Its output is of type Out, if it
// writes one.
func Command[Out any](p Place, id string, argv []string, opts ...Option) *Step[Out] {
	return added[Out](p, id, object{{"run", argv}}, opts)
}

// Image is a container image and what is executed in it.
type Image struct {
	// Ref names the image. No ${{ }} can stand in it.
	Ref string
	// Run replaces the image's own entrypoint; Args are appended to it. One of the two at most, in which ${{ }} is as in a DAG file.
	Run, Args []string
	Pull      Pull
	// Box is what goes with it; nil is what the installation has.
	Box *Box
}

// Container adds a task that runs in a container, for executors that run images.
func Container[Out any](p Place, id string, i Image, opts ...Option) *Step[Out] {
	o := object{{"image", i.Ref}}
	o = o.unless(len(i.Run) == 0, "run", i.Run).unless(len(i.Args) == 0, "args", i.Args)
	o = o.unless(i.Pull == "", "pull", i.Pull)
	if i.Box != nil {
		o = o.with("container", i.Box.describe())
	}
	return added[Out](p, id, o, opts)
}

// Request is a request of HTTP; docs/operators.md says where ${{ }} may stand in it, and what it reaches.
type Request struct {
	// Connection is conn:NAME, a connection of the installation, which has the host; URL then begins with "/". "" is none.
	Connection string
	// Method is "" for POST if there is a body, else GET.
	Method, URL string
	// Headers may have values env:NAME and file:PATH, which are looked up where the task runs.
	Headers map[string]string
	// Body is sent as it stands if it is a string, else as the JSON that encoding/json makes of it; nil is none.
	Body any
	// Expect are the statuses that are a success, such as "204" and "200-299"; none is 200-299.
	Expect []string
	// Timeout is how long one attempt waits for the whole answer; 0 is 30s.
	Timeout time.Duration
}

// HTTP adds a task that sends a request. Its output is the answer, if that is JSON.
func HTTP[Out any](p Place, id string, r Request, opts ...Option) *Step[Out] {
	o := object{}
	o = o.unless(r.Connection == "", "connection", r.Connection).with("url", r.URL)
	o = o.unless(r.Method == "", "method", r.Method).unless(len(r.Headers) == 0, "headers", r.Headers).unless(r.Body == nil, "body", r.Body)
	o = o.unless(len(r.Expect) == 0, "expect", r.Expect).unless(r.Timeout == 0, "timeout", r.Timeout.String())
	return added[Out](p, id, object{{"http", o}}, opts)
}

// Wait is an object that is waited for.
type Wait struct {
	// Object is a key of the object store, a URI in it, or a file (absolute path); with ${{ }}.
	Object string
	// Poll is the time from one look to the next; 0 is 30s.
	Poll time.Duration
}

// Found is the output of [WaitFor].
type Found struct {
	Key   string    `json:"key"`
	URI   string    `json:"uri"`
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// WaitFor adds a task that ends when an object is there. It needs a [Timeout], its own or that of [DAG.Defaults].
func WaitFor(p Place, id string, w Wait, opts ...Option) *Step[Found] {
	o := object{{"object", w.Object}}
	return added[Found](p, id, object{{"wait", o.unless(w.Poll == 0, "poll", w.Poll.String())}}, opts)
}

// NoRows is for [Query.MaxRows].
const NoRows = -1

// Query is what is executed in a database, in one transaction.
type Query struct {
	// Connection is conn:NAME, a connection of the installation; env:NAME or file:PATH, where the URL of the database is found; or sqlite:PATH.
	Connection string
	// Statements have @name where a value of Params belongs, and no ${{ }}.
	Statements []string
	// File is the absolute path of a file with one statement, instead of Statements; it is read when an attempt starts.
	File string
	// Params are values, as encoding/json makes them; in texts ${{ }}. @idempotency_key and @run_id are given.
	Params map[string]any
	// MaxRows is how many rows become the output; 0 is 100, [NoRows] none.
	MaxRows int
}

// Result is the output of [SQL].
type Result[Row any] struct {
	RowsAffected int64 `json:"rows_affected"`
	// Rows are those of the last statement that has any; Truncated says that there were more.
	Rows      []Row `json:"rows"`
	Truncated bool  `json:"truncated"`
}

// SQL adds a task that executes statements in PostgreSQL or SQLite.
func SQL[Row any](p Place, id string, q Query, opts ...Option) *Step[Result[Row]] {
	o := object{{"connection", q.Connection}}
	o = o.unless(len(q.Statements) == 0, "statement", q.Statements).unless(q.File == "", "file", q.File)
	o = o.unless(len(q.Params) == 0, "params", q.Params).unless(q.MaxRows == 0, "max_rows", max(q.MaxRows, 0))
	return added[Result[Row]](p, id, object{{"sql", o}}, opts)
}

// Use adds a task that an operator of the DAG directory executes, an executable name.op. with has its settings: what encoding/json makes of it
// has to be an object, in whose texts ${{ }} may stand; nil is none.
func Use[Out any](p Place, id, operator string, with any, opts ...Option) *Step[Out] {
	o := object{{"use", operator}}
	return added[Out](p, id, o.unless(with == nil, "with", with), opts)
}

// Approval is a question to a person. In a Form he fills in the fields of a struct, which are declared like [Params]; [Nothing] has none.
type Approval[Form any] struct {
	// Message says what is to be decided, with ${{ }}.
	Message string
	// By are the names of those who may decide; none: everybody who may use the console.
	By []string
	// Expires is how long there is for it, 0 for ever; OnExpire is what is decided then, "" being [Reject].
	Expires  time.Duration
	OnExpire Verdict
	OnReject OnReject
	// Options are answers, of which an approval names one.
	Options []string
	// Form has the defaults of what can be filled in.
	Form Form
}

// Decision is the output of [Ask].
type Decision[Form any] struct {
	Decision Verdict   `json:"decision"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	Comment  string    `json:"comment"`
	// Option is the one that was chosen, Input what was filled in.
	Option string `json:"option"`
	Input  Form   `json:"input"`
	// Expired: nobody decided; the time was over.
	Expired bool `json:"expired"`
}

// Ask adds a task that asks a person whether the run goes on. It takes no slot.
func Ask[Form any](p Place, id string, a Approval[Form], opts ...Option) *Step[Decision[Form]] {
	o := object{{"message", a.Message}}
	o = o.unless(len(a.By) == 0, "by", a.By).unless(a.Expires == 0, "expires", a.Expires.String())
	o = o.unless(a.OnExpire == "", "on_expire", a.OnExpire).unless(a.OnReject == "", "on_reject", a.OnReject)
	o = o.unless(len(a.Options) == 0, "options", a.Options)
	form, errs := declare(a.Form)
	step := added[Decision[Form]](p, id, object{{"approval", o.unless(len(form) == 0, "params", form)}}, opts)
	for _, err := range errs {
		step.t.dag.fault("the form of task %q: %w", id, err)
	}
	return step
}

// SubDAG is a run of another DAG.
type SubDAG struct {
	// ID is that of the DAG, such as [DAG.ID] of one of the same program.
	ID string
	// Params are what encoding/json makes an object of, in whose texts ${{ }} may stand; nil is none.
	Params any
	// NoWait: the task ends as soon as the run is started, and not as it ends. NoInputs: the run is given none of the batches of this one.
	NoWait, NoInputs bool
}

// SubRun is the output of [RunDAG]. Outputs has what the tasks at the end of that run have put out, by their ids, unless all of it is too large:
// then it is Truncated.
type SubRun struct {
	Run       string                     `json:"run"`
	DAG       string                     `json:"dag"`
	State     string                     `json:"state"`
	Outputs   map[string]json.RawMessage `json:"outputs"`
	Truncated bool                       `json:"truncated"`
}

// RunDAG adds a task that starts a run of another DAG, and ends as that does. It takes no slot.
func RunDAG(p Place, id string, s SubDAG, opts ...Option) *Step[SubRun] {
	o := object{{"id", s.ID}}
	o = o.unless(s.Params == nil, "params", s.Params).unless(!s.NoWait, "wait", false).unless(!s.NoInputs, "inputs", "none")
	return added[SubRun](p, id, object{{"dag", o}}, opts)
}

// added is a task that is no function of this program; work are the keys that say what it is instead.
func added[Out any](p Place, id string, work object, opts []Option) *Step[Out] {
	t := add(p, id, opts)
	t.work = work
	return &Step[Out]{t}
}
