package marathon

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"millrace/configs"
)

// environment is what a process is told by variables.
type environment struct {
	vars    map[string]any
	secrets map[string]Source
	// files are those that the configuration names.
	files []string
}

// own are keys that the group gives each process itself.
var own = []string{"data_dir", "roles", "ingest.listen", "console.listen"}

// environment translates cfg. Errors name all keys that can not go along.
func (o *Options) environment(cfg *configs.Loaded) (*environment, error) {
	e := &environment{vars: map[string]any{}, secrets: map[string]Source{}}
	var errs []error
	for _, v := range cfg.Values() {
		if slices.Contains(own, v.Path) {
			continue
		}
		e.references(o.ID, cfg, v)
		if v.Origin == "default" || o.ConfigPath != "" {
			continue
		}
		if err := e.variable(cfg, v); err != nil {
			errs = append(errs, err)
		}
	}
	return e, errors.Join(errs...)
}

const elsewhere = "put the configuration where the containers find it, and give --config-path"

// variable adds a key that was configured.
func (e *environment) variable(cfg *configs.Loaded, v configs.Value) error {
	text, ok := written(v.Value)
	switch {
	case v.Path == "bus.nats.url" && text == configs.Hidden:
		if text = string(cfg.Bus.NATS.URL); strings.Contains(text, "@") {
			return fmt.Errorf("%s has credentials in it: write it as file:PATH or env:NAME, or use bus.nats.creds", v.Path)
		}
	case strings.Contains(text, configs.Hidden):
		return fmt.Errorf("%s is a secret that is written out: write it as file:PATH or env:NAME, so that it does not get to Marathon", v.Path)
	case !ok || !variableKey.MatchString(v.Path) || strings.Contains(v.Path, "__"):
		return fmt.Errorf("%s can not be set by a variable: %s", v.Path, elsewhere)
	case text == "": // an empty mapping
		return nil
	}
	e.vars[configs.EnvPrefix+strings.ToUpper(strings.ReplaceAll(v.Path, ".", "__"))] = text
	return nil
}

// variableKey are the keys that a variable can name: its name has no case.
var variableKey = regexp.MustCompile(`^[a-z0-9_.-]+$`)

// written returns a value as a variable has it; not all can be.
func written(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case []string:
		var quoted []string
		for _, s := range v {
			if strings.Contains(s, `"`) {
				return "", false
			}
			quoted = append(quoted, `"`+s+`"`)
		}
		return "[" + strings.Join(quoted, ", ") + "]", true
	case int, int64:
		return fmt.Sprint(v), true
	}
	return "", empty(v)
}

func empty(v any) bool {
	switch v := v.(type) {
	case map[string]string:
		return len(v) == 0
	case map[string]int:
		return len(v) == 0
	case map[string]configs.SecretRef:
		return len(v) == 0
	case map[string]configs.Source:
		return len(v) == 0
	case map[string]configs.Notifier:
		return len(v) == 0
	}
	return false
}

// files are the keys that name files or directories.
var files = []string{"ingest.tls.cert", "ingest.tls.key", "ingest.scripts", "console.tls.cert", "console.tls.key", "bus.nats.creds", "executors.mesos.ca", "dags"}

// references notes what the containers must have besides: secrets in variables, and files.
func (e *environment) references(group string, cfg *configs.Loaded, v configs.Value) {
	texts, _ := v.Value.([]string)
	if text, ok := v.Value.(string); ok {
		texts = []string{text}
		if slices.Contains(files, v.Path) && text != "" {
			e.files = append(e.files, text)
		}
	}
	for _, text := range texts {
		if name, ok := strings.CutPrefix(text, "env:"); ok {
			e.secret(group, name)
		}
		if file, ok := strings.CutPrefix(text, "file:"); ok {
			e.files = append(e.files, file)
		}
	}
	if v.Path == "executors.local.env" {
		for _, name := range texts {
			e.secret(group, name)
		}
	}
}

// secret lets Marathon give a variable that holds a secret.
func (e *environment) secret(group, name string) {
	if _, ok := e.vars[name]; ok {
		return
	}
	key := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	e.vars[name] = Secret{key}
	e.secrets[key] = Source{strings.TrimPrefix(group, "/") + "/" + key}
}

// missing says of which files nobody has said how the containers come by them.
func (o *Options) missing(files []string) (notices []string, err error) {
	var errs []error
	slices.Sort(files)
	for _, f := range slices.Compact(files) {
		if o.ConfigPath != "" && !path.IsAbs(f) {
			f = path.Join(path.Dir(o.ConfigPath), f)
		}
		switch {
		case !path.IsAbs(f):
			errs = append(errs, fmt.Errorf("the configuration names %s, which is relative to its own place: write an absolute path, that is the same within the containers", f))
		case !o.seen(f):
			notices = append(notices, fmt.Sprintf("the image has to bring %s, or an agent's directory with it is given as --host-dir", f))
		}
	}
	return notices, errors.Join(errs...)
}
