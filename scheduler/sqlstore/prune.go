package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Pruned counts what [Store.Prune] removed.
type Pruned struct {
	Backfills, Batches, Notices int
}

// pruneStep is how many ids one transaction removes, so that Apply waits for milliseconds.
const pruneStep = 500

// Prune removes backfills that ended before the time, and then the batches that were cut before it, unless a run or a backfill that is left has
// them as input, a rule still waits for them, or they are above their stream's cursor (dispatch would take them for new ones); and notices that were sent or given up before it. Runs go before, by
// [Store.Forget] and [Store.Clean]. It goes in small transactions: broken off, it has done a part, and the next call goes on. What dispatch must
// not do twice stays remembered by cursors and ticks.
func (s *Store) Prune(ctx context.Context, before time.Time) (Pruned, error) {
	var p Pruned
	err := s.pruneTable(ctx, &p.Backfills, "id", "SELECT id FROM backfill WHERE ended_at > 0 AND ended_at < ?", micros(before),
		"DELETE FROM backfill_input WHERE backfill IN ", "DELETE FROM backfill_item WHERE backfill IN ", "DELETE FROM backfill WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune backfills: %w", err)
	}
	err = s.pruneTable(ctx, &p.Batches, "b.id", `SELECT b.id FROM batch b JOIN cursor c ON c.stream = b.stream WHERE b.created_at < ? AND b.seq <= c.seq
		AND NOT EXISTS (SELECT 1 FROM run_input i WHERE i.batch = b.id)
		AND NOT EXISTS (SELECT 1 FROM backfill_input x WHERE x.batch = b.id)
		AND NOT EXISTS (SELECT 1 FROM disposition d WHERE d.batch = b.id AND d.fate IN ('held', 'coalesced'))`, micros(before),
		"DELETE FROM disposition WHERE batch IN ", "DELETE FROM batch WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune batches: %w", err)
	}
	err = s.pruneTable(ctx, &p.Notices, "id", "SELECT id FROM notice WHERE state <> 'pending' AND ended_at < ?", micros(before), "DELETE FROM notice WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune notices: %w", err)
	}
	return p, nil
}

// pruneTable walks the ids that find yields and removes them, step by step. To look for them takes longer than writers may have to wait, so that
// is done beside them; between the look and the removal a run may have come that needs one, so each is asked after once more in the transaction
// that removes it.
func (s *Store) pruneTable(ctx context.Context, count *int, id, find string, before int64, remove ...string) error { //layout:allow params one statement and its parts
	for after := ""; ; {
		var ids []any
		err := s.read(ctx, "prune", func(v view) error {
			names, err := all(v, scanText, find+" AND "+id+" > ? ORDER BY "+id+" LIMIT ?", before, after, s.pruneStep)
			for _, name := range names {
				ids = append(ids, name)
			}
			return err
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1].(string)
		err = s.update(ctx, func(t *tx) error {
			var err error
			if ids, err = t.ids(find+" AND "+id+" IN "+marks(len(ids)), append([]any{before}, ids...)...); err != nil || len(ids) == 0 {
				return err
			}
			for _, q := range remove {
				if _, err := t.s.conn.ExecContext(t.ctx, q+marks(len(ids)), ids...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		*count += len(ids)
	}
}

// marks is a list of n parameters.
func marks(n int) string { return "(?" + strings.Repeat(",?", n-1) + ")" }

func (t *tx) ids(q string, args ...any) ([]any, error) {
	rows, err := t.s.conn.QueryContext(t.ctx, q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []any
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
