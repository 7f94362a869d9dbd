package sdk

// Resources is what an attempt needs of the machine that it runs on, for executors that see to it. It is a [Default], and where a task has it, it
// takes the place of that of the DAG as a whole. Zero fields ask for nothing.
type Resources struct {
	// CPU is in cores, such as 0.5. CPULimit is how many it may take if they are idle; 0 is what the executor permits.
	CPU, CPULimit float64
	// Mem and Disk are in bytes.
	Mem, Disk int64
	GPU       int
}

func (r Resources) apply(t *task) { t.keys = t.keys.with("resources", r) }
func (r Resources) shared()       {}

func (r Resources) describe(whole bool) object {
	o := object{}
	o = o.unless(r.CPU == 0 && !whole, "cpu", r.CPU).unless(r.CPULimit == 0 && !whole, "cpu_limit", r.CPULimit)
	o = o.unless(r.Mem == 0 && !whole, "mem", r.Mem).unless(r.Disk == 0 && !whole, "disk", r.Disk)
	return o.unless(r.GPU == 0 && !whole, "gpu", r.GPU)
}

// Op is what a [Constraint] asks of an attribute of a machine.
type Op string

// The operators of constraints. Those after OpUnlike look at where other attempts of the task are, too; docs/tasks.md has them.
const (
	OpExists    Op = "exists"
	OpNotExists Op = "not_exists"
	OpIs        Op = "is"
	OpLike      Op = "like"
	OpUnlike    Op = "unlike"
	OpUnique    Op = "unique"
	OpCluster   Op = "cluster"
	OpGroupBy   Op = "group_by"
	OpMaxPer    Op = "max_per"
)

// Constraint names machines on which a task may run: {"rack", OpUnlike, "rack-9"}. Value is "" for operators that take none.
type Constraint struct {
	Attribute string
	Op        Op
	Value     string
}

// Constraints are all to be met. Those of a task take the place of those of the DAG.
func Constraints(all ...Constraint) Default {
	list := [][]string{}
	for _, c := range all {
		parts := []string{c.Attribute, string(c.Op)}
		if c.Value != "" {
			parts = append(parts, c.Value)
		}
		list = append(list, parts)
	}
	return sharedKey("constraints", list)
}

// AtLeastOnceFast says whether an attempt that the executor does not reach is given up and tried again at once, while it may still run. Without it, only
// after the unreachable grace.
func AtLeastOnceFast(yes bool) Default { return sharedKey("at_least_once_fast", yes) }
