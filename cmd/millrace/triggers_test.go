package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/batcher"
	"millrace/scheduler"
)

const triggersConfig = `
batch: {max_age: 100ms}
dags: @DAGS
sources:
  clicks: {kind: clickstream, write_keys: [clicks], lanes: {shop: properties.shop}}
  orders: {kind: clickstream, write_keys: [orders], lanes: {shop: properties.shop}}
`

// triggersDAGs: two joins of the same sides, of which one gives up soon, and a DAG that takes as long as somebody likes.
const triggersDAGs = `
dag: match
on:
  - {id: clicks, batch: {source: clicks}, key: batch.lane_keys.shop, only_joined: true}
  - {id: orders, batch: {source: orders}, key: batch.lane_keys.shop, only_joined: true}
  - {id: both, all_of: [clicks, orders], expire: 24h}
tasks: {t: {run: ["true"]}}
---
dag: brief
on:
  - {id: clicks, batch: {source: clicks}, key: batch.lane_keys.shop, only_joined: true}
  - {id: orders, batch: {source: orders}, key: batch.lane_keys.shop, only_joined: true}
  - {id: both, all_of: [clicks, orders], expire: 1s}
tasks: {t: {run: ["true"]}}
---
dag: slow
on: [{id: orders, batch: {source: orders}, key: batch.lane_keys.shop}]
concurrency: {group: "${{ trigger.lane_key }}", when_full: coalesce}
tasks: {t: {run: "while [ ! -e '@DIR/go' ]; do sleep 0.05; done"}}
`

// sell posts one event of a shop to a source, and waits until it is a batch.
func (s *server) sell(source, shop string) batcher.Batch {
	s.t.Helper()
	before := len(s.batchesOf(source))
	body := fmt.Sprintf(`{"userId":"u","event":"Sold","properties":{"shop":%q}}`, shop)
	req, err := http.NewRequest(http.MethodPost, "http://"+s.ingest+"/v1/track", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth(source, "")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("event for %s: status %d", source, resp.StatusCode)
	}
	var list []batcher.Batch
	s.waitFor("aware of the batch of "+source, func() bool {
		list = s.batchesOf(source)
		return len(list) > before
	})
	return list[0]
}

func (s *server) batchesOf(source string) (out []batcher.Batch) {
	s.t.Helper()
	s.cliJSON(&out, "batches", "ls", "--source", source)
	return out
}

// why is what became of a batch for a rule.
func (s *server) why(b batcher.Batch, rule string) scheduler.RuleWhy {
	s.t.Helper()
	var d scheduler.BatchWhy
	s.cliJSON(&d, "explain", "batch", b.ID)
	i := slices.IndexFunc(d.Rules, func(r scheduler.RuleWhy) bool { return r.Rule == rule })
	if i < 0 {
		s.t.Fatalf("batch %s has nothing for rule %s: %+v", b.ID, rule, d)
	}
	return d.Rules[i]
}

// TestTriggers: batches of two sources become one run by their key, although the server is killed in between; what has no partner expires, and
// explain says so. Batches that come while there is no place become one run when there is.
func TestTriggers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dags := dagDir(t, map[string]string{"triggers.yaml": strings.ReplaceAll(triggersDAGs, "@DIR", dir)})
	config := filepath.Join(dir, "millrace.yaml")
	write(t, config, strings.ReplaceAll(triggersConfig, "@DAGS", dags))
	s := newServer(t, "serve", "--config", config, "--log-level", "error")
	s.start()
	s.head("slow", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	var joined []string
	for range 3 {
		joined = append(joined, s.sell("clicks", "berlin").ID)
	}
	lonely := s.sell("clicks", "rome")
	why := s.why(lonely, "match/both")
	if why.Why.Code != scheduler.CodeJoining || !strings.Contains(why.Why.Text, `for one of rule orders with the key "rome"`) || why.Why.Until.IsZero() {
		t.Errorf("the batch without a partner: got %+v", why)
	}
	s.kill()
	s.start()
	s.waitFor("rid of what waits too long", func() bool { return s.why(lonely, "brief/both").Disposition == "expired" })
	if text, code := s.cli("explain", "batch", lonely.ID); code != exitOK || !strings.Contains(text, `no batch of rule orders with the key "rome" came in time`) {
		t.Errorf("explain batch: exit %d\n%s", code, text)
	}
	order := s.sell("orders", "berlin")
	s.waitFor("done with the run of the join", func() bool { return len(s.succeeded("match")) == 1 })
	run := s.succeeded("match")[0]
	if want := append(joined, order.ID); !slices.Equal(run.Batches, want) || run.Trigger.LaneKey != "berlin" || run.Trigger.Rule != "both" {
		t.Errorf("run of the join: got %v of %+v, want %v", run.Batches, run.Trigger, want)
	}
	if got := s.why(lonely, "match/both"); got.Disposition != "held" {
		t.Errorf("the batch without a partner: got %+v, want held", got)
	}

	one, two := s.sell("orders", "berlin"), s.sell("orders", "berlin")
	full := s.why(two, "slow/orders").Why
	first := s.why(order, "slow/orders").Why.On
	if full.Code != scheduler.CodeCoalescing || full.Name != "slow/berlin" || !slices.Equal(full.On, first) {
		t.Errorf("while there is no place: got %+v, want that of the run %v", full, first)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.waitFor("done with both runs", func() bool { return len(s.succeeded("slow")) == 2 })
	if got := s.succeeded("slow")[0]; !slices.Equal(got.Batches, []string{one.ID, two.ID}) || got.Trigger.Closed != "capacity" {
		t.Errorf("the run of what waited: got %v of %+v", got.Batches, got.Trigger)
	}
}
