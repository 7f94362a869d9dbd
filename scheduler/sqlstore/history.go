package sqlstore

import (
	"context"
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
		out, err = all(v, scanEnded, `SELECT id, ended_at, rev, COALESCE((SELECT MAX(t.id) FROM transition t WHERE t.run = run.id), 0) FROM run
			WHERE state IN ('success', 'failed', 'cancelled') AND ended_at < ? AND deadline_at = 0 ORDER BY ended_at, id LIMIT ?`, micros(before), limit)
		return err
	})
	return out, err
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
					AND COALESCE((SELECT MAX(id) FROM transition WHERE run = ?), 0) = ?`, r.ID, r.Rev, r.ID, r.Moves)
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

// cleaning are the tables that have rows of a run, with the key that a part of these can be picked by.
var cleaning = []struct{ table, key string }{
	{"transition", "id"}, {"attempt", "id"}, {"task_instance", "(task, map_index)"}, {"run_input", "n"},
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
		n, err := t.exec("DELETE FROM "+c.table+" WHERE run = ? AND "+c.key+" IN (SELECT "+key+" FROM "+c.table+` WHERE run = ? LIMIT ?)
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
