package schedulertest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

var _ scheduler.Outbox = (*Store)(nil)

type overdueKey struct {
	rule, key string
	n         int
}

// outbox applies what comes last.
func (t *tx) outbox(c *scheduler.Change) {
	for _, n := range c.Notices {
		if t.exists[n.Run] || t.s.notice(n.ID) != nil {
			continue
		}
		n = keptNotice(n)
		n.Seq = 1
		if last := len(t.s.notices); last > 0 {
			n.Seq = t.s.notices[last-1].Seq + 1
		}
		t.s.notices = append(t.s.notices, n)
	}
	for _, o := range c.Overdue {
		key := overdueKey{o.Rule, o.Key, o.N}
		if o.Done {
			delete(t.s.overdue, key)
		} else if _, ok := t.s.overdue[key]; !ok {
			o.At, o.MissedAt = kept(o.At), kept(o.MissedAt)
			t.s.overdue[key] = o
		}
	}
}

func keptNotice(n scheduler.Notice) scheduler.Notice {
	n.NextAt, n.CreatedAt, n.Since, n.EndedAt = kept(n.NextAt), kept(n.CreatedAt), kept(n.Since), kept(n.EndedAt)
	n.Body = bytes.Clone(n.Body)
	return n
}

// late fills in what deadlines need beyond runs.
func (s *Store) late(snap *scheduler.Snapshot) {
	for _, id := range slices.Sorted(maps.Keys(s.batches)) {
		for _, d := range s.dispositions[id] {
			if d.Fate != trigger.FateHeld && d.Fate != trigger.FateCoalesced {
				continue
			}
			snap.Waiting = append(snap.Waiting, scheduler.Waiting{Batch: id, Rule: d.Rule, Group: d.Group, SealedAt: kept(s.batches[id].CreatedAt)})
		}
	}
	slices.SortFunc(snap.Waiting, func(a, b scheduler.Waiting) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Batch, b.Batch))
	})
	snap.Overdue = slices.SortedFunc(maps.Values(s.overdue), func(a, b scheduler.Overdue) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Key, b.Key), cmp.Compare(a.N, b.N))
	})
}

// notice returns the notice with the id, or nil. The caller holds mu.
func (s *Store) notice(id string) *scheduler.Notice {
	i := slices.IndexFunc(s.notices, func(n scheduler.Notice) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &s.notices[i]
}

// DueNotices implements scheduler.Outbox.
func (s *Store) DueNotices(_ context.Context, notifier string, now time.Time, limit int) ([]scheduler.Notice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []scheduler.Notice
	first := map[string]bool{}
	for _, n := range s.notices {
		if n.Notifier != notifier || n.State != scheduler.NoticePending || first[n.Run] {
			continue
		}
		first[n.Run] = true
		if !n.NextAt.After(now) && len(out) < limit {
			out = append(out, keptNotice(n))
		}
	}
	return out, nil
}

// SettleNotice implements scheduler.Outbox.
func (s *Store) SettleNotice(_ context.Context, n *scheduler.Notice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.notice(n.ID); have != nil && have.State == scheduler.NoticePending {
		have.State, have.Tries, have.NextAt, have.Error, have.EndedAt = n.State, n.Tries, kept(n.NextAt), n.Error, kept(n.EndedAt)
	}
	return nil
}

// RetryNotice implements scheduler.Outbox.
func (s *Store) RetryNotice(_ context.Context, id string, now time.Time) (*scheduler.Notice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.notice(id)
	if n == nil {
		return nil, fmt.Errorf("retry notice %q: %w", id, scheduler.ErrNotFound)
	}
	n.State, n.Tries, n.NextAt, n.Since, n.EndedAt = scheduler.NoticePending, 0, kept(now), kept(now), time.Time{}
	out := keptNotice(*n)
	return &out, nil
}

// Notices implements scheduler.Outbox.
func (s *Store) Notices(_ context.Context, q scheduler.NoticeQuery) ([]scheduler.Notice, string, error) {
	before, err := strconv.ParseInt(q.Before, 10, 64)
	if q.Before != "" && err != nil {
		return nil, "", fmt.Errorf("read notices before %q: %w: not a cursor", q.Before, scheduler.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.notices)
	slices.Reverse(all)
	out, more := page(all, q.Limit, func(n *scheduler.Notice) bool {
		return (q.Before == "" || n.Seq < before) && (q.Notifier == "" || n.Notifier == q.Notifier) && (q.Run == "" || n.Run == q.Run) &&
			(q.State == "" || n.State == q.State)
	})
	for i := range out {
		out[i] = keptNotice(out[i])
	}
	if !more {
		return out, "", nil
	}
	return out, strconv.FormatInt(out[len(out)-1].Seq, 10), nil
}

// CountNotices implements scheduler.Outbox.
func (s *Store) CountNotices(context.Context) ([]scheduler.NoticeCount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]*scheduler.NoticeCount{}
	first := map[[2]string]bool{}
	for _, n := range s.notices {
		if n.State == scheduler.NoticeSent {
			continue
		}
		c := counts[n.Notifier]
		if c == nil {
			c = &scheduler.NoticeCount{Notifier: n.Notifier}
			counts[n.Notifier] = c
		}
		if n.State == scheduler.NoticeDead {
			c.Dead++
			continue
		}
		c.Pending++
		if c.Oldest.IsZero() || n.CreatedAt.Before(c.Oldest) {
			c.Oldest = n.CreatedAt
		}
		head := [2]string{n.Notifier, n.Run}
		if !first[head] && (c.Next.IsZero() || n.NextAt.Before(c.Next)) {
			c.Next = n.NextAt
		}
		first[head] = true
	}
	var out []scheduler.NoticeCount
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, *counts[name])
	}
	return out, nil
}
