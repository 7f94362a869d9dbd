package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/trigger"
)

// TestCatchup: what a file says of the times that a cron rule misses, and of jitter, is what the rule has.
func TestCatchup(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]trigger.Rule{
		"":                                 {},
		", catchup: skip":                  {Catchup: &trigger.Catchup{Policy: trigger.CatchupSkip}},
		", catchup: {window: 6h}":          {Catchup: &trigger.Catchup{Policy: trigger.CatchupAll, Window: 6 * time.Hour}},
		", catchup: {policy: latest}":      {Catchup: &trigger.Catchup{Policy: trigger.CatchupLatest}},
		", jitter: 30s, timezone: Etc/UTC": {Jitter: 30 * time.Second, Timezone: "Etc/UTC"},
	} {
		dags, err := Compile("f.yaml", []byte("dag: d\non: [{cron: '@daily'"+text+"}]\ntasks: {a: {run: x}}\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		want.DAG, want.ID, want.Kind, want.Cron = "d", "cron", trigger.KindCron, "0 0 * * *"
		if diff := cmp.Diff(want, dags[0].On[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"{cron: '@daily', catchup: sometimes}":             "write one of all, latest, skip",
		"{cron: '@daily', catchup: {policy: never}}":       "write one of all, latest, skip",
		"{cron: '@daily', catchup: {window: 90d}}":         "the limit is 744h",
		"{cron: '@daily', jitter: 2h}":                     "the limit is 1h",
		"{batch: true, jitter: 1s}":                        "jitter has a meaning for cron rules only",
		"{cron: '@daily', when_paused: drop}":              "when_paused has a meaning for batch rules only",
		"{batch: true, when_paused: never}":                "write one of hold, drop, latest",
		"{manual: true, catchup: {policy: skip}}":          "catchup has a meaning for cron rules only",
		"{cron: '@daily', catchup: {polisy: skip}}":        `did you mean "policy"`,
		"{cron: '@daily', catchup: {window: a long time}}": "window",
	} {
		if _, err := Compile("f.yaml", []byte("dag: d\non: ["+text+"]\ntasks: {a: {run: x}}\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
