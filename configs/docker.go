package configs

import "net/url"

// docker checks how the engine is reached.
func (c *checker) docker() {
	d := &c.Executors.Docker
	if !d.On() {
		return
	}
	if u, err := url.Parse(d.Host); err != nil || u.Scheme != "unix" && u.Scheme != "tcp" || u.Host+u.Path == "" {
		c.bad("executors.docker.host", "", "is %q, want one like unix:///var/run/docker.sock or tcp://10.0.0.1:2376", d.Host)
	}
	if (d.CA == "") != (d.Cert == "") || (d.Cert == "") != (d.Key == "") {
		c.bad("executors.docker.ca", "", "goes with cert and key: set all three, or none")
	}
	if d.Network == "" {
		c.bad("executors.docker.network", "host is the machine's own", "is empty")
	}
}
