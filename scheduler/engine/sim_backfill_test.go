package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"millrace/scheduler"
	"millrace/trigger"
)

// simBackfills is what a schedule knows of what it asked to run again.
type simBackfills struct {
	plans    map[string]*scheduler.BackfillPlan // by id
	promised map[string]bool                    // backfills that were taken
	revived  map[string]bool                    // runs that a person touched: they may live beside others, and beyond a limit
	begun    int                                // replays and runs of backfills, at the end
}

// again replays a run, or starts or steers a backfill.
func (s *sim) again(done answer) (input, func()) {
	switch roll := s.rng.IntN(10); {
	case roll < 3:
		return s.replayOne(done)
	case roll < 7 || len(s.promised) == 0:
		return s.backfill(done)
	}
	ids := slices.Sorted(maps.Keys(s.promised))
	to := []scheduler.BackfillState{scheduler.BackfillPaused, scheduler.BackfillRunning, scheduler.BackfillCancelled}[s.rng.IntN(3)]
	in := &steer{id: ids[s.rng.IntN(len(ids))], to: to, how: scheduler.Steer{Runs: s.rng.IntN(2) == 0}, done: done}
	return in, func() {
		if err := s.answered(done); err != nil {
			panic(violation("steer: " + err.Error()))
		}
	}
}

func (s *sim) replayOne(done answer) (input, func()) {
	ids := slices.Sorted(maps.Keys(s.accepted))
	in := &replay{id: ids[s.rng.IntN(len(ids))], done: done}
	if s.rng.IntN(2) == 0 {
		in.how.Pin = scheduler.PinLatest
	}
	return in, func() {
		if err := s.answered(done); err == nil {
			s.accepted[in.run.ID] = true
		} else if !errors.Is(err, scheduler.ErrInvalid) {
			panic(violation("replay: " + err.Error()))
		}
	}
}

// backfill asks for one over batches that were accepted, or repeats a request.
func (s *sim) backfill(done answer) (input, func()) {
	id := fmt.Sprint("fill", len(s.plans))
	if len(s.plans) >= 3 || len(s.plans) > 0 && s.rng.IntN(4) == 0 {
		id = fmt.Sprint("fill", s.rng.IntN(len(s.plans)))
	}
	if s.plans[id] == nil {
		s.plans[id] = s.plan(id)
	}
	in := &newBackfill{plan: s.plans[id], done: done}
	return in, func() {
		switch err := s.answered(done); {
		case err == nil:
			s.promised[id] = true
		case errors.Is(err, scheduler.ErrConflict): // another version is in force now
			if !s.promised[id] {
				s.plans[id] = s.plan(id)
			}
		default:
			panic(violation("backfill: " + err.Error()))
		}
	}
}

func (s *sim) plan(id string) *scheduler.BackfillPlan {
	set, _ := s.e.Rules()
	p := &scheduler.BackfillPlan{Backfill: scheduler.Backfill{BackfillSpec: scheduler.BackfillSpec{
		ID: id, DAG: "none", MaxActive: 1 + s.rng.IntN(2),
		Reprocess: []scheduler.Reprocess{scheduler.ReprocessNone, scheduler.ReprocessFailed, scheduler.ReprocessAll}[s.rng.IntN(3)],
	}}}
	if len(set.Rules) == 0 {
		return p
	}
	r := set.Rules[s.rng.IntN(len(set.Rules))]
	p.Backfill.DAG, p.Backfill.Rule, p.Backfill.Version = r.DAG, r.ID, r.Version
	batches, _, err := s.store.Batches(context.Background(), scheduler.BatchQuery{})
	if err != nil {
		panic(violation(err.Error()))
	}
	for len(batches) > 0 {
		n := 1 + s.rng.IntN(min(2, len(batches)))
		it := scheduler.BackfillItem{Backfill: id, N: len(p.Items), Kind: trigger.KindBatch, Rule: r.ID, Key: "coal::" + batches[0].ID}
		for _, b := range batches[:n] {
			it.Batches = append(it.Batches, b.ID)
		}
		batches = batches[n:]
		p.Items = append(p.Items, it)
	}
	return p
}

// unpause lets backfills go on, since nobody else will.
func (s *sim) unpause() {
	for _, id := range slices.Sorted(maps.Keys(s.e.core.backfills)) {
		if s.e.core.backfills[id].row.State == scheduler.BackfillPaused {
			s.round(&steer{id: id, to: scheduler.BackfillRunning, done: make(answer, 1)})
		}
	}
}

// checkBackfills requires that no backfill has more runs under way than it may, that none runs what another run has under way, and that none
// waits while it could go on.
func (s *sim) checkBackfills() {
	c := s.e.core
	under := map[string]int{}
	holds := map[[2]string]*live{} // of a DAG, by batch
	// Oldest first: a rule's own run asks nobody, and none begins for it beside that.
	for _, l := range slices.SortedFunc(maps.Values(c.runs), func(a, b *live) int {
		return cmp.Or(a.Row.CreatedAt.Compare(b.Row.CreatedAt), cmp.Compare(b.Row.Class(), a.Row.Class()), cmp.Compare(a.Row.ID, b.Row.ID))
	}) {
		id := l.Row.ID
		if l.Row.State.Terminal() || s.revived[id] {
			continue
		}
		if l.Row.Backfill != "" {
			under[l.Row.Backfill]++
		}
		for _, b := range l.Row.Batches {
			key := [2]string{l.Row.DAG, b}
			if o := holds[key]; o != nil && l.Row.Class() != scheduler.ClassLive {
				panic(violation(fmt.Sprintf("runs %s and %s of batch %s are both under way", o.Row.ID, id, b)))
			}
			holds[key] = l
		}
	}
	for id, b := range c.backfills {
		if under[id] > b.row.MaxActive || under[id] > len(b.active) {
			panic(violation(fmt.Sprintf("backfill %s has %d runs under way, %d places taken of %d", id, under[id], len(b.active), b.row.MaxActive)))
		}
		if b.row.State == scheduler.BackfillRunning && len(b.waiting) > 0 && len(b.active) < b.row.MaxActive && !c.hungry {
			panic(violation("backfill " + id + " waits, and has a place"))
		}
		if len(b.waiting)+len(b.active) == 0 {
			panic(violation("backfill " + id + " does not end"))
		}
	}
}

// checkItems looks at what became of all items: each has ended, has its run's state, and no run is two items'.
func (s *sim) checkItems() {
	ctx := context.Background()
	owner := map[string]string{}
	for id := range s.plans {
		b, err := s.store.Backfill(ctx, id)
		if errors.Is(err, scheduler.ErrNotFound) && !s.promised[id] {
			continue
		}
		if err != nil || !b.State.Ended() || b.EndedAt.IsZero() || b.Counts.Total != len(s.plans[id].Items) {
			panic(violation(fmt.Sprintf("backfill %s: %+v, %v", id, b, err)))
		}
		items, err := s.store.BackfillItems(ctx, id, 0, 1000)
		if err != nil {
			panic(violation(err.Error()))
		}
		for i, it := range items {
			name := fmt.Sprintf("item %d of %s", it.N, id)
			switch {
			case it.N != i || !it.State.Terminal():
				panic(violation(fmt.Sprintf("%s is %+v", name, it)))
			case it.Run == "" && it.State != scheduler.StateSkipped && it.State != scheduler.StateCancelled || it.State == scheduler.StateSkipped && it.Reason == "":
				panic(violation(fmt.Sprintf("%s has no run and no reason: %+v", name, it)))
			case it.Run == "":
				continue
			case owner[it.Run] != "":
				panic(violation("run " + it.Run + " is that of " + owner[it.Run] + " and of " + name))
			}
			owner[it.Run] = name
			d, err := s.store.Run(ctx, it.Run)
			if err != nil || d.Run.State != it.State || d.Run.Backfill != id || d.Run.Replay == 0 ||
				slices.ContainsFunc(d.Run.Batches, func(b string) bool { return !slices.Contains(it.Batches, b) }) {
				panic(violation(fmt.Sprintf("%s is %+v, its run %+v, %v", name, it, d, err)))
			}
			s.checkMoves(d)
		}
	}
	runs, _, err := s.store.Runs(ctx, scheduler.RunQuery{Limit: 1000})
	if err != nil {
		panic(violation(err.Error()))
	}
	for i := range runs {
		if runs[i].Backfill != "" && owner[runs[i].ID] == "" {
			panic(violation("run " + runs[i].ID + " is no item's"))
		}
		if runs[i].Replay > 0 {
			s.begun++
		}
	}
}
