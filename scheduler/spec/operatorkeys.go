package spec

import (
	"slices"
	"strings"

	"millrace/scheduler/operator"
)

var (
	anyMapping = value{"mapping of anything", node{"type": "object"}}
	anything   = value{"anything", node{}}
	statuses   = value{"status, range, or list of them", oneOrMore(node{"anyOf": []node{
		{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string", "pattern": `^ *[1-5][0-9]{2} *(- *[1-5][0-9]{2} *)?$`},
	}})}
	headerLines = value{"mapping of text", node{"type": "object", "additionalProperties": anyScalar.schema}}
	methodName  = value{"method", node{"type": "string", "pattern": "^(?i:" + strings.Join(operator.Methods, "|") + ")$"}}
)

// operatorKeys are those of tasks that are no command.
var operatorKeys = slices.Concat(runKeys, under("tasks.*.approval", paramKeys))

var runKeys = []Key{
	is("tasks.*.http", mapping, "Instead of run: a request is sent. Values of ${{ }} are escaped for their place."),
	is("tasks.*.http.url", anyText, "Where to, with http:// or https://. ${{ }} in path and query, never in the host. Required without connection, behind whose URI it comes."),
	is("tasks.*.http.connection", anyText, "conn:NAME, a connection of the installation: host, first part of the path, login or headers. url then begins with /."),
	is("tasks.*.http.method", methodName, "Default: POST if there is a body, else GET."),
	is("tasks.*.http.headers", headerLines, "Headers, with ${{ }}. A value env:NAME or file:PATH is looked up where the task runs."),
	is("tasks.*.http.body", anything, "A mapping or a list is sent as JSON, text as it is. ${{ }} in its texts."),
	is("tasks.*.http.expect", statuses, "Statuses that are a success. Default: 200-299."),
	is("tasks.*.http.timeout", duration, "How long one attempt waits for the whole answer. Default: 30s."),
	is("tasks.*.wait", mapping, "Instead of run: the task ends when an object is there. It needs a timeout."),
	is("tasks.*.wait.object", anyText, "A key of the object store, a URI in it, or a file (absolute path). ${{ }} anywhere. Required."),
	is("tasks.*.wait.poll", duration, "Time from one look to the next. Default: 30s."),
	is("tasks.*.sql", mapping, "Instead of run: statements are executed in one transaction, in PostgreSQL or SQLite."),
	is("tasks.*.sql.connection", anyText, "conn:NAME, a connection of the installation; env:NAME or file:PATH, where the URL of the database is found; or sqlite:PATH. Required."),
	is("tasks.*.sql.statement", texts, "One statement or several, without ${{ }}: write @name, and the value below params."),
	is("tasks.*.sql.file", anyText, "Instead of statement: an absolute path of a file with one statement, read when an attempt starts."),
	is("tasks.*.sql.params", anyMapping, "Values of @name, with ${{ }}. @idempotency_key and @run_id are given."),
	is("tasks.*.approval", anyText.or("mapping"), "Instead of run: a person decides whether the run goes on. A text is its message. It takes no slot: see approval.md."),
	is("tasks.*.approval.message", anyText, "What is to be decided, with ${{ }}. Required."),
	is("tasks.*.approval.by", texts, "The names of those who may decide. Default: everybody who may use the console."),
	is("tasks.*.approval.expires", duration, "How long there is for it. Default: for ever."),
	is("tasks.*.approval.on_expire", word(onExpireWords...), "What is decided then. Default: reject."),
	is("tasks.*.approval.on_reject", word(onRejectWords...), "What becomes of the task that is rejected. Default: skip."),
	is("tasks.*.approval.options", texts, "Answers, of which an approval names one."),
	is("tasks.*.approval.params", mapping, "What can be filled in with an approval: declared like the parameters of a DAG."),
	is("tasks.*.dag", anyID.or("mapping"), "Instead of run: a run of another DAG is started, and waited for without a slot. A text is its id: see subdags.md."),
	is("tasks.*.dag.id", anyID, "The DAG, of whose present version it is a run. Required."),
	is("tasks.*.dag.params", anyMapping, "Parameters of that run, with ${{ }}."),
	is("tasks.*.dag.wait", boolean, "Whether the task ends with that run, and as it does. Default: true; false: as soon as it is started."),
	is("tasks.*.dag.inputs", word(inputsWords...), "Which of the batches of this run that one is given. Default: all."),
	is("tasks.*.sql.max_rows", count(operator.MaxRows), "Rows of a result that become the output. Default: 100."),
	is("tasks.*.image", anyText, "The container image that the task runs in, for executors that run images. run replaces its own entrypoint."),
	is("tasks.*.args", texts, "Arguments that are appended to the image's own entrypoint, with ${{ }}."),
	is("tasks.*.pull", word(pulls...), "When the image is fetched. Default: missing."),
	is("tasks.*.use", anyID, "Instead of run: the operator of that name, an executable NAME.op in the DAG directory. See own-operators.md."),
	is("tasks.*.with", anyMapping, "Settings of the operator, with ${{ }} in texts. A text that is one expression has its value's type."),
}
