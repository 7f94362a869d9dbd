package dagfactory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	yaml "github.com/goccy/go-yaml"
)

// class returns the last part of a Python path: BashOperator of airflow.operators.bash.BashOperator.
func class(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// units of datetime.timedelta and of timedelta schedules.
var timeUnits = map[string]time.Duration{
	"weeks": 7 * 24 * time.Hour, "days": 24 * time.Hour, "hours": time.Hour, "minutes": time.Minute, "seconds": time.Second,
	"milliseconds": time.Millisecond, "microseconds": time.Microsecond,
}

// duration reads seconds, or a mapping with the units of a timedelta.
func duration(n *node) (time.Duration, bool) {
	switch n.kind {
	case scalar:
		seconds, err := strconv.ParseFloat(n.text, 64)
		return time.Duration(seconds * float64(time.Second)), err == nil && seconds >= 0 && seconds < 1e9
	case mapping:
		if t := n.get("__type__"); t != nil && class(t.text) != "timedelta" {
			return 0, false
		}
		var total time.Duration
		for _, f := range n.fields {
			if f.key == "__type__" || f.key == "type" {
				continue
			}
			unit, number := timeUnits[f.key], 0.0
			if f.key == "value" {
				return duration(f.value)
			}
			number, err := strconv.ParseFloat(f.value.text, 64)
			if unit == 0 || err != nil || number < 0 || math.Abs(number*float64(unit)) > 1e18 {
				return 0, false
			}
			total += time.Duration(number * float64(unit))
		}
		return total, total > 0
	}
	return 0, false
}

// short writes a duration as people do: 1h30m instead of 1h30m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// everyCron returns the cron expression for ticks a duration apart, if they are at the same times of each hour, or day.
func everyCron(d time.Duration) (string, bool) {
	minutes, hours := int(d/time.Minute), int(d/time.Hour)
	switch {
	case d <= 0 || d%time.Minute != 0:
	case d < time.Hour && 60%minutes == 0:
		return fmt.Sprintf("*/%d * * * *", minutes), true
	case d == time.Hour:
		return "0 * * * *", true
	case d < 24*time.Hour && d%time.Hour == 0 && 24%hours == 0:
		return fmt.Sprintf("0 */%d * * *", hours), true
	case d == 24*time.Hour:
		return "0 0 * * *", true
	case d == 7*24*time.Hour:
		return "0 0 * * 0", true
	}
	return "", false
}

// plain returns the value as JSON has it.
func (n *node) plain() any {
	switch n.kind {
	case sequence:
		out := []any{}
		for _, item := range n.items {
			out = append(out, item.plain())
		}
		return out
	case mapping:
		out := map[string]any{}
		for _, f := range n.fields {
			out[f.key] = f.value.plain()
		}
		return out
	case null:
		return nil
	}
	if n.str {
		return n.text
	}
	if n.is("true", "false") {
		return n.is("true")
	}
	if i, err := strconv.ParseInt(n.text, 0, 64); err == nil {
		return i
	}
	if x, err := strconv.ParseFloat(n.text, 64); err == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
		return x
	}
	return n.text
}

// json returns a value as compact JSON.
func (n *node) json() string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(n.plain()); err != nil {
		return "null"
	}
	return strings.TrimSpace(b.String())
}

// render writes a document, with what was lost on top.
func (c *converter) render(name string, doc yaml.MapSlice) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# From the dag-factory file %s, DAG %s.\n", oneLine(c.file), oneLine(name))
	for _, f := range c.findings {
		if f.DAG == name && f.Kind == Loss {
			fmt.Fprintf(&b, "# NOT IMPORTED, line %d: %s: %s\n", f.Line, oneLine(f.What), oneLine(f.Why))
		}
	}
	body, err := yaml.MarshalWithOptions(doc, yaml.Indent(2), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return nil, fmt.Errorf("write dag %s: %w", name, err)
	}
	b.Write(bytes.Replace(body, []byte("\n\"on\":"), []byte("\non:"), 1)) // a bool in YAML 1.1 only
	return b.Bytes(), nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
