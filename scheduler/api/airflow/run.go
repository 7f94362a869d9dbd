package airflow

import (
	"bytes"
	"encoding/json"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

// Run is Airflow's DAGRunResponse.
type Run struct {
	ID             string `json:"dag_run_id"`
	DAG            string `json:"dag_id"`
	DAGDisplayName string `json:"dag_display_name"`
	State          string `json:"state"`
	// Type is scheduled for a cron rule, asset_triggered for batches, manual, or backfill for a replay.
	Type        string  `json:"run_type"`
	TriggeredBy *string `json:"triggered_by"`
	// Conf are the parameters. Note is why the run failed or was cancelled.
	Conf json.RawMessage `json:"conf"`
	Note *string         `json:"note"`

	// Logical is the time that a cron rule named; null for all other runs, as in Airflow.
	Logical  *time.Time `json:"logical_date"`
	After    time.Time  `json:"run_after"`
	QueuedAt *time.Time `json:"queued_at"`
	Start    *time.Time `json:"start_date"`
	End      *time.Time `json:"end_date"`
	Seconds  *float64   `json:"duration"`
	// The interval is that of the batches' events.
	IntervalStart *time.Time `json:"data_interval_start"`
	IntervalEnd   *time.Time `json:"data_interval_end"`

	BundleVersion string  `json:"bundle_version"`
	PartitionKey  *string `json:"partition_key"`

	Versions     []any      `json:"dag_versions"`
	LastDecision *time.Time `json:"last_scheduling_decision"`
	User         *string    `json:"triggering_user_name"`
}

// Runs is Airflow's DAGRunCollectionResponse.
type Runs struct {
	Runs []Run `json:"dag_runs"`
	// Total is null on a page by cursor. If it equals TotalLimit, there are at least so many.
	Total      *int `json:"total_entries"`
	TotalLimit *int `json:"total_entries_limit"`
	// Next is null on the last page, and on one by offset. There is no way back.
	Next     *string `json:"next_cursor"`
	Previous *string `json:"previous_cursor"`
}

// NewRuns is NewRun of each; it is never nil.
func NewRuns(runs []scheduler.Run) []Run {
	out := make([]Run, len(runs))
	for i, r := range runs {
		out[i] = NewRun(r)
	}
	return out
}

// NewRun returns what Airflow says of a run.
func NewRun(r scheduler.Run) Run {
	kind, by := startedBy(r)
	out := Run{
		ID: r.ID, DAG: r.DAG, DAGDisplayName: r.DAG, State: State(r.State), Type: kind, TriggeredBy: orNil(by),
		Conf: r.Params, Note: orNil(r.Reason),
		Logical: logical(r), After: r.CreatedAt, QueuedAt: at(r.CreatedAt), Start: at(r.StartedAt), End: at(r.EndedAt), Seconds: seconds(r.StartedAt, r.EndedAt),
		IntervalStart: at(r.IntervalStart), IntervalEnd: at(r.IntervalEnd),
		BundleVersion: r.Version, PartitionKey: orNil(r.Trigger.LaneKey), Versions: []any{},
	}
	if !bytes.HasPrefix(out.Conf, []byte("{")) {
		out.Conf = json.RawMessage("{}")
	}
	return out
}

func startedBy(r scheduler.Run) (kind, by string) {
	switch {
	case r.ReplayOf != "":
		return "backfill", "backfill"
	case r.Trigger.Kind == trigger.KindCron:
		return "scheduled", "timetable"
	case r.Trigger.Kind == trigger.KindBatch:
		return "asset_triggered", "asset"
	case r.Trigger.Kind == trigger.KindManual:
		return "manual", "rest_api"
	case r.Trigger.Kind == trigger.KindDAG:
		return "manual", "operator"
	}
	return "manual", ""
}

// logical is the time of a tick, which is the key of its run.
func logical(r scheduler.Run) *time.Time {
	if r.Trigger.Kind != trigger.KindCron {
		return nil
	}
	tick, err := time.Parse(time.RFC3339, r.Trigger.Key)
	if err != nil {
		return nil
	}
	return &tick
}
