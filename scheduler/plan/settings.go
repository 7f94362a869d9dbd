package plan

import (
	"encoding/json"
	"fmt"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// settingsTexts compiles the texts of an operator's settings, by their source.
func settingsTexts(scope expr.Scope, t *scheduler.Task) (map[string]*expr.Text, error) {
	var out map[string]*expr.Text
	for _, src := range t.Texts() {
		if out[src] != nil || !expr.HasExpr(src) {
			continue
		}
		text, err := expr.CompileTextIn(scope, src)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Kind, err)
		}
		if out == nil {
			out = map[string]*expr.Text{}
		}
		out[src] = text
	}
	return out, nil
}

// evaluator is the scheduler.Eval of one attempt.
type evaluator struct {
	texts map[string]*expr.Text
	vars  *expr.Vars
}

// Text implements scheduler.Eval.
func (e evaluator) Text(src string, escape func(string) (string, error)) (string, error) {
	text, err := e.text(src)
	if text == nil || err != nil {
		return src, err
	}
	return text.EvalInto(e.vars, escape)
}

// JSON implements scheduler.Eval.
func (e evaluator) JSON(src string) (json.RawMessage, error) {
	text, err := e.text(src)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return json.Marshal(src)
	}
	return text.JSON(e.vars)
}

// text returns nil for a text without expressions.
func (e evaluator) text(src string) (*expr.Text, error) {
	if !expr.HasExpr(src) {
		return nil, nil
	}
	if text := e.texts[src]; text != nil {
		return text, nil
	}
	return nil, fmt.Errorf("no expressions can stand in %q", src)
}

// settings adds the variables of an operator that has some; they win over all others.
func (r *Run) settings(env map[string]string, task *scheduler.Task, op scheduler.Operator, eval evaluator) error {
	c, ok := op.(scheduler.Configured)
	if !ok {
		return nil
	}
	list, err := c.Settings(task, eval)
	if err != nil {
		return fmt.Errorf("%s: %w", task.Kind, err)
	}
	for _, kv := range list {
		if name, val, ok := strings.Cut(kv, "="); ok {
			env[name] = val
		}
	}
	return nil
}
