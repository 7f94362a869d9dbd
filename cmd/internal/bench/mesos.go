package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec"
)

// MesosOptions say what [Mesos] launches, and where.
type MesosOptions struct {
	// Masters are where the cluster is. Run, if there is one, is what has to run meanwhile for it to know.
	Masters mesosexec.Detector
	Run     func(context.Context) error
	// Credentials and TLS may be nil. Principal is that of the credentials, "" without.
	Credentials *mesosexec.Credentials
	TLS         *tls.Config
	Principal   string
	Role, User  string
	// Tasks is how many are launched, Parallel how many at once; 0: as many as the offers take.
	Tasks, Parallel int
	// CPUs and Mem, in MiB, are what each asks for; Command is what a shell runs.
	CPUs, Mem float64
	Command   string
	// Cold gives what is not used at once back, so that each task waits for offers; else those that there are are held, also before the clock starts.
	Cold bool
	// Patience is how long nothing may go on: no master, no offer that fits, no update.
	Patience time.Duration
	// Notices takes what is waited for; Profile, if not nil, a profile of this process from the first launch to the last end.
	Notices io.Writer
	Profile io.Writer
}

// Validate reports all that is wrong with o.
func (o *MesosOptions) Validate() error {
	var errs []error
	if o.Tasks < 1 || o.Tasks > 1_000_000 {
		errs = append(errs, fmt.Errorf("%d tasks: want 1 to 1000000", o.Tasks))
	}
	if o.Parallel < 0 {
		errs = append(errs, fmt.Errorf("%d at once: want a positive number, or 0 for as many as the offers take", o.Parallel))
	}
	if !(o.CPUs >= 0.001 && o.CPUs < 1e6) || !(o.Mem >= 1 && o.Mem < 1e9) {
		errs = append(errs, fmt.Errorf("%v CPUs and %v MiB for a task: want some of each", o.CPUs, o.Mem))
	}
	if o.Command == "" || o.Role == "" || o.User == "" {
		errs = append(errs, errors.New("command, role and user of a task can not be empty"))
	}
	if o.Patience <= 0 {
		errs = append(errs, errors.New("how long nothing may go on has to be positive"))
	}
	return errors.Join(errs...)
}

// MesosReport is what was measured. Latencies are milliseconds by quantile: p50, p90, p99, max.
type MesosReport struct {
	Master    string `json:"master"`
	Version   string `json:"version"`
	Framework string `json:"framework"`
	Role      string `json:"role"`
	// Mode is warm or cold.
	Mode  string `json:"mode"`
	Tasks int    `json:"tasks"`
	// Agents is how many of them the tasks ran on, Accepts the number of calls that launched them.
	Agents  int `json:"agents"`
	Accepts int `json:"accepts"`
	// Finished, Failed and Lost are what became of the tasks: exit code 0, another end of their own, an end that the cluster made. Why has one of them.
	Finished int    `json:"finished"`
	Failed   int    `json:"failed"`
	Lost     int    `json:"lost"`
	Why      string `json:"why,omitempty"`
	// Seconds is from the first moment in which a task could have been launched to the last end.
	Seconds     float64 `json:"seconds"`
	TasksPerSec float64 `json:"tasks_per_second"`
	// Offer is from when a task was due to its ACCEPT; the others are from the ACCEPT on. Answer is how long the call took.
	Offer    map[string]float64 `json:"wait_for_offer_ms"`
	Answer   map[string]float64 `json:"accept_answer_ms"`
	Starting map[string]float64 `json:"accept_to_starting_ms"`
	Running  map[string]float64 `json:"accept_to_running_ms"`
	Ended    map[string]float64 `json:"accept_to_end_ms"`
	// Matching is how long each decision on offers took.
	Matching map[string]float64 `json:"matching_ms"`
	// CPU is what this process has used for a task, in milliseconds of a CPU.
	CPU float64 `json:"client_cpu_ms_per_task"`
}

// Errors of [Mesos], besides those of mesosexec.
var (
	// ErrMesos: the measurement came to nothing.
	ErrMesos = errors.New("the tasks did not get through")
	// ErrNoMaster: no master has taken the framework.
	ErrNoMaster = errors.New("no master was reached")
)

// Mesos launches short tasks on a cluster, as a framework of its own that is torn down at the end, also when ctx ends before.
//
// If the process is killed instead, the master removes the framework, and with it the tasks, as soon as it sees that the stream is gone: its failover time-out is 0.
func Mesos(ctx context.Context, o MesosOptions) (r *MesosReport, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	l := newMesosLoad(&o)
	l.client, err = mesosexec.New(o.Masters, &frameworkID{}, l.info, mesosexec.Options{Credentials: o.Credentials, TLS: o.TLS, MaxPause: time.Second})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // The framework outlives ctx, to be torn down.
	var joined sync.WaitGroup
	defer joined.Wait()
	defer stop()
	if o.Run != nil {
		joined.Go(func() { _ = o.Run(running) }) // It ends with stop, without an error.
	}
	ended := make(chan error, 1)
	joined.Go(func() { ended <- l.client.Run(running, l.handle) }) // It ends with stop.
	for range ackers {
		joined.Go(func() { l.acknowledge(running) }) // They end with stop.
	}
	defer func() { err = errors.Join(err, l.teardown()) }()
	if err := l.gather(ctx, ended); err != nil {
		return nil, err
	}
	if o.Profile != nil {
		if err := pprof.StartCPUProfile(o.Profile); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	before, begun := ownCPU(), time.Now()
	if err := l.launchAll(ctx, ended); err != nil {
		return nil, err
	}
	r = l.report(time.Since(begun))
	r.CPU = float64(ownCPU()-before) / 1e6 / float64(o.Tasks)
	return r, nil
}

// ownCPU is what this process has used, in nanoseconds.
func ownCPU() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// frameworkID keeps the id of a framework that ends with this process.
type frameworkID struct {
	mu sync.Mutex // guards id
	id string
}

// FrameworkID implements mesosexec.IDs.
func (f *frameworkID) FrameworkID(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id, nil
}

// KeepFrameworkID implements mesosexec.IDs.
func (f *frameworkID) KeepFrameworkID(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id = id
	return nil
}

// info says what the framework is.
func (l *mesosLoad) info() mesos.Subscribe {
	out := mesos.Subscribe{FrameworkInfo: mesos.FrameworkInfo{
		User: l.o.User, Name: "millrace-bench", Roles: []string{l.o.Role}, Principal: l.o.Principal,
		Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}, {Type: mesos.CapTaskKilling}},
	}}
	if l.o.Cold {
		out.SuppressedRoles = []string{l.o.Role} // until the clock starts
	}
	return out
}

// teardown removes the framework.
func (l *mesosLoad) teardown() error {
	if !l.client.Status().Subscribed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.client.Call(ctx, &mesos.Call{Type: mesos.CallTeardown}); err != nil {
		return fmt.Errorf("remove the framework, which the master does by itself when this process is gone: %w", err)
	}
	return nil
}

// report says what was measured.
func (l *mesosLoad) report(took time.Duration) *MesosReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.client.Status()
	r := &MesosReport{
		Master: st.Master, Framework: st.FrameworkID, Role: l.o.Role, Mode: "warm", Tasks: l.o.Tasks, Agents: len(l.agents), Accepts: len(l.answers),
		Finished: l.finished, Failed: l.failed, Lost: l.lost, Why: l.why, Seconds: took.Seconds(), TasksPerSec: float64(l.o.Tasks) / took.Seconds(),
		Answer: millis(l.answers), Matching: millis(l.matching),
	}
	if l.o.Cold {
		r.Mode = "cold"
	}
	if st.Info != nil {
		r.Version = st.Info.Version
	}
	var offer, starting, running, ended []time.Duration
	for i := range l.tasks {
		t := &l.tasks[i]
		offer = append(offer, t.sent.Sub(t.due))
		for _, s := range []struct {
			at time.Time
			to *[]time.Duration
		}{{t.starting, &starting}, {t.running, &running}, {t.ended, &ended}} {
			if !s.at.IsZero() {
				*s.to = append(*s.to, s.at.Sub(t.sent))
			}
		}
	}
	r.Offer, r.Starting, r.Running, r.Ended = millis(offer), millis(starting), millis(running), millis(ended)
	return r
}

// Print writes r as a table for people.
func (r *MesosReport) Print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "mesos %s at %s, role %s, %s offers, %d agents, %d ACCEPTs\n\n", r.Version, r.Master, r.Role, r.Mode, r.Agents, r.Accepts)
	_, _ = fmt.Fprintf(w, "%d tasks in %.2f s:\t%.1f tasks/s\n", r.Tasks, r.Seconds, r.TasksPerSec)
	_, _ = fmt.Fprintf(w, "finished, failed, lost:\t%d, %d, %d\n", r.Finished, r.Failed, r.Lost)
	if r.Why != "" {
		_, _ = fmt.Fprintf(w, "one of those:\t%s\n", r.Why)
	}
	_, _ = fmt.Fprintf(w, "this process:\t%.2f ms of CPU a task\n\nMILLISECONDS\tp50\tp90\tp99\tmax\n", r.CPU)
	for _, row := range []struct {
		name string
		v    map[string]float64
	}{
		{"due → ACCEPT (waiting for offers)", r.Offer}, {"ACCEPT → answer of the master", r.Answer}, {"ACCEPT → STARTING", r.Starting},
		{"ACCEPT → RUNNING", r.Running}, {"ACCEPT → end", r.Ended}, {"one decision on offers", r.Matching},
	} {
		_, _ = fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t%.2f\n", row.name, row.v["p50"], row.v["p90"], row.v["p99"], row.v["max"])
	}
	return nil
}
