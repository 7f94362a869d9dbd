package sqlstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// Columns in the order of the args and scan functions below.
var (
	// The first of runColumns and taskColumns, up to frozenRun and frozenTask, never change.
	runColumns = []string{"id", "dag", "created_at", "version", "state", "trigger_doc", "params", "replay", "replay_of", "events", "bytes",
		"interval_start", "interval_end", "watermark", "reason", "trace", "started_at", "ended_at", "backfill", "no_emit", "deadlines",
		"deadline_at", "images", "rev"}
	taskColumns = []string{"run", "task", "map_index", "n", "state", "try", "lost", "executor", "external_id", "retry_at", "kill_reason",
		"exit_code", "reason", "output", "started_at", "ended_at", "cleared", "output_ref", "output_sha", "output_bytes", "cached_from", "no_cache",
		"item", "map_key", "map_doc", "since", "rev"}
	attemptColumns = []string{"run", "id", "task", "map_index", "try", "executor", "state", "exit_code", "reason", "log", "node",
		"created_at", "started_at", "ended_at"}
	moveColumns  = []string{"run", "task", "map_index", "try", "from_state", "to_state", "reason", "at"}
	batchColumns = []string{"id", "tenant", "source", "stream", "seq", "first_offset", "last_offset", "width", "created_at", "doc",
		"arrived_at", "arrived_n"}
	dispositionColumns = []string{"batch", "rule", "fate", "reason", "run", "grp", "at", "lane_key", "sides"}
	groupColumns       = []string{"rule", "id", "lane_key", "opened_at", "last_at", "events", "bytes"}
	headColumns        = []string{"id", "version", "file", "error", "paused", "removed", "updated_at"}
	versionColumns     = []string{"version", "dag", "canonical", "created_at"}
)

const (
	frozenRun  = 3
	frozenTask = 4
)

// scanner is a row of *sql.Rows or *sql.Row.
type scanner interface{ Scan(dest ...any) error }

// micros is the stored form of a time: microseconds since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// stamp reads what micros wrote.
type stamp struct{ t *time.Time }

// Scan implements sql.Scanner.
func (s stamp) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("read time: got %T, want an integer", v)
	}
	*s.t = time.Time{}
	if n != 0 {
		*s.t = time.UnixMicro(n).UTC()
	}
	return nil
}

// ids reads a column that has ids with commas between them, or "" for none.
type ids struct{ to *[]string }

// Scan implements sql.Scanner.
func (s ids) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("read ids: got %T, want text", v)
	}
	*s.to = nil
	if text != "" {
		*s.to = strings.Split(text, ",")
	}
	return nil
}

// document reads a JSON column into to.
type document struct{ to any }

// Scan implements sql.Scanner.
func (d document) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("read document: got %T, want text", v)
	}
	return json.Unmarshal([]byte(text), d.to)
}

// raw reads a column that holds JSON as it stands, or "" for none.
type raw struct{ to *json.RawMessage }

// Scan implements sql.Scanner.
func (r raw) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("read document: got %T, want text", v)
	}
	*r.to = nil
	if text != "" {
		*r.to = json.RawMessage(text)
	}
	return nil
}

func runArgs(r *scheduler.Run, rev int64) ([]any, error) {
	doc, err := json.Marshal(r.Trigger)
	if err != nil {
		return nil, fmt.Errorf("encode trigger of run %s: %w", r.ID, err)
	}
	deadlines := ""
	if len(r.Deadlines) > 0 {
		text, err := json.Marshal(r.Deadlines)
		if err != nil {
			return nil, fmt.Errorf("encode deadlines of run %s: %w", r.ID, err)
		}
		deadlines = string(text)
	}
	images := ""
	if len(r.Images) > 0 {
		text, err := json.Marshal(r.Images)
		if err != nil {
			return nil, fmt.Errorf("encode images of run %s: %w", r.ID, err)
		}
		images = string(text)
	}
	return []any{r.ID, r.DAG, micros(r.CreatedAt), r.Version, string(r.State), string(doc), string(r.Params), r.Replay, r.ReplayOf, r.Events, r.Bytes,
		micros(r.IntervalStart), micros(r.IntervalEnd), micros(r.Watermark), r.Reason, r.Trace,
		micros(r.StartedAt), micros(r.EndedAt), r.Backfill, r.NoEmit, deadlines, micros(r.NextDeadline()), images, rev}, nil
}

func scanRun(row scanner) (r scheduler.Run, err error) {
	var deadlines, images json.RawMessage
	var deadlineAt time.Time
	err = row.Scan(&r.ID, &r.DAG, stamp{&r.CreatedAt}, &r.Version, &r.State, document{&r.Trigger}, raw{&r.Params}, &r.Replay, &r.ReplayOf, &r.Events, &r.Bytes,
		stamp{&r.IntervalStart}, stamp{&r.IntervalEnd}, stamp{&r.Watermark}, &r.Reason, &r.Trace,
		stamp{&r.StartedAt}, stamp{&r.EndedAt}, &r.Backfill, &r.NoEmit, raw{&deadlines}, stamp{&deadlineAt}, raw{&images}, &r.Rev)
	if err == nil && deadlines != nil {
		err = json.Unmarshal(deadlines, &r.Deadlines)
	}
	if err == nil && images != nil {
		err = json.Unmarshal(images, &r.Images)
	}
	return r, err
}

func taskArgs(t *scheduler.TaskRun, n int, rev int64) []any {
	ref := refOf(t.OutputRef)
	item, key, mapping := mappedArgs(t)
	return []any{t.Run, t.Task, t.MapIndex, n, string(t.State), t.Try, t.Lost, t.Executor, t.External, micros(t.RetryAt), t.Kill,
		t.Exit, t.Reason, string(t.Output), micros(t.StartedAt), micros(t.EndedAt), t.Cleared, ref.Ref, ref.SHA256, ref.Bytes,
		t.CachedFrom, t.NoCache, item, key, mapping, micros(t.Since), rev}
}

func scanTask(row scanner) (t scheduler.TaskRun, err error) {
	var n int
	var ref scheduler.OutputRef
	m := mappedScan{}
	err = row.Scan(&t.Run, &t.Task, &t.MapIndex, &n, &t.State, &t.Try, &t.Lost, &t.Executor, &t.External, stamp{&t.RetryAt}, &t.Kill,
		&t.Exit, &t.Reason, raw{&t.Output}, stamp{&t.StartedAt}, stamp{&t.EndedAt}, &t.Cleared, &ref.Ref, &ref.SHA256, &ref.Bytes,
		&t.CachedFrom, &t.NoCache, &m.item, &m.key, &m.doc, stamp{&t.Since}, &t.Rev)
	t.OutputRef = refPointer(ref)
	if err == nil {
		err = m.fill(&t)
	}
	return t, err
}

func attemptArgs(a *scheduler.Attempt) []any {
	return []any{a.Run, a.ID, a.Task, a.MapIndex, a.Try, a.Executor, string(a.State), a.Exit, a.Reason, a.Log, a.Node,
		micros(a.CreatedAt), micros(a.StartedAt), micros(a.EndedAt)}
}

func scanAttempt(row scanner) (a scheduler.Attempt, err error) {
	err = row.Scan(&a.Run, &a.ID, &a.Task, &a.MapIndex, &a.Try, &a.Executor, &a.State, &a.Exit, &a.Reason, &a.Log, &a.Node,
		stamp{&a.CreatedAt}, stamp{&a.StartedAt}, stamp{&a.EndedAt})
	return a, err
}

func moveArgs(m *scheduler.Move) []any {
	return []any{m.Run, m.Task, m.MapIndex, m.Try, string(m.From), string(m.To), m.Reason, micros(m.At)}
}

func scanMove(row scanner) (m scheduler.Move, err error) {
	var id int64 // their order
	err = row.Scan(&m.Run, &m.Task, &m.MapIndex, &m.Try, &m.From, &m.To, &m.Reason, stamp{&m.At}, &id)
	return m, err
}

// batchArgs are those of the n'th arrival of a transaction.
func batchArgs(a *trigger.Arrival, n int) ([]any, error) {
	b := &a.Batch
	doc, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode batch %s: %w", b.ID, err)
	}
	return []any{b.ID, b.Tenant, b.Source, b.Stream.String(), b.Seq, b.First, b.Last, b.Last - b.First, micros(b.CreatedAt), string(doc),
		micros(a.At), n}, nil
}

// scanBatch reads the column doc alone.
func scanBatch(row scanner) (b batcher.Batch, err error) {
	err = row.Scan(document{&b})
	return b, err
}

func dispositionArgs(d *trigger.Disposition) []any {
	return []any{d.Batch, d.Rule, string(d.Fate), d.Reason, d.Run, d.Group, micros(d.At), d.Key, strings.Join(d.Sides, ",")}
}

func scanDisposition(row scanner) (d trigger.Disposition, err error) {
	err = row.Scan(&d.Batch, &d.Rule, &d.Fate, &d.Reason, &d.Run, &d.Group, stamp{&d.At}, &d.Key, ids{&d.Sides})
	return d, err
}

func scanGroup(row scanner) (g trigger.Group, err error) {
	err = row.Scan(&g.Rule, &g.ID, &g.Key, stamp{&g.OpenedAt}, stamp{&g.LastAt}, &g.Events, &g.Bytes)
	return g, err
}

func scanHead(row scanner) (h scheduler.DAGHead, err error) {
	err = row.Scan(&h.ID, &h.Version, &h.File, &h.Error, &h.Paused, &h.Removed, stamp{&h.UpdatedAt})
	return h, err
}

func scanVersion(row scanner) (v scheduler.DAGVersion, err error) {
	var canonical string
	err = row.Scan(&v.Version, &v.DAG, &canonical, stamp{&v.CreatedAt})
	v.Canonical = []byte(canonical)
	return v, err
}
