package configs

import (
	"fmt"
	"net/url"
	"strings"
)

// mesos checks what masters are called, and how they are to know us.
func (c *checker) mesos() {
	m := &c.Executors.Mesos
	zk := 0
	for i, text := range m.Masters {
		at := fmt.Sprintf("executors.mesos.masters[%d]", i)
		if strings.HasPrefix(text, "zk://") {
			zk++
			if servers, path, _ := strings.Cut(strings.TrimPrefix(text, "zk://"), "/"); servers == "" || path == "" {
				c.bad(at, "", "is %q, want one like zk://10.0.0.1:2181,10.0.0.2:2181/mesos", text)
			}
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			c.bad(at, "", "is %q, want one like http://10.0.0.1:5050", text)
		}
	}
	if zk > 0 && len(m.Masters) > 1 {
		c.bad("executors.mesos.masters", "name all servers of ZooKeeper in one: zk://10.0.0.1:2181,10.0.0.2:2181/mesos", "has a zk:// address and others")
	}
	if m.On() && len(m.Roles) == 0 {
		c.bad("executors.mesos.roles", `["*"] is the role of frameworks that have none`, "is empty: nothing would be offered")
	}
	switch {
	case m.Secret != "" && m.Token != "":
		c.bad("executors.mesos.token", "", "there is a secret, too: masters are given one or the other")
	case m.Secret != "" && m.Principal == "":
		c.bad("executors.mesos.principal", "", "is empty, and the secret is of no use without it")
	}
}
