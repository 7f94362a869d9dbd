package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// rulesDAG has a branch, whose sides exclude each other, a failure, and joins of them. `other` waits for `first`, which must not wait for it.
const rulesDAG = `dag: rules
on: [{id: by_hand, manual: true}]
params: {big: false}
tasks:
  pick: {run: ["true"]}
  large: {needs: pick, when: params.big, run: ["true"]}
  small: {needs: pick, when: "!params.big", run: ["true"]}
  plain: {needs: [large, small], run: ["true"]}
  join: {needs: [large, small], rule: none_failed_min_one_success, run: ["true"]}
  broken: {needs: pick, run: ["false"]}
  mend: {needs: [join, broken], rule: one_failed, run: ["true"]}
  other: {needs: pick, run: "until [ -e '@DIR/'$MILLRACE_RUN_ID ]; do sleep 0.02; done"}
  first: {needs: [pick, other], rule: one_success, run: "touch '@DIR/'$MILLRACE_RUN_ID"}
  tidy: {needs: [plain, mend, first, other], rule: all_done, run: ["true"]}
`

// TestJoinRules runs both sides of a branch to its joins. A failure that was mended does not fail the run; without the one that mends it does.
func TestJoinRules(t *testing.T) {
	t.Parallel()
	rules := strings.ReplaceAll(rulesDAG, "@DIR", t.TempDir())
	var unmended strings.Builder
	for line := range strings.Lines(strings.Replace(rules, "dag: rules", "dag: unmended", 1)) {
		if !strings.Contains(line, "mend") || strings.HasPrefix(line, "dag:") {
			unmended.WriteString(line)
		}
	}
	dir := dagDir(t, map[string]string{"rules.yaml": rules, "unmended.yaml": unmended.String()})
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.start()
	for _, tt := range []struct {
		dag, param string
		want       map[string]string
	}{
		{"rules", "big=true", map[string]string{
			"": "success", "pick": "success", "large": "success", "small": "skipped", "plain": "skipped", "join": "success",
			"broken": "failed", "mend": "success", "other": "success", "first": "success", "tidy": "success",
		}},
		{"rules", "big=false", map[string]string{
			"": "success", "pick": "success", "large": "skipped", "small": "success", "plain": "skipped", "join": "success",
			"broken": "failed", "mend": "success", "other": "success", "first": "success", "tidy": "success",
		}},
		{"unmended", "big=true", map[string]string{
			"": "failed", "pick": "success", "large": "success", "small": "skipped", "plain": "skipped", "join": "success",
			"broken": "failed", "other": "success", "first": "success",
		}},
	} {
		s.head(tt.dag, func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
		var r scheduler.Run
		s.cliJSON(&r, "dags", "trigger", tt.dag, "--param", tt.param)
		var d scheduler.RunDetail
		s.waitFor("at the end of "+tt.dag, func() bool {
			s.cliJSON(&d, "runs", "show", r.ID)
			return d.Run.State.Terminal()
		})
		got := map[string]string{"": string(d.Run.State)}
		for _, task := range d.Tasks {
			got[task.Task] = string(task.State)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s with %s (-want +got):\n%s", tt.dag, tt.param, diff)
		}
		if want := "task broken: exit code 1"; (d.Run.State == scheduler.StateFailed) != (d.Run.Reason == want) {
			t.Errorf("%s with %s: reason is %q", tt.dag, tt.param, d.Run.Reason)
		}
	}
	if text, code := s.cli("runs", "ls", "--state", "failed"); code != exitOK || strings.Count(text, "unmended") != 1 || strings.Contains(text, "rules") {
		t.Errorf("runs ls --state failed: exit %d\n%s", code, text)
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"dags", "validate", filepath.Join(dir, "rules.yaml")}, streams{in: strings.NewReader(""), out: &out, err: &errs})
	for _, want := range []string{`task "plain" joins after a branch`, "failure-hidden", "none_failed_min_one_success"} {
		if code != exitOK || !strings.Contains(errs.String(), want) || !strings.Contains(out.String(), "ok: ") {
			t.Errorf("dags validate: exit %d, want exit %d and a warning with %q\n%s%s", code, exitOK, want, out.String(), errs.String())
		}
	}
}
