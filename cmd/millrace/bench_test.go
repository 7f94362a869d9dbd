package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"millrace/cmd/internal/bench"
)

// The figures of these tests are printed. Machines that run tests are shared and their disks stand still for seconds, so none fails for how long
// something took: they fail if an event is lost, which bench itself looks for, or for processor time and memory far from the goal. What was measured
// on a quiet machine is in docs/benchmarks.md. They do not run in parallel with each other or with anything else of this package.

// slack is how far processor time may be from its goal before a test fails.
const slack = 5

// benchIngest runs `millrace bench ingest` with args and returns its report.
func benchIngest(t *testing.T, args ...string) bench.IngestReport {
	t.Helper()
	var r bench.IngestReport
	benchJSON(t, &r, append([]string{"ingest"}, args...)...)
	return r
}

func benchJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, append(append([]string{"bench"}, args...), "-o", "json", "--dir", t.TempDir())...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("bench %s: %v\n%s\n%s", strings.Join(args, " "), err, errs.String(), out.String())
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}

// own returns the measurement of millrace itself.
func own(t *testing.T, r bench.IngestReport) bench.Measured {
	t.Helper()
	for _, m := range r.Measured {
		if m.Server == "millrace" {
			return m
		}
	}
	t.Fatal("the report has no measurement of millrace")
	return bench.Measured{}
}

// TestBenchSingle: durable single events against a bare handler; goal 50 % of its requests per second at twice its processor time.
func TestBenchSingle(t *testing.T) {
	r := benchIngest(t, "--baseline", "--duration", "3s")
	t.Logf("measured: durable single events: %.0f/s, %s", own(t, r).ReqPerSec, r.Verdict)
	if r.CPURatio > 2*slack {
		t.Errorf("processor time of a request: got %.1f times that of the bare handler, want at most %d", r.CPURatio, 2*slack)
	}
}

// TestBenchBatches: durable batches of 100; goal 400,000 events a second and 2.5 CPU-seconds per million. That is a figure of the way to the
// acknowledgement, gateway and log, so nothing else runs: with all stages, the batcher takes what processor there is. They have TestBenchSustained.
func TestBenchBatches(t *testing.T) {
	m := own(t, benchIngest(t, "--batch", "100", "--log-only", "--duration", "3s"))
	t.Logf("measured: durable batches of 100: %.0f events/s at %.2f CPU-s per million", m.EvPerSec, m.ServerCPU)
	if m.ServerCPU > 2.5*slack {
		t.Errorf("got %.2f CPU-s per million, want at most %.1f", m.ServerCPU, 2.5*slack)
	}
}

// TestBenchSustained: all stages on, 100,000 events a second into compressed objects for 20 seconds, every event looked for afterwards; goal
// 400 MiB of memory.
func TestBenchSustained(t *testing.T) { sustained(t, "20s") }

// TestSoakSustained is the same for five minutes.
func TestSoakSustained(t *testing.T) {
	soak(t)
	sustained(t, "5m")
}

func sustained(t *testing.T, duration string) {
	t.Helper()
	m := own(t, benchIngest(t, "--batch", "100", "--only-rate", "--rate", "100000", "--duration", duration))
	t.Logf("measured: all stages for %s: %.0f events/s, %.2f CPU-s per million in all, peak RSS %d MiB, lag last %.1f s, p99 %.1f ms",
		duration, m.EvPerSec, m.ServerCPU, m.PeakRSS>>20, last(m.Lag), m.LatencyMillis["p99"])
	if m.PeakRSS > 600<<20 {
		t.Errorf("peak RSS: got %d MiB, want at most 600", m.PeakRSS>>20)
	}
}

func last(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	return xs[len(xs)-1]
}

// TestBenchEndToEnd: from a batch's commit to the start of its task on an idle server; goal p50 5 ms, p99 20 ms, best of three.
func TestBenchEndToEnd(t *testing.T) {
	best := bench.E2EReport{}
	for i := range 3 {
		var r bench.E2EReport
		benchJSON(t, &r, "e2e", "--tries", "40")
		if i == 0 || r.Exec["p99"] < best.Exec["p99"] {
			best = r
		}
	}
	t.Logf("measured: committed → exec p50 %.2f ms, p99 %.2f ms; the disk's own fsync p50 %.2f ms, p99 %.2f ms, max %.2f ms",
		best.Exec["p50"], best.Exec["p99"], best.Fsync["p50"], best.Fsync["p99"], best.Fsync["max"])
	if best.Exec["p50"] <= 0 {
		t.Errorf("nothing was measured: %+v", best)
	}
}
