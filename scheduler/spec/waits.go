package spec

import (
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/trigger"
)

// The kinds of warnings about joins.
const (
	// WarnJoinKeys: the sides of a join have keys that are written in different ways, so they may never have the same value.
	WarnJoinKeys = "join-keys"
	// WarnNoExpire: a join has no bound in time, so a batch whose partner never comes waits for ever.
	WarnNoExpire = "no-expire"
)

// orders and modes are the words that a file can name.
var (
	orders = []string{string(trigger.OrderFIFO), string(trigger.OrderLIFO), string(trigger.OrderLatestOnly)}
	modes  = []string{string(trigger.CoalesceAll), string(trigger.CoalesceLatest)}
)

// joinNodes are where the parts of a rule stand that say what its batches wait for.
type joinNodes struct {
	allOf, expire, order, onlyJoined ast.Node
}

func (b *builder) waitFields(r *trigger.Rule, at *joinNodes) fields {
	return fields{
		"all_of": func(v ast.Node) { at.allOf = v; b.allOf(v, r) },
		"expire": func(v ast.Node) {
			if at.expire, r.Expire = v, b.duration(v, "expire"); r.Expire == 0 {
				b.errorf(v, "leave it out for joins that wait for ever", "expire must be more than 0")
			}
		},
		"order":       func(v ast.Node) { at.order, r.Order = v, trigger.Order(b.oneOf(v, "order", orders)) },
		"only_joined": func(v ast.Node) { at.onlyJoined, r.OnlyJoined = v, b.boolean(v, "only_joined") },
	}
}

func (b *builder) allOf(n ast.Node, r *trigger.Rule) {
	for _, v := range b.list(n, "all_of", false) {
		id := b.id(v, "all_of")
		if slices.Contains(r.AllOf, id) {
			b.errorf(v, "", "all_of names rule %q twice", id)
			continue
		}
		r.AllOf = append(r.AllOf, id)
	}
	if len(r.AllOf) < 2 || len(r.AllOf) > trigger.MaxSides {
		b.errorf(n, "write it like [clicks, orders]", "all_of needs 2 to %d rules of this DAG, and has %d", trigger.MaxSides, len(r.AllOf))
	}
}

func (b *builder) mode(n ast.Node) trigger.CoalesceMode {
	mode := trigger.CoalesceMode(b.oneOf(n, "mode", modes))
	if mode == trigger.CoalesceAll {
		return "" // is the default, and has one spelling in the compiled form
	}
	return mode
}

// waitKind refuses keys that mean nothing for what the rule is.
func (b *builder) waitKind(r *trigger.Rule, at *ruleNodes) {
	join := at.allOf != nil
	for key, node := range map[string]ast.Node{"if": at.filter, "key": at.key, "coalesce": at.coalesce, "order": at.order, "only_joined": at.onlyJoined} {
		if join && node != nil {
			b.errorf(node, "write it at the rules that all_of names", "%s has no meaning for a join", key)
		}
	}
	for key, node := range map[string]ast.Node{"order": at.order, "only_joined": at.onlyJoined} {
		if node != nil && r.Kind != trigger.KindBatch {
			b.errorf(node, "", "%s has a meaning for %s rules only", key, trigger.KindBatch)
		}
	}
	if at.expire != nil && !join {
		b.errorf(at.expire, "", "expire has a meaning for rules with all_of only")
	}
	if r.Order == trigger.OrderLatestOnly && at.coalesce != nil {
		b.errorf(at.order, "write mode: latest in coalesce for the newest of each group", "order: latest_only does not go with coalesce")
	}
}

// checkWaits looks at what rules wait for, when all of them are known.
func (b *builder) checkWaits() {
	b.checkGate()
	joined := map[string]bool{}
	for i := range b.dag.On {
		for _, side := range b.dag.On[i].AllOf {
			joined[side] = true
		}
	}
	for i := range b.dag.On {
		r, at := &b.dag.On[i], b.rules[i].rule
		if r.Joins() {
			b.checkJoin(r, at)
		}
		if r.OnlyJoined && !joined[r.ID] {
			b.errorf(at.onlyJoined, "remove it, or name the rule in all_of", "rule %q starts nothing: it has only_joined, and no rule joins it", r.ID)
		}
		if r.OnlyJoined && (at.order != nil || at.coalesce != nil) {
			b.errorf(at.onlyJoined, "remove them, or only_joined", "order and coalesce of rule %q have no effect: they are about runs of its own", r.ID)
		}
		if c := b.dag.Concurrency; r.Order == trigger.OrderLIFO && (c == nil || c.WhenFull != "") {
			b.errorf(at.order, "add concurrency, or remove order", "order: lifo has no effect: it is about runs that wait in the queue of a concurrency group")
		}
	}
}

// foreseen are the expressions of a concurrency group that have their value before there is a run.
var foreseen = regexp.MustCompile(`\$\{\{\s*(trigger\.lane_key|trigger\.rule|trigger\.kind|run\.dag)\s*\}\}`)

// checkGate looks at groups for which batches wait instead of runs.
func (b *builder) checkGate() {
	c := b.dag.Concurrency
	if c == nil {
		return
	}
	what := "when_full: coalesce"
	for i := range b.dag.On {
		if b.dag.On[i].Order != trigger.OrderLatestOnly {
			continue
		}
		if c.WhenFull != "" && c.WhenFull != scheduler.WhenFullCoalesce {
			b.errorf(b.rules[i].rule.order, "remove when_full, or order", "order: latest_only lets batches wait for a place, so when_full: %s would never happen", c.WhenFull)
		}
		if c.WhenFull != scheduler.WhenFullCoalesce {
			what = "order: latest_only"
		}
	}
	if what != "order: latest_only" && c.WhenFull != scheduler.WhenFullCoalesce {
		return
	}
	if b.limits.group != nil && strings.Contains(foreseen.ReplaceAllString(c.Group, ""), "${{") {
		b.errorf(b.limits.group, "write ${{ trigger.lane_key }}, and what it depends on as key of the rules",
			"group: with %s the group of a run is asked for when its batches are not known, so only trigger.lane_key and trigger.rule can stand here", what)
	}
}

// checkJoin looks at the sides of a join.
func (b *builder) checkJoin(r *trigger.Rule, at ruleNodes) {
	nodes := b.list(at.allOf, "all_of", false)
	var keyed, keyless []string
	for i, side := range r.AllOf {
		j := slices.IndexFunc(b.dag.On, func(o trigger.Rule) bool { return o.ID == side })
		var names []string
		for _, o := range b.dag.On {
			if o.Kind == trigger.KindBatch && !o.Joins() {
				names = append(names, o.ID)
			}
		}
		if j < 0 {
			hint := suggest(side, names)
			if hint == "" && len(names) > 0 {
				hint = "there is " + strings.Join(names, ", ")
			}
			b.errorf(nodes[min(i, len(nodes)-1)], hint, "all_of names rule %q, which this DAG does not have", side)
			continue
		}
		o := &b.dag.On[j]
		switch {
		case o.Kind != trigger.KindBatch || o.Joins():
			b.errorf(nodes[min(i, len(nodes)-1)], "name rules with batch", "all_of joins batches, and rule %q is not about them by itself", side)
		case o.Coalesce != nil:
			b.errorf(b.rules[j].rule.coalesce, "make it two rules, one with coalesce and one that is joined",
				"rule %q is a side of join %q, which takes batches one by one, so coalesce is not permitted there", side, r.ID)
		case o.Key == "":
			keyless = append(keyless, side)
		default:
			keyed = append(keyed, side)
		}
	}
	if len(keyed) > 0 && len(keyless) > 0 {
		b.errorf(at.allOf, "give each of them a key, or none", "join %q can never fire: rule %s has a key and rule %s has none, so their batches never have the same",
			r.ID, keyed[0], keyless[0])
	}
}

// lintJoin warns of joins that may never fire, or wait for ever.
func (b *builder) lintJoin(r *trigger.Rule, at ruleNodes) {
	keys := map[string]string{} // the first side with this key
	var first string
	for _, side := range r.AllOf {
		j := slices.IndexFunc(b.dag.On, func(o trigger.Rule) bool { return o.ID == side })
		key := strings.Join(strings.Fields(b.dag.On[j].Key), " ")
		if first == "" {
			first, keys[key] = side, side
			continue
		}
		if keys[key] == "" {
			keys[key] = side
			b.warnf(at.allOf, WarnJoinKeys, "", "join %q fires only if key of rule %q, %s, has the value of that of rule %q, %s", r.ID, first,
				b.keyOf(first), side, b.keyOf(side))
		}
	}
	if r.Expire == 0 {
		b.warnf(at.allOf, WarnNoExpire, "add expire: 24h", "join %q has no bound in time: a batch whose other side never comes waits for ever", r.ID)
	}
}

func (b *builder) keyOf(rule string) string {
	j := slices.IndexFunc(b.dag.On, func(o trigger.Rule) bool { return o.ID == rule })
	return b.dag.On[j].Key
}

// usesKey reports whether something but coalesce uses the key of a rule.
func usesKey(d *scheduler.DAG, id string) bool {
	return slices.ContainsFunc(d.On, func(r trigger.Rule) bool {
		return slices.Contains(r.AllOf, id) || r.ID == id && r.Order.Cursored()
	})
}
