package airflow

import (
	"time"

	"millrace/scheduler"
)

// VersionInfo is Airflow's VersionInfo: Version is that of the API, Git the name of what answers. Its version is not for everybody.
type VersionInfo struct {
	Version string `json:"version"`
	Git     string `json:"git_version"`
}

// Health is Airflow's HealthInfoResponse.
type Health struct {
	Store     StoreHealth     `json:"metadatabase"`
	Scheduler SchedulerHealth `json:"scheduler"`
	// Triggerer and Processor have null in all fields: there is no such process.
	Triggerer TriggererHealth `json:"triggerer"`
	Processor ProcessorHealth `json:"dag_processor"`
}

// StoreHealth is Airflow's BaseInfoResponse.
type StoreHealth struct {
	Status string `json:"status"`
}

// SchedulerHealth is Airflow's SchedulerInfoResponse.
type SchedulerHealth struct {
	Status string `json:"status"`
	// Heartbeat is the time of the answer: whoever answers is the scheduler's process. It is null if that is not ready.
	Heartbeat *time.Time `json:"latest_scheduler_heartbeat"`
}

// TriggererHealth is Airflow's TriggererInfoResponse.
type TriggererHealth struct {
	Status    *string    `json:"status"`
	Heartbeat *time.Time `json:"latest_triggerer_heartbeat"`
}

// ProcessorHealth is Airflow's DagProcessorInfoResponse.
type ProcessorHealth struct {
	Status    *string    `json:"status"`
	Heartbeat *time.Time `json:"latest_dag_processor_heartbeat"`
}

// NewHealth says how store and scheduler are.
func NewHealth(store, scheduler bool, now time.Time) Health {
	word := map[bool]string{true: "healthy", false: "unhealthy"}
	h := Health{Store: StoreHealth{word[store]}, Scheduler: SchedulerHealth{Status: word[scheduler]}}
	if scheduler {
		h.Scheduler.Heartbeat = &now
	}
	return h
}

// Pool is Airflow's PoolResponse.
type Pool struct {
	Name        string  `json:"name"`
	Description *string `json:"description"`
	Slots       int     `json:"slots"`
	// Occupied are those of tasks that run or, Queued, are being launched; Scheduled counts the tasks that wait.
	Occupied  int `json:"occupied_slots"`
	Running   int `json:"running_slots"`
	Queued    int `json:"queued_slots"`
	Scheduled int `json:"scheduled_slots"`
	Open      int `json:"open_slots"`

	Deferred     int     `json:"deferred_slots"`
	WithDeferred bool    `json:"include_deferred"`
	Team         *string `json:"team_name"`
}

// Pools is Airflow's PoolCollectionResponse.
type Pools struct {
	Pools []Pool `json:"pools"`
	Total int    `json:"total_entries"`
}

// NewPools returns the installation's pools after the default one, which is the executors together: every task holds a slot of one.
func NewPools(all []scheduler.Slots) []Pool {
	text := "the slots of all executors"
	out := []Pool{{Name: defaultPool, Description: &text}}
	for _, s := range all {
		if s.Kind == "executor" {
			out[0].add(s)
			continue
		}
		p := Pool{Name: s.Name}
		p.add(s)
		out = append(out, p)
	}
	return out
}

func (p *Pool) add(s scheduler.Slots) {
	p.Slots += s.Slots
	p.Occupied += s.Used
	p.Scheduled += s.Waiting
	for _, h := range s.Holders {
		if h.Since.IsZero() {
			p.Queued += h.Slots
		}
	}
	p.Running, p.Open = p.Occupied-p.Queued, max(0, p.Slots-p.Occupied)
}

// Token is the simple auth manager's LoginResponse.
type Token struct {
	Access string `json:"access_token"`
}

// Login is the simple auth manager's LoginBody.
type Login struct {
	User     string `json:"username"`
	Password string `json:"password"`
}

// Fault is Airflow's HTTPExceptionResponse.
type Fault struct {
	Detail string `json:"detail"`
}

// Line is Airflow's StructuredLogMessage.
type Line struct {
	Event string `json:"event"`
	// At is null: a line has the time that the task wrote into it, if any.
	At *time.Time `json:"timestamp"`
}

// Log is Airflow's TaskInstancesLogResponse.
type Log struct {
	Lines []Line `json:"content"`
	// Next asks for what comes after this part; null at the end of a log that does not grow any more.
	Next *string `json:"continuation_token"`
}
