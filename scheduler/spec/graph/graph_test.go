package graph

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/trigger"
)

// diamond has a join, a task with a word of Mermaid for an id, and text that must be escaped.
var diamond = scheduler.DAG{
	ID: "load",
	On: []trigger.Rule{
		{ID: "clicks", Kind: trigger.KindBatch, Source: "web", Types: []string{"track"}, If: `batch.source == "web"`},
		{ID: "nightly", Kind: trigger.KindCron, Cron: "15 2 * * *"},
		{ID: "all", Kind: trigger.KindBatch, Source: "*", Key: "batch.source", Coalesce: &trigger.Coalesce{MaxBatches: 2}},
		{ID: "manual", Kind: trigger.KindManual},
	},
	Tasks: []scheduler.Task{
		{ID: "start"}, {ID: "left", Needs: []string{"start"}}, {ID: "right", Needs: []string{"start"}, When: "totals.events\n> 0"},
		{ID: "end", Needs: []string{"start", "right", "left"}, Rule: "none_failed"}, {ID: "alone"},
	},
}

func TestDraw(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"text": `load
  on clicks: batches of web, with track, if batch.source == "web"
  on nightly: cron 15 2 * * *, UTC
  on all: batches of every source, several in one run, by batch.source
  on manual: by hand
├─ start
│  ├─ left
│  └─ right  (when totals.events > 0)
│     └─ end  (also after start, left; if none_failed)
└─ alone
`,
		"mermaid": `%% load
flowchart LR
  t0["start"]
  t1["left"]
  t2["right"]
  t3["end · none_failed"]
  t4["alone"]
  r0(["clicks: batches of web, with track, if batch.source == #quot;web#quot;"])
  r0 -.-> t0
  r0 -.-> t4
  r1(["nightly: cron 15 2 * * *, UTC"])
  r1 -.-> t0
  r1 -.-> t4
  r2(["all: batches of every source, several in one run, by batch.source"])
  r2 -.-> t0
  r2 -.-> t4
  r3(["manual: by hand"])
  r3 -.-> t0
  r3 -.-> t4
  t0 --> t1
  t0 --> t2
  t0 --> t3
  t2 --> t3
  t1 --> t3
`,
		"dot": `digraph "load" {
  rankdir=LR;
  node [shape=box];
  "start" [label="start"];
  "left" [label="left"];
  "right" [label="right"];
  "end" [label="end · none_failed"];
  "alone" [label="alone"];
  "on clicks" [shape=oval, label="clicks: batches of web, with track, if batch.source == \"web\""];
  "on clicks" -> "start" [style=dashed];
  "on clicks" -> "alone" [style=dashed];
  "on nightly" [shape=oval, label="nightly: cron 15 2 * * *, UTC"];
  "on nightly" -> "start" [style=dashed];
  "on nightly" -> "alone" [style=dashed];
  "on all" [shape=oval, label="all: batches of every source, several in one run, by batch.source"];
  "on all" -> "start" [style=dashed];
  "on all" -> "alone" [style=dashed];
  "on manual" [shape=oval, label="manual: by hand"];
  "on manual" -> "start" [style=dashed];
  "on manual" -> "alone" [style=dashed];
  "start" -> "left";
  "start" -> "right";
  "start" -> "end";
  "right" -> "end";
  "left" -> "end";
}
`,
	} {
		got, err := Draw(&diamond, format)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	if _, err := Draw(&diamond, "svg"); err == nil {
		t.Error("svg is drawn")
	}
}

// Setups come before the first, and teardowns after the last of what they cover; nothing is drawn twice.
func TestParents(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c"}
	d := scheduler.DAG{ID: "d", Tasks: []scheduler.Task{
		{ID: "s_setup", Part: scheduler.PartSetup}, {ID: "a", Setups: []string{"s_setup"}}, {ID: "b", Needs: []string{"a"}, Setups: []string{"s_setup"}},
		{ID: "c", Needs: []string{"a"}, Setups: []string{"s_setup"}},
		{ID: "s_teardown", Part: scheduler.PartTeardown, Needs: all, Setups: []string{"s_setup"}, Rule: scheduler.JoinAllDone},
	}}
	got, err := Draw(&d, "text")
	want := `d
  started by people only
└─ s_setup
   └─ a
      ├─ b
      │  └─ s_teardown  (also after c)
      └─ c
`
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

func TestRuleText(t *testing.T) {
	t.Parallel()
	for want, rule := range map[string]trigger.Rule{
		"all of clicks, orders, within 1h0m0s": {Kind: trigger.KindBatch, AllOf: []string{"clicks", "orders"}, Expire: time.Hour},
		"batches of web, latest_only":          {Kind: trigger.KindBatch, Source: "web", Order: trigger.OrderLatestOnly},
		"batches of web, for joins only":       {Kind: trigger.KindBatch, Source: "web", OnlyJoined: true},
	} {
		if got := ruleText(rule); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	d := scheduler.DAG{ID: "d", Groups: []scheduler.Group{{ID: "g", Description: "all\nof it"}}, Tasks: []scheduler.Task{
		{ID: "a"}, {ID: "b", Group: "g", Needs: []string{"a"}}, {ID: "c", Group: "g", Needs: []string{"b"}},
	}}
	for format, want := range map[string]string{
		"text": "d\n  started by people only\n└─ a\n   └─ b  (in g)\n      └─ c  (in g)\n",
		"mermaid": "%% d\nflowchart LR\n  t0[\"a\"]\n  t1[\"b\"]\n  t2[\"c\"]\n  subgraph g0 [\"g: all of it\"]\n    t1\n    t2\n  end\n" +
			"  t0 --> t1\n  t1 --> t2\n",
		"dot": "digraph \"d\" {\n  rankdir=LR;\n  node [shape=box];\n  \"a\" [label=\"a\"];\n  \"b\" [label=\"b\"];\n  \"c\" [label=\"c\"];\n" +
			"  subgraph cluster_0 {\n    label=\"g: all of it\";\n    \"b\";\n    \"c\";\n  }\n  \"a\" -> \"b\";\n  \"b\" -> \"c\";\n}\n",
	} {
		if got, err := Draw(&d, format); err != nil || got != want {
			t.Errorf("%s: %v, -want +got:\n%s", format, err, cmp.Diff(want, got))
		}
	}
}
