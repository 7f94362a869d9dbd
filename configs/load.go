package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"millrace/scheduler/vars"
)

// EnvPrefix starts the names of environment variables that are configuration; "__" separates levels. Of names without it only those of keys at
// the top are configuration.
const EnvPrefix = "MILLRACE_"

// Loaded is a configuration together with where each value came from.
type Loaded struct {
	Config
	// File is the file that was read, or "".
	File string
	// Origin has, for each path that is not at its default ("objects.s3.bucket"), "file", "env NAME" or "flag --name".
	Origin map[string]string

	// document and places are the file's: what Validate shows.
	document *document
	places   map[string]place
}

const originFile = "file"

// Find returns the file to read: explicit, else the first of $MILLRACE_CONFIG, ./millrace.yaml and /etc/millrace/millrace.yaml that exists,
// else "".
func Find(explicit string) string {
	if explicit != "" {
		return explicit
	}
	if path := os.Getenv("MILLRACE_CONFIG"); path != "" {
		return path
	}
	for _, path := range []string{"millrace.yaml", "/etc/millrace/millrace.yaml"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Load reads file over base ("" reads none), then environ, as of os.Environ. The result is not validated. All faults are reported, with their
// places; what is wrong with values, and between them, is for [Loaded.Validate].
func Load(base Config, file string, environ []string) (*Loaded, error) {
	l := &Loaded{Config: base, File: file, Origin: map[string]string{}}
	if file != "" {
		src, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, Faults{{File: file, Msg: "there is no such file", Hint: "millrace config init " + file + " writes one to start from"}}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: read configuration: %w", ErrInvalid, err)
		}
		d, err := decode(file, src, &l.Config)
		if err != nil {
			return nil, err
		}
		l.document, l.places = d.document, d.places
		for path := range d.places {
			l.Origin[path] = originFile
		}
		delete(l.Origin, "")
	}
	var faults Faults
	for _, env := range environ {
		name, value, _ := strings.Cut(env, "=")
		path, ok := envPath(name)
		if !ok {
			continue
		}
		if f := l.set(path, value); f != nil {
			f.Origin = "environment variable " + name
			faults = append(faults, f)
		}
		l.setOrigin(path, "env "+name)
	}
	if err := faults.or(); err != nil {
		return nil, err
	}
	return l, nil
}

// envPath returns the key that a variable sets. Names have "__" between levels; of those without, only the ones of keys at the top are
// configuration: MILLRACE_SERVER and the variables of tasks are not, and neither are the values of DAGs, MILLRACE_VAR_… and MILLRACE_CONN_….
func envPath(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, EnvPrefix)
	if !ok || strings.HasPrefix(name, vars.VarPrefix) || strings.HasPrefix(name, vars.ConnPrefix) {
		return "", false
	}
	path := strings.ToLower(strings.ReplaceAll(rest, "__", "."))
	if strings.Contains(path, ".") {
		return path, true
	}
	top := fieldOf(reflect.ValueOf(&Config{}).Elem(), path)
	return path, top.IsValid() && !isTree(top.Type())
}

// Set gives the value at path ("objects.s3.bucket") and notes where it came from ("flag --name"). A list is written [a, b], or a, b.
func (l *Loaded) Set(path, value, origin string) error {
	if f := l.set(path, value); f != nil {
		f.Origin = origin
		return Faults{f}
	}
	l.setOrigin(path, origin)
	return nil
}

// setOrigin notes what has replaced the value at path, with the elements of a list that was there before.
func (l *Loaded) setOrigin(path, origin string) {
	for p := range l.Origin {
		if strings.HasPrefix(p, path+"[") {
			delete(l.Origin, p)
		}
	}
	l.Origin[path] = origin
}

func (l *Loaded) set(path, value string) *Fault {
	if msg, hint := set(reflect.ValueOf(&l.Config).Elem(), strings.Split(path, "."), value); msg != "" {
		if secretName.MatchString(path) {
			msg = strings.ReplaceAll(msg, strconv.Quote(value), stars)
		}
		return &Fault{Path: path, Msg: msg, Hint: hint}
	}
	return nil
}

func set(v reflect.Value, path []string, value string) (msg, hint string) {
	if len(path) == 0 {
		return setLeaf(v, value)
	}
	switch v.Kind() {
	case reflect.Struct:
		if field := fieldOf(v, path[0]); field.IsValid() {
			return set(field, path[1:], value)
		}
		return "there is no such key", hintFor(path[0], v.Type())
	case reflect.Map:
		elem := reflect.New(v.Type().Elem()).Elem()
		key := reflect.ValueOf(path[0])
		if old := v.MapIndex(key); old.IsValid() {
			elem.Set(old)
		}
		if msg, hint := set(elem, path[1:], value); msg != "" {
			return msg, hint
		}
		fresh := reflect.MakeMap(v.Type()) // the old one may belong to others
		for _, k := range v.MapKeys() {
			fresh.SetMapIndex(k, v.MapIndex(k))
		}
		fresh.SetMapIndex(key, elem)
		v.Set(fresh)
		return "", ""
	}
	return "there is no such key", "what is above it has no keys"
}

func setLeaf(v reflect.Value, value string) (msg, hint string) {
	switch {
	case isTree(v.Type()):
		return "it has keys below it and no value of its own", "set one of those keys"
	case v.Kind() != reflect.Slice:
		return parseScalar(value, v)
	case isTree(v.Type().Elem()):
		return "it is a list of mappings", "write it in the file"
	}
	text := strings.TrimSpace(value)
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		text = strings.TrimSuffix(inner, "]")
	}
	list := reflect.Zero(v.Type())
	for _, part := range elements(text) {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if n := len(part); n > 1 && (part[0] == '"' || part[0] == '\'') && part[n-1] == part[0] {
			part = part[1 : n-1]
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if msg, hint := parseScalar(part, elem); msg != "" {
			return msg, hint
		}
		list = reflect.Append(list, elem)
	}
	v.Set(list)
	return "", ""
}

// elements splits a list at its commas, but for those between quotes.
func elements(text string) []string {
	var out []string
	begin, quote := 0, byte(0)
	for i := range len(text) {
		switch c := text[i]; {
		case quote == c:
			quote = 0
		case quote == 0 && (c == '"' || c == '\'') && strings.TrimSpace(text[begin:i]) == "":
			quote = c
		case quote == 0 && c == ',':
			out = append(out, text[begin:i])
			begin = i + 1
		}
	}
	return append(out, text[begin:])
}

// Dir is the directory that relative paths of the file are below: the file's own, or the working directory.
func (l *Loaded) Dir() string {
	if l.File == "" {
		return "."
	}
	return filepath.Dir(l.File)
}

// HasRole reports whether this process has a role.
func (c *Config) HasRole(role string) bool {
	return len(c.Roles) == 0 || slices.Contains(c.Roles, role)
}
