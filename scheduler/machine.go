package scheduler

import "time"

// Machine is what an attempt asks for of the machine that it runs on, besides [Resources].
type Machine struct {
	// User is the name of the user that it runs as, "": the executor says.
	User string `json:"user,omitempty"`
	// Ports are what it listens on. It finds their numbers in PORT0, PORT1 … and, with commas between them, in PORTS.
	Ports []Port `json:"ports,omitempty"`
	// URIs are fetched before it starts.
	URIs []URI `json:"uris,omitempty"`
	// Health says how it shows that it works; nil: it runs, that is all.
	Health *Health `json:"health_check,omitempty"`
}

// Port is one on which an attempt listens.
type Port struct {
	// Host is its number on the machine, 0: one that is free. No two have the same.
	Host int `json:"host,omitempty"`
	// Container is its number in a container with a network of its own, 0: the same as on the machine.
	Container int `json:"container,omitempty"`
	// Protocol is "tcp" or "udp", "" is tcp. It matters where ports are mapped.
	Protocol string `json:"protocol,omitempty"`
}

// URI is something that is fetched into the directory in which the attempt starts.
type URI struct {
	Value string `json:"value"`
	// Extract says that it is an archive, to be unpacked, Executable that it is a program. It is one of the two at most.
	Extract    bool `json:"extract,omitempty"`
	Executable bool `json:"executable,omitempty"`
	// Cache says that a machine may keep it for the next attempt that wants the same.
	Cache bool `json:"cache,omitempty"`
	// OutputFile is what it is called, relative to the directory; "": the last part of Value.
	OutputFile string `json:"output_file,omitempty"`
}

// Health is a check that an attempt has to pass again and again. It has one of HTTP, TCP, Command and Shell.
type Health struct {
	HTTP *HealthHTTP `json:"http,omitempty"`
	TCP  *HealthPort `json:"tcp,omitempty"`
	// Command is argv, Shell is given to `sh -c`. Exit code 0 passes.
	Command []string `json:"command,omitempty"`
	Shell   string   `json:"shell,omitempty"`
	// Delay is from the start to the first check, Interval from one check to the next, Timeout how long one may take. Nil is what the executor has;
	// Mesos has 15 s, 10 s and 20 s.
	Delay    *time.Duration `json:"delay,omitempty"`
	Interval *time.Duration `json:"interval,omitempty"`
	Timeout  *time.Duration `json:"timeout,omitempty"`
	// Failures in a row end the attempt, 0: as many as the executor has, which is 3 for Mesos. Those within Grace of the start do not count until the
	// first success; nil: Mesos has 10 s.
	Failures int            `json:"failures,omitempty"`
	Grace    *time.Duration `json:"grace,omitempty"`
}

// HealthPort names a port: that of the number, or [Machine.Ports] by its index.
type HealthPort struct {
	Port  int `json:"port,omitempty"`
	Index int `json:"port_index,omitempty"`
}

// HealthHTTP is a request that an attempt answers with 200 to 399.
type HealthHTTP struct {
	HealthPort
	// Scheme is "http" or "https", "" is http. Path begins with a slash, or is "".
	Scheme string `json:"scheme,omitempty"`
	Path   string `json:"path,omitempty"`
}

// Wishes returns the names of what is asked for, as DAG files have them.
func (m *Machine) Wishes() []string {
	var out []string
	for _, one := range []struct {
		name string
		set  bool
	}{{"user", m.User != ""}, {"ports", len(m.Ports) > 0}, {"uris", len(m.URIs) > 0}, {"health_check", m.Health != nil}} {
		if one.set {
			out = append(out, one.name)
		}
	}
	return out
}
