package spec

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// Words of tasks that take no slot.
var (
	onExpireWords = []string{scheduler.DecisionReject, scheduler.DecisionApprove, scheduler.DecisionSkip}
	onRejectWords = []string{scheduler.RejectSkip, scheduler.RejectFail}
	inputsWords   = []string{"all", "none"}
)

// MaxOptions bounds the answers of one approval.
const MaxOptions = 20

// approval reads a text, which is the message, or a mapping.
func (b *builder) approval(n ast.Node, t *scheduler.Task) {
	a := &scheduler.Approval{}
	t.Approval = a
	message := func(v ast.Node) {
		if a.Message = strings.TrimSpace(b.str(v, "message")); a.Message != "" {
			b.text(v, a.Message, t.ID, "message")
		}
	}
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		if message(n); a.Message == "" {
			b.errorf(n, "write what is to be decided", "approval has no message")
		}
		return
	}
	var onExpire ast.Node
	b.mapping(n, "approval", fields{
		"message": message,
		"by":      func(v ast.Node) { a.By = b.names(v, "by") },
		"expires": func(v ast.Node) { a.Expires = b.duration(v, "expires") },
		"on_expire": func(v ast.Node) {
			onExpire, a.OnExpire = v, plain(b.oneOf(v, "on_expire", onExpireWords), scheduler.DecisionReject)
		},
		"on_reject": func(v ast.Node) { a.OnReject = plain(b.oneOf(v, "on_reject", onRejectWords), scheduler.RejectSkip) },
		"options":   func(v ast.Node) { a.Options = b.options(v) },
		"params":    func(v ast.Node) { a.Params = b.params(v) },
	})
	if a.Message == "" && !b.faultAt(n) {
		b.errorf(n, "add message: what is to be decided", "approval has no message")
	}
	if onExpire != nil && a.Expires == 0 {
		b.errorf(onExpire, "add expires: 24h, or how long there is for it", "on_expire without expires has no effect")
	}
	b.checkExpiry(n, a)
}

// checkExpiry finds an approval that nobody's silence could give what it needs.
func (b *builder) checkExpiry(n ast.Node, a *scheduler.Approval) {
	if a.OnExpire != scheduler.DecisionApprove {
		return
	}
	if len(a.Options) > 0 {
		b.errorf(n, "write on_expire: reject, or skip", "on_expire can not approve what has options: nobody has chosen one")
	}
	for name, p := range a.Params {
		if p.Required && p.Default == nil {
			b.errorf(n, "give it a default", "on_expire can not approve without parameter %q, which is required", name)
		}
	}
}

// plain returns a word, or "" for the default, which has one spelling in the compiled form.
func plain(word, def string) string {
	if word == def {
		return ""
	}
	return word
}

// names reads names of people or groups, as those who decide will say them.
func (b *builder) names(n ast.Node, what string) []string {
	var out []string
	list := b.list(n, what, true)
	for _, v := range list {
		name := strings.TrimSpace(b.scalar(v, "a name"))
		switch {
		case name == "" || len(name) > 100 || strings.ContainsFunc(name, unicode.IsControl):
			b.errorf(v, "", "%q can not be a name: it must have 1 to 100 bytes, without control characters", name)
		case slices.Contains(out, name):
			b.errorf(v, "", "%s has %q twice", what, name)
		default:
			out = append(out, name)
		}
	}
	if len(list) == 0 {
		b.errorf(n, "remove it", "%s is empty", what)
	}
	return out
}

func (b *builder) options(n ast.Node) []string {
	out := b.names(n, "options")
	if len(out) > MaxOptions {
		b.errorf(n, "", "there are %d options, the limit is %d", len(out), MaxOptions)
	}
	return out
}

// subDAG reads the id of a DAG, or a mapping.
func (b *builder) subDAG(n ast.Node, t *scheduler.Task) {
	s := &scheduler.SubDAG{}
	t.SubDAG = s
	at := n
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		b.mapping(n, "dag", fields{
			"id":     func(v ast.Node) { at, s.ID = v, b.id(v, "id") },
			"params": func(v ast.Node) { s.Params = b.subParams(v, t.ID) },
			"wait":   func(v ast.Node) { s.NoWait = !b.boolean(v, "wait") },
			"inputs": func(v ast.Node) { s.NoInputs = b.oneOf(v, "inputs", inputsWords) == "none" },
		})
	default:
		s.ID = b.id(n, "dag")
	}
	switch {
	case s.ID == "" && !b.faultAt(n):
		b.errorf(n, "add id: the DAG of which a run is to be started", "dag names no DAG")
	case s.ID != "" && s.ID == b.dag.ID:
		b.errorf(at, "", "task %q starts a run of the DAG that it is in, which would start the next one, without an end", t.ID)
	}
}

func (b *builder) subParams(n ast.Node, task string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, p := range b.pairs(n, "params") {
		if err := CheckID(p.key); err != nil {
			b.errorf(p.node, "", "parameter: %v", err)
			continue
		}
		out[p.key] = b.json(p.value, "parameter "+p.key, task)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// slotless are the keys that a task has without an executor to run it; noTimeouts those of `timeout` that it has not.
var (
	slotless   = []string{"needs", "when", "rule", "group", "for", "fail_run", "foreach", scheduler.KindApproval, scheduler.KindDAG}
	noTimeouts = []string{"queue", "start", "heartbeat", "grace"}
)

// finishParked checks a task that takes no slot, and takes from it what defaults say of those that do.
func (b *builder) finishParked(p *placed, t *scheduler.Task) {
	keys := slices.Clone(slotless)
	if t.Kind == scheduler.KindDAG {
		keys = append(keys, "retry", "timeout")
	}
	for _, kv := range b.pairs(p.value, "the task") {
		hint := "remove it"
		if kv.key == "timeout" {
			hint = "write expires below approval"
		}
		if !slices.Contains(keys, kv.key) && kv.key != "run" && isTaskKey(kv.key) {
			b.errorf(kv.node, hint, "task %q has %s and %s: no executor runs it, and it is never tried again", t.ID, t.Kind, kv.key)
		}
		if kv.key == "timeout" && t.Kind == scheduler.KindDAG {
			b.checkWaitTimeout(kv.value, t)
		}
	}
	t.Executor, t.InfraRetry, t.Pool, t.PoolSlots, t.Priority = "", 0, "", 0, 0
	t.Resources, t.Constraints, t.Machine, t.Fast = nil, nil, nil, false
	if !b.has(p.value, "retry") {
		t.Retry = scheduler.Retry{}
	}
	run := time.Duration(0)
	if b.has(p.value, "timeout") {
		run = t.Timeout.Run
	}
	t.Timeout = scheduler.Timeout{Run: run}
}

// isTaskKey reports whether tasks have a key; others are reported elsewhere.
func isTaskKey(name string) bool {
	return slices.ContainsFunc(Keys(), func(k Key) bool { return k.Path == "tasks.*."+name })
}

// checkWaitTimeout refuses bounds of what only an executor does.
func (b *builder) checkWaitTimeout(n ast.Node, t *scheduler.Task) {
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		return
	}
	for _, kv := range b.pairs(n, "timeout") {
		if slices.Contains(noTimeouts, kv.key) {
			b.errorf(kv.node, "write timeout: 1h, or how long its run may take", "task %q waits for another run: timeout.%s has no meaning for it", t.ID, kv.key)
		}
	}
}

// Suggest returns "did you mean …?" for a word that is none of those that are known, or "".
func Suggest(word string, known []string) string { return suggest(word, slices.Clone(known)) }
