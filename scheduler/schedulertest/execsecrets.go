package schedulertest

import (
	"encoding/base64"
	"fmt"
	"strings"

	"millrace/scheduler"
)

// testSecrets: an attempt has its secrets, and nothing that is kept or told of it does. It is written before the end is reported, also what is only the
// beginning of a secret; an attempt without secrets is left alone. Like an executor on other machines, one may refuse them with a reason.
func testSecrets(t *execTest) {
	const secret, other = "correct-horse-battery", "not-a-secret-at-all"
	l := t.shell("secrets", `printf '%s\n' "$TOKEN" | tee "$WORK/seen"; echo "$TOKEN" >&2; printf 'in base64: '; printf %s "$TOKEN" | base64
		echo "`+other+`"; echo "{\"a\": \"$TOKEN\"}" > "$MILLRACE_OUTPUT"; printf 'the end: correct-ho'`)
	l.Env, l.Secrets = append(l.Env, "TOKEN="+secret), []string{secret}
	plain := t.shell("plain", fmt.Sprintf("echo %s", secret))
	t.launch(l, plain)
	if r := t.end(plain.ID); r.Exit != 0 || t.log(plain.ID, 0) != secret+"\n" {
		t.Errorf("without secrets: got %+v, log %q", r, t.log(plain.ID, 0))
	}
	r := t.end(l.ID)
	if r.Outcome == scheduler.OutcomeRefused && r.Reason != "" {
		return // it can not mask, and says so
	}
	if r.Exit != 0 || t.file("seen") != secret+"\n" {
		t.Errorf("got %+v, and the command saw %q", r, t.file("seen"))
	}
	log := t.log(l.ID, 0)
	if want := "***\n"; strings.Count(log, want) != 3 || !strings.Contains(log, other) || !strings.HasSuffix(log, "the end: correct-ho") {
		t.Errorf("got log %q, want *** three times, and the rest as it was", log)
	}
	for what, text := range map[string]string{"log": log, "output": string(r.Output), "reason": r.Reason, "external": r.External} {
		if strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
			t.Errorf("the %s has a secret: %q", what, text)
		}
	}
	if got := strings.ReplaceAll(strings.TrimSpace(string(r.Output)), " ", ""); got != `{"a":"***"}` {
		t.Errorf("got output %s", r.Output)
	}
}
