package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

// TestSoakTriggerRate measures how soon a task runs after its batch is committed while 200 batches a second come, each of one event, and where that
// time goes. There are many sources, each of which sends so rarely that its next event makes a batch of its own. MILLRACE_SOAK_PROFILE names a file
// that takes a CPU profile of the server.
func TestSoakTriggerRate(t *testing.T) {
	soak(t)
	const sources, every, seconds = 40, 200 * time.Millisecond, 15
	config := "batch: {max_age: 20ms}\nconsole: {pprof: true}\nsources:\n"
	for i := range sources {
		config += fmt.Sprintf("  s%d: {kind: clickstream, write_keys: [k%d]}\n", i, i)
	}
	dags := dagDir(t, map[string]string{"each.yaml": "dag: each\non: [{batch: {}}]\ntasks: {a: {run: [\"true\"]}}\n"})
	file := dagDir(t, map[string]string{"millrace.yaml": config + "dags: " + dags + "\n"}) + "/millrace.yaml"
	s := newServer(t, "serve", "--config", file, "--log-level", "error")
	s.start()
	s.head("each", func(h scheduler.DAGHead) bool { return h.Version != "" })

	var wg sync.WaitGroup
	begin, busy := time.Now(), s.usage().cpu
	wg.Go(func() { s.profile(seconds - 1) }) // ends with the profile
	for i := range sources {
		wg.Go(func() { // ends after so many seconds
			for at := begin.Add(every * time.Duration(i) / sources); at.Before(begin.Add(seconds * time.Second)); at = at.Add(every) {
				<-time.After(time.Until(at))
				s.trackAs(fmt.Sprint("k", i))
			}
		})
	}
	wg.Wait()
	busy = s.usage().cpu - busy
	s.drained()
	committed := map[string]time.Time{}
	for _, b := range s.allBatches() {
		committed[b.ID] = b.CommittedAt
	}
	var made, handed, execed []time.Duration
	for id, at := range committed {
		d := s.ranOnce(id)
		made = append(made, d.Run.CreatedAt.Sub(at))
		handed = append(handed, d.Attempts[0].CreatedAt.Sub(at))
		execed = append(execed, d.Attempts[0].StartedAt.Sub(at))
	}
	for _, line := range []struct {
		what  string
		waits []time.Duration
	}{{"decided on the run", made}, {"decided on the attempt", handed}, {"exec", execed}} {
		slices.Sort(line.waits)
		t.Logf("measured: at %.0f runs a second, committed → %s p50 %v, p90 %v, p99 %v, max %v", float64(len(line.waits))/seconds, line.what,
			quantile(line.waits, 0.5), quantile(line.waits, 0.9), quantile(line.waits, 0.99), quantile(line.waits, 1))
	}
	t.Logf("measured: the server took %.2f ms of processor time for each, of which the generator is no part", float64(busy.Milliseconds())/float64(len(execed)))
}

// trackAs sends one event of a source. One that is not taken makes no batch, which the rate then shows.
func (s *server) trackAs(key string) {
	req, err := http.NewRequest(http.MethodPost, "http://"+s.ingest+"/v1/track", strings.NewReader(`{"userId":"u","event":"e"}`))
	if err != nil {
		s.t.Error(err)
		return
	}
	req.SetBasicAuth(key, "")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// ranOnce returns the run of a batch when it has succeeded.
func (s *server) ranOnce(id string) (d scheduler.RunDetail) {
	s.t.Helper()
	s.waitFor("done with the run of batch "+id, func() bool {
		var of struct {
			Dispositions []trigger.Disposition `json:"dispositions"`
		}
		s.apiJSON("/batches/"+id, &of)
		if len(of.Dispositions) != 1 {
			s.t.Fatalf("batch %s has %d dispositions, want 1", id, len(of.Dispositions))
		}
		s.apiJSON("/runs/"+of.Dispositions[0].Run, &d)
		return d.Run.State == scheduler.StateSuccess && len(d.Attempts) == 1
	})
	return d
}

func (s *server) apiJSON(path string, out any) {
	s.t.Helper()
	text, err := s.api(path)
	if err == nil {
		err = json.Unmarshal([]byte(text), out)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
}

// profile writes a CPU profile of the server, if it was asked for.
func (s *server) profile(seconds int) {
	path := os.Getenv("MILLRACE_SOAK_PROFILE")
	if path == "" {
		return
	}
	token, err := os.ReadFile(s.dir + "/console.token")
	if err != nil {
		s.t.Error(err)
		return
	}
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.console, seconds), nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Errorf("profile: %v", err)
		return
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || os.WriteFile(path, text, 0o644) != nil {
		s.t.Errorf("profile: %s, %v", resp.Status, err)
	}
}
