package configs

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Reloaded returns what is in force when next replaces l in a process that runs: the keys of next that take effect at once, and those of l that
// take a restart. It returns the paths of the latter that next has otherwise, in order. Neither l nor next is changed.
func (l *Loaded) Reloaded(next *Loaded) (merged *Loaded, restart []string) {
	merged = &Loaded{
		Config: next.Config, File: next.File, Origin: maps.Clone(next.Origin), document: next.document, places: next.places,
	}
	keep := func(path string) {
		restart = append(restart, path)
		merged.adopt(l, path)
	}
	retain(reflect.ValueOf(&l.Config).Elem(), reflect.ValueOf(&merged.Config).Elem(), "", false, keep)
	for _, side := range []struct {
		path     string
		old, new *TLS
	}{{"ingest.tls", &l.Ingest.TLS, &merged.Ingest.TLS}, {"console.tls", &l.Console.TLS, &merged.Console.TLS}} {
		if side.old.On() != side.new.On() { // files may change, but not whether a listener speaks TLS
			*side.new = *side.old
			keep(side.path)
		}
	}
	slices.Sort(restart)
	return merged, restart
}

// adopt takes over where the value at path, and what is below it, came from.
func (l *Loaded) adopt(from *Loaded, path string) {
	below := func(p string) bool {
		return p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[")
	}
	maps.DeleteFunc(l.Origin, func(p, _ string) bool { return below(p) })
	for p, origin := range from.Origin {
		if below(p) {
			l.Origin[p] = origin
		}
	}
}

// retain puts into to what from has of keys that take a restart, and tells of those that differ.
func retain(from, to reflect.Value, path string, reload bool, keep func(path string)) {
	if from.Kind() == reflect.Struct {
		for i := range from.NumField() {
			f := from.Type().Field(i)
			own := reload
			if tag, ok := f.Tag.Lookup("reload"); ok {
				own = tag == "yes"
			}
			retain(from.Field(i), to.Field(i), join(path, f.Tag.Get("yaml")), own, keep)
		}
		return
	}
	empty := from.Kind() == reflect.Slice && from.Len()+to.Len() == 0
	if reload || empty || reflect.DeepEqual(from.Interface(), to.Interface()) {
		return
	}
	to.Set(from)
	keep(path)
}
