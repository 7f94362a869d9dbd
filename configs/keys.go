package configs

import (
	_ "embed"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Example is a configuration file with every key, at its default, and a comment for each: the text of `millrace config init`. The comments
// are also what the schema and the reference say of the keys.
//
//go:embed millrace.yaml
var Example []byte

// Key is one key of the configuration.
type Key struct {
	// Path is its place, with a * for names that people choose: "sources.*.kind".
	Path string
	// Type is for people: "text", "size", "duration", "list of secret", …; "mapping" has keys below it.
	Type string
	// Doc is its comment, in one line.
	Doc string
	// Enum are the values that it may have, Min and Max its bounds as they are written; empty: any, none.
	Enum     []string
	Min, Max string
	// Default is its value when nothing sets it, as it is written in YAML.
	Default string
	// Reload says that a change takes effect on SIGHUP; else it takes a restart.
	Reload bool

	goType reflect.Type
}

// Env returns the environment variable that sets the key, or "" if none can.
func (k *Key) Env() string {
	if strings.Contains(k.Type, "mapping") || strings.Contains(k.Path, "[]") || strings.HasSuffix(k.Path, "*") {
		return ""
	}
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(k.Path, "*", "NAME"), ".", "__"))
}

// Keys returns all keys, in the order of the file.
var Keys = sync.OnceValue(func() []Key {
	docs := commentsOf(Example)
	var keys []Key
	walkKeys(reflect.ValueOf(Default()), "", false, func(k Key) {
		k.Doc = docs[k.Path]
		keys = append(keys, k)
	})
	return keys
})

// walkKeys visits the keys of a struct, which v has the defaults of. reload is inherited.
func walkKeys(v reflect.Value, path string, reload bool, visit func(Key)) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		k := Key{Path: join(path, f.Tag.Get("yaml")), Min: f.Tag.Get("min"), Max: f.Tag.Get("max"), Reload: reload, goType: f.Type}
		if tag, ok := f.Tag.Lookup("reload"); ok {
			k.Reload = tag == "yes"
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			k.Enum = strings.Split(enum, ",")
		}
		k.Type = strings.TrimPrefix(wantOf(f.Type), "a ")
		if !isTree(f.Type) {
			k.Default = plain(v.Field(i))
		}
		visit(k)
		switch {
		case f.Type.Kind() == reflect.Struct:
			walkKeys(v.Field(i), k.Path, k.Reload, visit)
		case f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
			walkKeys(reflect.Zero(f.Type.Elem()), k.Path+".*", k.Reload, visit)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			walkKeys(reflect.Zero(f.Type.Elem()), k.Path+"[]", k.Reload, visit)
		}
	}
}

// plain writes a default as YAML has it.
func plain(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return FormatDuration(x)
	case Size:
		return x.String()
	}
	if v.Kind() == reflect.Slice {
		return "[]"
	}
	if v.Kind() == reflect.String && v.Len() == 0 {
		return `""`
	}
	return strings.TrimSpace(toYAML(v.Interface()))
}

// commentsOf returns the comment above each key of an annotated file, or at the end of its line, in one line, by path. Names below sources and
// notify become *; of several comments of one path the first counts. It reads only what the file in this folder is: block mappings by two spaces,
// lists of mappings without further indentation, their keys below name[].
func commentsOf(src []byte) map[string]string {
	docs := map[string]string{}
	var above, path []string
	for line := range strings.Lines(string(src)) {
		text := strings.TrimSpace(line)
		comment, isComment := strings.CutPrefix(text, "#")
		key, _, isKey := strings.Cut(text, ":")
		switch {
		case isComment:
			above = append(above, strings.TrimSpace(comment))
			continue
		case text == "":
			above = nil
			continue
		case !isKey:
			continue
		}
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		if rest, first := strings.CutPrefix(key, "- "); first {
			key = rest
			path[depth] = strings.TrimSuffix(path[depth], "[]") + "[]"
			depth++
		}
		path = append(path[:min(depth, len(path))], key)
		if len(path) > 1 && (path[0] == "sources" || path[0] == "notify") {
			path[1] = "*"
		}
		if at := strings.Join(path, "."); docs[at] == "" {
			docs[at] = strings.Join(above, " ")
		}
		above = nil
	}
	return docs
}
