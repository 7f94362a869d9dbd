package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"millrace/scheduler"
)

// The simulation's own installation: variables change, secrets can not always be read, or are gone.

func (s *sim) Variable(string) (json.RawMessage, bool) { return json.RawMessage("1"), true }

func (s *sim) Secret(context.Context, string) (string, error) {
	if s.keeper != nil {
		return "", s.keeper
	}
	return "hush", nil
}

func (s *sim) Connection(context.Context, string) (map[string]string, error) {
	return nil, scheduler.ErrNoValue
}

func (s *sim) keeperNow() error {
	switch {
	case s.chance(20):
		return scheduler.ErrValueBusy
	case s.chance(5):
		return scheduler.ErrNoValue
	}
	return nil
}

// keeper is an installation with one secret and one variable.
type keeper struct {
	busy  atomic.Int64 // so many reads fail
	asked atomic.Int64
}

func (k *keeper) Variable(name string) (json.RawMessage, bool) {
	return json.RawMessage(`"on"`), name == "switch"
}

func (k *keeper) Secret(_ context.Context, name string) (string, error) {
	k.asked.Add(1)
	switch {
	case name != "stripe":
		return "", fmt.Errorf("secret %q: %w", name, scheduler.ErrNoValue)
	case k.busy.Add(-1) >= 0:
		return "", fmt.Errorf("secret %q: %w: 503", name, scheduler.ErrValueBusy)
	}
	return "sk_live_1", nil
}

func (k *keeper) Known(_, name string) bool { return name == "stripe" || name == "switch" }

func (k *keeper) Connection(context.Context, string) (map[string]string, error) {
	return nil, errors.New("no connection here")
}

func TestSecretsOfAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		f := newFixture(t, nil)
		f.stop()
		e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{}, Seed: 1, Values: k})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{
			"a.yaml": "dag: a\ntasks: {one: {run: x, when: 'vars.switch == \"on\"', env: {T: 'Bearer ${{ secrets.stripe }}'}}}",
			"b.yaml": "dag: b\ntasks: {one: {run: x, retry: 3, env: {T: '${{ secrets.other }}'}}}",
			"d.yaml": "dag: d\ntasks: [",
			"c.yaml": "dag: c\ntasks: {one: {run: x, retry: 3, env: {T: '${{ vars.other }}'}}}",
		})
		k.busy.Store(2)
		d := f.wait(f.trigger("a", "x", "").ID)
		if got := states(d); got != "success one=success" || d.Tasks[0].Lost != 2 {
			t.Errorf("got %s after %d losses, want success after 2: %s", got, d.Tasks[0].Lost, d.Tasks[0].Reason)
		}
		ids := f.world.launched()
		l := f.world.attempts[ids[len(ids)-1]].launch
		if len(ids) != 1 || !slices.Contains(l.Env, "T=Bearer sk_live_1") || !slices.Equal(l.Secrets, []string{"sk_live_1"}) {
			t.Errorf("got launches %q, env %q, secrets %q", ids, l.Env, l.Secrets)
		}
		for _, c := range []struct{ dag, says string }{{"b", `secret "other": is not set`}, {"c", `variable "other" is not set; set it with: millrace vars set other VALUE`}} {
			asked := k.asked.Load()
			d := f.wait(f.trigger(c.dag, "x", "").ID)
			if got := states(d); got != "failed one=failed" || !strings.Contains(d.Tasks[0].Reason, c.says) || k.asked.Load()-asked > 1 {
				t.Errorf("%s: got %s: %s, want %q at once", c.dag, got, d.Tasks[0].Reason, c.says)
			}
		}
		// Nothing that is stored has a secret.
		for _, id := range []string{"a", "b"} {
			raw, err := json.Marshal(f.wait(f.trigger(id, "x", "").ID))
			if err != nil || strings.Contains(string(raw), "sk_live") {
				t.Errorf("stored: %s, %v", raw, err)
			}
		}
	})
}
