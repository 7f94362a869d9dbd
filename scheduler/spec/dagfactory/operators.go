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
	"EmptyOperator": (*builder).empty, "DummyOperator": (*builder).empty, "TriggerDagRunOperator": (*builder).dagRun,
}

// operator returns the command of a task.
func (b *builder) operator(f field) (yaml.MapSlice, []string) {
	op := f.value.get("operator")
	if decorated(f.value) {
		if f.value.get("expand") != nil {
			return b.mapped(f, "", nil)
		}
		args := arguments(f.value)
		out, keys := b.call(f, nil, &node{kind: mapping, fields: args}, nil)
		return out, append(keys, names(args)...)
	}
	if op == nil || op.kind != scalar {
		return b.failing(f, f.at, f.key, "it names no operator, and no decorator but task, which has a counterpart"), allKeys(f.value)
	}
	convert := converters[class(op.text)]
	if convert == nil {
		why := "operator " + op.text + " has no counterpart: write run: with a command that does it; converted are " +
			strings.Join(slices.Sorted(maps.Keys(converters)), ", ")
		return b.failing(f, op.at, f.key, why), allKeys(f.value)
	}
	if f.value.get("expand") != nil {
		return b.mapped(f, class(op.text), convert)
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
		if strings.Contains(strings.TrimPrefix(p.value.text, "${{ item"), "{{") || p.value.kind != scalar {
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

// python converts a PythonOperator.
func (b *builder) python(f field) (yaml.MapSlice, []string) {
	keys := []string{"op_args", "op_kwargs", "templates_dict"}
	out, more := b.call(f, f.value.get("op_args"), f.value.get("op_kwargs"), nil)
	return out, append(keys, more...)
}

// decorated reports whether a task is a function with the decorator task; others do more than to call it.
func decorated(n *node) bool {
	d := n.get("decorator")
	return n.get("operator") == nil && d != nil && (strings.HasSuffix(d.text, "decorators.task") || d.text == "airflow.sdk.task")
}

// callableKeys say which function is called.
var callableKeys = []string{"python_callable", "python_callable_name", "python_callable_file"}

// arguments returns the keys of a decorated function that are its arguments: all that mean nothing else.
func arguments(n *node) (out []field) {
	for _, f := range n.fields {
		plain := strings.TrimSuffix(strings.TrimSuffix(f.key, "_secs"), "_sec")
		switch {
		case slices.Contains(callableKeys, f.key), slices.Contains(commonKeys, f.key), slices.Contains(taskKeys, f.key), slices.Contains(foreachKeys, f.key):
		case asides[f.key] != "", losses[plain] != "", harmless[f.key] != nil, strings.HasSuffix(f.key, "_callback"):
		default:
			out = append(out, f)
		}
	}
	return out
}

// call calls the function in a process of its own. Code and arguments stay apart: these come as JSON; what other tasks put out, and the item of a
// mapped task, come from the input document.
func (b *builder) call(f field, args, kwargs *node, list *fan) (yaml.MapSlice, []string) {
	code, err := callable(f.value)
	if err != nil {
		return b.failing(f, f.at, f.key, err.Error()), callableKeys
	}
	if file := f.value.get("python_callable_file"); file != nil {
		for _, m := range variable.FindAllStringSubmatch(file.text, -1) {
			b.note(file.at, f.key+".python_callable_file", "name "+m[1]+" in executors.local.env of millrace.yaml: tasks get nothing else of the server's environment")
		}
	}
	for _, n := range []*node{args, kwargs, f.value.get("templates_dict")} {
		if n != nil && template.MatchString(n.json()) {
			return b.failing(f, n.at, f.key, "nothing fills in the templates of its arguments: "+oneLine(n.json())), callableKeys
		}
	}
	a, k := "[]", &node{kind: mapping}
	if args != nil && args.kind == sequence {
		a = args.json()
	}
	var given strings.Builder
	for _, p := range kwargs.list() {
		if from, ok := b.reference(p.value); ok {
			if err := b.puts(from); err != nil {
				return b.failing(f, p.at, f.key+"."+p.key, err.Error()), callableKeys
			}
			fmt.Fprintf(&given, "k[%q] = %s\n", p.key, from.python())
		} else {
			k.fields = append(k.fields, p)
		}
	}
	given.WriteString(list.python())
	lines := "import json, os, sys\n" + code + "a, k = json.loads(sys.argv[1]), json.loads(sys.argv[2])\n"
	if given.Len() > 0 {
		lines += "i = json.load(open(os.environ[\"MILLRACE_INPUT\"]))\n" + given.String()
	}
	lines += "r = f(*a, **k)\nif r is not None: json.dump(r, open(os.environ[\"MILLRACE_OUTPUT\"], \"w\"))\n"
	b.note(f.at, f.key, "its function is called without Airflow's context, by the python3 that is in PATH; what it returns becomes the output, as JSON")
	return yaml.MapSlice{{Key: "run", Value: []string{"python3", "-c", lines, a, k.json()}}}, callableKeys
}

// python returns the lines that put the item of the input document i into the arguments a and k. The fan may be nil.
func (l *fan) python() string {
	switch {
	case l == nil:
		return ""
	case len(l.keys) > 1 && slices.Contains(l.keys, "op_args"):
		return "a, k = i[\"item\"][\"op_args\"], i[\"item\"][\"op_kwargs\"]\n"
	case len(l.keys) > 1:
		return "k.update(i[\"item\"])\n"
	case l.keys[0] == "op_args":
		return "a = i[\"item\"]\n"
	case l.keys[0] == "op_kwargs":
		return "k = i[\"item\"]\n"
	}
	return fmt.Sprintf("k[%q] = i[\"item\"]\n", l.keys[0])
}

var variable = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)

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
