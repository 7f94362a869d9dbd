package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
)

// Batch is what an expression sees of a batch. The names are those of batcher.Batch in JSON; lane_keys are the lane's keys with their values as
// they stand in the object's key, percent-encoded. Package trigger/rules, which evaluates `if` and `key` and can not be imported here, has the
// same fields.
type Batch struct {
	ID          string            `json:"id"`
	Tenant      string            `json:"tenant"`
	Source      string            `json:"source"`
	Lane        string            `json:"lane"`
	LaneKeys    map[string]string `json:"lane_keys"`
	Stream      string            `json:"stream"`
	Seq         int64             `json:"seq"`
	Partition   int64             `json:"partition"`
	First       int64             `json:"first"`
	Last        int64             `json:"last"`
	Events      int64             `json:"events"`
	Bytes       int64             `json:"bytes"`
	RawBytes    int64             `json:"raw_bytes"`
	Key         string            `json:"key"`
	URI         string            `json:"uri"`
	Checksum    string            `json:"checksum"`
	Types       map[string]int64  `json:"types"`
	ReceivedMin time.Time         `json:"received_min"`
	ReceivedMax time.Time         `json:"received_max"`
	EventMin    time.Time         `json:"event_min"`
	EventMax    time.Time         `json:"event_max"`
	Watermark   time.Time         `json:"watermark"`
	CreatedAt   time.Time         `json:"created_at"`
	CommittedAt time.Time         `json:"committed_at"`
}

// BatchOf returns what an expression sees of b.
func BatchOf(b *batcher.Batch) Batch {
	return Batch{
		ID: b.ID, Tenant: b.Tenant, Source: b.Source, Lane: string(b.Lane), LaneKeys: laneKeys(b.Lane), Stream: b.Stream.String(), Seq: b.Seq,
		Partition: int64(b.Partition), First: b.First, Last: b.Last, Events: b.Events, Bytes: b.Bytes, RawBytes: b.RawBytes,
		Key: b.Key, URI: b.URI, Checksum: b.Checksum, Types: b.Types, ReceivedMin: b.ReceivedMin, ReceivedMax: b.ReceivedMax,
		EventMin: b.EventMin, EventMax: b.EventMax, Watermark: b.Watermark, CreatedAt: b.CreatedAt, CommittedAt: b.CommittedAt,
	}
}

// laneKeys returns the parts of a lane after tenant and source.
func laneKeys(l ingest.Lane) map[string]string {
	keys := map[string]string{}
	for i, part := range strings.Split(string(l), "/") {
		if k, v, ok := strings.Cut(part, "="); ok && i > 2 {
			keys[k] = v
		}
	}
	return keys
}

// Trigger is what an expression sees of what started the run.
type Trigger struct {
	Kind    string `json:"kind"`
	Rule    string `json:"rule"`
	Key     string `json:"key"`
	LaneKey string `json:"lane_key"`
	Closed  string `json:"closed"`
}

// Run is what an expression sees of the run.
type Run struct {
	ID            string    `json:"id"`
	DAG           string    `json:"dag"`
	Version       string    `json:"version"`
	ReplayOf      string    `json:"replay_of"`
	IntervalStart time.Time `json:"interval_start"`
	IntervalEnd   time.Time `json:"interval_end"`
	Watermark     time.Time `json:"watermark"`
	CreatedAt     time.Time `json:"created_at"`
}

// Totals sums over the batches of the run.
type Totals struct {
	Batches int64 `json:"batches"`
	Events  int64 `json:"events"`
	Bytes   int64 `json:"bytes"`
}

// Vars is what the expressions of one task are evaluated on. Make it with [NewVars].
type Vars struct {
	run     *scheduler.Run
	batches []batcher.Batch
	params  map[string]any
	tasks   map[string]map[string]any
	list    []Batch
	far     []scheduler.TaskRun // those whose output is in the object store
	values  values
	inputs  *Inputs
	item    itemVars
}

// NewVars returns the variables of a run. Params is the run's JSON object; declared gives its types, so that an integer stays one.
// Batches are not copied and not changed.
func NewVars(run *scheduler.Run, batches []batcher.Batch, declared map[string]scheduler.Param) (*Vars, error) {
	params, err := decodeParams(run.Params, declared)
	if err != nil {
		return nil, fmt.Errorf("read parameters of run %s: %w", run.ID, err)
	}
	return &Vars{run: run, batches: batches, params: params, tasks: map[string]map[string]any{}}, nil
}

// AddTask makes an earlier task visible. An output that is not JSON is null.
func (v *Vars) AddTask(t *scheduler.TaskRun) {
	task := map[string]any{"state": string(t.State), "exit": int64(t.Exit), "output": nil, "output_ref": nil}
	if ref := t.OutputRef; ref != nil {
		delete(task, "output") // who asks for it is told, see [Program.spilled]
		task["output_ref"] = map[string]any{"ref": ref.Ref, "sha256": ref.SHA256, "bytes": ref.Bytes}
		v.far = append(v.far, *t)
	}
	if len(t.Output) > 0 {
		if out, err := decodeJSON(t.Output); err == nil {
			task["output"] = out
		}
	}
	v.addCounts(task, t)
	v.tasks[t.Task] = task
}

// ResolveName implements the activation of cel-go: variables are made when an expression asks for them.
func (v *Vars) ResolveName(name string) (any, bool) {
	switch name {
	case "vars", "secrets", "conns":
		return v.values.named(name)
	case "params":
		return v.params, true
	case "tasks":
		return v.tasks, true
	case "trigger":
		t := v.run.Trigger
		return Trigger{Kind: string(t.Kind), Rule: t.Rule, Key: t.Key, LaneKey: t.LaneKey, Closed: t.Closed}, true
	case "run":
		r := v.run
		return Run{ID: r.ID, DAG: r.DAG, Version: r.Version, ReplayOf: r.ReplayOf, IntervalStart: r.IntervalStart,
			IntervalEnd: r.IntervalEnd, Watermark: r.Watermark, CreatedAt: r.CreatedAt}, true
	case "totals":
		return Totals{Batches: int64(len(v.batches)), Events: v.run.Events, Bytes: v.run.Bytes}, true
	case "batch":
		if len(v.batches) == 0 {
			return nil, false
		}
		return BatchOf(&v.batches[0]), true
	case "batches":
		if v.list == nil {
			v.list = make([]Batch, len(v.batches))
			for i := range v.batches {
				v.list[i] = BatchOf(&v.batches[i])
			}
		}
		return v.list, true
	case "inputs":
		return v.frozen(), true
	}
	return v.item.resolve(name)
}

// Parent implements the activation of cel-go: there is none.
func (v *Vars) Parent() cel.Activation { return nil }

func decodeParams(raw json.RawMessage, declared map[string]scheduler.Param) (map[string]any, error) {
	params := map[string]any{}
	if len(raw) == 0 {
		return params, nil
	}
	val, err := decodeJSON(raw)
	if err != nil {
		return nil, err
	}
	obj, ok := val.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("want an object, got %T", val)
	}
	for name, val := range obj {
		if n, ok := val.(int64); ok && declared[name].Type == "number" {
			val = float64(n)
		}
		params[name] = val
	}
	return params, nil
}

// decodeJSON is json.Unmarshal with integers as int64, because CEL tells them from doubles.
func decodeJSON(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var val any
	if err := dec.Decode(&val); err != nil {
		return nil, err
	}
	return fixNumbers(val), nil
}

func fixNumbers(val any) any {
	switch val := val.(type) {
	case json.Number:
		if n, err := val.Int64(); err == nil {
			return n
		}
		f, _ := val.Float64() // beyond the range: infinity, as CEL has it
		return f
	case []any:
		for i := range val {
			val[i] = fixNumbers(val[i])
		}
	case map[string]any:
		for k := range val {
			val[k] = fixNumbers(val[k])
		}
	}
	return val
}
