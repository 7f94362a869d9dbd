package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var updateMarathon = flag.Bool("update-marathon", false, "write configs/marathon/group.json")

// TestMarathonExample: configs/marathon/group.json is what the command makes of configs/marathon/millrace.yaml.
func TestMarathonExample(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "configs", "marathon")
	got := marathonGroup(t, 0, "--config", filepath.Join(dir, "millrace.yaml"), "--image", "registry.example.com/millrace:1.0", "--instances", "3",
		"--app-cpus", "ingest=2", "--app-mem", "schedule=2048", "--host-dir", "/etc/millrace", "--postgres", "--postgres-port", "31432")
	file := filepath.Join(dir, "group.json")
	if *updateMarathon {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the command writes; write it anew: go test ./cmd/millrace -run TestMarathonExample -update-marathon\n%s", file, got)
	}
}

// TestMarathonRefuses: what does not work apart is a matter of the configuration, what is said wrongly one of the command line.
func TestMarathonRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "configs", "marathon", "millrace.yaml")
	together := filepath.Join(t.TempDir(), "m.yaml")
	write(t, together, "dags: /etc/millrace/dags\n")
	for _, c := range []struct {
		code int
		args []string
		want string
	}{
		{exitConfig, []string{"--config", together}, "bus.kind nats"},
		{exitUsage, []string{"--config", file, "--app-cpus", "ingest=many"}, "--app-cpus ingest=many: want a number"},
		{exitUsage, []string{"--config", file, "--app-mem", "ingest=1GiB"}, "--app-mem ingest=1GiB: want a whole number of MiB"},
		{exitUsage, []string{"--config", file, "--app-volume", "kafka=1"}, `volume of "kafka": there are ingest, schedule, postgres`},
	} {
		if got := marathonGroup(t, c.code, c.args...); !strings.Contains(got, c.want) {
			t.Errorf("%q: got %s, want %q in it", c.args, got, c.want)
		}
	}
}

// marathonGroup runs the command, and returns what it writes, or what it says if it is to fail.
func marathonGroup(t *testing.T, code int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), append([]string{"mesos", "marathon"}, args...), streams{nil, &out, &errs}); got != code {
		t.Fatalf("%q: exit code %d, want %d\n%s", args, got, code, errs.String())
	}
	if code != 0 {
		return errs.String()
	}
	return out.String()
}
