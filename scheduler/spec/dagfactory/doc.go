// Package dagfactory turns DAGs that are described in YAML for Airflow, as the Python package dag-factory reads it, into DAG files of millrace.
//
//	file ──▶ nodes with lines ──▶ defaults merged in ──▶ DAG by DAG: keys, groups, tasks ──▶ YAML, which is compiled to be sure of it
//
// It guarantees that nothing is left out in silence: what has no counterpart is in the report, with its line and the reason. A [Loss] changes
// what a run does; a [Note] does not (how a page looked), or says what to know. A task that can not be converted becomes one that fails at
// once and says why, so that the others keep their places in the graph. What is written compiles; a DAG that does not is a loss as a whole.
//
// It reads no Python and imports nothing: a callable is named in the command that runs it. It is a pure function of its inputs, and costs time
// and memory in proportion to what the files have; aliases are followed as far as [maxNodes].
package dagfactory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"millrace/scheduler/spec"
)

// Kind says how much a finding matters.
type Kind string

// The kinds of findings.
const (
	Loss Kind = "lost" // runs would do something else
	Note Kind = "note" // nothing that a run does
)

// Finding is something that did not go over as it stands.
type Finding struct {
	Kind Kind   `json:"kind"`
	File string `json:"file"`
	// Line counts from 1, 0 is the file as a whole.
	Line int    `json:"line"`
	DAG  string `json:"dag,omitempty"`
	// What is the key, Why the reason and what to do.
	What string `json:"what"`
	Why  string `json:"why"`
}

// String returns "file:line: dag: what: why".
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", f.File, f.Line, cmp.Or(f.DAG, "file"), f.What, f.Why)
}

// DAG is one that was converted.
type DAG struct {
	// ID is millrace's; Name was Airflow's.
	ID, Name string
	// Text is the DAG file. Lost says that there are losses among the findings of it.
	Text []byte
	Lost bool
}

// Convert reads a file. defaults, which may be nil, is the text of the defaults.yml that dag-factory finds beside it. The DAGs come in the order
// of the file, the findings in that of their lines. The error is that of a file that is no YAML, or too large.
func Convert(file string, src, defaults []byte) ([]DAG, []Finding, error) {
	root, err := parse(file, src)
	if err != nil {
		return nil, nil, err
	}
	base, err := parse("defaults.yml", defaults)
	if err != nil {
		return nil, nil, err
	}
	c := &converter{file: file}
	if own := root.get("default"); own != nil {
		base = merge(own, base)
	}
	var out []DAG
	for _, f := range root.fields {
		switch {
		case f.key == "default", strings.HasPrefix(f.key, "x-"): // what others refer to
		case strings.HasPrefix(f.key, "__"):
			c.lost(f.at, f.key, "it is taken from another file: put what it has into this one")
		case f.value.kind != mapping:
			c.lost(f.at, f.key, "a DAG is a mapping of keys and values")
		default:
			out = append(out, c.dag(f.key, f.at, merge(f.value, base)))
		}
	}
	if len(out) == 0 && len(c.findings) == 0 {
		c.lost(place{file: file}, "the file", "there is no DAG in it")
	}
	slices.SortStableFunc(c.findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return out, c.findings, nil
}

// converter collects findings of a file.
type converter struct {
	file     string
	name     string // of the DAG that it is at
	findings []Finding
}

func (c *converter) lost(at place, what, why string) { c.add(Loss, at, what, why) }
func (c *converter) note(at place, what, why string) { c.add(Note, at, what, why) }

// add notes a finding. The same one in what several DAGs share is named for each: each loses it.
func (c *converter) add(kind Kind, at place, what, why string) {
	f := Finding{Kind: kind, File: at.file, Line: at.line, DAG: c.name, What: what, Why: why}
	if !slices.Contains(c.findings, f) {
		c.findings = append(c.findings, f)
	}
}

// dag converts one DAG.
func (c *converter) dag(name string, at place, n *node) DAG {
	c.name = name
	defer func() { c.name = "" }()
	out := DAG{Name: name, ID: c.id(at, name, "DAG")}
	b := &builder{converter: c, src: n, ids: map[string]string{}}
	doc := b.build(out.ID)
	text, err := c.render(name, doc)
	if err == nil {
		_, err = spec.Compile(out.ID+".yaml", text)
	}
	if err != nil {
		c.lost(at, name, "what it becomes does not compile: "+strings.ReplaceAll(err.Error(), "\n", "; "))
		text = nil
	}
	out.Text = text
	out.Lost = slices.ContainsFunc(c.findings, func(f Finding) bool { return f.DAG == name && f.Kind == Loss })
	return out
}

// id makes a name one of millrace's.
func (c *converter) id(at place, name, what string) string {
	if spec.CheckID(name) == nil {
		return name
	}
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name)
	id = strings.TrimLeft(id, "_-")
	id = cmp.Or(id[:min(len(id), 63)], "unnamed")
	c.note(at, name, "the "+what+" is called "+id+": an id has letters, digits, _ and -")
	return id
}
