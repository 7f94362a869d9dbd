// Package diff says how two compiled versions of a DAG differ, field by field. It walks the Go values, so that a new field is compared without a
// change here, and returns nothing only for DAGs of one version.
package diff

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
)

// Field is one difference. A field that one side does not have is "" there.
type Field struct {
	// Path is its place, with the ids of rules and tasks: "tasks.load.retry.limit", "on.clicks.if"; "tasks.load" is all of a task.
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// DAGs returns how two versions of one DAG differ, in the order of the fields.
func DAGs(old, now *scheduler.DAG) []Field {
	var out []Field
	compare(&out, "", reflect.ValueOf(*old), reflect.ValueOf(*now))
	return out
}

func compare(out *[]Field, path string, old, now reflect.Value) {
	switch {
	case old.Type() == reflect.TypeFor[json.RawMessage]():
	case old.Kind() == reflect.Pointer && !old.IsNil() && !now.IsNil():
		compare(out, path, old.Elem(), now.Elem())
		return
	case old.Kind() == reflect.Pointer && old.IsNil() != now.IsNil():
		both(out, path, reflect.Indirect(old), reflect.Indirect(now))
		return
	case old.Kind() == reflect.Struct:
		for i := range old.NumField() {
			name, _, _ := strings.Cut(old.Type().Field(i).Tag.Get("json"), ",")
			if name != "-" && name != "" {
				compare(out, join(path, name), old.Field(i), now.Field(i))
			}
		}
		return
	case old.Kind() == reflect.Map:
		compareMaps(out, path, old, now)
		return
	case old.Kind() == reflect.Slice && hasID(old.Type().Elem()):
		compareLists(out, path, old, now)
		return
	}
	if a, b := text(old), text(now); a != b {
		*out = append(*out, Field{path, a, b})
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func compareMaps(out *[]Field, path string, old, now reflect.Value) {
	var keys []string
	for _, m := range []reflect.Value{old, now} {
		for _, k := range m.MapKeys() {
			keys = append(keys, k.String())
		}
	}
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		a, b := old.MapIndex(reflect.ValueOf(k)), now.MapIndex(reflect.ValueOf(k))
		both(out, join(path, k), a, b)
	}
}

// both compares what may be missing on one side.
func both(out *[]Field, path string, old, now reflect.Value) {
	switch {
	case !old.IsValid():
		*out = append(*out, Field{Path: path, New: whole(now)})
	case !now.IsValid():
		*out = append(*out, Field{Path: path, Old: whole(old)})
	default:
		compare(out, path, old, now)
	}
}

func hasID(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	_, ok := t.FieldByName("ID")
	return ok
}

// compareLists compares rules and tasks by their ids, and then their order, which counts as well.
func compareLists(out *[]Field, path string, old, now reflect.Value) {
	a, aIDs := byID(old)
	b, bIDs := byID(now)
	for _, id := range aIDs {
		both(out, join(path, id), a[id], b[id])
	}
	for _, id := range bIDs {
		if !a[id].IsValid() {
			both(out, join(path, id), reflect.Value{}, b[id])
		}
	}
	kept := func(ids []string, in map[string]reflect.Value) []string {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !in[id].IsValid() })
	}
	if x, y := kept(aIDs, b), kept(bIDs, a); !slices.Equal(x, y) {
		*out = append(*out, Field{path + " (order)", strings.Join(x, ", "), strings.Join(y, ", ")})
	}
}

func byID(list reflect.Value) (map[string]reflect.Value, []string) {
	out := make(map[string]reflect.Value, list.Len())
	var ids []string
	for i := range list.Len() {
		id := list.Index(i).FieldByName("ID").String()
		out[id] = list.Index(i)
		ids = append(ids, id)
	}
	return out, ids
}

// text writes a value for people; what is empty is "".
func text(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case json.RawMessage:
		return string(x)
	case []string:
		if slices.ContainsFunc(x, func(s string) bool { return strings.ContainsAny(s, " ,\"") }) {
			return asJSON(x)
		}
		return strings.Join(x, ", ")
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Slice, reflect.Map, reflect.Struct, reflect.Pointer:
		return asJSON(v.Interface())
	}
	return fmt.Sprint(v.Interface())
}

// whole writes a rule, a task or a parameter that only one side has: its fields that are not empty.
func whole(v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return text(v)
	}
	var fields []Field
	compare(&fields, "", reflect.Zero(v.Type()), v)
	parts := make([]string, 0, len(fields))
	for _, f := range fields {
		if f.Path != "id" && f.Path != "dag" {
			parts = append(parts, f.Path+": "+f.New)
		}
	}
	return strings.Join(parts, "; ")
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
