package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigCommands: init writes a file that check accepts, and never over another; show tells what won; faults have exit code 3 and their place.
func TestConfigCommands(t *testing.T) { // not parallel: it sets variables
	dir := t.TempDir()
	file := filepath.Join(dir, "m.yaml")
	command := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := run(t.Context(), args, streams{out: &out, err: &out}); code != want {
			t.Errorf("%v: exit %d, want %d\n%s", args, code, want, &out)
		}
		return out.String()
	}
	command(exitOK, "config", "init", file)
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v: others could read secrets that are written into it", info.Mode(), err)
	}
	write(t, file, string(first)+"# mine\n")
	if out := command(exitConflict, "config", "init", file); !strings.Contains(out, "left alone") {
		t.Errorf("got %q", out)
	}
	if now, err := os.ReadFile(file); err != nil || !strings.HasSuffix(string(now), "# mine\n") {
		t.Errorf("init has changed a file that was there: %v", err)
	}
	if out := command(exitOK, "config", "check", "--config", file); out != "ok: "+file+"\n" {
		t.Errorf("got %q", out)
	}

	t.Setenv("MILLRACE_DATA_DIR", "/from/env")
	t.Setenv("MILLRACE_BATCH__MAX_AGE", "2s")
	out := command(exitOK, "config", "show", "--origin", "--config", file)
	for _, want := range []string{"/from/env # env MILLRACE_DATA_DIR", "2s # env MILLRACE_BATCH__MAX_AGE", "50000 # file " + file + ":"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("config show --origin lacks %q:\n%s", want, out)
		}
	}
	out = command(exitOK, "config", "show", "--origin", "--data-dir", "/from/flag")
	for _, want := range []string{"/from/flag # flag --data-dir", "50000 # default"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("config show --origin lacks %q:\n%s", want, out)
		}
	}

	write(t, file, "store: {knid: sqlite}\n")
	out = command(exitConfig, "config", "check", "--config", file)
	if want := file + ":1:9: store.knid: there is no such key\n    1 | store: {knid: sqlite}\n      |         ^\ndid you mean \"kind\"?\n"; !strings.HasSuffix(out, want) {
		t.Errorf("got %q, want %q at the end", out, want)
	}
	var schema map[string]any
	if err := json.Unmarshal([]byte(command(exitOK, "config", "schema")), &schema); err != nil || schema["additionalProperties"] != false {
		t.Errorf("config schema: %v, %v", err, schema["additionalProperties"])
	}
}
