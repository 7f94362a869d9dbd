package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/batcher/encode"
	"millrace/ingest"
	"millrace/scheduler"
)

// TryBatch is a batch that a person has made up, or fetched.
type TryBatch struct {
	// Tenant and Source are said to have sent it.
	Tenant, Source string
	// Rows are JSON objects, one a line, as `millrace batches cat` prints them; empty lines do not count. Name is theirs in messages.
	Rows []byte
	Name string
}

// tryCodec is what objects are written with.
const tryCodec = "ndjson.gz"

// store writes the object that a server would have made of the rows, below dir, and returns its batch.
func (b *TryBatch) store(dir string) (batcher.Batch, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	stream := ingest.Stream{Log: "test", Incarnation: "0"}
	obj, err := encode.New(tryCodec, stream)
	if err != nil {
		return batcher.Batch{}, err
	}
	lane := ingest.EventLane(b.Tenant, b.Source)
	n := 0
	for line := range bytes.Lines(b.Rows) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		rec, err := recordOf(line, now)
		if err != nil {
			return batcher.Batch{}, fmt.Errorf("%s:%d: %w", b.Name, n, err)
		}
		rec.Lane = lane
		obj.Add(obj.Rows(), rec)
	}
	if obj.Rows() == 0 {
		return batcher.Batch{}, fmt.Errorf("%s has no rows", b.Name)
	}
	rows := obj.Rows()
	body, facts := obj.Close()
	cut := batcher.Cut{
		Lane: lane, Last: rows - 1, Count: rows, Batch: batcher.BatchID(stream, 1, 0, now), Object: batcher.ObjectKey(lane, now, stream, 0, tryCodec),
		Codec: tryCodec, CreatedAt: now,
	}
	facts.Batch, facts.CommittedAt = cut.Batch, now
	path := filepath.Join(dir, filepath.FromSlash(cut.Object))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return batcher.Batch{}, err
	}
	if err := os.WriteFile(path, body, 0o644); err != nil {
		return batcher.Batch{}, err
	}
	return batcher.BatchOf(&batcher.Entry{Stream: stream, Seq: 1, Cuts: []batcher.Cut{cut}}, 0, facts, "file://"+path), nil
}

// recordOf reads off a row what the gateway would have known of its event. A row that was printed from an object has the place it had there,
// which the new object replaces.
func recordOf(row []byte, now time.Time) (*ingest.Record, error) {
	var head struct {
		Type       string    `json:"type"`
		ReceivedAt time.Time `json:"receivedAt"`
		Timestamp  time.Time `json:"timestamp"`
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(row, &fields); err != nil || fields == nil {
		return nil, errors.Join(errors.New("a row must be a JSON object on one line"), err)
	}
	_ = json.Unmarshal(row, &head) // what is of another type is a sender's field, and says nothing of the event
	if _, placed := fields["_mr"]; placed {
		delete(fields, "_mr")
		var err error
		if row, err = json.Marshal(fields); err != nil {
			return nil, err
		}
	}
	rec := &ingest.Record{Type: head.Type, ReceivedAt: head.ReceivedAt, EventAt: head.Timestamp, Payload: row}
	if len(rec.Type) > ingest.MaxType {
		rec.Type = ""
	}
	if rec.ReceivedAt.IsZero() {
		rec.ReceivedAt = now
	}
	return rec, nil
}

// OnlyTask returns the DAG with one task, those that it needs, and what is set up for them and taken down again; or nil if there is no such task.
func OnlyTask(d *scheduler.DAG, task string) *scheduler.DAG {
	wanted := map[string]bool{}
	queue := []string{task}
	for len(queue) > 0 {
		t := d.Task(queue[0])
		queue = queue[1:]
		if t == nil {
			return nil
		}
		if !wanted[t.ID] {
			wanted[t.ID] = true
			queue = slices.Concat(queue, t.Needs, t.Setups)
		}
	}
	down := func(t scheduler.Task) bool {
		return t.Part == scheduler.PartTeardown && !slices.ContainsFunc(t.Setups, func(id string) bool { return !wanted[id] }) &&
			slices.ContainsFunc(t.Needs, func(id string) bool { return wanted[id] && d.Task(id).Part == "" })
	}
	for _, t := range d.Tasks {
		wanted[t.ID] = wanted[t.ID] || down(t)
	}
	out := *d
	out.Tasks = nil
	for _, t := range d.Tasks {
		if wanted[t.ID] {
			t.Needs = slices.DeleteFunc(slices.Clone(t.Needs), func(id string) bool { return !wanted[id] })
			out.Tasks = append(out.Tasks, t)
		}
	}
	return &out
}
