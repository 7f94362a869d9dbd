package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Pruned counts what [Store.Prune] removed.
type Pruned struct {
	Runs, Backfills, Batches, Notices int
}

// pruneStep is how many ids one transaction removes, so that Apply waits for milliseconds.
const pruneStep = 500

// Prune removes runs that ended before the time and have no open deadline, with their tasks, attempts and moves, backfills that did, and then the
// batches that were cut before it, unless a run or a backfill that is left has them as input, a rule still waits for them, or they are above
// their stream's cursor (dispatch would take them for new ones); and notices that were sent or given up before it. It goes in small
// transactions: broken off, it has done a part, and the next call goes on. What dispatch must not do twice stays
// remembered by cursors and ticks; a manual request with its own id is harmless only as long as its run is kept.
func (s *Store) Prune(ctx context.Context, before time.Time) (Pruned, error) {
	var p Pruned
	err := s.pruneTable(ctx, &p.Runs, `SELECT id FROM run WHERE state IN ('success', 'failed', 'cancelled')
		AND created_at < ? AND ended_at < ? AND deadline_at = 0 AND id > ? ORDER BY id LIMIT ?`, []any{micros(before), micros(before)},
		"DELETE FROM transition WHERE run IN ", "DELETE FROM attempt WHERE run IN ", "DELETE FROM task_instance WHERE run IN ",
		"DELETE FROM run_input WHERE run IN ", "DELETE FROM run WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune runs: %w", err)
	}
	err = s.pruneTable(ctx, &p.Backfills, `SELECT id FROM backfill WHERE ended_at > 0 AND ended_at < ? AND id > ? ORDER BY id LIMIT ?`,
		[]any{micros(before)}, "DELETE FROM backfill_input WHERE backfill IN ", "DELETE FROM backfill_item WHERE backfill IN ",
		"DELETE FROM backfill WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune backfills: %w", err)
	}
	err = s.pruneTable(ctx, &p.Batches, `SELECT b.id FROM batch b JOIN cursor c ON c.stream = b.stream WHERE b.created_at < ? AND b.seq <= c.seq
		AND NOT EXISTS (SELECT 1 FROM run_input i WHERE i.batch = b.id)
		AND NOT EXISTS (SELECT 1 FROM backfill_input x WHERE x.batch = b.id)
		AND NOT EXISTS (SELECT 1 FROM disposition d WHERE d.batch = b.id AND d.fate IN ('held', 'coalesced'))
		AND b.id > ? ORDER BY b.id LIMIT ?`, []any{micros(before)},
		"DELETE FROM disposition WHERE batch IN ", "DELETE FROM batch WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune batches: %w", err)
	}
	err = s.pruneTable(ctx, &p.Notices, `SELECT id FROM notice WHERE state <> 'pending' AND ended_at < ? AND id > ? ORDER BY id LIMIT ?`,
		[]any{micros(before)}, "DELETE FROM notice WHERE id IN ")
	if err != nil {
		return p, fmt.Errorf("prune notices: %w", err)
	}
	return p, nil
}

// pruneTable walks the ids that find yields and removes them, step by step. find takes args, the id to go on after, and a limit.
func (s *Store) pruneTable(ctx context.Context, count *int, find string, args []any, remove ...string) error {
	for after := ""; ; {
		var ids []any
		err := s.update(ctx, func(t *tx) error {
			var err error
			if ids, err = t.ids(find, append(args[:len(args):len(args)], after, s.pruneStep)...); err != nil || len(ids) == 0 {
				return err
			}
			set := "(?" + strings.Repeat(",?", len(ids)-1) + ")"
			for _, q := range remove {
				if _, err := t.s.conn.ExecContext(t.ctx, q+set, ids...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		*count += len(ids)
		after = ids[len(ids)-1].(string)
	}
}

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
