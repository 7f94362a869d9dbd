package seal

import (
	"flag"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"

	"millrace/batcher/encode"
)

var (
	simSeed  = flag.Uint64("seed", 0, "replay one schedule of the simulation")
	simCount = flag.Int("schedules", 20_000, "schedules of the simulation")
	traceOn  = false
)

// TestSimulation runs workers through schedules of crashes, pauses, lost and late puts, power cuts, copies of disks, retention and refusals,
// and checks after each that every acknowledged record is in one object, or named. A violation prints its seed; -seed replays it.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		traceOn = true
		bubble(t, func(share *metrics) {
			w, err := schedule(*simSeed, plan{}, share)
			t.Logf("seed %d:\n%s", *simSeed, strings.Join(w.trace, "\n"))
			if err != nil {
				t.Errorf("seed %d: %v", *simSeed, err)
			}
		})
		return
	}
	const chunks = 40
	for chunk := range chunks {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) {
			t.Parallel()
			n := (*simCount + chunks - 1) / chunks
			bubble(t, func(share *metrics) {
				for i := range n {
					seed := uint64(chunk*n + i + 1)
					if _, err := schedule(seed, plan{}, share); err != nil {
						t.Errorf("replay with -run Simulation -seed %d: %v", seed, err)
						return
					}
				}
			})
		})
	}
}

// bubble runs f where time is what f makes of it.
func bubble(t *testing.T, f func(share *metrics)) {
	synctest.Test(t, func(t *testing.T) {
		share, err := newMetrics(Options{})
		if err != nil {
			t.Fatal(err)
		}
		f(share)
	})
}

// TestMain makes what the zstd encoder shares outside of any bubble.
func TestMain(m *testing.M) {
	flag.Parse()
	if _, _, err := encode.Void(encode.NDJSONZstd, "b", "r"); err != nil {
		panic(err)
	}
	debug.SetGCPercent(400) // schedules are short-lived garbage
	m.Run()
}
