package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// unseen is the finding for what we may not look at.
func unseen(what string, resp *http.Response, err error) Finding {
	if err == nil {
		err = fmt.Errorf("%s", resp.Status)
	}
	return Finding{Result: Skip, Why: fmt.Sprintf("%s: not visible to us: %v", what, err)}
}

// checkFlags compares what the leader was started with with what is configured.
func (c *cluster) checkFlags(ctx context.Context, leader string) []Finding {
	var said struct {
		Flags map[string]string `json:"flags"`
	}
	resp, err := c.ask(ctx, http.MethodGet, leader+"/flags", "", &said)
	if err != nil || resp.StatusCode != http.StatusOK {
		return []Finding{unseen("the leader's flags, with which executors.mesos.settle would be compared", resp, err)}
	}
	var out []Finding
	const name = "agent_reregister_timeout"
	if back, err := parseMesosDuration(said.Flags[name]); err == nil {
		f := ok("tasks that the cluster does not know are given up after %v; its agents have %v to come back", c.conf.Settle, back)
		if c.conf.Settle < back {
			f = Finding{
				Result: Warn, Why: fmt.Sprintf("executors.mesos.settle is %v, and agents have %v to come back to a new leader: a task that still runs may be tried again", c.conf.Settle, back),
				Fix: fmt.Sprintf("set executors.mesos.settle to more than %v, the masters' --%s", back, name),
			}
		}
		out = append(out, f)
	}
	if offer, err := parseMesosDuration(said.Flags["offer_timeout"]); err == nil && c.conf.Hold > offer {
		out = append(out, Finding{
			Result: Warn, Why: fmt.Sprintf("executors.mesos.hold is %v, and the masters take offers back after %v", c.conf.Hold, offer),
			Fix: "set executors.mesos.hold below the masters' --offer_timeout",
		})
	}
	if known := said.Flags["roles"]; known != "" {
		for _, r := range c.conf.Roles {
			if r != "*" && !slices.Contains(strings.Split(known, ","), r) {
				out = append(out, Finding{
					Result: Fail, Why: fmt.Sprintf("the masters know the roles %s, not %s", known, r), Fix: "use one of them in executors.mesos.roles, or add it to the masters' --roles",
				})
			}
		}
	}
	return out
}

// parseMesosDuration reads durations as stout writes them: 10mins, 1.5hrs.
func parseMesosDuration(text string) (time.Duration, error) {
	at := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if at < 1 {
		return 0, fmt.Errorf("%q is no duration", text)
	}
	n, err := strconv.ParseFloat(text[:at], 64)
	unit := map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "secs": time.Second, "mins": time.Minute, "hrs": time.Hour, "days": 24 * time.Hour,
		"weeks": 7 * 24 * time.Hour,
	}[text[at:]]
	if err != nil || unit == 0 {
		return 0, fmt.Errorf("%q is no duration", text)
	}
	return time.Duration(n * float64(unit)), nil
}

// checkRoles looks at what is known of ours: a role that nobody has used, and that has no quota, is not listed.
func (c *cluster) checkRoles(ctx context.Context, leader string) []Finding {
	var said struct {
		Roles []struct {
			Name   string  `json:"name"`
			Weight float64 `json:"weight"`
			Quota  struct {
				Limit    map[string]float64 `json:"limit"`
				Consumed map[string]float64 `json:"consumed"`
			} `json:"quota"`
		} `json:"roles"`
	}
	resp, err := c.ask(ctx, http.MethodGet, leader+"/roles", "", &said)
	if err != nil || resp.StatusCode != http.StatusOK {
		return []Finding{unseen("roles, with their quota", resp, err)}
	}
	var out []Finding
	for _, r := range said.Roles {
		if !slices.Contains(c.conf.Roles, r.Name) {
			continue
		}
		full := false
		for _, name := range slices.Sorted(maps.Keys(r.Quota.Limit)) {
			limit, used := r.Quota.Limit[name], r.Quota.Consumed[name]
			if used >= limit {
				full = true
				out = append(out, Finding{
					Result: Warn, Why: fmt.Sprintf("the quota of the role %s is used up: %v of %v %s", r.Name, used, limit, name),
					Fix: "nothing is offered to it until tasks end: raise the quota, or use another role",
				})
			}
		}
		if !full {
			out = append(out, ok("role %s: weight %v, quota %s", r.Name, r.Weight, limits(r.Quota.Limit)))
		}
	}
	return out
}

func limits(of map[string]float64) string {
	if len(of) == 0 {
		return "without a limit"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%v %s", of[name], name))
	}
	return strings.Join(parts, ", ")
}

// agentInfo is an agent as /slaves has it.
type agentInfo struct {
	ID         string         `json:"id"`
	Hostname   string         `json:"hostname"`
	PID        string         `json:"pid"`
	Active     bool           `json:"active"`
	Version    string         `json:"version"`
	Resources  map[string]any `json:"resources"`
	Used       map[string]any `json:"used_resources"`
	Attributes map[string]any `json:"attributes"`
}

// amount returns an amount of a resource; ranges and sets are texts, which have none.
func amount(of map[string]any, name string) float64 {
	n, _ := of[name].(float64)
	return n
}

// checkAgents counts the agents with what they have, and asks some of them for a file, as logs of tasks are read.
func (c *cluster) checkAgents(ctx context.Context, leader string) []Finding {
	var said struct {
		Agents []agentInfo `json:"slaves"`
	}
	resp, err := c.ask(ctx, http.MethodGet, leader+"/slaves", "", &said)
	if err != nil || resp.StatusCode != http.StatusOK {
		return []Finding{unseen("agents", resp, err)}
	}
	up := slices.DeleteFunc(slices.Clone(said.Agents), func(a agentInfo) bool { return !a.Active })
	if len(up) == 0 {
		return []Finding{{
			Result: Fail, Why: fmt.Sprintf("%d agents are registered, none of them active: nothing can run", len(said.Agents)), Fix: "start agents with --master of this cluster, and look at their logs",
		}}
	}
	return append([]Finding{sum(said.Agents, up), c.gpus(up)}, c.checkFiles(ctx, up)...)
}

// sum says what there is.
func sum(all, up []agentInfo) Finding {
	total, free, largest := map[string]float64{}, map[string]float64{}, map[string]float64{}
	attributes := map[string]bool{}
	for _, a := range up {
		for _, name := range []string{"cpus", "mem", "disk"} {
			n := amount(a.Resources, name)
			total[name] += n
			free[name] += n - amount(a.Used, name)
			largest[name] = max(largest[name], n)
		}
		for name := range a.Attributes {
			attributes[name] = true
		}
	}
	text := fmt.Sprintf("%d agents, %d of them active: %s of %s CPUs and %s of %s MiB of memory are free; a task can have at most %s CPUs, %s MiB of memory, %s MiB of disk", len(all), len(up),
		figure(free["cpus"]), figure(total["cpus"]), figure(free["mem"]), figure(total["mem"]), figure(largest["cpus"]), figure(largest["mem"]), figure(largest["disk"]))
	if len(attributes) > 0 {
		text += "; attributes for constraints: " + strings.Join(slices.Sorted(maps.Keys(attributes)), ", ")
	}
	return ok("%s. Whether they can run images is not visible: --image_providers and --containerizers are the agents' own flags", text)
}

// figure writes an amount, of which Mesos keeps three decimals.
func figure(n float64) string { return strconv.FormatFloat(math.Round(n*1000)/1000, 'f', -1, 64) }

// gpus compares what the cluster has with what is wanted.
func (c *cluster) gpus(up []agentInfo) Finding {
	n := 0.0
	for _, a := range up {
		n += amount(a.Resources, "gpus")
	}
	switch {
	case c.conf.GPU && n == 0:
		return Finding{Result: Warn, Why: "executors.mesos.gpu is on, and no agent has GPUs", Fix: "tasks that ask for one wait for ever: add agents with GPUs, or take gpu away"}
	case !c.conf.GPU && n > 0:
		return ok("%v GPUs, which are not offered to us: executors.mesos.gpu is off", n)
	}
	return ok("%v GPUs", n)
}

// maxAgents is how many agents are asked: in a large cluster, the first ones by their ids.
const maxAgents = 20

// checkFiles asks agents for a file that does not exist, as one that is allowed to read logs may: 404 is the answer hoped for.
func (c *cluster) checkFiles(ctx context.Context, up []agentInfo) []Finding {
	slices.SortFunc(up, func(a, b agentInfo) int { return strings.Compare(a.ID, b.ID) })
	up = up[:min(len(up), maxAgents)]
	why := make([]string, len(up))
	var joined sync.WaitGroup
	for i, a := range up {
		joined.Go(func() { why[i] = c.checkFile(ctx, a) }) // It ends with the request's time-out.
	}
	joined.Wait()
	bad := map[string][]string{}
	for i, w := range why {
		if w != "" {
			bad[w] = append(bad[w], up[i].Hostname)
		}
	}
	if len(bad) == 0 {
		return []Finding{ok("the files API of %d agents answers: logs can be read", len(up))}
	}
	var out []Finding
	for _, w := range slices.Sorted(maps.Keys(bad)) {
		out = append(out, Finding{
			Result: Warn, Why: fmt.Sprintf("logs of tasks on %d of %d agents can not be read (%s): %s", len(bad[w]), len(up), strings.Join(bad[w], ", "), w),
			Fix: "this machine must reach agents at the address that they register with (--ip, --advertise_ip, port 5051), and our principal be in their --http_credentials, with access_sandboxes in their --acls",
		})
	}
	return out
}

// checkFile returns why an agent's files can not be read, "" if they can.
func (c *cluster) checkFile(ctx context.Context, a agentInfo) string {
	_, at, found := strings.Cut(a.PID, "@")
	if !found {
		return "the master does not say where it is"
	}
	scheme := "http://"
	if c.https {
		scheme = "https://"
	}
	resp, err := c.ask(ctx, http.MethodGet, scheme+at+"/files/read?offset=0&length=1&path=/millrace-doctor", "", nil)
	switch {
	case err != nil:
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err // Without the address, so that agents with the same trouble are named together.
		}
		return err.Error()
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusOK:
		return ""
	}
	return resp.Status
}
