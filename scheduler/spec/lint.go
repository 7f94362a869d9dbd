package spec

import (
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"
	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/trigger"
)

// The kinds of warnings that [builder.lint] finds. What is written out (retry: 0, timeout: 0, source: "*") is meant, and not warned of.
const (
	// WarnNeverFires: the first time that a cron expression means is more than five years away.
	WarnNeverFires = "never-fires"
	// WarnNoRetry: a task of a DAG that starts by itself is not tried again when it fails.
	WarnNoRetry = "no-retry"
	// WarnNoTimeout: nothing ends a task of such a DAG that hangs.
	WarnNoTimeout = "no-timeout"
	// WarnAnySource: a rule does not name its source, so it takes batches of those that are added later, too.
	WarnAnySource = "any-source"
	// WarnOpenGroup: a group of batches has no bound in time, so the last ones before a pause wait for its end.
	WarnOpenGroup = "open-group"
	// WarnMovingTag: the tag of an image is one that is moved with each release.
	WarnMovingTag = "moving-tag"
	// WarnNoDeadline: a deadline counts from something that no run of the DAG has, or on_event names notifiers for deadlines and there are none.
	WarnNoDeadline = "no-deadline"
)

// Lint is [ReadFile] with more warnings: of what works and is forgotten more often than it is meant.
func Lint(name string, src []byte) File { return read(name, src, reading{lints: true}) }

// lint looks at a DAG that has no fault.
func (b *builder) lint(root ast.Node) {
	alone := false // it starts by itself
	for i, r := range b.dag.On {
		alone = alone || r.Kind != trigger.KindManual
		b.lintRule(&r, b.rules[i].at)
		if r.Joins() {
			b.lintJoin(&r, b.rules[i].rule)
		}
	}
	b.lintNotices()
	b.lintImages()
	b.lintAsks()
	if !alone {
		return
	}
	hint := func(key, example string) string {
		return fmt.Sprintf("set %s, here or in defaults: %s; %s: 0 says that this is meant", key, example, key)
	}
	if tasks, at := b.without(root, "retry", func(t *scheduler.Task) bool { return t.Retry.Limit > 0 || t.Parks() != "" }); len(tasks) > 0 {
		b.warnf(at, WarnNoRetry, hint("retry", "{limit: 3, delay: 10s}"), "one failed attempt fails the run: %s", notTried(tasks))
	}
	if tasks, at := b.without(root, "timeout", func(t *scheduler.Task) bool { return t.Timeout.Run > 0 || t.Parks() != "" }); len(tasks) > 0 {
		b.warnf(at, WarnNoTimeout, hint("timeout", "1h"), "an attempt that hangs holds its slot for ever: %s", bounded(tasks))
	}
}

// lintImages looks for images that are others tomorrow: a run keeps its own, but nobody can say from the DAG which one that was.
func (b *builder) lintImages() {
	for i := range b.dag.Tasks {
		c := b.dag.Tasks[i].Container
		if c == nil {
			continue
		}
		_, digest := scheduler.SplitImage(c.Image)
		if tag := scheduler.ImageTag(c.Image); digest == "" && (tag == "" || tag == "latest") {
			b.warnf(b.tasks[i].at, WarnMovingTag, "name a version, like load:1.4, or a digest", "image %s is another one with each release: two runs of this version may run two programs", c.Image)
		}
	}
}

func notTried(tasks []string) string { return named(tasks, "is", "are") + " not tried again" }

func bounded(tasks []string) string { return named(tasks, "has", "have") + " no timeout" }

// named lists tasks, the first few by name.
func named(tasks []string, one, many string) string {
	const most = 3
	switch {
	case len(tasks) == 1:
		return "task " + tasks[0] + " " + one
	case len(tasks) > most:
		return fmt.Sprintf("tasks %s and %d more %s", strings.Join(tasks[:most], ", "), len(tasks)-most, many)
	}
	return "tasks " + strings.Join(tasks, ", ") + " " + many
}

// without returns the tasks for which neither they themselves nor defaults have the key, and where the first one stands.
func (b *builder) without(root ast.Node, key string, set func(t *scheduler.Task) bool) ([]string, ast.Node) {
	for _, p := range b.pairs(root, "the file") {
		if p.key == "defaults" && b.has(p.value, key) {
			return nil, nil
		}
	}
	var tasks []string
	var at ast.Node
	for i := range b.dag.Tasks {
		t := &b.dag.Tasks[i]
		if set(t) || b.has(b.tasks[i].value, key) {
			continue
		}
		if at == nil {
			at = b.tasks[i].at
		}
		tasks = append(tasks, t.ID)
	}
	return tasks, at
}

func (b *builder) has(mapping ast.Node, key string) bool {
	for _, p := range b.pairs(mapping, "a mapping") {
		if p.key == key {
			return true
		}
	}
	return false
}

// farAway is when the first tick of a cron expression is too far away to be meant.
const farAway = 5 * 365 * 24 * time.Hour

func (b *builder) lintRule(r *trigger.Rule, at ast.Node) {
	switch r.Kind {
	case trigger.KindCron:
		if tick, err := gronx.NextTickAfter(r.Cron, cronStart, false); err == nil && tick.Sub(cronStart) > farAway {
			b.warnf(at, WarnNeverFires, "", "cron %q fires for the first time in %d", r.Cron, tick.Year())
		}
	case trigger.KindBatch:
		if r.Source == "" && !r.Joins() {
			b.warnf(at, WarnAnySource, `name the source, or write source: "*"`, "rule %q takes the batches of every source, of later ones too", r.ID)
		}
		if c := r.Coalesce; c != nil && c.Quiet == 0 && c.MaxWait == 0 {
			b.warnf(at, WarnOpenGroup, "add max_wait or quiet", "rule %q has no bound in time: batches wait for ever if no more come", r.ID)
		}
	}
}
