package configs

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Value is one effective setting.
type Value struct {
	Path   string `json:"path"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// Values lists every setting in the order of the configuration, secrets hidden, with where it came from.
func (l *Loaded) Values() []Value {
	var out []Value
	l.collect("", reflect.ValueOf(l.Config), &out)
	return out
}

func (l *Loaded) collect(path string, v reflect.Value, out *[]Value) {
	switch {
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
		*out = append(*out, Value{Path: path, Value: printable(v.Interface()), Origin: l.originOf(path)})
	}
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
		return v.String()
	case SecretRef:
		return v.String()
	case []SecretRef:
		out := make([]string, len(v))
		for i, r := range v {
			out[i] = r.String()
		}
		return out
	case fmt.Stringer: // durations
		return v.String()
	}
	return v
}

// Show writes the effective configuration as YAML, or, with origin, a line for each setting that says where it came from.
func (l *Loaded) Show(w io.Writer, origin bool) error {
	if !origin {
		b, err := yaml.Marshal(&l.Config)
		if err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
	for _, v := range l.Values() {
		value, err := yaml.MarshalWithOptions(v.Value, yaml.Flow(true))
		if err != nil {
			return fmt.Errorf("print %s: %w", v.Path, err)
		}
		if _, err := fmt.Fprintf(w, "%-36s %-28s # %s\n", v.Path+":", strings.TrimSpace(string(value)), v.Origin); err != nil {
			return err
		}
	}
	return nil
}
