package mesos

// The types of calls. All but CallSubscribe carry the header Mesos-Stream-Id, and are answered by 202 without a body, which says that the master has
// read them, not that it did something; CallUpdateFramework is answered by 200.
const (
	CallSubscribe           = "SUBSCRIBE"
	CallTeardown            = "TEARDOWN"
	CallAccept              = "ACCEPT"
	CallDecline             = "DECLINE"
	CallAcceptInverse       = "ACCEPT_INVERSE_OFFERS"
	CallDeclineInverse      = "DECLINE_INVERSE_OFFERS"
	CallRevive              = "REVIVE"
	CallSuppress            = "SUPPRESS"
	CallKill                = "KILL"
	CallShutdown            = "SHUTDOWN"
	CallAcknowledge         = "ACKNOWLEDGE"
	CallAcknowledgeOp       = "ACKNOWLEDGE_OPERATION_STATUS"
	CallReconcile           = "RECONCILE"
	CallReconcileOperations = "RECONCILE_OPERATIONS"
	CallMessage             = "MESSAGE"
	CallRequest             = "REQUEST"
	CallUpdateFramework     = "UPDATE_FRAMEWORK"
)

// StreamHeader names the stream that a call belongs to: the answer to CallSubscribe has it.
const StreamHeader = "Mesos-Stream-Id"

// SchedulerPath is where a master takes calls. A follower sends on to its leader under another.
const SchedulerPath = "/api/v1/scheduler"

// Call is what a framework asks.
type Call struct {
	Type        string `json:"type"`
	FrameworkID ID     `json:"framework_id,omitzero"` // all but the first CallSubscribe

	Subscribe           *Subscribe           `json:"subscribe,omitempty"`
	Accept              *Accept              `json:"accept,omitempty"`
	Decline             *Decline             `json:"decline,omitempty"`
	AcceptInverse       *AnswerInverse       `json:"accept_inverse_offers,omitempty"`
	DeclineInverse      *AnswerInverse       `json:"decline_inverse_offers,omitempty"`
	Revive              *Roles               `json:"revive,omitempty"`
	Suppress            *Roles               `json:"suppress,omitempty"`
	Kill                *Kill                `json:"kill,omitempty"`
	Shutdown            *Shutdown            `json:"shutdown,omitempty"`
	Acknowledge         *Acknowledge         `json:"acknowledge,omitempty"`
	AcknowledgeOp       *AcknowledgeOp       `json:"acknowledge_operation_status,omitempty"`
	Reconcile           *Reconcile           `json:"reconcile,omitempty"`
	ReconcileOperations *ReconcileOperations `json:"reconcile_operations,omitempty"`
	Message             *Message             `json:"message,omitempty"`
	Request             *Request             `json:"request,omitempty"`
	UpdateFramework     *Subscribe           `json:"update_framework,omitempty"`
}

// Subscribe registers a framework, or comes back as one: then the id is in the call and in FrameworkInfo, both.
type Subscribe struct {
	FrameworkInfo    FrameworkInfo     `json:"framework_info"`
	SuppressedRoles  []string          `json:"suppressed_roles,omitempty"`
	OfferConstraints *OfferConstraints `json:"offer_constraints,omitempty"`
}

// Accept uses offers, all of one agent, for operations. What is left of them is declined with the filters.
type Accept struct {
	OfferIDs   []ID        `json:"offer_ids,omitempty"`
	Operations []Operation `json:"operations,omitzero"`
	Filters    *Filters    `json:"filters,omitempty"`
}

// Decline gives offers back.
type Decline struct {
	OfferIDs []ID     `json:"offer_ids,omitempty"`
	Filters  *Filters `json:"filters,omitempty"`
}

// AnswerInverse says whether an agent may be taken away as an inverse offer asks.
type AnswerInverse struct {
	InverseOfferIDs []ID     `json:"inverse_offer_ids,omitempty"`
	Filters         *Filters `json:"filters,omitempty"`
}

// Roles are those to revive or suppress; none are all.
type Roles struct {
	Roles []string `json:"roles,omitempty"`
}

// Filters say how long what is declined is not to be offered again, in seconds; without them 5.
type Filters struct {
	RefuseSeconds float64 `json:"refuse_seconds"`
}

// Kill asks for the end of a task.
type Kill struct {
	TaskID     ID          `json:"task_id"`
	AgentID    ID          `json:"agent_id,omitzero"`
	KillPolicy *KillPolicy `json:"kill_policy,omitempty"`
}

// Shutdown ends an executor with its tasks.
type Shutdown struct {
	ExecutorID ID `json:"executor_id"`
	AgentID    ID `json:"agent_id"`
}

// Acknowledge says that an update need not be repeated.
type Acknowledge struct {
	AgentID ID     `json:"agent_id"`
	TaskID  ID     `json:"task_id"`
	UUID    []byte `json:"uuid"`
}

// AcknowledgeOp says that an update of an operation need not be repeated.
type AcknowledgeOp struct {
	AgentID     ID     `json:"agent_id,omitzero"`
	UUID        []byte `json:"uuid"`
	OperationID ID     `json:"operation_id"`
}

// Reconcile asks for the states of tasks; without any, of all that the master knows.
type Reconcile struct {
	Tasks []ReconcileTask `json:"tasks,omitzero"`
}

// ReconcileTask is one of [Reconcile].
type ReconcileTask struct {
	TaskID  ID `json:"task_id"`
	AgentID ID `json:"agent_id,omitzero"`
}

// ReconcileOperations asks for the states of operations.
type ReconcileOperations struct {
	Operations []ReconcileOperation `json:"operations,omitempty"`
}

// ReconcileOperation is one of [ReconcileOperations].
type ReconcileOperation struct {
	OperationID ID `json:"operation_id"`
	AgentID     ID `json:"agent_id,omitzero"`
}

// Message goes to, or comes from, an executor.
type Message struct {
	AgentID    ID     `json:"agent_id"`
	ExecutorID ID     `json:"executor_id"`
	Data       []byte `json:"data"`
}

// Request asks for resources, which no master that is known takes notice of.
type Request struct {
	Requests []RequestItem `json:"requests,omitempty"`
}

// RequestItem is one of [Request].
type RequestItem struct {
	AgentID   ID         `json:"agent_id,omitzero"`
	Resources []Resource `json:"resources,omitempty"`
}

// The types of operations that frameworks of this package use.
const (
	OperationLaunch      = "LAUNCH"
	OperationLaunchGroup = "LAUNCH_GROUP"
)

// Operation is one thing to do with accepted offers.
type Operation struct {
	Type        string       `json:"type"`
	Launch      *Launch      `json:"launch,omitempty"`
	LaunchGroup *LaunchGroup `json:"launch_group,omitempty"`
}

// Launch starts tasks, each in an executor of its own unless it names one.
type Launch struct {
	TaskInfos []TaskInfo `json:"task_infos"`
}

// LaunchGroup starts tasks together, in one executor; if one fails, the others are killed.
type LaunchGroup struct {
	Executor  ExecutorInfo `json:"executor"`
	TaskGroup TaskGroup    `json:"task_group"`
}

// TaskGroup has the tasks of a [LaunchGroup].
type TaskGroup struct {
	Tasks []TaskInfo `json:"tasks"`
}
