package configs

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Hidden is what values show of a secret that is written out.
const Hidden = stars

// Value is one effective setting.
type Value struct {
	Path   string `json:"path"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
	// Line is where it stands in the file, if that is its origin.
	Line int `json:"line,omitempty"`
}

// Values lists every setting in the order of the configuration, secrets hidden, with where it came from.
func (l *Loaded) Values() []Value {
	var out []Value
	l.collect("", reflect.ValueOf(l.Config), &out)
	return out
}

func (l *Loaded) collect(path string, v reflect.Value, out *[]Value) {
	switch {
	case named(path) && v.IsZero(): // most keys of most sources
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			l.collect(join(path, v.Type().Field(i).Tag.Get("yaml")), v.Field(i), out)
		}
	case v.Kind() == reflect.Map && v.Len() > 0:
		values := map[string]reflect.Value{}
		for _, k := range v.MapKeys() {
			values[k.String()] = v.MapIndex(k)
		}
		for _, k := range slices.Sorted(maps.Keys(values)) {
			l.collect(join(path, k), values[k], out)
		}
	default:
		set := Value{Path: path, Value: plainTree(v), Origin: l.originOf(path)}
		if hidden(path) {
			set.Value = stars
		}
		if set.Origin == originFile {
			set.Line = l.places[path].line
		}
		*out = append(*out, set)
	}
}

// plainTree returns a value for JSON: mappings in lists are maps, everything else is as printable makes it.
func plainTree(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		out := []any{}
		for i := range v.Len() {
			out = append(out, plainTree(v.Index(i)))
		}
		return out
	case v.Kind() == reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				out[v.Type().Field(i).Tag.Get("yaml")] = plainTree(f)
			}
		}
		return out
	}
	return printable(v.Interface())
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (l *Loaded) originOf(path string) string {
	if o, ok := l.Origin[path]; ok {
		return o
	}
	return "default"
}

// printable turns a value into what encoders print as the configuration writes it.
func printable(v any) any {
	switch v := v.(type) {
	case Size:
		if v == 0 {
			return 0
		}
		return v.String()
	case SecretRef:
		return v.String()
	case []SecretRef:
		out := make([]string, len(v))
		for i, r := range v {
			out[i] = r.String()
		}
		return out
	case time.Duration:
		return FormatDuration(v)
	}
	if text := reflect.ValueOf(v); text.Kind() == reflect.String { // of a type with a name
		return text.String()
	}
	return v
}

// named reports whether a path is below a name that people chose: of a source, or of a notifier.
func named(path string) bool {
	return strings.HasPrefix(path, "sources.") || strings.HasPrefix(path, "notify.")
}

// tree returns a value as nested mappings in the order of their keys. Of a source, a notifier and mappings in lists, it leaves out what is not set.
func tree(path string, v reflect.Value) any {
	out := yaml.MapSlice{}
	switch {
	case hidden(path):
		return stars
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			key := v.Type().Field(i).Tag.Get("yaml")
			if !named(path) || !v.Field(i).IsZero() {
				out = append(out, yaml.MapItem{Key: key, Value: tree(join(path, key), v.Field(i))})
			}
		}
		return out
	case v.Kind() == reflect.Map:
		for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			out = append(out, yaml.MapItem{Key: k.String(), Value: tree(join(path, k.String()), v.MapIndex(k))})
		}
		return out
	case v.Kind() == reflect.Slice && v.Len() == 0:
		return []string{}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		list := []any{}
		for i := range v.Len() {
			list = append(list, tree(path, v.Index(i)))
		}
		return list
	}
	return printable(v.Interface())
}

// toYAML writes a value; what can not be written is a fault of this package.
func toYAML(v any) string {
	b, err := yaml.Marshal(v)
	if err != nil {
		panic("configs: " + err.Error())
	}
	return string(b)
}

// Show writes the effective configuration as YAML, or, with origin, a line for each setting that says where it came from.
func (l *Loaded) Show(w io.Writer, origin bool) error {
	if !origin {
		_, err := io.WriteString(w, toYAML(tree("", reflect.ValueOf(l.Config))))
		return err
	}
	for _, v := range l.Values() {
		value, err := yaml.MarshalWithOptions(v.Value, yaml.Flow(true))
		if err != nil {
			return fmt.Errorf("print %s: %w", v.Path, err)
		}
		origin := v.Origin
		if v.Line > 0 {
			origin = fmt.Sprintf("file %s:%d", l.File, v.Line)
		}
		if _, err := fmt.Fprintf(w, "%-36s %-28s # %s\n", v.Path+":", strings.TrimSpace(string(value)), origin); err != nil {
			return err
		}
	}
	return nil
}
