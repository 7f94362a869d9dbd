package dagfactory

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	yaml "github.com/goccy/go-yaml"
)

// converters make commands of operators, by their class. They return what the task has, and the keys that they have read.
var converters = map[string]func(b *builder, f field) (yaml.MapSlice, []string){
	"BashOperator": (*builder).bash, "PythonOperator": (*builder).python,
	"EmptyOperator": (*builder).empty, "DummyOperator": (*builder).empty,
}

// operator returns the command of a task.
func (b *builder) operator(f field) (yaml.MapSlice, []string) {
	op := f.value.get("operator")
	if op == nil || op.kind != scalar {
		return b.failing(f, f.at, f.key, "it names no operator (a decorator needs Python, which is not read)"), allKeys(f.value)
	}
	if n := f.value.get("expand"); n != nil {
		return b.failing(f, n.at, f.key+".expand", "tasks are not mapped: let one task do all, or write one for each"), allKeys(f.value)
	}
	convert := converters[class(op.text)]
	if convert == nil {
		why := "operator " + op.text + " has no counterpart: write run: with a command that does it; converted are " +
			strings.Join(slices.Sorted(maps.Keys(converters)), ", ")
		return b.failing(f, op.at, f.key, why), allKeys(f.value)
	}
	return convert(b, f)
}

func allKeys(n *node) (keys []string) {
	for _, f := range n.fields {
		keys = append(keys, f.key)
	}
	return keys
}

// failing reports a loss, and keeps the task's place with one that fails, and is not tried again.
func (b *builder) failing(f field, at place, what, why string) yaml.MapSlice {
	b.lost(at, what, why)
	text := fmt.Sprintf("%s:%d: task %s was not imported: %s", at.file, at.line, f.key, oneLine(why))
	return yaml.MapSlice{{Key: "run", Value: []string{"sh", "-c", `echo "$1" >&2; exit 64`, "sh", strings.ReplaceAll(text, "${{", "{{")}}}
}

func (b *builder) empty(field) (yaml.MapSlice, []string) {
	return yaml.MapSlice{{Key: "run", Value: []string{"true"}}}, nil
}

var scriptName = regexp.MustCompile(`^[A-Za-z0-9_./-]+\.(sh|bash)$`)

// bash runs the command as Airflow does, by bash -c. A template of parameters becomes a variable.
func (b *builder) bash(f field) (yaml.MapSlice, []string) {
	keys := []string{"bash_command", "env", "append_env", "cwd", "skip_on_exit_code", "output_encoding"}
	cmd := f.value.get("bash_command")
	if cmd == nil || cmd.kind != scalar || strings.TrimSpace(cmd.text) == "" {
		return b.failing(f, f.at, f.key, "it has no bash_command"), keys
	}
	text, env, err := b.untemplate(cmd.text)
	if err != nil {
		return b.failing(f, cmd.at, f.key+".bash_command", err.Error()), keys
	}
	run := []string{"bash", "-c", text}
	if path := strings.TrimSpace(cmd.text); scriptName.MatchString(path) {
		b.note(cmd.at, f.key+".bash_command", "the script is run, not read as a template; its path starts at the working directory of the task")
		run = []string{"bash", path}
	}
	if cwd := f.value.get("cwd"); cwd != nil {
		run = []string{"bash", "-c", "cd " + quote(cwd.text) + " || exit 1\n" + text}
	}
	for _, p := range f.value.get("env").list() {
		if strings.Contains(p.value.text, "{{") || p.value.kind != scalar {
			b.lost(p.at, f.key+".env."+p.key, "there are no templates: write ${{ }} with an expression")
			continue
		}
		env = append(env, yaml.MapItem{Key: p.key, Value: p.value.text})
	}
	if skip := f.value.get("skip_on_exit_code"); skip != nil && !skip.is("99") {
		b.lost(skip.at, f.key+".skip_on_exit_code", "a task is skipped by exit code 99 only")
	}
	out := yaml.MapSlice{{Key: "run", Value: run}}
	if len(env) > 0 {
		out = append(out, yaml.MapItem{Key: "env", Value: env})
	}
	return out, keys
}

// quote makes a word that a shell takes as it stands.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

var (
	template  = regexp.MustCompile(`\{\{.*?\}\}|\{%.*?%\}`)
	parameter = regexp.MustCompile(`^\{\{-?\s*(?:dag_run\.conf|params)(?:\.([A-Za-z][A-Za-z0-9_]*)|\[['"]([A-Za-z][A-Za-z0-9_]*)['"]\])\s*-?\}\}$`)
)

// untemplate replaces templates of parameters by variables, and returns what sets those. All other templates are errors, since nothing fills
// them in; so is one between single quotes, where a variable means nothing.
func (b *builder) untemplate(text string) (string, yaml.MapSlice, error) {
	var out strings.Builder
	var env yaml.MapSlice
	last, single, double := 0, false, false
	for _, at := range template.FindAllStringIndex(text, -1) {
		out.WriteString(text[last:at[0]])
		single, double = quotes(text[last:at[0]], single, double)
		last = at[1]
		m := parameter.FindStringSubmatch(text[at[0]:at[1]])
		if m == nil {
			return "", nil, fmt.Errorf("nothing fills in the template %s: what a run is for is in MILLRACE_INTERVAL_START and the like, see docs/tasks.md", text[at[0]:at[1]])
		}
		name := m[1] + m[2]
		if !slices.Contains(b.params, name) {
			return "", nil, fmt.Errorf("the template %s is of a parameter that the DAG does not declare", text[at[0]:at[1]])
		}
		if single {
			return "", nil, fmt.Errorf("the template %s stands between single quotes, where no variable can: use double quotes", text[at[0]:at[1]])
		}
		variable := "PARAM_" + strings.ToUpper(name)
		word := "${" + variable + "}"
		if !double {
			word = `"` + word + `"`
		}
		out.WriteString(word)
		if !slices.ContainsFunc(env, func(i yaml.MapItem) bool { return i.Key == variable }) {
			env = append(env, yaml.MapItem{Key: variable, Value: "${{ params." + name + " }}"})
		}
	}
	out.WriteString(text[last:])
	return out.String(), env, nil
}

// quotes goes on through a piece of a command and returns whether it ends between quotes.
func quotes(text string, single, double bool) (bool, bool) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && !single:
			i++
		case c == '\'' && !double:
			single = !single
		case c == '"' && !single:
			double = !double
		}
	}
	return single, double
}

var pythonName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// python calls the function in a process of its own. Code and arguments stay apart: these come as JSON.
func (b *builder) python(f field) (yaml.MapSlice, []string) {
	keys := []string{"python_callable", "python_callable_name", "python_callable_file", "op_args", "op_kwargs", "templates_dict"}
	code, err := callable(f.value)
	if err != nil {
		return b.failing(f, f.at, f.key, err.Error()), keys
	}
	run := []string{"python3", "-c", "import json, os, sys\n" + code}
	args, kwargs := f.value.get("op_args"), f.value.get("op_kwargs")
	for _, n := range []*node{args, kwargs, f.value.get("templates_dict")} {
		if n != nil && template.MatchString(n.json()) {
			return b.failing(f, n.at, f.key, "nothing fills in the templates of its arguments: "+oneLine(n.json())), keys
		}
	}
	a, k := "[]", "{}"
	if args != nil && args.kind == sequence {
		a = args.json()
	}
	if kwargs != nil && kwargs.kind == mapping {
		k = kwargs.json()
	}
	run[2] += "r = f(*json.loads(sys.argv[1]), **json.loads(sys.argv[2]))\nif r is not None: json.dump(r, open(os.environ[\"MILLRACE_OUTPUT\"], \"w\"))\n"
	b.note(f.at, f.key, "its function is called without Airflow's context, by the python3 that is in PATH; what it returns becomes the output, as JSON")
	return yaml.MapSlice{{Key: "run", Value: append(run, a, k)}}, keys
}

// callable returns the code that makes f the function.
func callable(n *node) (string, error) {
	path, name, file := n.get("python_callable"), n.get("python_callable_name"), n.get("python_callable_file")
	switch {
	case path != nil && pythonName.MatchString(path.text) && strings.Contains(path.text, "."):
		i := strings.LastIndexByte(path.text, '.')
		return fmt.Sprintf("from %s import %s as f\n", path.text[:i], path.text[i+1:]), nil
	case path != nil:
		return "", fmt.Errorf("python_callable is %q, and only module.function can be called", path.text)
	case name == nil || file == nil || !pythonName.MatchString(name.text) || strings.Contains(name.text, "."):
		return "", fmt.Errorf("it names no function: python_callable, or python_callable_name and python_callable_file")
	case strings.ContainsAny(file.text, "\"\\\n\r"):
		return "", fmt.Errorf("python_callable_file is %q, which is no plain path", file.text)
	}
	return fmt.Sprintf("import runpy\nf = runpy.run_path(os.path.expandvars(\"%s\"))[\"%s\"]\n", file.text, name.text), nil
}
