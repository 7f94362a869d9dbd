package airflow

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

// DAG is Airflow's DAGResponse.
type DAG struct {
	ID          string  `json:"dag_id"`
	DisplayName string  `json:"dag_display_name"`
	Paused      bool    `json:"is_paused"`
	Stale       bool    `json:"is_stale"`
	Description *string `json:"description"`
	// Owners and Tags are never nil.
	Owners []string `json:"owners"`
	Tags   []Tag    `json:"tags"`

	Bundle        string `json:"bundle_name"`
	BundleVersion string `json:"bundle_version"`
	File          string `json:"fileloc"`
	RelativeFile  string `json:"relative_fileloc"`
	// FileToken is always empty: there is no route that takes it.
	FileToken    string     `json:"file_token"`
	ParsedAt     *time.Time `json:"last_parsed_time"`
	ImportErrors bool       `json:"has_import_errors"`

	Summary     *string `json:"timetable_summary"`
	Timetable   *string `json:"timetable_description"`
	Partitioned bool    `json:"timetable_partitioned"`
	Periodic    bool    `json:"timetable_periodic"`
	Backfills   bool    `json:"is_backfillable"`

	// MaxTasks is the number of slots of all executors. A DAG has no limits of its own that Airflow would call so.
	MaxTasks    int  `json:"max_active_tasks"`
	MaxRuns     *int `json:"max_active_runs"`
	MaxFailures int  `json:"max_consecutive_failed_dag_runs"`
	TaskLimits  bool `json:"has_task_concurrency_limits"`

	// What Airflow knows of the next run of a timetable, and more that millrace does not have.
	AllowedRunTypes []string   `json:"allowed_run_types"`
	LastExpired     *time.Time `json:"last_expired"`
	ParseSeconds    *float64   `json:"last_parse_duration"`
	NextEnd         *time.Time `json:"next_dagrun_data_interval_end"`
	NextStart       *time.Time `json:"next_dagrun_data_interval_start"`
	NextLogical     *time.Time `json:"next_dagrun_logical_date"`
	NextAfter       *time.Time `json:"next_dagrun_run_after"`
}

// Tag is Airflow's DagTagResponse.
type Tag struct {
	Name           string `json:"name"`
	DAG            string `json:"dag_id"`
	DAGDisplayName string `json:"dag_display_name"`
}

// DAGs is Airflow's DAGCollectionResponse.
type DAGs struct {
	DAGs  []DAG `json:"dags"`
	Total int   `json:"total_entries"`
}

// NewDAG returns what Airflow says of a DAG; spec is nil if it is not known here, slots the sum over all executors.
func NewDAG(head scheduler.DAGHead, spec *scheduler.DAG, slots int) DAG {
	d := DAG{
		ID: head.ID, DisplayName: head.ID, Paused: head.Paused, Stale: head.Removed, Owners: []string{}, Tags: []Tag{},
		Bundle: bundle, BundleVersion: head.Version, File: head.File, RelativeFile: head.File,
		ParsedAt: at(head.UpdatedAt), ImportErrors: head.Error != "", MaxTasks: slots,
	}
	if spec == nil {
		return d
	}
	d.Description = orNil(spec.Description)
	if spec.Owner != "" {
		d.Owners = []string{spec.Owner}
	}
	for _, tag := range spec.Tags {
		d.Tags = append(d.Tags, Tag{Name: tag, DAG: head.ID, DAGDisplayName: head.ID})
	}
	summary, description := timetable(spec.On)
	d.Summary, d.Timetable = orNil(summary), orNil(description)
	d.Periodic = slices.ContainsFunc(spec.On, func(r trigger.Rule) bool { return r.Kind == trigger.KindCron })
	return d
}

// timetable says what starts runs: a cron expression as Airflow shows it, and each rule in words.
func timetable(rules []trigger.Rule) (summary, description string) {
	var words, all []string
	for _, r := range rules {
		switch r.Kind {
		case trigger.KindCron:
			words = append(words, r.Cron)
			all = append(all, "cron "+r.Cron+" "+cmp.Or(r.Timezone, "UTC"))
		case trigger.KindBatch:
			words = append(words, "batch")
			if r.Joins() {
				all = append(all, "batches of all of "+strings.Join(r.AllOf, ", "))
				continue
			}
			all = append(all, "batches of "+cmp.Or(r.Source, "all sources"))
		default:
			all = append(all, string(r.Kind))
		}
	}
	return strings.Join(words, ", "), strings.Join(all, "; ")
}

// DAGDetails is Airflow's DAGDetailsResponse.
type DAGDetails struct {
	DAG
	Catchup     bool `json:"catchup"`
	Concurrency int  `json:"concurrency"`
	Native      bool `json:"render_template_as_native_obj"`
	// Params are the defaults of the parameters, by name.
	Params     map[string]json.RawMessage `json:"params"`
	LastParsed *time.Time                 `json:"last_parsed"`
	Timezone   string                     `json:"timezone"`
	// TemplatePath, DefaultArgs, OwnerLinks and what else is not here are null for a client.
}

// NewDAGDetails adds to a DAG what only its details have.
func NewDAGDetails(d DAG, spec *scheduler.DAG) DAGDetails {
	out := DAGDetails{DAG: d, Concurrency: d.MaxTasks, LastParsed: d.ParsedAt, Timezone: "UTC", Params: map[string]json.RawMessage{}}
	if spec == nil {
		return out
	}
	for name, p := range spec.Params {
		out.Params[name] = p.Default
		if p.Default == nil {
			out.Params[name] = json.RawMessage("null")
		}
	}
	for _, r := range spec.On {
		if r.Kind == trigger.KindCron && r.Timezone != "" {
			out.Timezone = r.Timezone
			break
		}
	}
	return out
}

// ImportError is Airflow's ImportErrorResponse.
type ImportError struct {
	ID     int        `json:"import_error_id"`
	At     *time.Time `json:"timestamp"`
	File   string     `json:"filename"`
	Bundle string     `json:"bundle_name"`
	Text   string     `json:"stack_trace"`
}

// ImportErrors is Airflow's ImportErrorCollectionResponse.
type ImportErrors struct {
	Errors []ImportError `json:"import_errors"`
	Total  int           `json:"total_entries"`
}

// NewImportErrors lists the files of which the present content is not in force, each once, numbered in their order.
func NewImportErrors(heads []scheduler.DAGHead) []ImportError {
	out, seen := []ImportError{}, map[string]bool{}
	for _, h := range heads {
		if h.Error == "" || h.Removed || seen[h.File] {
			continue
		}
		seen[h.File] = true
		out = append(out, ImportError{ID: len(out) + 1, At: at(h.UpdatedAt), File: h.File, Bundle: bundle, Text: h.Error})
	}
	return out
}
