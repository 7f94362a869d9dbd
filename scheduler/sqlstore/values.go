package sqlstore

import (
	"context"
	"fmt"
	"time"

	"millrace/scheduler"
)

var _ scheduler.ValueStore = (*Store)(nil)

var (
	valueColumns = []string{"kind", "name", "text", "sealed", "description", "updated_at", "updated_by"}
	auditColumns = []string{"at", "by", "action", "kind", "name"}
	upsertValue  = insertSQL("named_value", valueColumns, 1, replacing(valueColumns, "kind", "name"))
)

// Values implements scheduler.ValueStore.
func (s *Store) Values(ctx context.Context) ([]scheduler.StoredValue, error) {
	var out []scheduler.StoredValue
	err := s.read(ctx, "values", func(v view) (err error) {
		out, err = all(v, scanValue, "SELECT "+list("", valueColumns)+" FROM named_value ORDER BY kind, name")
		return err
	})
	return out, err
}

func scanValue(row scanner) (v scheduler.StoredValue, err error) {
	err = row.Scan(&v.Kind, &v.Name, &v.Text, &v.Sealed, &v.Description, stamp{&v.UpdatedAt}, &v.UpdatedBy)
	return v, err
}

// PutValues implements scheduler.ValueStore.
func (s *Store) PutValues(ctx context.Context, put, remove []scheduler.StoredValue, audit []scheduler.Audit) error {
	defer s.m.observe("put_values", time.Now())
	return s.update(ctx, func(t *tx) error {
		for i := range put {
			v := &put[i]
			if _, err := t.exec(upsertValue, v.Kind, v.Name, v.Text, v.Sealed, v.Description, micros(v.UpdatedAt), v.UpdatedBy); err != nil {
				return fmt.Errorf("write %s %s: %w", v.Kind, v.Name, err)
			}
		}
		for i := range remove {
			if _, err := t.exec("DELETE FROM named_value WHERE kind=? AND name=?", remove[i].Kind, remove[i].Name); err != nil {
				return fmt.Errorf("remove %s %s: %w", remove[i].Kind, remove[i].Name, err)
			}
		}
		var rows []any
		for _, a := range audit {
			rows = append(rows, micros(a.At), a.By, a.Action, a.Kind, a.Name)
		}
		if err := t.insert("audit", auditColumns, "", rows); err != nil {
			return fmt.Errorf("write audit lines: %w", err)
		}
		return nil
	})
}

// Audits implements scheduler.ValueStore.
func (s *Store) Audits(ctx context.Context, limit int) ([]scheduler.Audit, error) {
	var out []scheduler.Audit
	err := s.read(ctx, "audits", func(v view) (err error) {
		out, err = all(v, func(row scanner) (a scheduler.Audit, err error) {
			err = row.Scan(stamp{&a.At}, &a.By, &a.Action, &a.Kind, &a.Name)
			return a, err
		}, "SELECT "+list("", auditColumns)+" FROM audit ORDER BY id DESC LIMIT ?", limit)
		return err
	})
	return out, err
}
