package scheduler

import "strings"

// Resources are what an attempt needs of the machine that it runs on. Zero says nothing. An executor that can not see to it says so: what takes
// no notice of an amount still runs the task, what takes no notice of a device does not.
type Resources struct {
	// CPU is a number of cores that the attempt is given, CPULimit the most that it may take; the latter is not less, if both are there.
	CPU      float64 `json:"cpu,omitempty"`
	CPULimit float64 `json:"cpu_limit,omitempty"`
	// Mem and Disk are bytes. MemLimit is the most that the attempt may take before it is killed, and not less than Mem; 0: Mem is.
	Mem      int64 `json:"mem,omitempty"`
	MemLimit int64 `json:"mem_limit,omitempty"`
	Disk     int64 `json:"disk,omitempty"`
	// GPU is a number of devices.
	GPU int `json:"gpu,omitempty"`
}

// Amounts returns the names of what is asked for, as DAG files have them.
func (r *Resources) Amounts() []string {
	var out []string
	for _, one := range []struct {
		name string
		set  bool
	}{{"cpu", r.CPU > 0}, {"cpu_limit", r.CPULimit > 0}, {"mem", r.Mem > 0},
		{"mem_limit", r.MemLimit > 0}, {"disk", r.Disk > 0}, {"gpu", r.GPU > 0}} {
		if one.set {
			out = append(out, one.name)
		}
	}
	return out
}

// Constraint says on which machines an attempt may run, by an attribute that they have, such as rack, or hostname, which all have.
type Constraint struct {
	Attribute string `json:"attribute"`
	// Op is one of [Ops].
	Op string `json:"op"`
	// Value is what Op compares with, "" for those that compare with nothing.
	Value string `json:"value,omitempty"`
}

// What a constraint asks of a machine. Those up to unlike look at the machine alone; the others also look at where the active
// attempts of the same task of the same DAG are, of all its runs.
const (
	OpExists    = "exists"     // it has the attribute
	OpNotExists = "not_exists" // it has not
	OpIs        = "is"         // the attribute is Value
	OpLike      = "like"       // the attribute matches Value, a regular expression (RE2), as a whole
	OpUnlike    = "unlike"     // it does not, or is not there
	OpUnique    = "unique"     // no other has the same value
	OpCluster   = "cluster"    // all have the same value: Value, or, if that is "", the one of the first
	OpGroupBy   = "group_by"   // they are spread evenly over the values, of which there are Value ("": as many as are known)
	OpMaxPer    = "max_per"    // at most Value of them have the same value
)

// Ops are the operators of constraints.
var Ops = []string{OpExists, OpNotExists, OpIs, OpLike, OpUnlike, OpUnique, OpCluster, OpGroupBy, OpMaxPer}

// String returns the constraint as DAG files have it: [rack, unlike, rack-9].
func (c Constraint) String() string {
	parts := []string{c.Attribute, c.Op}
	if c.Value != "" {
		parts = append(parts, c.Value)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
