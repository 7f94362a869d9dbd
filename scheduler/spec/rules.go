package spec

import (
	"slices"
	"strings"
	"time"

	"github.com/adhocore/gronx"
	"github.com/goccy/go-yaml/ast"

	"millrace/ingest"
	"millrace/scheduler/expr"
	"millrace/trigger"
)

// manualOnly are the rules of a DAG without `on`: none. People may start any DAG.
func (b *builder) manualOnly() []trigger.Rule { return []trigger.Rule{} }

func (b *builder) on(n ast.Node) {
	b.dag.On = []trigger.Rule{}
	for _, v := range b.list(n, "on", true) {
		rule, at, nodes := b.rule(v)
		b.dag.On = append(b.dag.On, rule)
		b.rules = append(b.rules, placed{id: rule.ID, at: at, rule: nodes})
	}
}

// ruleNodes are where the parts of a rule stand.
type ruleNodes struct {
	id, batch, cron, timezone, manual, key, filter, coalesce, jitter, catchup, whenPaused ast.Node
	joinNodes
}

// rule reads one rule, and returns also where to point at for it, and where its parts stand.
func (b *builder) rule(n ast.Node) (trigger.Rule, ast.Node, ruleNodes) {
	r := trigger.Rule{DAG: b.dag.ID}
	var at ruleNodes
	faults := len(b.errs)
	if s, ok := b.resolve(n).(*ast.StringNode); ok { // on: [manual]
		if s.Value == string(trigger.KindManual) || s.Value == string(trigger.KindBatch) {
			return trigger.Rule{DAG: b.dag.ID, ID: s.Value, Kind: trigger.Kind(s.Value)}, n, at
		}
	}
	b.mapping(n, "a rule of on", with(b.waitFields(&r, &at.joinNodes), fields{
		"id":          func(v ast.Node) { at.id, r.ID = v, b.id(v, "rule") },
		"batch":       func(v ast.Node) { at.batch = v; b.batch(v, &r) },
		"if":          func(v ast.Node) { at.filter, r.If = v, b.expression(v, "if") },
		"key":         func(v ast.Node) { at.key, r.Key = v, b.expression(v, "key") },
		"coalesce":    func(v ast.Node) { at.coalesce = v; r.Coalesce = b.coalesce(v) },
		"when_paused": func(v ast.Node) { at.whenPaused, r.WhenPaused = v, b.whenPaused(v) },
		"cron":        func(v ast.Node) { at.cron, r.Cron = v, b.cron(v) },
		"timezone":    func(v ast.Node) { at.timezone, r.Timezone = v, b.timezone(v) },
		"jitter":      func(v ast.Node) { at.jitter, r.Jitter = v, b.delay(v) },
		"catchup":     func(v ast.Node) { at.catchup, r.Catchup = v, b.catchup(v) },
		"manual":      func(v ast.Node) { at.manual = v; b.manual(v) },
	}))
	b.ruleKind(n, &r, at, len(b.errs) > faults)
	if r.ID == "" && at.id == nil {
		if r.ID = string(r.Kind); r.Joins() {
			r.ID = "all_of"
		}
	}
	if at.key != nil && at.coalesce == nil && r.Kind == trigger.KindBatch && !r.Joins() {
		b.limits.loneKeys = append(b.limits.loneKeys, placed{id: r.ID, at: at.key}) // it may be that of a concurrency group, or of a join
	}
	b.ruleExprs(&r, at)
	if at.id != nil {
		return r, at.id, at
	}
	return r, n, at
}

// ruleKind finds out what starts runs, and refuses keys that mean nothing for that. With faulty, the rule has a fault already: what is
// missing may be what was misspelt.
func (b *builder) ruleKind(n ast.Node, r *trigger.Rule, at ruleNodes, faulty bool) {
	var kinds []trigger.Kind
	for kind, node := range map[trigger.Kind]ast.Node{trigger.KindBatch: at.batch, trigger.KindCron: at.cron, trigger.KindManual: at.manual} {
		if node != nil {
			kinds = append(kinds, kind)
		}
	}
	if at.allOf != nil {
		kinds = append(kinds, trigger.KindBatch)
	}
	if len(kinds) == 0 && faulty {
		return
	}
	if len(kinds) != 1 {
		b.errorf(n, "", "a rule needs one of batch, cron, manual and all_of, and has %d of them", len(kinds))
		return
	}
	r.Kind = kinds[0]
	only := func(kind trigger.Kind, node ast.Node, key string) {
		if node != nil && r.Kind != kind {
			b.errorf(node, "", "%s has a meaning for %s rules only", key, kind)
		}
	}
	only(trigger.KindBatch, at.filter, "if")
	only(trigger.KindBatch, at.key, "key")
	only(trigger.KindBatch, at.coalesce, "coalesce")
	only(trigger.KindBatch, at.whenPaused, "when_paused")
	only(trigger.KindCron, at.timezone, "timezone")
	only(trigger.KindCron, at.jitter, "jitter")
	only(trigger.KindCron, at.catchup, "catchup")
	b.waitKind(r, &at)
}

func (b *builder) batch(n ast.Node, r *trigger.Rule) {
	if v, ok := b.resolve(n).(*ast.BoolNode); ok && v.Value {
		return
	}
	name := func(v ast.Node, what string) string {
		s := b.scalar(v, what)
		if s != "" && s != "*" {
			if err := ingest.CheckName(s); err != nil {
				b.errorf(v, "", "%s: %v", what, err)
			}
		}
		return s
	}
	b.mapping(n, "batch", fields{
		"source":     func(v ast.Node) { r.Source = name(v, "source") },
		"tenant":     func(v ast.Node) { r.Tenant = name(v, "tenant") },
		"types":      func(v ast.Node) { r.Types = b.strs(v, "types") },
		"quarantine": func(v ast.Node) { r.Quarantine = b.boolean(v, "quarantine") },
	})
}

func (b *builder) manual(n ast.Node) {
	if !b.boolean(n, "manual") {
		b.errorf(n, "remove the rule", "manual: false means nothing")
	}
}

func (b *builder) coalesce(n ast.Node) *trigger.Coalesce {
	var c trigger.Coalesce
	before := len(b.errs)
	b.mapping(n, "coalesce", fields{
		"max_batches": func(v ast.Node) { c.MaxBatches = int(b.integer(v, "max_batches", trigger.MaxGroup)) },
		"max_events":  func(v ast.Node) { c.MaxEvents = b.integer(v, "max_events", 1<<50) },
		"max_bytes":   func(v ast.Node) { c.MaxBytes = b.size(v, "max_bytes") },
		"quiet":       func(v ast.Node) { c.Quiet = b.duration(v, "quiet") },
		"max_wait":    func(v ast.Node) { c.MaxWait = b.duration(v, "max_wait") },
		"mode":        func(v ast.Node) { c.Mode = b.mode(v) },
	})
	if err := c.Validate(); err != nil && len(b.errs) == before {
		b.errorf(n, "", "coalesce: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return &c
}

// aliases of whole cron expressions, as crontab(5) has them.
var cronWords = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
	"@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// cronStart is where the search for a first tick starts. It is fixed, so that a file compiles to the same on any day; gronx then looks
// centuries ahead.
var cronStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (b *builder) cron(n ast.Node) string {
	text := strings.Join(strings.Fields(b.str(n, "cron")), " ")
	if word, ok := cronWords[text]; ok {
		return word
	}
	if count := len(strings.Fields(text)); count != 5 {
		b.errorf(n, "minute, hour, day of month, month, day of week", "cron must have five fields, got %d", count)
		return ""
	}
	if !gronx.IsValid(text) {
		_, err := gronx.NextTickAfter(text, cronStart, false)
		b.errorf(n, "", "cron %q is not valid: %v", text, err)
		return ""
	}
	if _, err := gronx.NextTickAfter(text, cronStart, false); err != nil {
		b.errorf(n, "", "cron %q never fires", text)
	}
	return text
}

func (b *builder) timezone(n ast.Node) string {
	name := b.str(n, "timezone")
	if name == "Local" {
		b.errorf(n, `write a name such as "Europe/Berlin"`, "timezone Local differs from machine to machine")
	} else if _, err := time.LoadLocation(name); err != nil {
		b.errorf(n, `write a name such as "Europe/Berlin" or "UTC"`, "timezone %q is not known", name)
	}
	return name
}

// pausedWords are those that a file can name.
var pausedWords = []string{string(trigger.PausedHold), string(trigger.PausedDrop), string(trigger.PausedLatest)}

func (b *builder) whenPaused(n ast.Node) trigger.WhenPaused {
	return trigger.WhenPaused(b.oneOf(n, "when_paused", pausedWords))
}

// oneOf reads one of some words.
func (b *builder) oneOf(n ast.Node, what string, words []string) string {
	word := b.scalar(n, what)
	if !slices.Contains(words, word) {
		b.errorf(n, "write one of "+strings.Join(words, ", "), "%s %q is not known", what, word)
	}
	return word
}

// maxJitter bounds the delay of a cron rule's runs.
const maxJitter = time.Hour

func (b *builder) delay(n ast.Node) time.Duration {
	d := b.duration(n, "jitter")
	if d > maxJitter {
		b.errorf(n, "choose another time in cron", "jitter is %v, the limit is %v", d, maxJitter)
	}
	return d
}

// catchupPolicies are those that a file can name.
var catchupPolicies = []string{string(trigger.CatchupAll), string(trigger.CatchupLatest), string(trigger.CatchupSkip)}

// maxWindow bounds how far back a rule catches up: each nominal time within it is computed.
const maxWindow = 31 * 24 * time.Hour

func (b *builder) catchup(n ast.Node) *trigger.Catchup {
	c := trigger.Catchup{Policy: trigger.CatchupAll}
	policy := func(v ast.Node) { c.Policy = trigger.CatchupPolicy(b.oneOf(v, "catchup policy", catchupPolicies)) }
	if _, ok := b.resolve(n).(*ast.StringNode); ok {
		policy(n)
		return &c
	}
	b.mapping(n, "catchup", fields{
		"window": func(v ast.Node) {
			if c.Window = b.duration(v, "window"); c.Window > maxWindow {
				b.errorf(v, "", "catchup window is %v, the limit is %v", c.Window, maxWindow)
			}
		},
		"policy": policy,
	})
	return &c
}

// expression reads the text of a CEL expression.
func (b *builder) expression(n ast.Node, what string) string {
	text := strings.TrimSpace(b.scalar(n, what))
	if expr.HasExpr(text) {
		b.errorf(n, "write the expression alone", "%s is an expression already and takes no ${{ }}", what)
		return ""
	}
	return text
}

func (b *builder) ruleExprs(r *trigger.Rule, at ruleNodes) {
	if r.If != "" {
		if _, err := expr.CompileBool(expr.ScopeRule, r.If); err != nil {
			b.exprErrors(at.filter, "if", err)
		}
	}
	if r.Key != "" {
		if _, err := expr.CompileKey(expr.ScopeRule, r.Key); err != nil {
			b.exprErrors(at.key, "key", err)
		}
	}
}

// checkRules looks at the rules together, and at what they ask of the parameters.
func (b *builder) checkRules() {
	seen := map[string]bool{}
	missing := b.unfilled()
	for i, r := range b.dag.On {
		if seen[r.ID] && r.ID != "" {
			b.errorf(b.rules[i].at, "give each rule its own id", "rule %q stands twice", r.ID)
		}
		seen[r.ID] = true
		if len(missing) > 0 && (r.Kind == trigger.KindBatch || r.Kind == trigger.KindCron) {
			b.errorf(b.rules[i].at, "give it a default", "rule %q starts runs without parameters, but %s is required", r.ID,
				strings.Join(missing, ", "))
			missing = nil // once is enough
		}
	}
}

// unfilled returns the required parameters without a default.
func (b *builder) unfilled() []string {
	var names []string
	for name, p := range b.dag.Params {
		if p.Required && p.Default == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
