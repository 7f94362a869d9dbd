package airflow

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"millrace/scheduler"
)

// Backfill is Airflow's BackfillResponse.
type Backfill struct {
	// ID is [BackfillID] of millrace's, which is a text.
	ID             int64  `json:"id"`
	DAG            string `json:"dag_id"`
	DAGDisplayName string `json:"dag_display_name"`
	// From is inclusive, To exclusive. Both are the time at which it was made if it is not about a span of time but about batches by their names.
	From time.Time       `json:"from_date"`
	To   time.Time       `json:"to_date"`
	Conf json.RawMessage `json:"dag_run_conf"`
	// Reprocess is none, failed, or completed: all.
	Reprocess string    `json:"reprocess_behavior"`
	Paused    bool      `json:"is_paused"`
	MaxRuns   int       `json:"max_active_runs"`
	CreatedAt time.Time `json:"created_at"`
	// CompletedAt is when it was done or cancelled. UpdatedAt is the same, or CreatedAt as long as it goes on.
	CompletedAt *time.Time `json:"completed_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
}

// Backfills is Airflow's BackfillCollectionResponse.
type Backfills struct {
	Backfills []Backfill `json:"backfills"`
	Total     int        `json:"total_entries"`
}

// BackfillID returns the number by which Airflow's clients know a backfill: a function of its id, and no larger than what any JSON reader keeps
// exactly (2⁵³−1).
func BackfillID(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 11)
}

// NewBackfill returns what Airflow says of a backfill.
func NewBackfill(b *scheduler.Backfill) Backfill {
	span := b.Selection.Events
	if span.IsZero() {
		span = b.Selection.Received
	}
	if span.IsZero() {
		span = scheduler.Span{From: b.CreatedAt, To: b.CreatedAt}
	}
	out := Backfill{
		ID: BackfillID(b.ID), DAG: b.DAG, DAGDisplayName: b.DAG, From: span.From, To: span.To, Conf: b.Params, Reprocess: string(b.Reprocess),
		Paused: b.State == scheduler.BackfillPaused, MaxRuns: b.MaxActive, CreatedAt: b.CreatedAt, CompletedAt: at(b.EndedAt),
		UpdatedAt: b.CreatedAt,
	}
	if !b.EndedAt.IsZero() {
		out.UpdatedAt = b.EndedAt
	}
	if b.Reprocess == scheduler.ReprocessAll {
		out.Reprocess = "completed"
	}
	out.Reprocess = cmp.Or(out.Reprocess, "none")
	if !bytes.HasPrefix(out.Conf, []byte("{")) {
		out.Conf = json.RawMessage("{}")
	}
	return out
}
