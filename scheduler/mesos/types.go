package mesos

import "time"

// ID is an identifier of a framework, an agent, an executor, an offer, an operation or a task.
type ID struct {
	Value string `json:"value"`
}

// FrameworkInfo is what a framework says of itself.
type FrameworkInfo struct {
	User            string                 `json:"user"`
	Name            string                 `json:"name"`
	ID              ID                     `json:"id,omitzero"`
	FailoverTimeout float64                `json:"failover_timeout,omitempty"` // seconds that its tasks live on without it
	Checkpoint      bool                   `json:"checkpoint,omitempty"`       // tasks survive a restart of their agent
	Role            string                 `json:"role,omitempty"`             // of frameworks without [CapMultiRole]
	Roles           []string               `json:"roles,omitempty"`
	Hostname        string                 `json:"hostname,omitempty"`
	Principal       string                 `json:"principal,omitempty"`
	WebUIURL        string                 `json:"webui_url,omitempty"`
	Capabilities    []Capability           `json:"capabilities,omitempty"`
	Labels          *Labels                `json:"labels,omitempty"`
	OfferFilters    map[string]OfferFilter `json:"offer_filters,omitempty"` // by role
}

// Capability is something that a framework or a master is up to. The type may be missing: see the package comment.
type Capability struct {
	Type string `json:"type,omitempty"`
}

// The capabilities of frameworks.
const (
	CapTaskKilling           = "TASK_KILLING_STATE"
	CapPartitionAware        = "PARTITION_AWARE"
	CapMultiRole             = "MULTI_ROLE"
	CapGPU                   = "GPU_RESOURCES"
	CapReservationRefinement = "RESERVATION_REFINEMENT"
	CapRegionAware           = "REGION_AWARE"
	CapRevocable             = "REVOCABLE_RESOURCES"
)

// OfferFilter keeps offers away that are too small.
type OfferFilter struct {
	MinAllocatable *MinAllocatable `json:"min_allocatable_resources,omitempty"`
}

// MinAllocatable has alternatives: an offer passes if it has all of one.
type MinAllocatable struct {
	Quantities []Quantities `json:"quantities,omitempty"`
}

// Quantities are amounts of resources by their names.
type Quantities struct {
	Quantities map[string]Scalar `json:"quantities,omitempty"`
}

// OfferConstraints keep offers away whose agents do not fit; Mesos 1.11.
type OfferConstraints struct {
	RoleConstraints map[string]RoleConstraints `json:"role_constraints,omitempty"`
}

// RoleConstraints has alternatives: an agent passes if it fits all constraints of one.
type RoleConstraints struct {
	Groups []ConstraintGroup `json:"groups,omitempty"`
}

// ConstraintGroup has constraints that must hold together.
type ConstraintGroup struct {
	AttributeConstraints []AttributeConstraint `json:"attribute_constraints,omitempty"`
}

// AttributeConstraint is a predicate on an attribute.
type AttributeConstraint struct {
	Selector  Selector  `json:"selector"`
	Predicate Predicate `json:"predicate"`
}

// Selector names an attribute, or HOSTNAME, REGION or ZONE as a pseudo attribute.
type Selector struct {
	Pseudo    string `json:"pseudoattribute_type,omitempty"`
	Attribute string `json:"attribute_name,omitempty"`
}

// Predicate has one of its fields.
type Predicate struct {
	Exists         *struct{} `json:"exists,omitempty"`
	NotExists      *struct{} `json:"not_exists,omitempty"`
	TextEquals     *Text     `json:"text_equals,omitempty"`
	TextNotEquals  *Text     `json:"text_not_equals,omitempty"`
	TextMatches    *Regex    `json:"text_matches,omitempty"`
	TextNotMatches *Regex    `json:"text_not_matches,omitempty"`
}

// Regex is a regular expression of RE2.
type Regex struct {
	Regex string `json:"regex"`
}

// The types of values.
const (
	TypeScalar = "SCALAR"
	TypeRanges = "RANGES"
	TypeSet    = "SET"
	TypeText   = "TEXT"
)

// Scalar is an amount. Mesos keeps three decimals.
type Scalar struct {
	Value float64 `json:"value"`
}

// Ranges are sets of integers.
type Ranges struct {
	Range []Range `json:"range,omitempty"`
}

// Range has its ends in it.
type Range struct {
	Begin uint64 `json:"begin"`
	End   uint64 `json:"end"`
}

// Set is a set of names.
type Set struct {
	Item []string `json:"item,omitempty"`
}

// Text is a text.
type Text struct {
	Value string `json:"value"`
}

// The names of the resources that every agent has, and of GPUs.
const (
	CPUs  = "cpus"
	Mem   = "mem"  // MiB
	Disk  = "disk" // MiB
	GPUs  = "gpus"
	Ports = "ports"
)

// Resource is a part of an agent's resources, with who may have it.
type Resource struct {
	ProviderID     *ID             `json:"provider_id,omitempty"`
	Name           string          `json:"name"`
	Type           string          `json:"type"`
	Scalar         *Scalar         `json:"scalar,omitempty"`
	Ranges         *Ranges         `json:"ranges,omitempty"`
	Set            *Set            `json:"set,omitempty"`
	Role           string          `json:"role,omitempty"`
	AllocationInfo *AllocationInfo `json:"allocation_info,omitempty"`
	Reservation    *Reservation    `json:"reservation,omitempty"`
	Reservations   []Reservation   `json:"reservations,omitempty"`
	Disk           *DiskInfo       `json:"disk,omitempty"`
	Revocable      *struct{}       `json:"revocable,omitempty"`
	Shared         *struct{}       `json:"shared,omitempty"`
}

// AllocationInfo names the role for which something was offered.
type AllocationInfo struct {
	Role string `json:"role,omitempty"`
}

// Reservation says for whom a resource is kept.
type Reservation struct {
	Type      string  `json:"type,omitempty"`
	Role      string  `json:"role,omitempty"`
	Principal string  `json:"principal,omitempty"`
	Labels    *Labels `json:"labels,omitempty"`
}

// DiskInfo says that a disk is a volume that outlives tasks, or a whole disk: not one for any task.
type DiskInfo struct {
	Persistence *struct {
		ID        string `json:"id"`
		Principal string `json:"principal,omitempty"`
	} `json:"persistence,omitempty"`
	Volume *Volume `json:"volume,omitempty"`
	Source *struct {
		Type string `json:"type"`
		ID   string `json:"id,omitempty"`
	} `json:"source,omitempty"`
}

// Attribute is something that an operator says of an agent.
type Attribute struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Scalar *Scalar `json:"scalar,omitempty"`
	Ranges *Ranges `json:"ranges,omitempty"`
	Set    *Set    `json:"set,omitempty"`
	Text   *Text   `json:"text,omitempty"`
}

// Domain says where an agent stands.
type Domain struct {
	FaultDomain *FaultDomain `json:"fault_domain,omitempty"`
}

// FaultDomain is a region and a zone in it.
type FaultDomain struct {
	Region Name `json:"region"`
	Zone   Name `json:"zone"`
}

// Name is a message of the protocol that has a name only.
type Name struct {
	Name string `json:"name"`
}

// URL is an address of an agent.
type URL struct {
	Scheme  string  `json:"scheme"`
	Address Address `json:"address"`
	Path    string  `json:"path,omitempty"`
}

// Address is where something listens.
type Address struct {
	Hostname string `json:"hostname,omitempty"`
	IP       string `json:"ip,omitempty"`
	Port     int    `json:"port"`
}

// Unavailability is a time of maintenance; without a duration it does not end.
type Unavailability struct {
	Start    TimeInfo      `json:"start"`
	Duration *DurationInfo `json:"duration,omitempty"`
}

// TimeInfo is a time, in nanoseconds since 1970.
type TimeInfo struct {
	Nanoseconds int64 `json:"nanoseconds"`
}

// DurationInfo is a duration.
type DurationInfo struct {
	Nanoseconds time.Duration `json:"nanoseconds"`
}

// TaskInfo is a task to be launched.
type TaskInfo struct {
	Name              string            `json:"name"`
	TaskID            ID                `json:"task_id"`
	AgentID           ID                `json:"agent_id"`
	Resources         []Resource        `json:"resources,omitempty"`
	Executor          *ExecutorInfo     `json:"executor,omitempty"`
	Command           *CommandInfo      `json:"command,omitempty"`
	Container         *ContainerInfo    `json:"container,omitempty"`
	HealthCheck       *HealthCheck      `json:"health_check,omitempty"`
	KillPolicy        *KillPolicy       `json:"kill_policy,omitempty"`
	Data              []byte            `json:"data,omitempty"`
	Labels            *Labels           `json:"labels,omitempty"`
	MaxCompletionTime *DurationInfo     `json:"max_completion_time,omitempty"`
	Limits            map[string]Scalar `json:"limits,omitempty"` // Mesos 1.10; the value "Infinity" is not used here
}

// ExecutorInfo is an executor that runs tasks.
type ExecutorInfo struct {
	Type        string       `json:"type,omitempty"`
	ExecutorID  ID           `json:"executor_id"`
	FrameworkID ID           `json:"framework_id,omitzero"`
	Command     *CommandInfo `json:"command,omitempty"`
	Resources   []Resource   `json:"resources,omitempty"`
	Name        string       `json:"name,omitempty"`
	Labels      *Labels      `json:"labels,omitempty"`
}

// CommandInfo is what a task executes. Shell is a pointer, because true is the default of the protocol.
type CommandInfo struct {
	URIs        []URI        `json:"uris,omitempty"`
	Environment *Environment `json:"environment,omitempty"`
	Shell       *bool        `json:"shell,omitempty"`
	Value       string       `json:"value,omitempty"`
	Arguments   []string     `json:"arguments,omitempty"`
	User        string       `json:"user,omitempty"`
}

// URI is fetched into the sandbox before the command. Extract is a pointer, because true is the default of the protocol.
type URI struct {
	Value      string `json:"value"`
	Executable bool   `json:"executable,omitempty"`
	Extract    *bool  `json:"extract,omitempty"`
	Cache      bool   `json:"cache,omitempty"`
	OutputFile string `json:"output_file,omitempty"`
}

// Environment has the variables of a command.
type Environment struct {
	Variables []Variable `json:"variables,omitempty"`
}

// Variable is one of an [Environment].
type Variable struct {
	Name   string  `json:"name"`
	Type   string  `json:"type,omitempty"`
	Value  string  `json:"value,omitempty"`
	Secret *Secret `json:"secret,omitempty"`
}

// Secret is one by its value, or one that the agents' secret resolver knows.
type Secret struct {
	Type      string `json:"type,omitempty"`
	Reference *struct {
		Name string `json:"name"`
		Key  string `json:"key,omitempty"`
	} `json:"reference,omitempty"`
	Value *struct {
		Data []byte `json:"data"`
	} `json:"value,omitempty"`
}

// The containerizers.
const (
	ContainerDocker = "DOCKER"
	ContainerMesos  = "MESOS"
)

// ContainerInfo is the container of a task.
type ContainerInfo struct {
	Type         string        `json:"type"`
	Volumes      []Volume      `json:"volumes,omitempty"`
	Hostname     string        `json:"hostname,omitempty"`
	Docker       *DockerInfo   `json:"docker,omitempty"`
	Mesos        *MesosInfo    `json:"mesos,omitempty"`
	NetworkInfos []NetworkInfo `json:"network_infos,omitempty"`
}

// DockerInfo is for the Docker containerizer.
type DockerInfo struct {
	Image          string        `json:"image"`
	Network        string        `json:"network,omitempty"`
	PortMappings   []PortMapping `json:"port_mappings,omitempty"`
	Privileged     bool          `json:"privileged,omitempty"`
	Parameters     []Parameter   `json:"parameters,omitempty"`
	ForcePullImage bool          `json:"force_pull_image,omitempty"`
}

// MesosInfo is for the Mesos containerizer.
type MesosInfo struct {
	Image *Image `json:"image,omitempty"`
}

// Image is a container's. Cached is a pointer, because true is the default of the protocol.
type Image struct {
	Type   string `json:"type"`
	Docker *Name  `json:"docker,omitempty"`
	Cached *bool  `json:"cached,omitempty"`
}

// Volume is mounted into a container; mode RW or RO.
type Volume struct {
	Mode          string        `json:"mode"`
	ContainerPath string        `json:"container_path"`
	HostPath      string        `json:"host_path,omitempty"`
	Source        *VolumeSource `json:"source,omitempty"`
}

// VolumeSource is where a volume comes from, other than a path of the host.
type VolumeSource struct {
	Type         string `json:"type,omitempty"`
	DockerVolume *struct {
		Driver string `json:"driver,omitempty"`
		Name   string `json:"name"`
	} `json:"docker_volume,omitempty"`
	Secret *Secret `json:"secret,omitempty"`
}

// Parameter is a flag of docker.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// NetworkInfo is a network that a container is, or is to be, on.
type NetworkInfo struct {
	Name         string        `json:"name,omitempty"`
	IPAddresses  []IPAddress   `json:"ip_addresses,omitempty"`
	PortMappings []PortMapping `json:"port_mappings,omitempty"`
}

// IPAddress is one of a container.
type IPAddress struct {
	Protocol  string `json:"protocol,omitempty"`
	IPAddress string `json:"ip_address,omitempty"`
}

// PortMapping forwards a port of the host.
type PortMapping struct {
	HostPort      int    `json:"host_port"`
	ContainerPort int    `json:"container_port"`
	Protocol      string `json:"protocol,omitempty"`
}

// HealthCheck ends a task that fails it too often. Times are in seconds.
type HealthCheck struct {
	Type                string       `json:"type,omitempty"`
	DelaySeconds        *float64     `json:"delay_seconds,omitempty"`
	IntervalSeconds     *float64     `json:"interval_seconds,omitempty"`
	TimeoutSeconds      *float64     `json:"timeout_seconds,omitempty"`
	ConsecutiveFailures *int         `json:"consecutive_failures,omitempty"`
	GracePeriodSeconds  *float64     `json:"grace_period_seconds,omitempty"`
	Command             *CommandInfo `json:"command,omitempty"`
	HTTP                *HTTPCheck   `json:"http,omitempty"`
	TCP                 *TCPCheck    `json:"tcp,omitempty"`
}

// HTTPCheck is passed by an answer from 200 to 399.
type HTTPCheck struct {
	Scheme string `json:"scheme,omitempty"`
	Port   int    `json:"port"`
	Path   string `json:"path,omitempty"`
}

// TCPCheck is passed by a connection.
type TCPCheck struct {
	Port int `json:"port"`
}

// KillPolicy says how long a task has between SIGTERM and SIGKILL; without it 3 s.
type KillPolicy struct {
	GracePeriod *DurationInfo `json:"grace_period,omitempty"`
}

// Labels are what a framework wants to find again in a task.
type Labels struct {
	Labels []Label `json:"labels,omitempty"`
}

// Label is one of [Labels].
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}
