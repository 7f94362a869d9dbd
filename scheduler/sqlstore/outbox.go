package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"millrace/scheduler"
)

var _ scheduler.Outbox = (*Store)(nil)

// noticeColumns are those that [tx.notices] writes; seq is the database's.
var noticeColumns = []string{"id", "notifier", "event", "dag", "run", "task", "state", "tries", "next_at", "error", "created_at", "since",
	"ended_at", "body"}

func noticeArgs(n *scheduler.Notice) []any {
	return []any{n.ID, n.Notifier, n.Event, n.DAG, n.Run, n.Task, string(n.State), n.Tries, micros(n.NextAt), n.Error, micros(n.CreatedAt),
		micros(n.Since), micros(n.EndedAt), string(n.Body)}
}

func scanNotice(row scanner) (n scheduler.Notice, err error) {
	err = row.Scan(&n.Seq, &n.ID, &n.Notifier, &n.Event, &n.DAG, &n.Run, &n.Task, &n.State, &n.Tries, stamp{&n.NextAt}, &n.Error,
		stamp{&n.CreatedAt}, stamp{&n.Since}, stamp{&n.EndedAt}, raw{&n.Body})
	return n, err
}

func selectNotices() string { return "SELECT seq," + list("", noticeColumns) + " FROM notice" }

func (t *tx) notices(notices []scheduler.Notice, exists map[string]bool) error {
	var rows []any
	for i := range notices {
		if n := &notices[i]; !exists[n.Run] {
			rows = append(rows, noticeArgs(n)...)
		}
	}
	return t.insert("notice", noticeColumns, keep, rows)
}

func (t *tx) overdue(list []scheduler.Overdue) error {
	for i := range list {
		o := &list[i]
		var err error
		if o.Done {
			_, err = t.exec("DELETE FROM overdue WHERE rule=? AND run_key=? AND n=?", o.Rule, o.Key, o.N)
		} else {
			_, err = t.exec("INSERT INTO overdue (rule, run_key, n, at, missed_at) VALUES (?,?,?,?,?) "+keep, o.Rule, o.Key, o.N, micros(o.At), micros(o.MissedAt))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// late reads what deadlines need beyond the live runs.
func (v view) late(snap *scheduler.Snapshot) error {
	var err error
	snap.Late, err = all(v, scanRun, "SELECT "+list("", runColumns)+" FROM run WHERE deadline_at > 0 AND state NOT IN "+live+" ORDER BY deadline_at, id")
	if err != nil {
		return err
	}
	snap.Waiting, err = all(v, func(row scanner) (w scheduler.Waiting, err error) {
		err = row.Scan(&w.Batch, &w.Rule, &w.Group, stamp{&w.SealedAt})
		return w, err
	}, `SELECT d.batch, d.rule, d.grp, b.created_at FROM disposition d JOIN batch b ON b.id = d.batch
		WHERE d.fate IN ('held', 'coalesced') ORDER BY d.rule, d.grp, d.batch`)
	if err != nil {
		return err
	}
	snap.Overdue, err = all(v, func(row scanner) (o scheduler.Overdue, err error) {
		err = row.Scan(&o.Rule, &o.Key, &o.N, stamp{&o.At}, stamp{&o.MissedAt})
		return o, err
	}, "SELECT rule, run_key, n, at, missed_at FROM overdue ORDER BY rule, run_key, n")
	return err
}

// DueNotices implements scheduler.Outbox.
func (s *Store) DueNotices(ctx context.Context, notifier string, now time.Time, limit int) ([]scheduler.Notice, error) {
	var out []scheduler.Notice
	err := s.read(ctx, "due_notices", func(v view) error {
		var err error
		out, err = all(v, scanNotice, selectNotices()+` WHERE seq IN (
			SELECT MIN(seq) FROM notice WHERE state = 'pending' AND notifier = ? GROUP BY notifier, run
		) AND next_at <= ? ORDER BY seq LIMIT ?`, notifier, micros(now), limit)
		return err
	})
	return out, err
}

// SettleNotice implements scheduler.Outbox.
func (s *Store) SettleNotice(ctx context.Context, n *scheduler.Notice) error {
	return s.update(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE notice SET state=?, tries=?, next_at=?, error=?, ended_at=? WHERE seq=? AND id=? AND state='pending'",
			string(n.State), n.Tries, micros(n.NextAt), n.Error, micros(n.EndedAt), n.Seq, n.ID)
		return err
	})
}

// RetryNotice implements scheduler.Outbox. A notice that had ended begins anew, as if it had happened now.
func (s *Store) RetryNotice(ctx context.Context, id string, now time.Time) (*scheduler.Notice, error) {
	err := s.update(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE notice SET state='pending', tries=0, next_at=?, ended_at=0, since=? WHERE id=?", micros(now), micros(now), id)
		if err == nil && n == 0 {
			err = scheduler.ErrNotFound
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("retry notice %q: %w", id, err)
	}
	var out scheduler.Notice
	err = s.read(ctx, "notice", func(v view) error {
		out, err = one(v, scanNotice, selectNotices()+" WHERE id=?", id)
		return err
	})
	return &out, err
}

// noticesSQL is the question for a page of notices, and for one more than it has.
func noticesSQL(q scheduler.NoticeQuery) (string, []any, error) {
	var f filter
	f.given("notifier=?", q.Notifier)
	f.given("run=?", q.Run)
	f.given("state=?", string(q.State))
	if q.Before != "" {
		seq, err := strconv.ParseInt(q.Before, 10, 64)
		if err != nil {
			return "", nil, fmt.Errorf("read notices before %q: %w: not a cursor", q.Before, scheduler.ErrInvalid)
		}
		f.add("seq < ?", seq)
	}
	return selectNotices() + f.sql() + " ORDER BY seq DESC LIMIT " + strconv.Itoa(limit(q.Limit)+1), f.args, nil
}

// Notices implements scheduler.Outbox. Pages are in the order in which things happened.
func (s *Store) Notices(ctx context.Context, q scheduler.NoticeQuery) ([]scheduler.Notice, string, error) {
	query, args, err := noticesSQL(q)
	if err != nil {
		return nil, "", err
	}
	var out []scheduler.Notice
	next := ""
	err = s.read(ctx, "notices", func(v view) error {
		var err error
		if out, err = all(v, scanNotice, query, args...); err != nil {
			return err
		}
		var last *scheduler.Notice
		if out, last = cut(out, limit(q.Limit)); last != nil {
			next = strconv.FormatInt(last.Seq, 10)
		}
		return nil
	})
	return out, next, err
}

// CountNotices implements scheduler.Outbox.
func (s *Store) CountNotices(ctx context.Context) ([]scheduler.NoticeCount, error) {
	var out []scheduler.NoticeCount
	err := s.read(ctx, "count_notices", func(v view) error {
		var err error
		out, err = all(v, func(row scanner) (n scheduler.NoticeCount, err error) {
			err = row.Scan(&n.Notifier, &n.Pending, stamp{&n.Oldest}, stamp{&n.Next}, &n.Dead)
			return n, err
		}, `SELECT notifier, SUM(pending), COALESCE(MIN(oldest), 0), COALESCE(MIN(next), 0), SUM(dead) FROM (
			SELECT notifier, COUNT(*) AS pending, MIN(created_at) AS oldest, NULL AS next, 0 AS dead FROM notice WHERE state = 'pending' GROUP BY notifier
			UNION ALL SELECT notifier, 0, NULL, MIN(next_at), 0 FROM notice WHERE seq IN (
				SELECT MIN(seq) FROM notice WHERE state = 'pending' GROUP BY notifier, run
			) GROUP BY notifier
			UNION ALL SELECT notifier, 0, NULL, NULL, COUNT(*) FROM notice WHERE state = 'dead' GROUP BY notifier
		) GROUP BY notifier ORDER BY notifier`)
		return err
	})
	return out, err
}
