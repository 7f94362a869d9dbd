package sqlstore

import (
	"context"
	"fmt"
	"time"

	"millrace/scheduler"
)

var _ scheduler.Records = (*Store)(nil)

var (
	recordColumns = []string{"executor", "name", "over_at", "body"}
	replaceRecord = replacing(recordColumns, "executor", "name")
)

// Records implements scheduler.Records.
func (s *Store) Records(ctx context.Context, executor string) ([]scheduler.Record, error) {
	var out []scheduler.Record
	err := s.read(ctx, "executor_records", func(v view) (err error) {
		out, err = all(v, func(row scanner) (r scheduler.Record, err error) {
			err = row.Scan(&r.Executor, &r.Key, stamp{&r.Over}, &r.Body)
			return r, err
		}, "SELECT "+list("", recordColumns)+" FROM executor_record WHERE executor=? ORDER BY name", executor)
		return err
	})
	return out, err
}

// PutRecords implements scheduler.Records.
func (s *Store) PutRecords(ctx context.Context, list []scheduler.Record) error {
	if len(list) == 0 {
		return nil
	}
	defer s.m.observe("put_executor_records", time.Now())
	var rows []any
	for i := range list {
		r := &list[i]
		rows = append(rows, r.Executor, r.Key, micros(r.Over), r.Body)
	}
	return s.update(ctx, func(t *tx) error {
		if err := t.insert("executor_record", recordColumns, replaceRecord, rows); err != nil {
			return fmt.Errorf("write %d executor records: %w", len(list), err)
		}
		return nil
	})
}

// PruneRecords implements scheduler.Records.
func (s *Store) PruneRecords(ctx context.Context, executor string, before time.Time) (int, error) {
	var n int64
	err := s.update(ctx, func(t *tx) (err error) {
		n, err = t.exec("DELETE FROM executor_record WHERE executor=? AND over_at > 0 AND over_at < ?", executor, micros(before))
		return err
	})
	return int(n), err
}
