package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/trigger"
)

// TestWaits: what a file says of joins, of order and of groups is what the rules have.
func TestWaits(t *testing.T) {
	t.Parallel()
	dags, err := Compile("f.yaml", []byte(`
dag: d
on:
  - {id: clicks, batch: {source: clicks}, key: batch.lane_keys.shop, only_joined: true}
  - {id: orders, batch: {source: orders}, key: batch.lane_keys.shop, order: fifo}
  - {all_of: [clicks, orders], expire: 24h, when_paused: latest}
  - {id: g, batch: {source: web}, coalesce: {quiet: 5s, mode: latest}}
  - {id: l, batch: {source: web}, key: batch.source, order: latest_only}
  - {id: s, batch: {source: web}, order: lifo, coalesce: {quiet: 5s, mode: all}}
concurrency: 1
tasks: {a: {run: x}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []trigger.Rule{
		{ID: "clicks", Source: "clicks", Key: "batch.lane_keys.shop", OnlyJoined: true},
		{ID: "orders", Source: "orders", Key: "batch.lane_keys.shop", Order: trigger.OrderFIFO},
		{ID: "all_of", AllOf: []string{"clicks", "orders"}, Expire: 24 * time.Hour, WhenPaused: trigger.PausedLatest},
		{ID: "g", Source: "web", Coalesce: &trigger.Coalesce{Quiet: 5 * time.Second, Mode: trigger.CoalesceLatest}},
		{ID: "l", Source: "web", Key: "batch.source", Order: trigger.OrderLatestOnly},
		{ID: "s", Source: "web", Order: trigger.OrderLIFO, Coalesce: &trigger.Coalesce{Quiet: 5 * time.Second}},
	}
	for i := range want {
		want[i].DAG, want[i].Kind = "d", trigger.KindBatch
	}
	if diff := cmp.Diff(want, dags[0].On); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadWaits(t *testing.T) {
	t.Parallel()
	const a, c = "{id: a, batch: {source: a}}", "{id: c, batch: {source: c}}"
	for text, want := range map[string]string{
		a + ", {all_of: [a, b]}": "names rule \"b\", which this DAG does not have",
		"{id: apples, batch: {source: x}}, " + a + ", {all_of: [a, aples]}": `did you mean "apples"`,
		a + ", {all_of: [a]}":                                                          "all_of needs 2 to 16 rules",
		a + ", {all_of: a}":                                                            "all_of must be a list",
		a + ", {all_of: [a, a]}":                                                       `names rule "a" twice`,
		a + ", {id: n, cron: '@daily'}, {all_of: [a, n]}":                              "all_of joins batches, and rule \"n\" is not",
		a + ", " + c + ", {id: j, all_of: [a, c]}, {all_of: [a, j]}":                   "rule \"j\" is not about them by itself",
		a + ", " + c + ", {all_of: [a, c], key: batch.source}":                         "key has no meaning for a join",
		a + ", " + c + ", {all_of: [a, c], batch: true}":                               "a rule needs one of batch, cron, manual and all_of, and has 2",
		a + ", " + c + ", {all_of: [a, c], expire: 0}":                                 "expire must be more than 0",
		a + ", " + c + ", {all_of: [a, c], order: fifo}":                               "order has no meaning for a join",
		"{batch: {source: a}, expire: 1h}":                                             "expire has a meaning for rules with all_of only",
		"{id: a, batch: true, only_joined: true}":                                      `rule "a" starts nothing: it has only_joined`,
		"{cron: '@daily', order: fifo}":                                                "order has a meaning for batch rules only",
		"{batch: true, order: filo}":                                                   "write one of fifo, lifo, latest_only",
		"{batch: true, order: lifo}":                                                   "order: lifo has no effect",
		"{batch: true, order: latest_only, coalesce: {quiet: 1s}}":                     "write mode: latest in coalesce",
		"{batch: true, coalesce: {quiet: 1s, mode: newest}}":                           "write one of all, latest",
		"{batch: true, coalesce: {mode: latest}}":                                      "set at least one of max_batches",
		c + ", {id: a, batch: true, key: batch.source}, {all_of: [a, c]}":              "can never fire: rule a has a key and rule c has none",
		c + ", {id: a, batch: true, coalesce: {quiet: 1s}}, {all_of: [a, c]}":          "so coalesce is not permitted there",
		c + ", {id: a, batch: true, order: fifo, only_joined: true}, {all_of: [a, c]}": "order and coalesce of rule \"a\" have no effect",
	} {
		if _, err := Compile("f.yaml", []byte("dag: d\non: ["+text+"]\ntasks: {a: {run: x}}\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestLintJoins(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"{id: a, batch: {source: a}, key: batch.lane}, {id: b, batch: {source: b}, key: 'batch. lane'}, {all_of: [a, b], expire: 1h}":             {"join-keys"},
		"{id: a, batch: {source: a}, key: batch.lane}, {id: b, batch: {source: b}, key: batch.source}, {all_of: [a, b]}":                          {"join-keys", "no-expire"},
		"{id: a, batch: {source: a}, key: 'batch.events  + 1'}, {id: b, batch: {source: b}, key: batch.events + 1}, {all_of: [a, b], expire: 1h}": nil,
		"{id: a, batch: {source: a}}, {id: b, batch: {source: b}}, {all_of: [a, b], expire: 1h}":                                                  nil,
	} {
		f := Lint("f.yaml", []byte("dag: d\non: ["+text+"]\ndefaults: {retry: 1, timeout: 1h}\ntasks: {a: {run: x}}\n"))
		var got []string
		for _, w := range f.Warnings {
			got = append(got, fmt.Sprint(w.Code))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || len(f.Faults) > 0 {
			t.Errorf("%s: %v (-want +got):\n%s", text, f.Faults, diff)
		}
	}
}
