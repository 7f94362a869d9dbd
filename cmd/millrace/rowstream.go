package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// rowStream prints rows as they come, in the format asked for: a table whose columns are as wide as the first row needs, JSON objects line by
// line, one JSON array that is closed at the end, or YAML documents.
type rowStream[T any] struct {
	g    *global
	name func(T) string
	cols []column[T]
	// widths are those of all columns but the last; nil: as the first row needs.
	widths []int
	rows   int
}

func newRowStream[T any](g *global, name func(T) string, cols []column[T]) *rowStream[T] {
	return &rowStream[T]{g: g, name: name, cols: cols}
}

// print writes one row. raw, if any, is what machines get instead of it.
func (s *rowStream[T]) print(v T, raw ...json.RawMessage) error {
	s.rows++
	var machine any = v
	if len(raw) > 0 {
		machine = raw[0]
	}
	w := s.g.out
	switch s.g.output {
	case "json":
		b, err := json.MarshalIndent(machine, "  ", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n  %s", map[bool]string{true: "[", false: ","}[s.rows == 1], b)
		return err
	case "jsonl":
		return json.NewEncoder(w).Encode(machine)
	case "yaml":
		if _, err := io.WriteString(w, "---\n"); err != nil {
			return err
		}
		return printYAML(w, machine)
	case "name":
		_, err := fmt.Fprintln(w, s.name(v))
		return err
	}
	return s.line(v)
}

// line writes one row of the table.
func (s *rowStream[T]) line(v T) error {
	cells, heads := make([]string, len(s.cols)), make([]string, len(s.cols))
	for i, c := range s.cols {
		cells[i], heads[i] = c.cell(v), c.head
	}
	if s.widths == nil {
		for i := range s.cols {
			s.widths = append(s.widths, max(len(cells[i]), len(heads[i])))
		}
	}
	if s.rows == 1 && !s.g.noHead {
		if err := s.pad(heads); err != nil {
			return err
		}
	}
	return s.pad(cells)
}

func (s *rowStream[T]) pad(cells []string) error {
	var b strings.Builder
	for i, c := range cells {
		if i < len(cells)-1 {
			fmt.Fprintf(&b, "%-*s  ", s.widths[i], c)
		} else {
			b.WriteString(c)
		}
	}
	_, err := fmt.Fprintln(s.g.out, b.String())
	return err
}

// end closes what has to be closed.
func (s *rowStream[T]) end() error {
	if s.g.output != "json" {
		return nil
	}
	text := "\n]\n"
	if s.rows == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(s.g.out, text)
	return err
}
