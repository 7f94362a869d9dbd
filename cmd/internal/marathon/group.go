package marathon

// Group is a group of applications, as POST and PUT of /v2/groups take it.
type Group struct {
	ID   string `json:"id"`
	Apps []App  `json:"apps"`
}

// App is an application. Amounts are in CPUs and MiB.
type App struct {
	ID           string            `json:"id"`
	Instances    int               `json:"instances"`
	CPUs         float64           `json:"cpus"`
	Mem          int               `json:"mem"`
	Disk         int               `json:"disk"`
	Args         []string          `json:"args,omitempty"`
	Env          map[string]any    `json:"env,omitempty"` // text, or a reference to a secret
	Secrets      map[string]Source `json:"secrets,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Dependencies []string          `json:"dependencies,omitempty"`
	Constraints  [][]string        `json:"constraints,omitempty"`

	Container       Container        `json:"container"`
	Networks        []Network        `json:"networks"`
	Ports           []Port           `json:"portDefinitions"`
	RequirePorts    bool             `json:"requirePorts"`
	HealthChecks    []HealthCheck    `json:"healthChecks"`
	ReadinessChecks []ReadinessCheck `json:"readinessChecks,omitempty"`
	Upgrade         Upgrade          `json:"upgradeStrategy"`
	// Unreachable is "disabled" for all that has a volume: nothing else is allowed.
	Unreachable      string    `json:"unreachableStrategy"`
	Residency        Residency `json:"residency"`
	KillGraceSeconds int       `json:"taskKillGracePeriodSeconds"`
	MaxLaunchDelay   int       `json:"maxLaunchDelaySeconds"`
}

// Secret is the value of a variable that Marathon takes from its store of secrets, Source where it is there.
type (
	Secret struct {
		Secret string `json:"secret"`
	}
	Source struct {
		Source string `json:"source"`
	}
)

// Container says which image is run, and what it sees of the agent.
type Container struct {
	Type    string   `json:"type"`
	Docker  Docker   `json:"docker"`
	Volumes []Volume `json:"volumes"`
}

// Docker is an image, with parameters of docker run.
type Docker struct {
	Image      string      `json:"image"`
	Parameters []Parameter `json:"parameters,omitempty"`
}

// Parameter is one of docker run.
type Parameter struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Volume is a persistent one, or a directory of the agent or of the sandbox.
type Volume struct {
	ContainerPath string      `json:"containerPath"`
	HostPath      string      `json:"hostPath,omitempty"`
	Mode          string      `json:"mode"`
	Persistent    *Persistent `json:"persistent,omitempty"`
}

// Persistent is what a persistent volume is made of; Size is in MiB.
type Persistent struct {
	Type string `json:"type"`
	Size int    `json:"size"`
}

// Network is how an application reaches the network.
type Network struct {
	Mode string `json:"mode"`
}

// Port is one that the agent has to have.
type Port struct {
	Port     int    `json:"port"`
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
}

// HealthCheck is made by the agent, next to the task.
type HealthCheck struct {
	Protocol        string   `json:"protocol"`
	Path            string   `json:"path,omitempty"`
	PortIndex       *int     `json:"portIndex,omitempty"`
	Command         *Command `json:"command,omitempty"`
	DelaySeconds    int      `json:"delaySeconds"`
	GraceSeconds    int      `json:"gracePeriodSeconds"`
	IntervalSeconds int      `json:"intervalSeconds"`
	TimeoutSeconds  int      `json:"timeoutSeconds"`
	MaxFailures     int      `json:"maxConsecutiveFailures"`
}

// Command is run in the task's container.
type Command struct {
	Value string `json:"value"`
}

// ReadinessCheck is made by Marathon during deployments.
type ReadinessCheck struct {
	Name            string `json:"name"`
	Protocol        string `json:"protocol"`
	Path            string `json:"path"`
	PortName        string `json:"portName"`
	IntervalSeconds int    `json:"intervalSeconds"`
	TimeoutSeconds  int    `json:"timeoutSeconds"`
	Statuses        []int  `json:"httpStatusCodesForReady"`
}

// Upgrade bounds how many instances there are while an application is replaced, as parts of Instances.
type Upgrade struct {
	MinimumHealth float64 `json:"minimumHealthCapacity"`
	MaximumOver   float64 `json:"maximumOverCapacity"`
}

// Residency says what becomes of an application whose agent is gone.
type Residency struct {
	TaskLost string `json:"taskLostBehavior"`
}
