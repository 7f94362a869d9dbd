package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/operator"
)

// Defaults of operators.
const (
	defaultHTTPTimeout = 30 * time.Second
	defaultPoll        = 30 * time.Second
)

// operators adds the keys of tasks that are no command. Each sets the task's kind; a task has one of them.
func (b *builder) operators(known fields, t *scheduler.Task) {
	kind := func(key string, read func(v ast.Node, t *scheduler.Task)) {
		known[key] = func(v ast.Node) {
			if t.Kind != KindCommand {
				b.errorf(v, "write a task for each", "task %q has %s and %s", t.ID, t.Kind, key)
			}
			t.Kind = key
			read(v, t)
		}
	}
	kind(scheduler.KindHTTP, b.inEnv(b.http))
	kind(scheduler.KindWait, b.inEnv(b.wait))
	kind(scheduler.KindSQL, b.inEnv(b.sql))
	kind(scheduler.KindApproval, b.approval)
	kind(scheduler.KindDAG, b.subDAG)
	kind(scheduler.KindUse, b.readUse)
	kind(scheduler.KindImage, b.image)
}

// finishOperator checks what needs the whole task.
func (b *builder) finishOperator(p *placed, t *scheduler.Task, run ast.Node) {
	b.finishImage(p, t, run)
	b.finishMachine(p, t)
	if t.Kind == KindCommand || t.Kind == scheduler.KindImage {
		return
	}
	if run != nil {
		b.errorf(run, "write a task for each", "task %q has run and %s", t.ID, t.Kind)
	}
	if t.Parks() != "" {
		b.finishParked(p, t)
	}
	if t.Wait != nil && t.Timeout.Run <= 0 {
		b.errorf(p.at, "add timeout: 1h, or how long it may take", "task %q waits for an object without a timeout, and would hold its slot for ever", t.ID)
	}
}

func (b *builder) http(n ast.Node, t *scheduler.Task) {
	h := &scheduler.HTTP{Timeout: defaultHTTPTimeout, Expect: []scheduler.StatusRange{{From: 200, To: 299}}}
	t.HTTP = h
	var address, body ast.Node
	b.mapping(n, "http", fields{
		"method": func(v ast.Node) { h.Method = b.method(v) },
		"url":    func(v ast.Node) { address, h.URL = v, b.str(v, "url") },
		"connection": func(v ast.Node) {
			h.Connection = b.str(v, "connection")
			b.check(v, operator.CheckHTTPConnection(h.Connection))
		},
		"headers": func(v ast.Node) { h.Headers = b.headers(v, t.ID) },
		"body":    func(v ast.Node) { body, h.Body = v, b.json(v, "body", t.ID) },
		"expect":  func(v ast.Node) { h.Expect = b.expect(v) },
		"timeout": func(v ast.Node) { h.Timeout = b.duration(v, "http.timeout") },
	})
	switch {
	case address == nil && h.Connection == "":
		b.errorf(n, `add url: "https://…", or connection: conn:NAME`, "http has no url")
	case h.URL != "" && h.Connection != "":
		b.check(address, operator.CheckPath(h.URL))
		b.text(address, h.URL, t.ID, "url")
	case h.URL != "":
		b.check(address, operator.CheckURL(h.URL))
		b.text(address, h.URL, t.ID, "url")
	}
	if h.Method == "" {
		if h.Method = "GET"; body != nil {
			h.Method = "POST"
		}
	}
	if len(h.Body) > 0 {
		b.check(body, operator.CheckBody(h))
	}
	if h.Timeout <= 0 {
		b.errorf(n, "", "http.timeout has to be longer than 0")
	}
}

// check reports what an operator says of a value.
func (b *builder) check(n ast.Node, err error) {
	if err != nil {
		b.errorf(n, "", "%v", err)
	}
}

func (b *builder) method(n ast.Node) string {
	method := strings.ToUpper(b.str(n, "method"))
	if method != "" && !slices.Contains(operator.Methods, method) {
		b.errorf(n, "want one of "+strings.Join(operator.Methods, ", "), "method %q is not known", method)
		return ""
	}
	return method
}

func (b *builder) headers(n ast.Node, task string) map[string]string {
	out := map[string]string{}
	for _, p := range b.pairs(n, "headers") {
		val := b.scalar(p.value, "header "+p.key)
		b.check(p.node, operator.CheckHeader(p.key, val))
		if expr.HasExpr(val) {
			b.text(p.value, val, task, "header "+p.key)
		}
		out[p.key] = val
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// expect reads statuses: 200, "200-299", or a list of them.
func (b *builder) expect(n ast.Node) []scheduler.StatusRange {
	var out []scheduler.StatusRange
	list := b.list(n, "expect", true)
	for _, v := range list {
		text := b.scalar(v, "a status")
		low, high, span := strings.Cut(text, "-")
		if !span {
			high = low
		}
		from, err1 := strconv.Atoi(strings.TrimSpace(low))
		to, err2 := strconv.Atoi(strings.TrimSpace(high))
		if err1 != nil || err2 != nil || from < 100 || to > 599 || from > to {
			b.errorf(v, `write it like 204 or 200-299`, "%q is neither a status nor a range of them", text)
			continue
		}
		out = append(out, scheduler.StatusRange{From: from, To: to})
	}
	if len(list) == 0 {
		b.errorf(n, "", "expect names no status")
	}
	return out
}

func (b *builder) wait(n ast.Node, t *scheduler.Task) {
	w := &scheduler.Wait{Poll: defaultPoll}
	t.Wait = w
	b.mapping(n, "wait", fields{
		"object": func(v ast.Node) { w.Object = b.str(v, "object"); b.text(v, w.Object, t.ID, "object") },
		"poll":   func(v ast.Node) { w.Poll = b.duration(v, "poll") },
	})
	if w.Object == "" {
		b.errorf(n, "add object: a key of the object store, a URI or the path of a file", "wait names no object")
	}
	if w.Poll < operator.MinPoll {
		b.errorf(n, "", "poll is shorter than %v", operator.MinPoll)
	}
}

// json reads any value as JSON. In its texts there may be expressions; those of a mapping's keys are just text.
func (b *builder) json(n ast.Node, what, task string) json.RawMessage {
	raw, err := json.Marshal(b.any(n, what, task))
	if err != nil {
		b.errorf(n, "", "%s can not be written as JSON: %v", what, err)
		return nil
	}
	if len(raw) > expr.MaxValue {
		b.errorf(n, "", "%s has %d bytes, the limit is %d", what, len(raw), expr.MaxValue)
		return nil
	}
	return raw
}

func (b *builder) any(n ast.Node, what, task string) any {
	n = b.resolve(n)
	switch v := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return v.Value
	case *ast.IntegerNode:
		return v.Value
	case *ast.FloatNode:
		return v.Value
	case *ast.SequenceNode:
		out := []any{}
		for _, e := range v.Values {
			out = append(out, b.any(e, what, task))
		}
		return out
	case *ast.MappingNode, *ast.MappingValueNode:
		out := map[string]any{}
		for _, p := range b.pairs(n, what) {
			out[p.key] = b.any(p.value, fmt.Sprintf("%s.%s", what, p.key), task)
		}
		return out
	}
	text := b.str(n, what)
	if expr.HasExpr(text) {
		b.text(n, text, task, what)
	}
	return text
}
