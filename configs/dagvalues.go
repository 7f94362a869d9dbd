package configs

import (
	"maps"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/vars"
)

// dagValues checks variables, secrets, connections and where they are kept.
func (c *checker) dagValues() {
	name := func(at, name string) {
		if err := scheduler.CheckValueName(name); err != nil {
			c.bad(at, "", "want a name of letters, digits, _, - and .")
		}
	}
	for _, n := range slices.Sorted(maps.Keys(c.Variables)) {
		name("variables."+n, n)
	}
	for _, n := range slices.Sorted(maps.Keys(c.Secrets)) {
		at := "secrets." + n
		name(at, n)
		if err := vars.CheckReference(c.Secrets[n]); err != nil {
			c.bad(at, "", "%v", err)
		}
		c.needsVault(at, c.Secrets[n])
	}
	for _, n := range slices.Sorted(maps.Keys(c.Connections)) {
		at, text := "connections."+n, string(c.Connections[n])
		name(at, n)
		if vars.IsReference(text) {
			if err := vars.CheckReference(text); err != nil {
				c.bad(at, "", "%v", err)
			}
			c.needsVault(at, text)
		} else if err := vars.CheckURI(text); err != nil {
			c.bad(at, "", "%v", err)
		}
	}
	if v := c.Vault; v.Address != "" {
		if v.Token == "" {
			c.bad("vault.token", `write it like "file:/run/secrets/vault-token" or "env:VAULT_TOKEN"`, "is empty, and vault.address is set")
		}
		if !strings.HasPrefix(v.Address, "https://") && !strings.HasPrefix(v.Address, "http://") {
			c.bad("vault.address", "write it like https://vault.example.com:8200", "is %q", v.Address)
		}
	}
}

func (c *checker) needsVault(at, ref string) {
	if strings.HasPrefix(ref, "vault:") && c.Vault.Address == "" {
		c.bad(at, "set vault.address", "refers to Vault, and there is none")
	}
}

// hidden reports whether the value at path is not to be shown: a variable whose name says so.
func hidden(path string) bool {
	name, ok := strings.CutPrefix(path, "variables.")
	return ok && scheduler.Sensitive(name)
}

// DAGValues returns what is configured of variables, secrets and connections, without Vault.
func (l *Loaded) DAGValues() vars.Config {
	conns := map[string]string{}
	for name, uri := range l.Connections {
		conns[name] = string(uri)
	}
	return vars.Config{Variables: l.Variables, Secrets: l.Secrets, Connections: conns, Dir: l.Dir(), Path: l.Vault.Path}
}
