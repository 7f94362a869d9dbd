package spec

import (
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// foreachKeys are those of a mapped task.
var foreachKeys = []Key{
	is("tasks.*.foreach", expression.or("mapping"), "The task runs once for each element of a list, which it stands for: see foreach.md."),
	is("tasks.*.foreach.items", expression, "The list, or a map, whose entries then are {key, value}. It is about params, batch, batches, inputs, totals, trigger, run and tasks. Required."),
	is("tasks.*.foreach.as", anyID, "What expressions of the task call an element. Default: item."),
	is("tasks.*.foreach.key", expression, "What people are shown of an element, such as its name. It is about the element and what items is about. Default: nothing."),
	is("tasks.*.foreach.max_concurrent", count(scheduler.MaxItems), "So many of them wait for a slot or run at once. Default: all."),
	is("tasks.*.foreach.tolerate_failures", tolerance, "So many of them, or such a part of all (5%), may fail without the task failing. Default: none."),
}

var tolerance = value{"whole number or percentage", node{"anyOf": []node{
	{"type": "integer", "minimum": 0, "maximum": scheduler.MaxItems}, {"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? *%$`},
}}}

// foreach reads the expression of a list, or {items, as, key, max_concurrent, tolerate_failures}.
func (b *builder) foreach(n ast.Node, task string) *scheduler.Foreach {
	f := &scheduler.Foreach{}
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		f.Items = b.items(n, task)
		return f
	}
	var items, key ast.Node
	b.mapping(n, "foreach", fields{
		"items":             func(v ast.Node) { items = v; f.Items = b.items(v, task) },
		"as":                func(v ast.Node) { f.As = b.itemName(v) },
		"key":               func(v ast.Node) { key = v },
		"max_concurrent":    func(v ast.Node) { f.MaxConcurrent = b.maxConcurrent(v) },
		"tolerate_failures": func(v ast.Node) { b.tolerance(v, f) },
	})
	if items == nil {
		b.errorf(n, "add items: inputs.objects, or another list", "foreach of task %q has no items", task)
	}
	if key != nil {
		f.Key = b.itemKey(key, f, task)
	}
	return f
}

// itemOf returns what the task whose mapping is n calls its items, "" if it is not mapped. It is asked before anything else of the task is read, since
// foreach may stand below the keys that use the name.
func (b *builder) itemOf(n ast.Node) string {
	for _, p := range b.pairs(n, "") {
		if p.key != "foreach" {
			continue
		}
		switch b.resolve(p.value).(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
		default:
			return scheduler.DefaultItem
		}
		for _, q := range b.pairs(p.value, "foreach") {
			if v, ok := b.resolve(q.value).(*ast.StringNode); ok && q.key == "as" && expr.CheckItemName(v.Value) == nil {
				return v.Value
			}
		}
		return scheduler.DefaultItem
	}
	return ""
}

// scope is that of the expressions of the task in hand.
func (b *builder) scope() expr.Scope {
	if b.item == "" {
		return expr.ScopeTask
	}
	return expr.ScopeItem(b.item)
}

func (b *builder) items(n ast.Node, task string) string {
	src := strings.TrimSpace(b.scalar(n, "items"))
	if src == "" {
		return ""
	}
	prg, err := expr.CompileItems(src)
	if err != nil {
		b.exprErrors(n, "items", err)
		return src
	}
	b.exprs = append(b.exprs, usedExpr{at: n, task: task, what: "items", refs: prg.Refs()})
	return src
}

func (b *builder) itemName(n ast.Node) string {
	name := b.scalar(n, "as")
	if name == "" {
		return ""
	}
	if err := expr.CheckItemName(name); err != nil {
		b.errorf(n, "take a name such as obj or row", "as: %v", err)
		return ""
	}
	if name == scheduler.DefaultItem {
		return "" // has one spelling in the compiled form
	}
	return name
}

func (b *builder) itemKey(n ast.Node, f *scheduler.Foreach, task string) string {
	src := b.expression(n, "key")
	if src == "" {
		return ""
	}
	prg, err := expr.CompileKeyText(expr.ScopeItem(f.Name()), src)
	if err != nil {
		b.exprErrors(n, "key", err)
		return src
	}
	b.exprs = append(b.exprs, usedExpr{at: n, task: task, what: "key", refs: prg.Refs()})
	if !prg.UsesItem() {
		b.errorf(n, "name the item in it: "+f.Name()+".uri", "key is the same for every item")
	}
	return src
}

func (b *builder) maxConcurrent(n ast.Node) int {
	most := int(b.integer(n, "max_concurrent", scheduler.MaxItems))
	if most == 0 {
		b.errorf(n, "leave it out for all at once", "max_concurrent must be at least 1")
	}
	return most
}

// tolerance reads 3 or "5%".
func (b *builder) tolerance(n ast.Node, f *scheduler.Foreach) {
	if _, ok := b.resolve(n).(*ast.IntegerNode); ok {
		f.Tolerate = int(b.integer(n, "tolerate_failures", scheduler.MaxItems))
		return
	}
	text := b.str(n, "tolerate_failures")
	if text == "" {
		return
	}
	part, found := strings.CutSuffix(strings.TrimSpace(text), "%")
	num, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
	if !found || err != nil || math.IsNaN(num) || num < 0 || num > 100 {
		b.errorf(n, "write 3, or 5%", "tolerate_failures is %q, want a number, or a percentage from 0%% to 100%%", text)
		return
	}
	f.TolerancePercent = num
}
