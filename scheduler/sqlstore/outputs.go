package sqlstore

import (
	"context"
	"fmt"
	"time"

	"millrace/scheduler"
)

var _ scheduler.CacheReader = (*Store)(nil)

var (
	cacheColumns = []string{"id", "dag", "task", "source", "try", "output", "output_ref", "output_sha", "output_bytes", "created_at", "expires_at"}
	upsertCached = insertSQL("output_cache", cacheColumns, 1, replacing(cacheColumns, "id"))
)

// refOf is a reference as its columns have it.
func refOf(ref *scheduler.OutputRef) scheduler.OutputRef {
	if ref == nil {
		return scheduler.OutputRef{}
	}
	return *ref
}

func refPointer(ref scheduler.OutputRef) *scheduler.OutputRef {
	if ref.Ref == "" {
		return nil
	}
	return &ref
}

// cached writes entries of the cache over those with the same id.
func (t *tx) cached(entries []scheduler.Cached) error {
	for i := range entries {
		c := &entries[i]
		ref := refOf(c.OutputRef)
		_, err := t.exec(upsertCached, c.ID, c.DAG, c.Task, c.From, c.Try, string(c.Output), ref.Ref, ref.SHA256, ref.Bytes,
			micros(c.CreatedAt), micros(c.ExpiresAt))
		if err != nil {
			return err
		}
	}
	return nil
}

// Cached implements scheduler.CacheReader.
func (s *Store) Cached(ctx context.Context, id string) (*scheduler.Cached, error) {
	var c scheduler.Cached
	err := s.read(ctx, "cached", func(v view) error {
		var err error
		c, err = one(v, scanCached, "SELECT "+list("", cacheColumns)+" FROM output_cache WHERE id=?", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func scanCached(row scanner) (c scheduler.Cached, err error) {
	var ref scheduler.OutputRef
	err = row.Scan(&c.ID, &c.DAG, &c.Task, &c.From, &c.Try, raw{&c.Output}, &ref.Ref, &ref.SHA256, &ref.Bytes,
		stamp{&c.CreatedAt}, stamp{&c.ExpiresAt})
	c.OutputRef = refPointer(ref)
	return c, err
}

// OutputsUsed returns those of refs that a task or an entry of the cache names.
func (s *Store) OutputsUsed(ctx context.Context, refs []string) (map[string]bool, error) {
	used := map[string]bool{}
	if len(refs) == 0 {
		return used, nil
	}
	set := marks(len(refs))
	args := make([]any, 0, 2*len(refs))
	for range 2 {
		for _, ref := range refs {
			args = append(args, ref)
		}
	}
	err := s.read(ctx, "outputs_used", func(v view) error {
		// The first condition lets the partial index be used.
		names, err := all(v, scanText, "SELECT output_ref FROM task_instance WHERE output_ref <> '' AND output_ref IN "+set+
			" UNION SELECT output_ref FROM output_cache WHERE output_ref <> '' AND output_ref IN "+set, args...)
		for _, name := range names {
			used[name] = true
		}
		return err
	})
	return used, err
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// cacheGrace is how long an entry stays that has expired: what it names is used for a while by those who took it before.
const cacheGrace = 24 * time.Hour

// PruneCache removes the entries of the cache that expired a day before now, and returns how many. It goes in small transactions.
func (s *Store) PruneCache(ctx context.Context, now time.Time) (int, error) {
	total := 0
	for {
		var n int64
		err := s.update(ctx, func(t *tx) error {
			var err error
			n, err = t.exec("DELETE FROM output_cache WHERE id IN (SELECT id FROM output_cache WHERE expires_at < ? LIMIT ?)",
				micros(now.Add(-cacheGrace)), s.pruneStep)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("prune cached outputs: %w", err)
		}
		if total += int(n); n == 0 {
			return total, nil
		}
	}
}
