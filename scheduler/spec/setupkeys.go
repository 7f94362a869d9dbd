package spec

import (
	"slices"
	"strings"
)

var setupKeys = []Key{
	is("setup", mapping, "What comes before tasks, by name; each is a task, with the id <name>_setup: see setup.md."),
	is("setup.*", mapping, "One of them, with the keys of a task but rule, group and cache."),
	is("setup.*.for", texts, "The tasks, or groups, that it covers: they start only if it succeeded. Default: all that it does not need."),
	is("setup.*.needs", texts, "Tasks, groups or other setups, that must have succeeded first."),
}

var teardownKeys = []Key{
	is("teardown", mapping, "What takes down again what the setup of the same name has set up, whatever became of the run; each is a task, with the id <name>_teardown."),
	is("teardown.*", mapping, "One of them, with the keys of a task but needs, rule, group and cache: it comes after all that its setup covers."),
	is("teardown.*.for", texts, "The tasks, or groups, that it covers, if there is no setup of its name. Default: all."),
	is("teardown.*.fail_run", boolean, "The run fails if this does. Default: false."),
}

// ownOfTasks are keys that only what stands below tasks has, with all below them.
var ownOfTasks = []string{"needs", "rule", "group", "cache"}

// partKeys returns the keys of setup or teardown: its own, and those of a task.
func partKeys(part string, own []Key) []Key {
	out := slices.Clone(own)
	for _, k := range slices.Concat(taskKeys, operatorKeys, machineKeys, under("tasks.*", sharedKeys), under("tasks.*", taskNoticeKeys)) {
		rest, ok := strings.CutPrefix(k.Path, "tasks.*.")
		if name, _, _ := strings.Cut(rest, "."); ok && !slices.Contains(ownOfTasks, name) {
			k.Path, k.again = part+".*."+rest, true
			out = append(out, k)
		}
	}
	return out
}
