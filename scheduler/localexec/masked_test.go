//go:build linux

package localexec_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

const secret = "s3cr3t/with+signs"

// secretScript is a script that was given the secret.
func secretScript(id, text string, env ...string) scheduler.Launch {
	l := script(id, text, append(env, "TOKEN=Bearer "+secret)...)
	l.Secrets = []string{secret}
	return l
}

// nowhere fails if the secret stays in a file below dir. What a task writes itself is in its directory until its end was taken.
func nowhere(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "no file has the secret", func() bool {
		found := false
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // an attempt's directory may go away meanwhile
			}
			data, err := os.ReadFile(path)
			found = found || err == nil && bytes.Contains(data, []byte(secret))
			return nil
		}))
		return !found
	})
}

// What an attempt writes has no secret in it, however it writes it; the end comes after the whole output; and no file has the secret.
func TestMaskedOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{})
	const id = "r1.masked.-1.1"
	r.launch(secretScript(id, `echo "$TOKEN"; printf 's3cr3t/'; printf 'with+signs,%s' tail; echo err >&2
i=0; while [ $i -lt 20000 ]; do echo "$i $TOKEN"; i=$((i+1)); done
printf '{"token":"%s"}' "$TOKEN" > "$MILLRACE_OUTPUT"; printf s3cr; exit 3`))
	rep := r.await(id)
	if rep.Outcome != scheduler.OutcomeExited || rep.Exit != 3 || string(rep.Output) != `{"token":"Bearer ***"}` {
		t.Errorf("got %+v with output %s", rep, rep.Output)
	}
	log := r.readLog(id, 0)
	if want := "Bearer ***\n***,tailerr\n0 Bearer ***\n1 Bearer ***\n"; !strings.HasPrefix(log, want) {
		t.Errorf("log begins %q, want %q", log[:min(len(log), 80)], want)
	}
	if want := "\n19999 Bearer ***\ns3cr"; !strings.HasSuffix(log, want) || strings.Count(log, "***") != 20002 {
		t.Errorf("log ends %q with %d secrets, want %q with 20002", log[max(0, len(log)-40):], strings.Count(log, "***"), want)
	}
	nowhere(t, dir)
}

// An output that goes to the object store is masked before it does.
func TestMaskedLargeOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	objects := &shelf{bodies: map[string][]byte{}}
	r := start(t, dir, localexec.Options{Outputs: objects})
	const id = "r1.large.-1.1"
	r.launch(secretScript(id, `(printf '["'; head -c 200000 /dev/zero | tr '\0' x; printf '","%s"]' "$TOKEN") > "$MILLRACE_OUTPUT"`))
	rep := r.await(id)
	if rep.OutputRef == nil || rep.OutputError != "" {
		t.Fatalf("got %+v, want a reference", rep)
	}
	body, err := objects.Get(t.Context(), *rep.OutputRef)
	must(t, err)
	if got := string(body); !strings.HasSuffix(got, `x","Bearer ***"]`) || int64(len(got)) != rep.OutputRef.Bytes {
		t.Errorf("got %d bytes that end %q, want %d", len(got), got[len(got)-30:], rep.OutputRef.Bytes)
	}
}

// A process that leaves the attempt and keeps its output does not hold up the end, and is still masked.
func TestMaskedOutputOfOneThatLeaves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{})
	const id = "r1.leaver.-1.1"
	r.launch(secretScript(id, `setsid sh -c 'touch "$GO.up"; while [ ! -e "$GO" ]; do sleep 0.05; done; echo "late $TOKEN"' &
while [ ! -e "$GO.up" ]; do sleep 0.05; done; echo first`, "GO="+filepath.Join(dir, "go")))
	if rep := r.await(id); rep.Exit != 0 || r.readLog(id, 0) != "first\n" {
		t.Errorf("got %+v, log %q", rep, r.readLog(id, 0))
	}
	must(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	eventually(t, "the late line", func() bool { return r.readLog(id, 0) == "first\nlate Bearer ***\n" })
}

// When the runner is killed, the task goes on writing; the next runner reads what was written meanwhile, and masks it, though no file has the secret.
func TestMaskedOutputSurvivesTheRunner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{})
	const id = "r1.survivor.-1.1"
	out := filepath.Join(dir, "out")
	r.launch(secretScript(id, `echo "before $TOKEN"; while [ ! -e "$OUT.1" ]; do sleep 0.05; done
echo "between $TOKEN"; touch "$OUT.2"; while [ ! -e "$OUT.3" ]; do sleep 0.05; done; echo "after $TOKEN"`, "OUT="+out))
	r.await(id, scheduler.OutcomeRunning)
	eventually(t, "the first line", func() bool { return r.readLog(id, 0) == "before Bearer ***\n" })
	nowhere(t, dir)
	must(t, syscall.Kill(runnerPID(t, dir), syscall.SIGKILL))
	must(t, os.WriteFile(out+".1", nil, 0o600))
	eventually(t, "the task writes without a runner, or with the next", func() bool { return len(lines(t, out+".2")) > 0 })
	eventually(t, "the second line", func() bool { return strings.HasSuffix(r.readLog(id, 0), "between Bearer ***\n") })
	must(t, os.WriteFile(out+".3", nil, 0o600))
	r.await(id)
	if got, want := r.readLog(id, 0), "before Bearer ***\nbetween Bearer ***\nafter Bearer ***\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	nowhere(t, dir)
}

// A secret that is nowhere in the environment can not be found again: then the output is dropped rather than shown.
func TestMaskedOutputIsDroppedRatherThanShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{})
	const id = "r1.unplaced.-1.1"
	l := script(id, `echo before; while [ ! -e "$GO" ]; do sleep 0.05; done; echo after`, "GO="+filepath.Join(dir, "go"))
	l.Secrets = []string{secret}
	r.launch(l)
	eventually(t, "the first line", func() bool { return len(r.of(id)) > 0 && r.readLog(id, 0) == "before\n" })
	must(t, syscall.Kill(runnerPID(t, dir), syscall.SIGKILL))
	must(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	r.await(id)
	if got := r.readLog(id, 0); strings.Contains(got, "after") {
		t.Errorf("got %q, want nothing of what came later", got)
	}
}

// BenchmarkOutput is how fast a task can write, with its output masked and straight into the log.
func BenchmarkOutput(b *testing.B) {
	const size = 64 << 20
	for _, c := range []struct {
		name    string
		secrets []string
	}{{"plain", nil}, {"masked", []string{secret}}} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			e, err := localexec.New(dir, localexec.Options{RunnerArgv: argv()})
			must(b, err)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{}, 16)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = e.Run(ctx, func(_ context.Context, reports []scheduler.Report) error {
					for _, rep := range reports {
						if rep.Outcome != scheduler.OutcomeRunning {
							ended <- struct{}{}
						}
					}
					return nil
				})
			}()
			b.SetBytes(size)
			n := 0
			for b.Loop() {
				n++
				l := script(fmt.Sprintf("r1.bench.-1.%d", n), fmt.Sprintf("yes '2026-11-23 INFO loaded 5000 rows into events_by_hour' | head -c %d", size), "TOKEN="+secret)
				l.Secrets = c.secrets
				must(b, e.Launch(ctx, []scheduler.Launch{l}))
				<-ended
			}
			cancel()
			<-done
			awaitNoRunner(b, dir)
		})
	}
}
