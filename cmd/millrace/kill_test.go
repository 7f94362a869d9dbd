package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"millrace/batcher/verify"
)

// senders post events until stop, whatever becomes of the server, and remember which were acknowledged.
type senders struct {
	mu    sync.Mutex
	acked map[string]bool
	quit  chan struct{}
	wg    sync.WaitGroup
}

func sendTo(s *server, n int) *senders { return sendNamed(s, "m", n) }

// sendNamed starts n senders whose events have ids of their own, after the name.
func sendNamed(s *server, name string, n int) *senders {
	x := &senders{acked: map[string]bool{}, quit: make(chan struct{})}
	for i := range n {
		x.wg.Add(1)
		go func() { // ends with quit; stop waits
			defer x.wg.Done()
			x.send(s, fmt.Sprintf("%s-%d", name, i))
		}()
	}
	return x
}

func (x *senders) send(s *server, name string) {
	for k := 0; ; {
		id := fmt.Sprintf("%s-%d", name, k)
		status, _, err := s.track(id)
		if err == nil && status == 200 {
			x.mu.Lock()
			x.acked[id] = true
			x.mu.Unlock()
			k++ // an event without an answer is sent again, as SDKs do
		}
		pause := time.Duration(0)
		if err != nil || status != 200 {
			pause = 5 * time.Millisecond
		}
		select {
		case <-x.quit:
			return
		case <-time.After(pause):
		}
	}
}

func (x *senders) stop() map[string]bool {
	close(x.quit)
	x.wg.Wait()
	return x.acked
}

// TestKillLoop is row 1 of docs/faults.md: 50 kills under load at random times after readiness. Every acknowledged event must be in exactly
// one row afterwards. At least 10 kills must have left something to finish, or the test has shown nothing.
func TestKillLoop(t *testing.T) {
	t.Parallel()
	const kills, enough = 50, 10
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newServer(t, "dev", "--log-level", "error")
	x := sendTo(s, 8)
	unfinished := 0
	for range kills {
		s.start()
		<-time.After(time.Duration(rng.Int64N(int64(3 * time.Second))))
		s.kill()
		if pending(s.offline()) {
			unfinished++
		}
	}
	s.start()
	acked := x.stop()
	s.drained()
	if out, code := s.cli("verify"); code != exitOK {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
	s.stop()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	fmt.Printf("measured: %d kills, %d left work unfinished, %d events acknowledged, %d rows (seed %d)\n",
		kills, unfinished, len(acked), len(r.byPlace), seed)
	if unfinished < enough {
		t.Errorf("only %d of %d kills left work unfinished, want at least %d", unfinished, kills, enough)
	}
}

// offline verifies without a server and fails if anything is lost, doubled or damaged.
func (s *server) offline() *verify.Report {
	s.t.Helper()
	var r verify.Report
	s.cliJSON(&r, "verify", "--offline")
	if !r.OK {
		s.t.Fatalf("verify: %+v", r)
	}
	return &r
}

// drained waits until every record is in an object.
func (s *server) drained() {
	s.t.Helper()
	s.waitFor("drained", func() bool {
		var r verify.Report
		s.cliJSON(&r, "verify")
		return !pending(&r)
	})
}
