package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/scheduler"
)

var _ scheduler.History = (*Store)(nil)

// Ended implements scheduler.History.
func (s *Store) Ended(ctx context.Context, before time.Time, limit int) ([]scheduler.Ended, error) {
	var out []scheduler.Ended
	err := s.read(ctx, "ended", func(v view) error {
		var err error
		out, err = all(v, scanEnded, "SELECT id, ended_at, rev, "+lastMove("run.id")+` FROM run
			WHERE state IN ('success', 'failed', 'cancelled') AND ended_at < ? AND deadline_at = 0 ORDER BY ended_at, id LIMIT ?`, micros(before), limit)
		return err
	})
	return out, err
}

// lastMove is the newest line of the audit trail of a run, 0 if there is none. It asks each of the two indexes.
func lastMove(run string) string {
	last := "COALESCE((SELECT MAX(t.id) FROM transition t WHERE t.run = " + run + " AND t.map_index "
	return "MAX(" + last + "< 0), 0), " + last + ">= 0), 0))"
}

func scanEnded(row scanner) (e scheduler.Ended, err error) {
	err = row.Scan(&e.ID, stamp{&e.EndedAt}, &e.Rev, &e.Moves)
	return e, err
}

// PastRun implements scheduler.History.
func (s *Store) PastRun(ctx context.Context, id string) (*scheduler.PastRun, error) {
	d, err := s.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	p := &scheduler.PastRun{RunDetail: *d}
	err = s.read(ctx, "dispositions", func(v view) error {
		var err error
		p.Dispositions, err = all(v, scanDisposition, "SELECT "+list("d.", dispositionColumns)+` FROM run_input i
			JOIN disposition d ON d.batch = i.batch WHERE i.run = ? AND d.run = ? ORDER BY i.n, d.rule`, id, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// forgetStep is how many runs one transaction forgets: a row each of the run and its note, with the indexes of both.
const forgetStep = 50

// Forget implements scheduler.History.
func (s *Store) Forget(ctx context.Context, runs []scheduler.Ended, object string) ([]string, error) {
	var out []string
	for len(runs) > 0 {
		some := runs[:min(forgetStep, len(runs))]
		runs = runs[len(some):]
		var gone []string
		err := s.update(ctx, func(t *tx) error {
			for _, r := range some {
				n, err := t.exec(`DELETE FROM run WHERE id = ? AND rev = ? AND state IN ('success', 'failed', 'cancelled') AND deadline_at = 0
					AND `+lastMove("run.id")+" = ?", r.ID, r.Rev, r.Moves)
				if err != nil {
					return err
				}
				if n == 0 {
					continue // It was cleared or marked since.
				}
				_, err = t.exec("INSERT INTO archived_run (id, object, open) VALUES (?, ?, 1) ON CONFLICT (id) DO UPDATE SET object=excluded.object, open=1",
					r.ID, object)
				if err != nil {
					return err
				}
				gone = append(gone, r.ID)
			}
			return nil
		})
		if err != nil {
			return out, fmt.Errorf("forget runs: %w", err)
		}
		out = append(out, gone...)
	}
	return out, nil
}

// Leftovers implements scheduler.History.
func (s *Store) Leftovers(ctx context.Context, limit int) ([]string, error) {
	var out []string
	err := s.read(ctx, "leftovers", func(v view) error {
		var err error
		out, err = all(v, scanText, "SELECT id FROM archived_run WHERE open ORDER BY id LIMIT ?", limit)
		return err
	})
	return out, err
}

// cleaning are the tables that have rows of a run, with the key that a part of these can be picked by, and the condition of the index that finds them.
var cleaning = []struct{ table, key, and string }{
	{"transition", "id", " AND map_index < 0"}, {"transition", "id", " AND map_index >= 0"},
	{"attempt", "id", ""}, {"task_instance", "(task, map_index)", ""}, {"run_input", "n", ""},
}

// cleanStep is how many rows of runs one transaction removes, so that Apply waits for milliseconds.
const cleanStep = 500

// Clean implements scheduler.History. A run of a hundred thousand tasks takes many transactions, many small runs share one.
func (s *Store) Clean(ctx context.Context, runs []string) error {
	for len(runs) > 0 {
		done := 0
		err := s.update(ctx, func(t *tx) error {
			left := s.cleanStep
			for _, run := range runs {
				whole, err := t.clean(run, &left)
				if err != nil || !whole {
					return err
				}
				done++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("clean up after forgotten runs: %w", err)
		}
		runs = runs[done:]
	}
	return nil
}

// clean removes rows of a run, at most left, and reports whether that were all. A run that is back, or was never forgotten, keeps its own.
func (t *tx) clean(run string, left *int) (bool, error) {
	for _, c := range cleaning {
		key := strings.Trim(c.key, "()")
		n, err := t.exec("DELETE FROM "+c.table+" WHERE run = ? AND "+c.key+" IN (SELECT "+key+" FROM "+c.table+" WHERE run = ?"+c.and+` LIMIT ?)
			AND EXISTS (SELECT 1 FROM archived_run WHERE id = ? AND open) AND NOT EXISTS (SELECT 1 FROM run WHERE id = ?)`,
			run, run, *left, run, run)
		if err != nil {
			return false, err
		}
		if *left -= int(n); *left <= 0 {
			return false, nil
		}
	}
	_, err := t.exec("UPDATE archived_run SET open = 0 WHERE id = ? AND open", run)
	return true, err
}

// knownSQL hops from id to id in the keys of two tables.
const knownSQL = `SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM run WHERE id = value) OR EXISTS (SELECT 1 FROM archived_run WHERE id = value)`

// Known implements scheduler.History. The engine asks this for each group of firings, so the question is prepared, and needs no transaction: a
// statement sees one state by itself.
func (s *Store) Known(ctx context.Context, ids []string) ([]string, error) {
	defer s.m.observe("known", time.Now())
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read known: %w: %w", scheduler.ErrUnavailable, err)
	}
	out, err := s.knownOf(context.WithoutCancel(ctx), ids) // as in update
	if err != nil {
		return nil, fmt.Errorf("read known: %w", classify(err))
	}
	return out, nil
}

// RunsKept returns those of the ids whose runs are in the store, and not forgotten.
func (s *Store) RunsKept(ctx context.Context, ids []string) (map[string]bool, error) {
	kept := map[string]bool{}
	if len(ids) == 0 {
		return kept, nil
	}
	args := make([]any, 0, len(ids))
	for _, id := range ids {
		args = append(args, id)
	}
	err := s.read(ctx, "runs_kept", func(v view) error {
		found, err := all(v, scanText, "SELECT id FROM run WHERE id IN "+marks(len(ids)), args...)
		for _, id := range found {
			kept[id] = true
		}
		return err
	})
	return kept, err
}

func (s *Store) knownOf(ctx context.Context, ids []string) ([]string, error) {
	doc, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	st := s.known.Load()
	if st == nil {
		if st, err = s.readDB.PrepareContext(ctx, knownSQL); err != nil {
			return nil, err
		}
		s.known.Store(st) // one that another call has prepared meanwhile is closed with the database
	}
	rows, err := st.QueryContext(ctx, string(doc))
	if err != nil {
		return nil, err
	}
	return scanAll(rows, scanText)
}

// Archived implements scheduler.History.
func (s *Store) Archived(ctx context.Context, id string) (object string, err error) {
	err = s.read(ctx, "archived", func(v view) error {
		object, err = one(v, scanText, "SELECT object FROM archived_run WHERE id = ?", id)
		if errors.Is(err, scheduler.ErrNotFound) {
			err = fmt.Errorf("find run %q: %w", id, err)
		}
		return err
	})
	return object, err
}
