package vars

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/scheduler"
)

// Set is a value to be kept in the store.
type Set struct {
	// Kind is one of scheduler.ValueVariable, ValueSecret and ValueConnection; Text is a URI for the last.
	Kind, Name, Text string
	// Description replaces the one that is there; nil leaves it.
	Description *string
}

// Set keeps values, all of them or none, and says in the audit trail who did it. ErrInvalid, ErrUnavailable.
func (r *Registry) Set(ctx context.Context, by string, sets ...Set) error {
	r.change.Lock()
	defer r.change.Unlock()
	now := time.Now().UTC().Truncate(time.Microsecond)
	var rows []scheduler.StoredValue
	var audit []scheduler.Audit
	for _, s := range sets {
		row, err := r.seal(s)
		if err != nil {
			return err
		}
		row.UpdatedAt, row.UpdatedBy = now, by
		if i := slices.IndexFunc(rows, func(o scheduler.StoredValue) bool { return o.Kind == s.Kind && o.Name == s.Name }); i >= 0 {
			rows[i] = row
			continue
		}
		rows = append(rows, row)
		audit = append(audit, scheduler.Audit{At: now, By: by, Action: "set", Kind: s.Kind, Name: s.Name})
	}
	return r.put(ctx, rows, nil, audit)
}

// seal checks a value and makes its row.
func (r *Registry) seal(s Set) (scheduler.StoredValue, error) {
	row := scheduler.StoredValue{Kind: s.Kind, Name: s.Name, Text: s.Text, Sealed: s.Kind != scheduler.ValueVariable || scheduler.Sensitive(s.Name)}
	if err := scheduler.CheckValueName(s.Name); err != nil {
		return row, err
	}
	if len(s.Text) > scheduler.MaxValueText {
		return row, fmt.Errorf("%w: %s %s has %d bytes, and %d is the most; put it into an object or a file, and its address here",
			scheduler.ErrInvalid, s.Kind, s.Name, len(s.Text), scheduler.MaxValueText)
	}
	if err := r.checkKind(s); err != nil {
		return row, err
	}
	if old, ok := r.row(s.Kind, s.Name); ok {
		row.Description = old.Description
	}
	if s.Description != nil {
		row.Description = *s.Description
	}
	if !row.Sealed {
		return row, nil
	}
	if err := r.keyThere(); err != nil {
		return row, err
	}
	var err error
	row.Text, err = r.keys.seal(s.Kind, s.Name, s.Text)
	return row, err
}

func (r *Registry) checkKind(s Set) error {
	switch s.Kind {
	case scheduler.ValueConnection:
		if _, err := parse(s.Text); err != nil {
			return fmt.Errorf("%w: connection %s: %w", scheduler.ErrInvalid, s.Name, err)
		}
	case scheduler.ValueVariable:
		if _, ok := r.row(scheduler.ValueSecret, s.Name); ok {
			return fmt.Errorf("%w: %s is a secret; set it with --secret, or remove it first", scheduler.ErrInvalid, s.Name)
		}
	case scheduler.ValueSecret:
		if s.Text == "" {
			return fmt.Errorf("%w: secret %s is empty", scheduler.ErrInvalid, s.Name)
		}
		if _, ok := r.row(scheduler.ValueVariable, s.Name); ok {
			return fmt.Errorf("%w: %s is a variable, and DAGs may use it as vars.%s; remove it first", scheduler.ErrInvalid, s.Name, s.Name)
		}
	}
	return nil
}

// keyThere refuses to make a first key while the store has values of another one, which would hide that the key file was lost.
func (r *Registry) keyThere() error {
	if len(r.keys.IDs()) > 0 {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, v := range r.rows {
		if v.Sealed {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%w: the store has %d encrypted values, and the key file %s is gone: put it back, or remove these values first",
			scheduler.ErrInvalid, n, r.keys.path)
	}
	return nil
}

// put commits and then shows.
func (r *Registry) put(ctx context.Context, put, remove []scheduler.StoredValue, audit []scheduler.Audit) error {
	if len(put)+len(remove)+len(audit) == 0 {
		return nil
	}
	if err := r.store.PutValues(ctx, put, remove, audit); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range remove {
		delete(r.rows, id{v.Kind, v.Name})
	}
	for _, v := range put {
		r.rows[id{v.Kind, v.Name}] = v
	}
	return nil
}

// Remove takes a value out of the store. kinds are tried in their order. ErrNotFound, also if only another source has it.
func (r *Registry) Remove(ctx context.Context, by, name string, kinds ...string) error {
	r.change.Lock()
	defer r.change.Unlock()
	for _, kind := range kinds {
		if _, ok := r.row(kind, name); ok {
			now := time.Now().UTC().Truncate(time.Microsecond)
			return r.put(ctx, nil, []scheduler.StoredValue{{Kind: kind, Name: name}},
				[]scheduler.Audit{{At: now, By: by, Action: "remove", Kind: kind, Name: name}})
		}
	}
	for _, kind := range kinds {
		if from := r.sources(kind, name); len(from) > 0 {
			return fmt.Errorf("%w: %s %s comes from the %s, and can only be removed there", scheduler.ErrInvalid, kind, name, from[0].origin)
		}
	}
	return fmt.Errorf("find %s %q: %w", kinds[0], name, scheduler.ErrNotFound)
}

// Rotated says what a rotation did.
type Rotated struct {
	// Key is the id of the key that seals from now on; Keys is how many are left.
	Key  string `json:"key"`
	Keys int    `json:"keys"`
	// Resealed values were encrypted anew.
	Resealed int `json:"resealed"`
	// File has the keys; "" if they are kept elsewhere.
	File string `json:"file,omitempty"`
}

// Rotate makes a new key, unless the keys are kept elsewhere, and encrypts all values with the first one. With drop, the others are forgotten then:
// a backup of the store that was made before can not be read without them.
//
//  1. The file has the new key, first, and all others.
//  2. One transaction writes all values anew. If we stop before it, the next rotation does it, with another new key.
//  3. With drop, the file has the new key alone. If we stop before that, there are keys that nothing needs.
func (r *Registry) Rotate(ctx context.Context, by string, drop bool) (*Rotated, error) {
	r.change.Lock()
	defer r.change.Unlock()
	plain, err := r.unsealed()
	if err != nil {
		return nil, err
	}
	if r.keys.path == "" && drop {
		return nil, fmt.Errorf("%w: the keys are kept elsewhere (secret_key): remove the old ones there", scheduler.ErrInvalid)
	}
	if r.keys.path != "" {
		if err := r.keys.add(); err != nil {
			return nil, err
		}
	}
	for i := range plain {
		v := &plain[i]
		if v.Text, err = r.keys.seal(v.Kind, v.Name, v.Text); err != nil {
			return nil, err
		}
	}
	ids := r.keys.IDs()
	now := time.Now().UTC().Truncate(time.Microsecond)
	if err := r.put(ctx, plain, nil, []scheduler.Audit{{At: now, By: by, Action: "rotate", Kind: "key", Name: ids[0]}}); err != nil {
		return nil, err
	}
	if drop {
		if err := r.keys.keepFirst(); err != nil {
			return nil, err
		}
	}
	return &Rotated{Key: ids[0], Keys: len(r.keys.IDs()), Resealed: len(plain), File: r.keys.path}, nil
}

// unsealed returns all sealed values with their plain texts.
func (r *Registry) unsealed() ([]scheduler.StoredValue, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []scheduler.StoredValue
	var errs []error
	for _, v := range r.rows {
		if !v.Sealed {
			continue
		}
		text, err := r.keys.open(&v)
		errs = append(errs, err)
		v.Text = text
		out = append(out, v)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	return out, nil
}

// Audits returns the newest lines of the audit trail about values.
func (r *Registry) Audits(ctx context.Context, limit int) ([]scheduler.Audit, error) {
	return r.store.Audits(ctx, limit)
}

// attemptKind is the kind that secrets of attempts are sealed as. No value is of it.
const attemptKind = "attempt"

// SealFor encrypts what an executor has to keep of the secrets of an attempt while it runs.
func (r *Registry) SealFor(attempt, text string) (string, error) {
	return r.keys.seal(attemptKind, attempt, text)
}

// UnsealFor is the inverse of SealFor. It fails if the key is not there any more.
func (r *Registry) UnsealFor(attempt, sealed string) (string, error) {
	return r.keys.open(&scheduler.StoredValue{Kind: attemptKind, Name: attempt, Text: sealed, Sealed: true})
}
