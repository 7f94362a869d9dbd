package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// batches makes items of the batches that are selected.
func (d *draft) batches(ctx context.Context) error {
	list, err := d.candidates(ctx)
	if err != nil {
		return err
	}
	if d.wants, err = d.judge.Rule(*d.rule); err != nil {
		return fmt.Errorf("rule %s: %w: %w", d.rule.ID, scheduler.ErrInvalid, err)
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	past, err := d.store.PastBatches(ctx, d.plan.Backfill.DAG, ids)
	if err != nil {
		return err
	}
	slices.SortFunc(list, byAge)
	if d.plan.Backfill.Order == scheduler.OrderNewest {
		slices.Reverse(list)
	}
	var chosen []choice
	for i := range list {
		if one := d.choose(&list[i], past[list[i].ID]); one != nil {
			chosen = append(chosen, *one)
		}
	}
	d.group(chosen)
	d.forget()
	return nil
}

// forget drops the batches that were read from the chain for nothing.
func (d *draft) forget() {
	used := map[string]bool{}
	for i := range d.plan.Items {
		for _, id := range d.plan.Items[i].Batches {
			used[id] = true
		}
	}
	d.plan.Found = slices.DeleteFunc(d.plan.Found, func(b batcher.Batch) bool { return !used[b.ID] })
}

// byAge orders batches as they were cut.
func byAge(a, b batcher.Batch) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Stream.String(), b.Stream.String()), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Cut, b.Cut))
}

// choice is a batch that is to be run, with the rule's key for it.
type choice struct {
	batch *batcher.Batch
	key   string
}

// choose judges one batch; nil says that it is left out, or was not meant.
func (d *draft) choose(b *batcher.Batch, past scheduler.Past) *choice {
	row := &d.plan.Backfill
	if !disposed(row.Selection.Dispositions, row.DAG+"/"+row.Rule, past) {
		return nil
	}
	leave := func(format string, args ...any) *choice {
		d.leave(scheduler.LeftOut{Batch: b.ID, Reason: fmt.Sprintf(format, args...)})
		return nil
	}
	if b.Void != "" {
		return leave("has no rows (%s)", b.Void)
	}
	var key string
	if len(row.Selection.Batches) > 0 {
		var err error
		if key, err = d.wants.Key(b); err != nil {
			return leave("has no key by rule %s: %v", row.Rule, err)
		}
	} else {
		var fate trigger.Fate
		var reason string
		fate, reason, key = d.wants.Judge(b)
		switch {
		case reason == "source" || reason == "quarantine":
			return nil // is none of the rule's
		case fate == trigger.FateFiltered || fate == trigger.FateDropped:
			return leave("is not what rule %s wants (%s): name it by id to run it all the same", row.Rule, reason)
		}
	}
	for _, f := range past.Fates {
		if f.Rule == row.DAG+"/"+row.Rule && !f.Fate.Final() {
			return leave("is %s for rule %s, which will run it by itself", f.Fate, row.Rule)
		}
	}
	if reason := row.Reprocess.Refuse(past); reason != "" {
		return leave("%s", reason)
	}
	return &choice{b, key}
}

// disposed reports whether what became of a batch is among what is selected; an empty selection has all.
func disposed(wanted []string, rule string, past scheduler.Past) bool {
	if len(wanted) == 0 {
		return true
	}
	if n := len(past.Runs); n > 0 && past.Runs[n-1].State == scheduler.StateFailed && slices.Contains(wanted, scheduler.SelectFailed) {
		return true
	}
	return slices.ContainsFunc(past.Fates, func(f trigger.Disposition) bool { return f.Rule == rule && slices.Contains(wanted, string(f.Fate)) })
}

// group makes items of batches with the same key, in the order in which the first of each comes.
func (d *draft) group(chosen []choice) {
	row := &d.plan.Backfill
	var groups [][]choice
	open := map[string]int{} // by key
	for _, c := range chosen {
		i, ok := open[c.key]
		if !ok || len(groups[i]) >= row.Group {
			i = len(groups)
			groups, open[c.key] = append(groups, nil), i
		}
		groups[i] = append(groups[i], c)
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b choice) int { return byAge(*a.batch, *b.batch) })
		it := scheduler.BackfillItem{Kind: trigger.KindBatch, Key: g[0].batch.ID, LaneKey: g[0].key}
		if d.rule.Coalesce != nil || len(g) > 1 {
			it.Key = "coal:" + g[0].key + ":" + g[0].batch.ID
		}
		for _, c := range g {
			it.Batches = append(it.Batches, c.batch.ID)
		}
		d.item(it)
	}
}

// candidates returns the batches that the selection is about, but for their dispositions, each once.
func (d *draft) candidates(ctx context.Context) ([]batcher.Batch, error) {
	sel := &d.plan.Backfill.Selection
	var list []batcher.Batch
	var err error
	switch {
	case len(sel.Batches) > 0:
		list, err = d.named(ctx)
	case !sel.Stream.IsZero():
		list, err = d.entries(ctx)
	default:
		list, err = d.all(ctx)
	}
	return slices.DeleteFunc(list, func(b batcher.Batch) bool {
		return !sel.Stream.IsZero() && (b.Stream != sel.Stream || b.Seq < sel.FromSeq || b.Seq > sel.ToSeq) || !inSpans(sel, &b)
	}), err
}

func inSpans(sel *scheduler.Selection, b *batcher.Batch) bool {
	return (sel.Events.IsZero() || sel.Events.Touches(b.EventMin, b.EventMax)) &&
		(sel.Received.IsZero() || sel.Received.Touches(b.ReceivedMin, b.ReceivedMax))
}

// named returns the batches that are named, or says which are not there.
func (d *draft) named(ctx context.Context) ([]batcher.Batch, error) {
	var list []batcher.Batch
	ids := slices.Clone(d.plan.Backfill.Selection.Batches)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		b, err := d.store.Batch(ctx, id)
		if errors.Is(err, scheduler.ErrNotFound) {
			return nil, fmt.Errorf("batch %q is not in the ledger: there never was one, or its row was pruned (store.retention); one that was pruned is found in "+
				"the chain by the range of its entries (stream, from-seq, to-seq): %w", id, scheduler.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, b.Batch)
	}
	return list, nil
}

// receiptSlack is how much later than another one the first record of a batch may have been received: by machines with different clocks.
const receiptSlack = time.Hour

// all returns the batches of the rule's source that are in the spans.
func (d *draft) all(ctx context.Context) ([]batcher.Batch, error) {
	q := scheduler.BatchQuery{Tenant: cmp.Or(d.rule.Tenant, "default"), Source: d.rule.Source, Limit: 1000}
	if q.Tenant == "*" {
		q.Tenant = ""
	}
	if q.Source == "*" {
		q.Source = ""
	}
	if to := d.plan.Backfill.Selection.Received.To; !to.IsZero() {
		q.Before = batcher.FirstID(to.Add(receiptSlack)) // ids sort by the receipt of the first record: what came later is not read
	}
	var list []batcher.Batch
	for {
		page, next, err := d.store.Batches(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if inSpans(&d.plan.Backfill.Selection, &page[i]) {
				list = append(list, page[i])
			}
		}
		if q.Before = next; next == "" {
			return list, nil
		}
	}
}

// entries returns the batches of a range of the chain. What the ledger does not have any more is read from there; what it does not have yet is
// dispatch's to bring.
func (d *draft) entries(ctx context.Context) ([]batcher.Batch, error) {
	sel := &d.plan.Backfill.Selection
	if d.chain == nil {
		return nil, fmt.Errorf("read the chain: %w", scheduler.ErrUnavailable)
	}
	memory, err := d.store.Remember(ctx)
	if err != nil {
		return nil, err
	}
	cursor := int64(-1)
	for _, c := range memory.Cursors {
		if c.Stream == sel.Stream {
			cursor = c.Seq
		}
	}
	if cursor < 0 {
		return nil, fmt.Errorf("%w: there is no chain %s; 'millrace batches show BATCH' says of which one a batch is", scheduler.ErrInvalid, sel.Stream)
	}
	var list []batcher.Batch
	for seq := sel.FromSeq; seq <= sel.ToSeq; seq++ {
		e, err := d.chain.Entry(ctx, sel.Stream, seq)
		if errors.Is(err, batcher.ErrNotFound) {
			break // the chain ends here
		}
		if err != nil {
			return nil, fmt.Errorf("read entry %d of chain %s: %w", seq, sel.Stream, err)
		}
		for i := range e.Cuts {
			if e.Cuts[i].Count == 0 {
				continue
			}
			b, err := d.cut(ctx, &e, i, cursor)
			if err != nil {
				return nil, err
			}
			if b != nil {
				list = append(list, *b)
			}
		}
	}
	return list, nil
}

// cut returns the batch of a cut: as the ledger has it, or as its object says.
func (d *draft) cut(ctx context.Context, e *batcher.Entry, i int, cursor int64) (*batcher.Batch, error) {
	id := e.Cuts[i].Batch
	known, err := d.store.Batch(ctx, id)
	if err == nil {
		return &known.Batch, nil
	}
	if !errors.Is(err, scheduler.ErrNotFound) {
		return nil, err
	}
	if e.Seq > cursor {
		d.leave(scheduler.LeftOut{Batch: id, Reason: "has not been dispatched yet: its rules will run it by themselves"})
		return nil, nil
	}
	facts, uri, err := d.chain.Facts(ctx, e.Cuts[i])
	if errors.Is(err, batcher.ErrNotFound) {
		d.leave(scheduler.LeftOut{Batch: id, Reason: "is not in the ledger any more, and its object was deleted"})
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the object of batch %s: %w", id, err)
	}
	b := batcher.BatchOf(e, i, facts, uri)
	d.plan.Found = append(d.plan.Found, b)
	return &b, nil
}
