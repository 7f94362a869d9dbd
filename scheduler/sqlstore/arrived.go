package sqlstore

import (
	"context"
	"time"

	"millrace/trigger"
)

// Arrived implements scheduler.Store. Of a batch that was there before times of arrival were kept, it takes the time of the cut.
func (s *Store) Arrived(ctx context.Context, from, to time.Time, limit int) ([]trigger.Past, error) {
	var out []trigger.Past
	err := s.read(ctx, "arrived", func(v view) error {
		var err error
		out, err = all(v, scanPast, "SELECT doc, arrived_at FROM batch WHERE arrived_at >= ? AND arrived_at < ? ORDER BY arrived_at, arrived_n LIMIT ?",
			micros(from), micros(to), limit)
		return err
	})
	return out, err
}

func scanPast(row scanner) (p trigger.Past, err error) {
	err = row.Scan(document{&p.Batch}, stamp{&p.At})
	return p, err
}
