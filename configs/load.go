package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// EnvPrefix starts the names of environment variables that are configuration; "__" separates levels, and a name without it is not one.
const EnvPrefix = "MILLRACE_"

// Loaded is a configuration together with where each value came from.
type Loaded struct {
	Config
	// File is the file that was read, or "".
	File string
	// Origin has, for each path that is not at its default ("objects.s3.bucket"), "file", "env NAME" or "flag --name".
	Origin map[string]string
}

// ErrInvalid is wrapped by every error about the configuration's content.
var ErrInvalid = errors.New("configuration invalid")

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

// Load reads file over base ("" reads none), then environ, as of os.Environ. The result is not validated. Unknown keys are errors that show
// the line.
func Load(base Config, file string, environ []string) (*Loaded, error) {
	l := &Loaded{Config: base, File: file, Origin: map[string]string{}}
	if file != "" {
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if err := l.decode(src); err != nil {
			return nil, err
		}
	}
	for _, env := range environ {
		name, value, _ := strings.Cut(env, "=")
		if !strings.HasPrefix(name, EnvPrefix) || !strings.Contains(name, "__") {
			continue
		}
		path := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, EnvPrefix), "__", "."))
		if err := l.Set(path, value, "env "+name); err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return l, nil
}

func (l *Loaded) decode(src []byte) error {
	var tree map[string]any
	treeErr := yaml.Unmarshal(src, &tree)
	if treeErr == nil && tree == nil {
		return nil // an empty document: the decoder would take it for null and clear the defaults
	}
	dec := yaml.NewDecoder(bytes.NewReader(src), yaml.Strict(), yaml.DisallowUnknownField())
	if err := dec.Decode(&l.Config); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: %s%s", ErrInvalid, l.File, strings.TrimSpace(yaml.FormatError(err, false, true)), suggest(err))
	}
	if treeErr == nil {
		l.mark("", tree)
	}
	return nil
}

func (l *Loaded) mark(prefix string, tree map[string]any) {
	for key, value := range tree {
		path := prefix + key
		if sub, ok := value.(map[string]any); ok {
			l.mark(path+".", sub)
		} else {
			l.Origin[path] = "file"
		}
	}
}

// Set gives the value at path ("objects.s3.bucket"), written as YAML, and notes where it came from.
func (l *Loaded) Set(path, value, origin string) error {
	if err := set(reflect.ValueOf(&l.Config).Elem(), strings.Split(path, "."), value); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	l.Origin[path] = origin
	return nil
}

func set(v reflect.Value, path []string, value string) error {
	if len(path) == 0 {
		return yaml.UnmarshalWithOptions([]byte(value), v.Addr().Interface(), yaml.Strict())
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if tag := v.Type().Field(i).Tag.Get("yaml"); tag == path[0] {
				return set(v.Field(i), path[1:], value)
			}
		}
		return fmt.Errorf("no such key%s", didYouMean(path[0], keysOf(v.Type())))
	case reflect.Map:
		elem := reflect.New(v.Type().Elem()).Elem()
		key := reflect.ValueOf(path[0])
		if old := v.MapIndex(key); old.IsValid() {
			elem.Set(old)
		}
		if err := set(elem, path[1:], value); err != nil {
			return err
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(key, elem)
		return nil
	}
	return errors.New("no such key: the value above it has no keys")
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("yaml"))
	}
	return keys
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// suggest names the key that was meant by an unknown one, from all keys that exist anywhere.
func suggest(err error) string {
	m := unknownField.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	var all []string
	collectKeys(reflect.TypeFor[Config](), &all)
	return didYouMean(m[1], all)
}

func collectKeys(t reflect.Type, out *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		*out = append(*out, f.Tag.Get("yaml"))
		for f.Type.Kind() == reflect.Map || f.Type.Kind() == reflect.Slice {
			f.Type = f.Type.Elem()
		}
		if f.Type.Kind() == reflect.Struct {
			collectKeys(f.Type, out)
		}
	}
}

func didYouMean(word string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(word, k); d < at {
			best, at = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
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
