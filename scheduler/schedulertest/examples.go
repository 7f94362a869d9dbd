package schedulertest

import (
	"encoding/json"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
)

// Epoch is a round time for examples.
var Epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// ExampleStream is the stream of example batches.
var ExampleStream = ingest.Stream{Log: "log1", Incarnation: "inc1"}

// ExampleBatch returns a batch of source "web" with all fields set: entry n of [ExampleStream], with the hundred records from offset n*100.
func ExampleBatch(n int) batcher.Batch {
	at := Epoch.Add(time.Duration(n) * time.Second)
	first := int64(n) * 100
	lane := ingest.EventLane(ingest.DefaultTenant, "web")
	key := batcher.ObjectKey(lane, at, ExampleStream, first, "ndjson.gz")
	return batcher.Batch{
		ID: batcher.BatchID(ExampleStream, int64(n), 0, at), Tenant: ingest.DefaultTenant, Source: "web", Lane: lane, Stream: ExampleStream,
		Seq: int64(n), First: first, Last: first + 99, Events: 100, Bytes: 5000, RawBytes: 50_000, Key: key, URI: "file:///objects/" + key,
		Checksum: "crc32c:00000001", Types: map[string]int64{"track": 60, "page": 40}, ReceivedMin: at, ReceivedMax: at.Add(time.Second),
		EventMin: at, EventMax: at.Add(time.Second), Watermark: at.Add(time.Second), CreatedAt: at.Add(1100 * time.Millisecond),
		CommittedAt: at.Add(1200 * time.Millisecond),
	}
}

// ExampleRun returns a queued run of DAG "load" on b with tasks "check" and "load".
func ExampleRun(b batcher.Batch) scheduler.NewRun {
	f := trigger.Firing{Kind: trigger.KindBatch, DAG: "load", Rule: "clicks", Key: b.ID, Version: "v1", At: b.CommittedAt}
	r := scheduler.Run{
		ID: f.RunID(), DAG: f.DAG, Version: f.Version, State: scheduler.StateQueued,
		Trigger: scheduler.Trigger{Kind: f.Kind, Rule: f.Rule, Key: f.Key, LaneKey: "k", Closed: "quiet"},
		Batches: []string{b.ID}, Params: json.RawMessage(`{"schema":"raw"}`), Events: b.Events, Bytes: b.Bytes,
		IntervalStart: b.EventMin, IntervalEnd: b.EventMax, Watermark: b.Watermark, CreatedAt: b.CommittedAt, Trace: "00-1-2-01",
	}
	task := func(id string) scheduler.TaskRun {
		return scheduler.TaskRun{Run: r.ID, Task: id, MapIndex: scheduler.NoMap, State: scheduler.StateNone, Executor: "local", Exit: -1}
	}
	return scheduler.NewRun{Run: r, Tasks: []scheduler.TaskRun{task("check"), task("load")}}
}

// arrival is a batch with one disposition, by which it became a run.
func arrival(b batcher.Batch, r scheduler.Run) trigger.Arrival {
	return trigger.Arrival{Batch: b, Dispositions: []trigger.Disposition{
		{Batch: b.ID, Rule: "load/clicks", Fate: trigger.FateRun, Run: r.ID, At: b.CommittedAt},
	}}
}
