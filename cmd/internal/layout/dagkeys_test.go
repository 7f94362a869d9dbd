package layout

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// keyTests names, for each key of a DAG file, the test that shows a run differing with it and without it, or, for a key that is there for people,
// what they see differing. Keys below defaults become those of the tasks that do not say otherwise, before anything else sees them. Where time or
// several runs matter the test is that of the package that decides.
var keyTests = map[string]string{
	"concurrency":                       "scheduler/engine.TestConcurrencyQueue",
	"concurrency.group":                 "scheduler/engine.TestConcurrencyGroups",
	"concurrency.max_runs":              "scheduler/engine.TestConcurrencyQueue",
	"concurrency.when_full":             "scheduler/engine.TestConcurrencyWhenFull", // and TestGate, for coalesce
	"dag":                               "cmd/millrace.TestDAGKeys",
	"deadline":                          "scheduler/engine.TestDeadlines",
	"deadline.from":                     "scheduler/engine.TestDeadlines",
	"deadline.min_runs":                 "scheduler/engine.TestAverageDeadline",
	"deadline.notify":                   "scheduler/engine.TestDeadlines",
	"deadline.within":                   "scheduler/engine.TestDeadlines",
	"deadline[].from":                   "scheduler/engine.TestDeadlines",
	"deadline[].min_runs":               "scheduler/engine.TestAverageDeadline",
	"deadline[].notify":                 "scheduler/engine.TestDeadlines",
	"deadline[].within":                 "scheduler/engine.TestDeadlines",
	"defaults":                          "cmd/millrace.TestDAGKeys",
	"defaults.env":                      "cmd/millrace.TestDAGKeys",
	"defaults.executor":                 "cmd/millrace.TestDAGKeys",
	"defaults.infra_retry":              "scheduler/plan.TestOutcomes",
	"defaults.pool":                     "scheduler/engine.TestPools",
	"defaults.pool_slots":               "scheduler/engine.TestPools",
	"defaults.priority":                 "scheduler/engine.TestPriority",
	"defaults.retry":                    "cmd/millrace.TestDAGKeys",
	"defaults.retry.backoff":            "scheduler/plan.TestRetryWaits",
	"defaults.retry.delay":              "cmd/millrace.TestDAGKeys",
	"defaults.retry.jitter":             "scheduler/plan.TestRetryWaits",
	"defaults.retry.limit":              "cmd/millrace.TestDAGKeys",
	"defaults.retry.max_delay":          "scheduler/plan.TestRetryWaits",
	"defaults.retry.never_on":           "cmd/millrace.TestDAGKeys",
	"defaults.retry.on_exit":            "cmd/millrace.TestDAGKeys",
	"defaults.timeout":                  "cmd/millrace.TestDAGKeys",
	"defaults.timeout.grace":            "scheduler/localexec.TestGraceOfChildren",
	"defaults.timeout.heartbeat":        "cmd/millrace.TestTimeouts",
	"defaults.timeout.queue":            "cmd/millrace.TestTimeouts",
	"defaults.timeout.run":              "cmd/millrace.TestDAGKeys",
	"defaults.timeout.start":            "cmd/millrace.TestTimeouts",
	"description":                       "cmd/millrace.TestDAGKeysForPeople",
	"env":                               "cmd/millrace.TestDAGKeys",
	"groups":                            "scheduler/spec.TestGroups",
	"groups.*":                          "scheduler/spec.TestGroups",
	"groups.*.description":              "cmd/millrace.TestGroups",
	"groups.*.needs":                    "scheduler/spec.TestGroups",
	"on":                                "cmd/millrace.TestDAGKeys",
	"on[].batch":                        "cmd/millrace.TestDAGKeys",
	"on[].batch.quarantine":             "trigger/rules.TestMatch",
	"on[].batch.source":                 "cmd/millrace.TestDAGKeys",
	"on[].batch.tenant":                 "cmd/millrace.TestDAGKeys",
	"on[].batch.types":                  "cmd/millrace.TestDAGKeys",
	"on[].all_of":                       "trigger/dispatch.TestJoin",
	"on[].catchup":                      "trigger/dispatch.TestCatchup",
	"on[].catchup.policy":               "trigger/dispatch.TestCatchup",
	"on[].catchup.window":               "trigger/dispatch.TestCatchup",
	"on[].coalesce":                     "trigger/dispatch.TestCoalesce",
	"on[].coalesce.max_batches":         "trigger/dispatch.TestCoalesce",
	"on[].coalesce.max_bytes":           "trigger/coalesce.TestAdd",
	"on[].coalesce.max_events":          "trigger/coalesce.TestAdd",
	"on[].coalesce.max_wait":            "trigger/dispatch.TestCoalesce",
	"on[].coalesce.mode":                "trigger/dispatch.TestCoalesceLatest",
	"on[].coalesce.quiet":               "trigger/dispatch.TestCoalesce",
	"on[].cron":                         "trigger/dispatch.TestCronTicks",
	"on[].expire":                       "trigger/dispatch.TestJoinExpires",
	"on[].only_joined":                  "trigger/dispatch.TestJoin",
	"on[].order":                        "trigger/dispatch.TestOrder",
	"on[].id":                           "cmd/millrace.TestDAGKeys",
	"on[].if":                           "cmd/millrace.TestDAGKeys",
	"on[].jitter":                       "trigger/dispatch.TestJitter",
	"on[].key":                          "cmd/millrace.TestDAGKeys",
	"on[].manual":                       "cmd/millrace.TestDAGKeys",
	"on[].timezone":                     "trigger/rules.TestNextTick",
	"on[].when_paused":                  "trigger/dispatch.TestWhenPaused",
	"on_event":                          "scheduler/engine.TestNotices",
	"on_event.cancelled":                "scheduler/engine.TestNotices",
	"on_event.deadline":                 "scheduler/engine.TestDeadlines",
	"on_event.failure":                  "scheduler/engine.TestNotices",
	"on_event.retry":                    "scheduler/engine.TestNotices",
	"on_event.success":                  "scheduler/engine.TestNotices",
	"owner":                             "cmd/millrace.TestDAGKeysForPeople",
	"params":                            "cmd/millrace.TestDAGKeys",
	"params.*":                          "cmd/millrace.TestDAGKeys",
	"params.*.default":                  "cmd/millrace.TestDAGKeys",
	"params.*.description":              "cmd/millrace.TestDAGKeysForPeople",
	"params.*.required":                 "cmd/millrace.TestDAGKeys",
	"params.*.type":                     "cmd/millrace.TestDAGKeys",
	"priority":                          "scheduler/engine.TestPriority",
	"setup":                             "cmd/millrace.TestSetupAndTeardown",
	"setup.*":                           "cmd/millrace.TestSetupAndTeardown",
	"setup.*.for":                       "scheduler/plan.TestSetupWithinAnother",
	"setup.*.needs":                     "scheduler/plan.TestSetupWithinAnother",
	"tags":                              "cmd/millrace.TestDAGKeysForPeople",
	"tasks":                             "cmd/millrace.TestDAGKeys",
	"tasks.*":                           "cmd/millrace.TestDAGKeys",
	"tasks.*.cache":                     "scheduler/engine.TestCache",
	"tasks.*.cache.key":                 "scheduler/engine.TestCache",
	"tasks.*.cache.ttl":                 "scheduler/engine.TestCache",
	"tasks.*.concurrency":               "scheduler/engine.TestTaskConcurrency",
	"tasks.*.env":                       "cmd/millrace.TestDAGKeys",
	"tasks.*.executor":                  "cmd/millrace.TestDAGKeys",
	"tasks.*.group":                     "cmd/millrace.TestGroups",
	"tasks.*.foreach":                   "scheduler/engine.TestForeach",
	"tasks.*.foreach.as":                "scheduler/engine.TestForeach",
	"tasks.*.foreach.items":             "scheduler/engine.TestForeachLists",
	"tasks.*.foreach.key":               "scheduler/engine.TestForeach",
	"tasks.*.foreach.max_concurrent":    "scheduler/engine.TestForeachMaxConcurrent",
	"tasks.*.foreach.tolerate_failures": "scheduler/engine.TestForeachTolerance",
	"tasks.*.http":                      "cmd/millrace.TestHTTPTasks",
	"tasks.*.http.body":                 "cmd/millrace.TestHTTPTasks",
	"tasks.*.http.connection":           "cmd/millrace.TestHTTPConnection",
	"tasks.*.http.expect":               "scheduler/operator/http.TestRedirects",
	"tasks.*.http.headers":              "cmd/millrace.TestHTTPTasks",
	"tasks.*.http.method":               "cmd/millrace.TestHTTPTasks",
	"tasks.*.http.timeout":              "scheduler/operator/http.TestNetworkFaultsAreTriedAgain",
	"tasks.*.http.url":                  "cmd/millrace.TestHTTPTasks",
	"tasks.*.infra_retry":               "scheduler/plan.TestOutcomes",
	"tasks.*.needs":                     "cmd/millrace.TestDAGKeys",
	"tasks.*.output":                    "cmd/millrace.TestDAGKeys",
	"tasks.*.output.schema":             "cmd/millrace.TestDAGKeys",
	"tasks.*.on_event":                  "scheduler/engine.TestNoticesOfTasks",
	"tasks.*.on_event.cancelled":        "scheduler/engine.TestNoticesOfTasks",
	"tasks.*.on_event.failure":          "scheduler/engine.TestNoticesOfTasks",
	"tasks.*.on_event.retry":            "scheduler/engine.TestNoticesOfTasks",
	"tasks.*.on_event.skipped":          "scheduler/engine.TestNoticesOfTasks",
	"tasks.*.on_event.success":          "scheduler/engine.TestNoticesOfTasks",
	"tasks.*.pool":                      "scheduler/engine.TestPools",
	"tasks.*.pool_slots":                "scheduler/engine.TestPools",
	"tasks.*.priority":                  "scheduler/engine.TestPriority",
	"tasks.*.retry":                     "cmd/millrace.TestDAGKeys",
	"tasks.*.retry.backoff":             "scheduler/plan.TestRetryWaits",
	"tasks.*.retry.delay":               "cmd/millrace.TestDAGKeys",
	"tasks.*.retry.jitter":              "scheduler/plan.TestRetryWaits",
	"tasks.*.retry.limit":               "cmd/millrace.TestDAGKeys",
	"tasks.*.retry.max_delay":           "scheduler/plan.TestRetryWaits",
	"tasks.*.retry.never_on":            "cmd/millrace.TestDAGKeys",
	"tasks.*.retry.on_exit":             "cmd/millrace.TestDAGKeys",
	"tasks.*.rule":                      "cmd/millrace.TestDAGKeys",
	"tasks.*.run":                       "cmd/millrace.TestDAGKeys",
	"tasks.*.args":                      "scheduler/plan.TestLaunchInAnImage",
	"tasks.*.image":                     "scheduler/plan.TestLaunchInAnImage",
	"tasks.*.pull":                      "scheduler/plan.TestLaunchInAnImage",
	"tasks.*.use":                       "cmd/millrace.TestOwnOperatorsPage",
	"tasks.*.with":                      "cmd/millrace.TestOwnOperatorsPage",
	"tasks.*.sql":                       "cmd/millrace.TestSQLTasks",
	"tasks.*.sql.connection":            "cmd/millrace.TestSQLTasks",
	"tasks.*.sql.file":                  "scheduler/operator/sql.TestSQLite",
	"tasks.*.sql.max_rows":              "scheduler/operator/sql.TestSQLite",
	"tasks.*.sql.params":                "cmd/millrace.TestSQLTasks",
	"tasks.*.sql.statement":             "cmd/millrace.TestSQLTasks",
	"tasks.*.timeout":                   "cmd/millrace.TestDAGKeys",
	"tasks.*.timeout.grace":             "scheduler/localexec.TestGraceOfChildren",
	"tasks.*.timeout.heartbeat":         "cmd/millrace.TestTimeouts",
	"tasks.*.timeout.queue":             "cmd/millrace.TestTimeouts",
	"tasks.*.timeout.run":               "cmd/millrace.TestDAGKeys",
	"tasks.*.timeout.start":             "cmd/millrace.TestTimeouts",
	"tasks.*.wait":                      "cmd/millrace.TestWaitTasks",
	"tasks.*.wait.object":               "cmd/millrace.TestWaitTasks",
	"tasks.*.wait.poll":                 "cmd/millrace.TestWaitTasks",
	"tasks.*.when":                      "cmd/millrace.TestDAGKeys",
	"teardown":                          "cmd/millrace.TestSetupAndTeardown",
	"teardown.*":                        "cmd/millrace.TestSetupAndTeardown",
	"teardown.*.fail_run":               "scheduler/plan.TestFailRun",
	"teardown.*.for":                    "scheduler/spec.TestParts",

	// What JSON Schema says of parameters: those of an approval are read and checked by the same functions.
	"params.*.enum":                        "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.enum":       "scheduler/engine.TestParamsOfRuns",
	"params.*.minimum":                     "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.minimum":    "scheduler/engine.TestParamsOfRuns",
	"params.*.maximum":                     "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.maximum":    "scheduler/engine.TestParamsOfRuns",
	"params.*.pattern":                     "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.pattern":    "scheduler/engine.TestParamsOfRuns",
	"params.*.format":                      "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.format":     "scheduler/engine.TestParamsOfRuns",
	"params.*.items":                       "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.items":      "scheduler/engine.TestParamsOfRuns",
	"params.*.properties":                  "scheduler/engine.TestParamsOfRuns",
	"tasks.*.approval.params.*.properties": "scheduler/engine.TestParamsOfRuns",
	"params.*.title":                       "cmd/millrace.TestDAGKeysForPeople",
	"tasks.*.approval.params.*.title":      "cmd/millrace.TestDAGKeysForPeople",

	// What is asked of the machine: the executor decides.
	"defaults.resources":           "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"defaults.resources.cpu":       "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"defaults.resources.cpu_limit": "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"defaults.resources.mem":       "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"defaults.resources.disk":      "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"defaults.resources.gpu":       "scheduler/localexec.TestRefused",
	"defaults.constraints":         "scheduler/localexec.TestRefused",
	"defaults.at_least_once_fast":  "scheduler/engine.TestUnreachableIsFencedAtOnce",
	"tasks.*.resources":            "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"tasks.*.resources.cpu":        "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"tasks.*.resources.cpu_limit":  "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"tasks.*.resources.mem":        "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"tasks.*.resources.disk":       "scheduler/plan.TestLaunchSaysWhatIsAskedFor",
	"tasks.*.resources.gpu":        "scheduler/localexec.TestRefused",
	"tasks.*.constraints":          "scheduler/localexec.TestRefused",
	"tasks.*.at_least_once_fast":   "scheduler/engine.TestUnreachableIsFencedAtOnce",

	// What else is asked of the machine: on the double of Mesos where a process can show it, else what an agent is told.
	"defaults.resources.mem_limit":               "scheduler/mesosexec.TestTaskOf",
	"defaults.user":                              "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.resources.mem_limit":                "scheduler/mesosexec.TestTaskOf",
	"tasks.*.user":                               "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.ports":                              "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.ports[].host":                       "scheduler/mesosexec.TestTaskOf",
	"tasks.*.ports[].container":                  "scheduler/mesosexec.TestTaskOf",
	"tasks.*.ports[].protocol":                   "scheduler/mesosexec.TestTaskOf",
	"tasks.*.uris":                               "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.uris[].value":                       "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.uris[].extract":                     "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.uris[].executable":                  "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.uris[].cache":                       "scheduler/mesosexec.TestTaskOf",
	"tasks.*.uris[].output_file":                 "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check":                       "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.http":                  "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.http.port":             "scheduler/mesosexec.TestTaskOf",
	"tasks.*.health_check.http.port_index":       "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.http.path":             "scheduler/mesosexec.TestTaskOf",
	"tasks.*.health_check.http.scheme":           "scheduler/mesosexec.TestTaskOf",
	"tasks.*.health_check.tcp":                   "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.tcp.port":              "scheduler/mesosexec.TestTaskOf",
	"tasks.*.health_check.tcp.port_index":        "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.command":               "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.delay":                 "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.interval":              "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.timeout":               "scheduler/mesosexec.TestTaskOf",
	"tasks.*.health_check.failures":              "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.health_check.grace":                 "scheduler/mesosexec.TestTasksOnAnAgent",
	"tasks.*.container":                          "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.containerizer":            "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.network":                  "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.volumes":                  "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.volumes[].container_path": "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.volumes[].host_path":      "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.volumes[].name":           "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.volumes[].driver":         "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.volumes[].mode":           "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.privileged":               "scheduler/mesosexec.TestTaskOf",
	"tasks.*.container.parameters":               "scheduler/mesosexec.TestTaskOf",

	// Tasks that take no slot.
	"tasks.*.approval":                      "scheduler/engine.TestParked",
	"tasks.*.approval.by":                   "scheduler/engine.TestDecide",
	"tasks.*.approval.expires":              "scheduler/engine.TestParked",
	"tasks.*.approval.message":              "scheduler/engine.TestParked",
	"tasks.*.approval.on_expire":            "scheduler/engine.TestParked",
	"tasks.*.approval.on_reject":            "scheduler/plan.TestDecisions",
	"tasks.*.approval.options":              "scheduler/engine.TestDecide",
	"tasks.*.approval.params":               "scheduler/engine.TestDecide",
	"tasks.*.approval.params.*":             "scheduler/engine.TestDecide",
	"tasks.*.approval.params.*.default":     "scheduler/engine.TestDecide",
	"tasks.*.approval.params.*.description": "scheduler/engine.TestDecide",
	"tasks.*.approval.params.*.required":    "scheduler/engine.TestDecide",
	"tasks.*.approval.params.*.type":        "scheduler/engine.TestDecide",
	"tasks.*.dag":                           "scheduler/engine.TestSubDAG",
	"tasks.*.dag.id":                        "scheduler/engine.TestSubDAG",
	"tasks.*.dag.inputs":                    "scheduler/engine.TestSubDAGWithoutInputs",
	"tasks.*.dag.params":                    "scheduler/engine.TestSubDAG",
	"tasks.*.dag.wait":                      "scheduler/engine.TestSubDAGOutcomes",
}

// testOf returns the test of a key. What a setup or a teardown has like a task becomes a task of the compiled form before anything else sees it.
func testOf(key string) string {
	for _, part := range []string{"setup.*.", "teardown.*."} {
		if rest, ok := strings.CutPrefix(key, part); ok && keyTests[key] == "" {
			return keyTests["tasks.*."+rest]
		}
	}
	return keyTests[key]
}

// TestEveryKeyHasATest walks the schema of DAG files: a key without a test is a promise that nobody checks.
func TestEveryKeyHasATest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../scheduler/spec/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, s := range load(t, "../../..") {
		for _, name := range s.functions() {
			tests[s.dir+"."+name] = s.test
		}
	}
	keys := schemaKeys(schema, "")
	if len(keys) < 60 {
		t.Fatalf("the schema has %d keys, which can not be all", len(keys))
	}
	for _, key := range keys {
		switch name := testOf(key); {
		case name == "":
			t.Errorf("key %s has no test: add it to keyTests with one that shows a run differing with it and without it", key)
		case !tests[name]:
			t.Errorf("key %s names the test %s, which does not exist", key, name)
		}
	}
	for key := range keyTests {
		if !slices.Contains(keys, key) {
			t.Errorf("keyTests has %s, which is no key of the schema", key)
		}
	}
}

// schemaKeys returns the keys of a schema below a path, as scheduler/spec/keys.go writes them.
func schemaKeys(n map[string]any, path string) []string {
	var out []string
	at := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	properties, _ := n["properties"].(map[string]any)
	for name, sub := range properties {
		out = append(append(out, at(name)), schemaKeys(sub.(map[string]any), at(name))...)
	}
	if sub, ok := n["additionalProperties"].(map[string]any); ok && sub["description"] != nil {
		out = append(append(out, at("*")), schemaKeys(sub, at("*"))...)
	}
	if sub, ok := n["items"].(map[string]any); ok {
		out = append(out, schemaKeys(sub, path+"[]")...)
	}
	alternatives, _ := n["anyOf"].([]any)
	for _, sub := range alternatives {
		out = append(out, schemaKeys(sub.(map[string]any), path)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
