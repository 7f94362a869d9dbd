package mesos

// The types of events. Others may come, and are to be ignored.
const (
	EventSubscribed     = "SUBSCRIBED"
	EventOffers         = "OFFERS"
	EventInverseOffers  = "INVERSE_OFFERS"
	EventRescind        = "RESCIND"
	EventRescindInverse = "RESCIND_INVERSE_OFFER"
	EventUpdate         = "UPDATE"
	EventUpdateOp       = "UPDATE_OPERATION_STATUS"
	EventMessage        = "MESSAGE"
	EventFailure        = "FAILURE"
	EventError          = "ERROR"
	EventHeartbeat      = "HEARTBEAT"
)

// Event is what a master says.
type Event struct {
	Type           string          `json:"type,omitempty"`
	Subscribed     *Subscribed     `json:"subscribed,omitempty"`
	Offers         *Offers         `json:"offers,omitempty"`
	InverseOffers  *InverseOffers  `json:"inverse_offers,omitempty"`
	Rescind        *Rescind        `json:"rescind,omitempty"`
	RescindInverse *RescindInverse `json:"rescind_inverse_offer,omitempty"`
	Update         *Update         `json:"update,omitempty"`
	UpdateOp       *UpdateOp       `json:"update_operation_status,omitempty"`
	Message        *Message        `json:"message,omitempty"`
	Failure        *Failure        `json:"failure,omitempty"`
	Error          *Error          `json:"error,omitempty"`
}

// Subscribed is the first event of a stream.
type Subscribed struct {
	FrameworkID              ID          `json:"framework_id"`
	HeartbeatIntervalSeconds float64     `json:"heartbeat_interval_seconds,omitempty"`
	MasterInfo               *MasterInfo `json:"master_info,omitempty"`
}

// MasterInfo is the master that leads. IP has the address's four bytes in network order, read as a little-endian integer.
type MasterInfo struct {
	ID           string       `json:"id"`
	IP           uint32       `json:"ip"`
	Port         uint32       `json:"port"`
	PID          string       `json:"pid,omitempty"`
	Hostname     string       `json:"hostname,omitempty"`
	Version      string       `json:"version,omitempty"`
	Address      *Address     `json:"address,omitempty"`
	Capabilities []Capability `json:"capabilities,omitempty"`
}

// Offers are resources of agents that the framework may use until it accepts or declines them, or they are rescinded.
type Offers struct {
	Offers []Offer `json:"offers,omitempty"`
}

// Offer is what one agent has to offer.
type Offer struct {
	ID             ID              `json:"id"`
	FrameworkID    ID              `json:"framework_id"`
	AgentID        ID              `json:"agent_id"`
	Hostname       string          `json:"hostname"`
	URL            *URL            `json:"url,omitempty"`
	Domain         *Domain         `json:"domain,omitempty"`
	Resources      []Resource      `json:"resources,omitempty"`
	Attributes     []Attribute     `json:"attributes,omitempty"`
	ExecutorIDs    []ID            `json:"executor_ids,omitempty"`
	Unavailability *Unavailability `json:"unavailability,omitempty"`
	AllocationInfo *AllocationInfo `json:"allocation_info,omitempty"`
}

// InverseOffers ask for resources back.
type InverseOffers struct {
	InverseOffers []InverseOffer `json:"inverse_offers,omitempty"`
}

// InverseOffer says when an agent, or a part of it, will not be available.
type InverseOffer struct {
	ID             ID             `json:"id"`
	URL            *URL           `json:"url,omitempty"`
	FrameworkID    ID             `json:"framework_id"`
	AgentID        ID             `json:"agent_id,omitzero"`
	Unavailability Unavailability `json:"unavailability"`
	Resources      []Resource     `json:"resources,omitempty"`
}

// Rescind takes an offer back.
type Rescind struct {
	OfferID ID `json:"offer_id"`
}

// RescindInverse takes an inverse offer back.
type RescindInverse struct {
	InverseOfferID ID `json:"inverse_offer_id"`
}

// Update says what has become of a task.
type Update struct {
	Status TaskStatus `json:"status"`
}

// UpdateOp says what has become of an operation.
type UpdateOp struct {
	Status OperationStatus `json:"status"`
}

// OperationStatus is the state of an operation that had an id.
type OperationStatus struct {
	OperationID ID     `json:"operation_id,omitzero"`
	State       string `json:"state,omitempty"`
	Message     string `json:"message,omitempty"`
	UUID        *Bytes `json:"uuid,omitempty"`
	AgentID     ID     `json:"agent_id,omitzero"`
}

// Bytes is a message of the protocol that has bytes only.
type Bytes struct {
	Value []byte `json:"value"`
}

// Failure says that an agent was removed or an executor has ended: with ExecutorID the latter. Updates about its tasks come by themselves.
type Failure struct {
	AgentID    ID   `json:"agent_id,omitzero"`
	ExecutorID ID   `json:"executor_id,omitzero"`
	Status     *int `json:"status,omitempty"`
}

// Error is the last event of a stream: the framework must not come back as it is.
type Error struct {
	Message string `json:"message"`
}

// TaskStatus is the state of a task. One with a UUID must be acknowledged; the others are made up by the master, and must not be.
type TaskStatus struct {
	TaskID          ID               `json:"task_id"`
	State           TaskState        `json:"state"`
	Message         string           `json:"message,omitempty"`
	Source          string           `json:"source,omitempty"`
	Reason          Reason           `json:"reason,omitempty"`
	Data            []byte           `json:"data,omitempty"`
	AgentID         ID               `json:"agent_id,omitzero"`
	ExecutorID      ID               `json:"executor_id,omitzero"`
	Timestamp       float64          `json:"timestamp,omitempty"` // seconds since 1970
	UUID            []byte           `json:"uuid,omitempty"`
	Healthy         *bool            `json:"healthy,omitempty"`
	Labels          *Labels          `json:"labels,omitempty"`
	ContainerStatus *ContainerStatus `json:"container_status,omitempty"`
	UnreachableTime *TimeInfo        `json:"unreachable_time,omitempty"`
	Limitation      *Limitation      `json:"limitation,omitempty"`
}

// ContainerStatus says where a task runs on its agent.
type ContainerStatus struct {
	ContainerID  *ContainerID  `json:"container_id,omitempty"`
	NetworkInfos []NetworkInfo `json:"network_infos,omitempty"`
	ExecutorPID  uint32        `json:"executor_pid,omitempty"`
}

// ContainerID names a container; one within another has a parent.
type ContainerID struct {
	Value  string       `json:"value"`
	Parent *ContainerID `json:"parent,omitempty"`
}

// Limitation is the resource of which a task had more than it may.
type Limitation struct {
	Resources []Resource `json:"resources,omitempty"`
}

// TaskState is a state of a task.
type TaskState string

// The states of tasks.
const (
	TaskStaging        TaskState = "TASK_STAGING"
	TaskStarting       TaskState = "TASK_STARTING"
	TaskRunning        TaskState = "TASK_RUNNING"
	TaskKilling        TaskState = "TASK_KILLING" // with [CapTaskKilling]
	TaskFinished       TaskState = "TASK_FINISHED"
	TaskFailed         TaskState = "TASK_FAILED"
	TaskKilled         TaskState = "TASK_KILLED"
	TaskError          TaskState = "TASK_ERROR"
	TaskLost           TaskState = "TASK_LOST"
	TaskDropped        TaskState = "TASK_DROPPED" // this and the following with [CapPartitionAware], which have TaskLost otherwise
	TaskUnreachable    TaskState = "TASK_UNREACHABLE"
	TaskGone           TaskState = "TASK_GONE"
	TaskGoneByOperator TaskState = "TASK_GONE_BY_OPERATOR"
	TaskUnknown        TaskState = "TASK_UNKNOWN"
)

// States returns all states of tasks.
func States() []TaskState {
	return []TaskState{TaskStaging, TaskStarting, TaskRunning, TaskKilling, TaskFinished, TaskFailed, TaskKilled, TaskError, TaskLost, TaskDropped,
		TaskUnreachable, TaskGone, TaskGoneByOperator, TaskUnknown}
}

// Terminal reports whether a task in this state never has another: those that a master merely has lost sight of may come back.
func (s TaskState) Terminal() bool {
	switch s {
	case TaskFinished, TaskFailed, TaskKilled, TaskError, TaskDropped, TaskGone:
		return true
	}
	return false
}

// Reason says more about a state.
type Reason string

// The reasons that mean something to a framework; the protocol has more.
const (
	ReasonCommandExecutorFailed       Reason = "REASON_COMMAND_EXECUTOR_FAILED"
	ReasonContainerLaunchFailed       Reason = "REASON_CONTAINER_LAUNCH_FAILED"
	ReasonContainerLimitation         Reason = "REASON_CONTAINER_LIMITATION"
	ReasonContainerLimitationDisk     Reason = "REASON_CONTAINER_LIMITATION_DISK"
	ReasonContainerLimitationMemory   Reason = "REASON_CONTAINER_LIMITATION_MEMORY"
	ReasonContainerPreempted          Reason = "REASON_CONTAINER_PREEMPTED"
	ReasonMaxCompletionTime           Reason = "REASON_MAX_COMPLETION_TIME_REACHED"
	ReasonExecutorRegistrationTimeout Reason = "REASON_EXECUTOR_REGISTRATION_TIMEOUT"
	ReasonExecutorTerminated          Reason = "REASON_EXECUTOR_TERMINATED"
	ReasonInvalidOffers               Reason = "REASON_INVALID_OFFERS"
	ReasonReconciliation              Reason = "REASON_RECONCILIATION"
	ReasonAgentDisconnected           Reason = "REASON_AGENT_DISCONNECTED"
	ReasonAgentDraining               Reason = "REASON_AGENT_DRAINING"
	ReasonAgentRemoved                Reason = "REASON_AGENT_REMOVED"
	ReasonAgentRemovedByOperator      Reason = "REASON_AGENT_REMOVED_BY_OPERATOR"
	ReasonAgentReregistered           Reason = "REASON_AGENT_REREGISTERED"
	ReasonAgentRestarted              Reason = "REASON_AGENT_RESTARTED"
	ReasonAgentUnknown                Reason = "REASON_AGENT_UNKNOWN"
	ReasonTaskKilledDuringLaunch      Reason = "REASON_TASK_KILLED_DURING_LAUNCH"
	ReasonTaskHealthCheck             Reason = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
	ReasonTaskGroupInvalid            Reason = "REASON_TASK_GROUP_INVALID"
	ReasonTaskInvalid                 Reason = "REASON_TASK_INVALID"
	ReasonTaskUnauthorized            Reason = "REASON_TASK_UNAUTHORIZED"
	ReasonTaskUnknown                 Reason = "REASON_TASK_UNKNOWN"
)

// The sources of updates.
const (
	SourceMaster   = "SOURCE_MASTER"
	SourceAgent    = "SOURCE_AGENT"
	SourceExecutor = "SOURCE_EXECUTOR"
)
