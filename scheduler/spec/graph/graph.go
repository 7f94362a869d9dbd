// Package graph draws a DAG as text, for Mermaid and for Graphviz. Drawings are pure functions of the DAG: equal DAGs have equal drawings.
package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/trigger"
)

// Formats are the names that [Draw] knows.
var Formats = []string{"text", "mermaid", "dot"}

// Draw returns the drawing in one of [Formats], with a line end, or an error if it is none of them.
func Draw(d *scheduler.DAG, format string) (string, error) {
	d = drawn(d)
	switch format {
	case "text":
		return text(d), nil
	case "mermaid":
		return mermaid(d), nil
	case "dot":
		return dot(d), nil
	}
	return "", fmt.Errorf("format %q: want %s", format, strings.Join(Formats, ", "))
}

// text draws rules as a list and tasks as a tree. A task with several parents stands below the one that is farthest from the start, and names
// the others.
func text(d *scheduler.DAG) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.ID)
	for _, r := range d.On {
		fmt.Fprintf(&b, "  on %s: %s\n", r.ID, ruleText(r))
	}
	if len(d.On) == 0 {
		b.WriteString("  started by people only\n")
	}
	below := map[string][]*scheduler.Task{}
	depth := depths(d)
	for i := range d.Tasks {
		t := &d.Tasks[i]
		parent := ""
		for _, need := range t.Needs {
			if parent == "" || depth[need] > depth[parent] {
				parent = need
			}
		}
		below[parent] = append(below[parent], t)
	}
	branch(&b, below, "", "")
	return b.String()
}

// depths is how many tasks come before each, on the longest way.
func depths(d *scheduler.DAG) map[string]int {
	out := make(map[string]int, len(d.Tasks))
	var of func(id string) int
	of = func(id string) int { // ends, since a compiled DAG has no cycle
		if n, ok := out[id]; ok {
			return n
		}
		n := 0
		if t := d.Task(id); t != nil {
			for _, need := range t.Needs {
				n = max(n, of(need)+1)
			}
		}
		out[id] = n
		return n
	}
	for i := range d.Tasks {
		of(d.Tasks[i].ID)
	}
	return out
}

func branch(b *strings.Builder, below map[string][]*scheduler.Task, parent, indent string) {
	tasks := below[parent]
	for i, t := range tasks {
		arm, next := "├─ ", "│  "
		if i == len(tasks)-1 {
			arm, next = "└─ ", "   "
		}
		fmt.Fprintf(b, "%s%s%s", indent, arm, t.ID)
		if notes := taskNotes(t, parent); len(notes) > 0 {
			fmt.Fprintf(b, "  (%s)", strings.Join(notes, "; "))
		}
		b.WriteString("\n")
		branch(b, below, t.ID, indent+next)
	}
}

// taskNotes is what the tree does not show of a task.
func taskNotes(t *scheduler.Task, parent string) []string {
	var notes []string
	if t.Group != "" {
		notes = append(notes, "in "+t.Group)
	}
	others := slices.DeleteFunc(slices.Clone(t.Needs), func(id string) bool { return id == parent })
	if len(others) > 0 {
		notes = append(notes, "also after "+strings.Join(others, ", "))
	}
	if t.Rule != "" {
		notes = append(notes, "if "+t.Rule)
	}
	if t.Foreach != nil {
		notes = append(notes, "foreach "+oneLine(t.Foreach.Items))
	}
	if t.When != "" {
		notes = append(notes, "when "+oneLine(t.When))
	}
	return notes
}

// ruleText says in a line what starts runs.
func ruleText(r trigger.Rule) string {
	switch r.Kind {
	case trigger.KindCron:
		return fmt.Sprintf("cron %s, %s", r.Cron, cmp.Or(r.Timezone, "UTC"))
	case trigger.KindManual:
		return "by hand"
	}
	if r.Joins() {
		text := "all of " + strings.Join(r.AllOf, ", ")
		if r.Expire > 0 {
			text += fmt.Sprintf(", within %v", r.Expire)
		}
		return text
	}
	parts := []string{"batches of " + cmp.Or(strings.Replace(r.Source, "*", "", 1), "every source")}
	if r.Tenant != "" {
		parts = append(parts, "tenant "+r.Tenant)
	}
	if len(r.Types) > 0 {
		parts = append(parts, "with "+strings.Join(r.Types, " or "))
	}
	if r.If != "" {
		parts = append(parts, "if "+oneLine(r.If))
	}
	if c := r.Coalesce; c != nil {
		parts = append(parts, "several in one run")
		if r.Key != "" {
			parts = append(parts, "by "+oneLine(r.Key))
		}
	}
	if r.Order != "" {
		parts = append(parts, string(r.Order))
	}
	if r.OnlyJoined {
		parts = append(parts, "for joins only")
	}
	return strings.Join(parts, ", ")
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// mermaid draws a flowchart. Nodes have numbers for names, since ids may be words of the language ("end").
func mermaid(d *scheduler.DAG) string {
	var b strings.Builder
	quote := strings.NewReplacer("#", "#35;", "&", "#amp;", `"`, "#quot;", "<", "#lt;", ">", "#gt;") // the language's own escapes
	fmt.Fprintf(&b, "%%%% %s\nflowchart LR\n", d.ID)
	number := map[string]int{}
	for i, t := range d.Tasks {
		number[t.ID] = i
		fmt.Fprintf(&b, "  t%d[\"%s\"]\n", i, quote.Replace(label(&t, " · ")))
	}
	for i, g := range d.Groups {
		fmt.Fprintf(&b, "  subgraph g%d [\"%s\"]\n", i, quote.Replace(groupLabel(g)))
		for _, t := range d.Tasks {
			if t.Group == g.ID {
				fmt.Fprintf(&b, "    t%d\n", number[t.ID])
			}
		}
		b.WriteString("  end\n")
	}
	for i, r := range d.On {
		fmt.Fprintf(&b, "  r%d([\"%s\"])\n", i, quote.Replace(r.ID+": "+ruleText(r)))
		for j, t := range d.Tasks {
			if len(t.Needs) == 0 {
				fmt.Fprintf(&b, "  r%d -.-> t%d\n", i, j)
			}
		}
	}
	for i, t := range d.Tasks {
		for _, need := range t.Needs {
			fmt.Fprintf(&b, "  t%d --> t%d\n", number[need], i)
		}
	}
	return b.String()
}

// label names a task, and its join rule if it is not the common one.
func label(t *scheduler.Task, sep string) string {
	if t.Rule == "" {
		return t.ID
	}
	return t.ID + sep + t.Rule
}

func groupLabel(g scheduler.Group) string {
	if g.Description == "" {
		return g.ID
	}
	return g.ID + ": " + oneLine(g.Description)
}

// dot draws for Graphviz.
func dot(d *scheduler.DAG) string {
	var b strings.Builder
	quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
	fmt.Fprintf(&b, "digraph %s {\n  rankdir=LR;\n  node [shape=box];\n", quote(d.ID))
	for _, t := range d.Tasks {
		fmt.Fprintf(&b, "  %s [label=%s];\n", quote(t.ID), quote(label(&t, " · ")))
	}
	for i, g := range d.Groups { // Graphviz draws a box around what is called cluster
		fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=%s;\n", i, quote(groupLabel(g)))
		for _, t := range d.Tasks {
			if t.Group == g.ID {
				fmt.Fprintf(&b, "    %s;\n", quote(t.ID))
			}
		}
		b.WriteString("  }\n")
	}
	for _, r := range d.On {
		name := quote("on " + r.ID)
		fmt.Fprintf(&b, "  %s [shape=oval, label=%s];\n", name, quote(r.ID+": "+ruleText(r)))
		for _, t := range d.Tasks {
			if len(t.Needs) == 0 {
				fmt.Fprintf(&b, "  %s -> %s [style=dashed];\n", name, quote(t.ID))
			}
		}
	}
	for _, t := range d.Tasks {
		for _, need := range t.Needs {
			fmt.Fprintf(&b, "  %s -> %s;\n", quote(need), quote(t.ID))
		}
	}
	return b.String() + "}\n"
}
