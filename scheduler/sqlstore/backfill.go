package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"millrace/scheduler"
)

var (
	backfillColumns = []string{"id", "dag", "state", "doc", "created_at", "ended_at"}
	itemColumns     = []string{"backfill", "n", "state", "run", "reason", "doc"}
	upsertBackfill  = insertSQL("backfill", backfillColumns, 1, replacing(backfillColumns, "id"))
	replaceItem     = replacing(itemColumns, "backfill", "n")
)

// backfills writes the parts of a change that are about backfills.
func (t *tx) backfills(c *scheduler.Change) error {
	for i := range c.Backfills {
		b := &c.Backfills[i]
		doc, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("encode backfill %s: %w", b.ID, err)
		}
		if _, err := t.exec(upsertBackfill, b.ID, b.DAG, string(b.State), string(doc), micros(b.CreatedAt), micros(b.EndedAt)); err != nil {
			return err
		}
		if b.State == scheduler.BackfillCancelled {
			if _, err := t.exec("UPDATE backfill_item SET state='cancelled' WHERE backfill=? AND state='queued'", b.ID); err != nil {
				return err
			}
		}
	}
	var rows, inputs []any
	for i := range c.Items {
		it := &c.Items[i]
		doc, err := json.Marshal(it)
		if err != nil {
			return fmt.Errorf("encode item %d of backfill %s: %w", it.N, it.Backfill, err)
		}
		rows = append(rows, it.Backfill, it.N, string(it.State), it.Run, it.Reason, string(doc))
		if it.State == scheduler.StateQueued {
			for n, b := range it.Batches {
				inputs = append(inputs, it.Backfill, it.N, n, b)
			}
		}
	}
	if err := t.insert("backfill_item", itemColumns, replaceItem, rows); err != nil {
		return err
	}
	if err := t.insert("backfill_input", []string{"backfill", "n", "i", "batch"}, keep, inputs); err != nil {
		return err
	}
	for _, s := range c.ItemStates {
		// The second condition says that the index of runs will do.
		if _, err := t.exec("UPDATE backfill_item SET state=? WHERE run=? AND run <> '' AND backfill=?", string(s.State), s.Run, s.Backfill); err != nil {
			return err
		}
	}
	return nil
}

func scanBackfill(row scanner) (b scheduler.Backfill, err error) {
	err = row.Scan(document{&b}, stamp{&b.CreatedAt}, stamp{&b.EndedAt})
	b.Counts = scheduler.BackfillCounts{}
	return b, err
}

// scanItem lets columns win over what they were when the document was written.
func scanItem(row scanner) (it scheduler.BackfillItem, err error) {
	var state, run, reason string
	if err = row.Scan(document{&it}, &state, &run, &reason); err == nil {
		it.State, it.Run, it.Reason = scheduler.State(state), run, reason
	}
	return it, err
}

const (
	backfillSQL = "SELECT doc, created_at, ended_at FROM backfill"
	itemSQL     = "SELECT doc, state, run, reason FROM backfill_item"
)

// liveBackfills reads what has not ended.
func (v view) liveBackfills() ([]scheduler.LiveBackfill, error) {
	list, err := all(v, scanBackfill, backfillSQL+" WHERE state IN ('running', 'paused') ORDER BY created_at, id")
	if err != nil {
		return nil, err
	}
	var out []scheduler.LiveBackfill
	for _, b := range list {
		items, err := all(v, scanItem, itemSQL+" WHERE backfill=? AND state IN ('queued', 'running') ORDER BY n", b.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, scheduler.LiveBackfill{Backfill: b, Items: items})
	}
	return out, nil
}

// Backfills implements scheduler.BackfillStore. Pages are by time of creation, then id.
func (s *Store) Backfills(ctx context.Context, q scheduler.BackfillQuery) ([]scheduler.Backfill, string, error) {
	var f filter
	f.given("dag=?", q.DAG)
	f.given("state=?", string(q.State))
	if err := f.before("backfills", q.Before); err != nil {
		return nil, "", err
	}
	n := limit(q.Limit)
	query := backfillSQL + f.sql() + newestFirst + strconv.Itoa(n+1)
	var list []scheduler.Backfill
	next := ""
	err := s.read(ctx, "backfills", func(v view) error {
		var err error
		if list, err = all(v, scanBackfill, query, f.args...); err != nil {
			return err
		}
		var last *scheduler.Backfill
		if list, last = cut(list, n); last != nil {
			next = cursorAt(last.CreatedAt, last.ID)
		}
		for i := range list {
			if err := v.count(&list[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return list, next, nil
}

// count fills in how many items there are by state.
func (v view) count(b *scheduler.Backfill) error {
	type group struct {
		state scheduler.State
		n     int
	}
	groups, err := all(v, func(row scanner) (g group, err error) {
		err = row.Scan(&g.state, &g.n)
		return g, err
	}, "SELECT state, COUNT(*) FROM backfill_item WHERE backfill=? GROUP BY state", b.ID)
	for _, g := range groups {
		b.Counts.Add(g.state, g.n)
	}
	return err
}

// Backfill implements scheduler.BackfillStore.
func (s *Store) Backfill(ctx context.Context, id string) (*scheduler.Backfill, error) {
	var b scheduler.Backfill
	err := s.read(ctx, "backfill", func(v view) error {
		var err error
		if b, err = one(v, scanBackfill, backfillSQL+" WHERE id=?", id); err != nil {
			return fmt.Errorf("find backfill %q: %w", id, err)
		}
		return v.count(&b)
	})
	if err != nil {
		return nil, err
	}
	return &b, nil
}

// BackfillItems implements scheduler.BackfillStore.
func (s *Store) BackfillItems(ctx context.Context, id string, n, most int) ([]scheduler.BackfillItem, error) {
	var items []scheduler.BackfillItem
	err := s.read(ctx, "backfill_items", func(v view) error {
		var err error
		items, err = all(v, scanItem, itemSQL+" WHERE backfill=? AND n>=? ORDER BY n LIMIT ?", id, n, limit(most))
		return err
	})
	return items, err
}

// pastStep is how many ids one question names.
const pastStep = 500

// inSteps calls do with ids in parts, as arguments and as the marks for them.
func inSteps(ids []string, do func(marks string, args []any) error) error {
	for len(ids) > 0 {
		part := ids[:min(len(ids), pastStep)]
		ids = ids[len(part):]
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id
		}
		if err := do("(?"+strings.Repeat(",?", len(part)-1)+")", args); err != nil {
			return err
		}
	}
	return nil
}

// pastRun is a run with the id by which it was asked for.
type pastRun struct {
	of  string
	run scheduler.Run
}

func scanPastRun(row scanner) (p pastRun, err error) {
	err = row.Scan(&p.of, &p.run.ID, &p.run.State, &p.run.Backfill, stamp{&p.run.CreatedAt})
	return p, err
}

func addRuns(out map[string]scheduler.Past, runs []pastRun) {
	for _, r := range runs {
		p := out[r.of]
		p.Runs = append(p.Runs, r.run)
		out[r.of] = p
	}
}

// PastBatches implements scheduler.BackfillStore.
func (s *Store) PastBatches(ctx context.Context, dag string, batches []string) (map[string]scheduler.Past, error) {
	out := map[string]scheduler.Past{}
	err := s.read(ctx, "past_batches", func(v view) error {
		return inSteps(batches, func(marks string, args []any) error { return v.pastBatches(dag, marks, args, out) })
	})
	return out, err
}

func (v view) pastBatches(dag, marks string, args []any, out map[string]scheduler.Past) error {
	fates, err := all(v, scanDisposition, "SELECT "+list("", dispositionColumns)+" FROM disposition WHERE batch IN "+marks+
		" AND substr(rule, 1, ?)=? ORDER BY batch, rule", append(args[:len(args):len(args)], len(dag)+1, dag+"/")...)
	if err != nil {
		return err
	}
	for _, d := range fates {
		p := out[d.Batch]
		p.Fates = append(p.Fates, d)
		out[d.Batch] = p
	}
	runs, err := all(v, scanPastRun, `SELECT i.batch, r.id, r.state, r.backfill, r.created_at FROM run_input i JOIN run r ON r.id = i.run
		WHERE i.batch IN `+marks+" AND r.dag=? ORDER BY r.created_at, r.id", append(args[:len(args):len(args)], dag)...)
	if err != nil {
		return err
	}
	addRuns(out, runs)
	planned, err := all(v, scanPair, `SELECT x.batch, x.backfill FROM backfill_input x JOIN backfill_item t ON t.backfill = x.backfill AND t.n = x.n
		JOIN backfill b ON b.id = x.backfill WHERE x.batch IN `+marks+" AND b.dag=? AND b.state IN ('running', 'paused') AND t.state='queued'",
		append(args[:len(args):len(args)], dag)...)
	for _, pair := range planned {
		p := out[pair[0]]
		p.Planned = pair[1]
		out[pair[0]] = p
	}
	return err
}

// PastRuns implements scheduler.BackfillStore.
func (s *Store) PastRuns(ctx context.Context, dag string, ids []string) (map[string]scheduler.Past, error) {
	out := map[string]scheduler.Past{}
	err := s.read(ctx, "past_runs", func(v view) error {
		return inSteps(ids, func(marks string, args []any) error {
			runs, err := all(v, scanPastRun, "SELECT id, id, state, backfill, created_at FROM run WHERE id IN "+marks+" AND dag=?",
				append(args[:len(args):len(args)], dag)...)
			if err != nil {
				return err
			}
			addRuns(out, runs)
			runs, err = all(v, scanPastRun, "SELECT replay_of, id, state, backfill, created_at FROM run WHERE replay_of IN "+marks+
				" AND replay_of <> '' AND dag=? ORDER BY replay", append(args[:len(args):len(args)], dag)...)
			addRuns(out, runs)
			return err
		})
	})
	return out, err
}
