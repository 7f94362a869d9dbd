package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/triggertest"
)

// side is a rule for the batches of one source, with the lane's k as its key, that only joins fire.
func side(source string, change ...func(*trigger.Rule)) trigger.Rule {
	r := batchRule(source, change...)
	r.Source, r.Key, r.OnlyJoined = source, "batch.lane_keys.k", true
	return r
}

func join(expire time.Duration, sides ...string) trigger.Rule {
	return trigger.Rule{DAG: "d", ID: "both", Version: "v1", Kind: trigger.KindBatch, AllOf: sides, Expire: expire}
}

func pair(expire time.Duration) []trigger.Rule {
	return []trigger.Rule{side("clicks"), side("orders"), join(expire, "clicks", "orders")}
}

func sourceLane(source, key string) ingest.Lane {
	return ingest.Lane("events/tenant=default/source=" + source + "/k=" + key)
}

// bring commits a batch of a source and a key, and announces it.
func (r *rig) bring(source, key string) batcher.Batch {
	b := r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane(source, key))[0], time.Now())
	r.announce(b)
	return b
}

// fates checks what became of batches for a rule, as "fate" or "fate(reason)".
func (r *rig) fates(rule, want string, batches ...batcher.Batch) {
	r.t.Helper()
	for _, b := range batches {
		d := r.line(b, rule)
		got := string(d.Fate)
		if d.Reason != "" {
			got += "(" + d.Reason + ")"
		}
		if got != want {
			r.t.Errorf("batch of %s of entry %d for %s: got %s, want %s", b.Source, b.Seq, rule, got, want)
		}
	}
}

func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, append(pair(24*time.Hour), batchRule("clicks2", func(r *trigger.Rule) { r.Source = "clicks" }))...)
		r.start(Options{})
		var clicks []batcher.Batch
		for range 10 {
			clicks = append(clicks, r.bring("clicks", "a"))
		}
		other := r.bring("orders", "b")
		r.fates("d/both", "held(join)", append(slices.Clone(clicks), other)...)
		r.fates("d/clicks", "filtered(only_joined)", clicks...)
		r.fates("d/orders", "filtered(source)", clicks...)
		r.fates("d/both", "filtered(sides)", r.bring("app", "a"))
		order := r.bring("orders", "a")
		want := slices.Repeat([]string{"clicks2:1"}, 10)
		r.want(append(want, "both:11")...)
		r.fates("d/both", "run", append(slices.Clone(clicks), order)...)
		r.fates("d/both", "held(join)", other)
		f := r.lastFiring()
		if f.Key != "join:a:"+clicks[0].ID || f.LaneKey != "a" || f.Closed != "all_of" || f.Batches[10].ID != order.ID {
			t.Errorf("firing: got %+v, want the ten and the one in their order", f)
		}
		// What comes later begins anew.
		r.fates("d/both", "held(join)", r.bring("clicks", "a"))
	})
}

func (r *rig) lastFiring() trigger.Firing {
	var f trigger.Firing
	for _, id := range r.order() {
		f = id
	}
	return f
}

// TestJoinOfOneBatch: a batch that both sides want is all that the join waits for.
func TestJoinOfOneBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		any := side("any")
		any.Source = ""
		r := newRig(t, side("clicks"), any, join(0, "clicks", "any"))
		r.start(Options{})
		first := r.bring("orders", "a")
		r.want()
		r.fates("d/both", "held(join)", first)
		r.bring("clicks", "a")
		r.want("both:2")
		r.bring("clicks", "a")
		r.want("both:2", "both:1")
	})
}

// TestJoinExpires: each batch waits for as long as the join says from when it was cut, also over a restart in between.
func TestJoinExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pair(time.Hour)...)
		r.start(Options{})
		first := r.bring("clicks", "a")
		time.Sleep(40 * time.Minute)
		second := r.bring("clicks", "a")
		r.stop()
		r.start(Options{})
		time.Sleep(19*time.Minute + 50*time.Second)
		synctest.Wait()
		r.fates("d/both", "held(join)", first, second)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		r.fates("d/both", "expired(missing: orders)", first)
		r.fates("d/both", "held(join)", second)
		order := r.bring("orders", "a")
		r.want("both:2")
		r.fates("d/both", "run", second, order)
		r.fates("d/both", "expired(missing: orders)", first)
	})
}

// TestJoinAfterDowntime: what was cut within the time of each other meets although nobody was there to see it, and what was not does not.
func TestJoinAfterDowntime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pair(time.Hour)...)
		r.start(Options{From: FromFirst})
		known := r.bring("clicks", "known")
		r.stop()
		// Nobody looks while all of this is committed, on many entries.
		var met []batcher.Batch
		lonely := r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("clicks", "lonely"))[0], time.Now())
		late := r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("clicks", "late"))[0], time.Now())
		for i := range 100 {
			met = append(met, r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("clicks", fmt.Sprint(i)))[0], time.Now()))
		}
		time.Sleep(50 * time.Minute)
		for i := range 100 {
			met = append(met, r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("orders", fmt.Sprint(i)))[0], time.Now()))
		}
		met = append(met, known, r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("orders", "known"))[0], time.Now()))
		time.Sleep(20 * time.Minute)
		tooLate := r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("orders", "late"))[0], time.Now())
		r.chain.Close(logA, time.Now())
		r.chain.Close(logA, time.Now())
		time.Sleep(5 * time.Hour)
		r.start(Options{MaxBatches: 7})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.fates("d/both", "run", met...)
		r.fates("d/both", "expired(missing: orders)", lonely, late)
		r.fates("d/both", "expired(missing: clicks)", tooLate)
		if got := len(r.runs()); got != 101 {
			t.Errorf("got %d runs, want 101", got)
		}
		r.check()
	})
}

// TestJoinPaused: while the DAG is paused nothing meets and nothing expires; then it is as if it had not been.
func TestJoinPaused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := func(change ...func(*trigger.Rule)) []trigger.Rule {
			list := pair(time.Hour)
			for i := range list {
				for _, f := range change {
					f(&list[i])
				}
			}
			return list
		}
		r := newRig(t, all()...)
		r.start(Options{})
		meets, lonely := r.bring("clicks", "a"), r.bring("clicks", "b")
		r.rules.Set(all(paused)...)
		synctest.Wait()
		time.Sleep(30 * time.Minute)
		order := r.bring("orders", "a")
		r.fates("d/both", "held(paused)", order)
		time.Sleep(30 * time.Hour)
		r.stop()
		r.start(Options{})
		tooLate := r.bring("orders", "b")
		r.fates("d/both", "held(join)", meets, lonely)
		r.want()
		r.rules.Set(all()...)
		synctest.Wait()
		r.want("both:2")
		r.fates("d/both", "run", meets, order)
		r.fates("d/both", "expired(missing: orders)", lonely)
		r.fates("d/both", "held(join)", tooLate)
		r.rules.Set(all(paused, func(r *trigger.Rule) { r.WhenPaused = trigger.PausedDrop })...)
		synctest.Wait()
		r.fates("d/both", "dropped(paused)", r.bring("clicks", "b"))
		r.check()
	})
}

// TestJoinEdited: a join that is removed drops what it holds; one that names other rules keeps what is still of a side, and fires if nothing lacks.
func TestJoinEdited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sides := []trigger.Rule{side("clicks"), side("orders"), side("views")}
		with := func(rules ...trigger.Rule) []trigger.Rule { return append(slices.Clone(sides), rules...) }
		r := newRig(t, with(join(0, "clicks", "orders", "views"))...)
		r.start(Options{})
		click, order, view := r.bring("clicks", "a"), r.bring("orders", "a"), r.bring("views", "b")
		r.want()
		r.rules.Set(with(join(0, "clicks", "orders"))...)
		synctest.Wait()
		r.want("both:2")
		r.fates("d/both", "run", click, order)
		r.fates("d/both", "dropped(rule_changed)", view)
		left := r.bring("orders", "a")
		r.rules.Set(sides...)
		synctest.Wait()
		r.fates("d/both", "dropped(rule_removed)", left)
		r.check()
	})
}

// TestJoinClock: a clock that jumps ahead ends waits, once; one that jumps back makes them longer. Nothing is lost or runs twice.
func TestJoinClock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pair(time.Hour)...)
		r.start(Options{})
		ahead := r.chain.Put(r.chain.Cut(logA, time.Now().Add(48*time.Hour), sourceLane("clicks", "a"))[0], time.Now())
		r.announce(ahead)
		r.fates("d/both", "held(join)", ahead)
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		r.fates("d/both", "expired(missing: orders)", ahead) // the clock of who cut it is not what it waits by
		old := r.chain.Put(r.chain.Cut(logA, time.Now().Add(-48*time.Hour), sourceLane("clicks", "a"))[0], time.Now())
		r.announce(old)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.fates("d/both", "expired(missing: orders)", old)
		r.want()
	})
}

// TestJoinWaitsForChains: while a chain can not be read nothing expires, for some time: what is waited for may be there.
func TestJoinWaitsForChains(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, pair(time.Hour)...)
		var away atomic.Bool
		r.chain.Fault = func(string) error {
			if away.Load() {
				return batcher.ErrUnavailable
			}
			return nil
		}
		r.start(Options{})
		click := r.bring("clicks", "a")
		away.Store(true)
		order := r.chain.Put(r.chain.Cut(logA, time.Now(), sourceLane("orders", "a"))[0], time.Now())
		time.Sleep(time.Hour + 5*time.Minute)
		synctest.Wait()
		r.fates("d/both", "held(join)", click)
		away.Store(false)
		r.chain.Close(logA, time.Now())
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want("both:2")
		r.fates("d/both", "run", click, order)
		lonely := r.bring("clicks", "a")
		away.Store(true)
		time.Sleep(time.Hour + maxStall + time.Minute)
		synctest.Wait()
		r.fates("d/both", "expired(missing: orders)", lonely)
	})
}

// TestJoinOfTooMany: a run takes no more than it may, and at least one batch of each side.
func TestJoinOfTooMany(t *testing.T) {
	t.Parallel()
	var set *joinSet
	rule := join(0, "clicks", "orders")
	at := time.Unix(1000, 0)
	for i := range trigger.MaxGroup + 10 {
		b := batcher.Batch{ID: fmt.Sprint("c", i), Stream: logA, Seq: int64(i), CreatedAt: at}
		set = set.with(trigger.Held{Batch: b, Sides: []string{"clicks"}, At: at})
	}
	set = set.with(trigger.Held{Batch: batcher.Batch{ID: "o", Stream: logA, Seq: 1 << 40, CreatedAt: at}, Sides: []string{"orders"}, At: at})
	got := inputs(&rule, set.list)
	if len(got) != trigger.MaxGroup || got[0].ID != "c0" || got[len(got)-1].ID != "o" {
		t.Errorf("got %d batches from %s to %s, want %d from c0 to o", len(got), got[0].ID, got[len(got)-1].ID, trigger.MaxGroup)
	}
}

// order returns all firings in the order of their commit.
func (r *rig) order() []trigger.Firing {
	var out []trigger.Firing
	r.ledger.View(func(s *triggertest.State) {
		for _, id := range s.Order {
			out = append(out, s.Runs[id])
		}
	})
	return out
}

// entries says which entries each firing of a rule has, as "rule:1+2".
func (r *rig) entries() []string {
	var out []string
	for _, f := range r.order() {
		var seqs []string
		for _, b := range f.Batches {
			seqs = append(seqs, fmt.Sprint(b.Seq))
		}
		out = append(out, f.Rule+":"+strings.Join(seqs, "+"))
	}
	return out
}
