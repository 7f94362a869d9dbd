package mesossim

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/scheduler/mesos"
)

// reply answers with JSON.
func reply(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// packed answers with JSON, compressed for whoever takes that.
func packed(w http.ResponseWriter, r *http.Request, v any) {
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		reply(w, v)
		return
	}
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	if err := json.NewEncoder(zip).Encode(v); err != nil || zip.Close() != nil {
		refuse(w, http.StatusInternalServerError, "cannot encode")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(buf.Bytes())
}

type object map[string]any

func version() object {
	return object{"version": Version, "git_tag": Version}
}

// operator serves what a master tells of itself, as far as it was observed: JSON of /state says slave_id, that of /api/v1 agent_id.
func (c *Cluster) operator(w http.ResponseWriter, r *http.Request, path string) {
	c.mu.Lock()
	l := c.lead
	var state object
	if l != nil {
		state = l.state()
	}
	c.mu.Unlock()
	switch {
	case l == nil:
		refuse(w, http.StatusServiceUnavailable, "Master has not finished recovery")
	case path == "/state":
		packed(w, r, state)
	case path == "/frameworks":
		packed(w, r, object{"frameworks": state["frameworks"], "completed_frameworks": state["completed_frameworks"], "unregistered_frameworks": []any{}})
	case path == "/slaves":
		packed(w, r, object{"slaves": state["slaves"], "recovered_slaves": []any{}})
	case path == "/tasks":
		tasks := []any{}
		for _, f := range state["frameworks"].([]object) {
			for _, t := range f["tasks"].([]object) {
				tasks = append(tasks, t)
			}
		}
		packed(w, r, object{"tasks": tasks})
	case path == "/flags":
		packed(w, r, object{"flags": c.opt.flags()})
	case path == "/roles":
		c.mu.Lock()
		roles := l.roles()
		c.mu.Unlock()
		packed(w, r, object{"roles": roles})
	case path == "/metrics/snapshot":
		packed(w, r, object{"master/elected": 1.0, "master/frameworks_connected": float64(len(state["frameworks"].([]object))),
			"master/slaves_active": float64(len(state["slaves"].([]object)))})
	case path == "/api/v1":
		c.operatorCall(w, r, l)
	default:
		bare(w, http.StatusNotFound)
	}
}

// operatorCall serves the calls of the operator's API that clients of this project make.
func (c *Cluster) operatorCall(w http.ResponseWriter, r *http.Request, l *leader) {
	var call struct {
		Type string `json:"type"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || json.Unmarshal(body, &call) != nil {
		refuse(w, http.StatusBadRequest, "Failed to parse body into JSON: syntax error at line 1 near: "+string(body))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch call.Type {
	case "GET_HEALTH":
		reply(w, object{"type": call.Type, "get_health": object{"healthy": true}})
	case "GET_VERSION":
		reply(w, object{"type": call.Type, "get_version": object{"version_info": version()}})
	case "GET_MASTER":
		reply(w, object{"type": call.Type, "get_master": object{"master_info": l.info()}})
	case "GET_AGENTS":
		reply(w, object{"type": call.Type, "get_agents": l.agentsV1()})
	case "GET_TASKS":
		reply(w, object{"type": call.Type, "get_tasks": l.tasksV1()})
	case "GET_FRAMEWORKS":
		reply(w, object{"type": call.Type, "get_frameworks": l.frameworksV1()})
	case "GET_STATE":
		reply(w, object{"type": call.Type, "get_state": object{"get_agents": l.agentsV1(), "get_tasks": l.tasksV1(), "get_frameworks": l.frameworksV1(),
			"get_executors": object{}}})
	default:
		refuse(w, http.StatusNotImplemented, "This is a double of Mesos: it does not know the call "+call.Type)
	}
}

// state is that of /state.
func (l *leader) state() object {
	frameworks, agents, completed := []object{}, []object{}, []object{}
	for _, f := range l.order {
		tasks := []object{}
		for _, id := range f.order {
			t := f.tasks[id]
			tasks = append(tasks, object{"id": id, "name": t.name, "framework_id": f.id, "executor_id": t.executor, "slave_id": t.agent, "state": t.state,
				"resources": t.used.plain(), "role": t.role})
		}
		frameworks = append(frameworks, object{"id": f.id, "name": f.info.Name, "user": f.info.User, "active": f.stream != nil, "connected": f.stream != nil,
			"recovered": false, "hostname": f.info.Hostname, "webui_url": f.info.WebUIURL, "failover_timeout": f.info.FailoverTimeout,
			"checkpoint": f.info.Checkpoint, "roles": f.roles(), "tasks": tasks, "completed_tasks": []any{}, "unreachable_tasks": []any{}, "offers": []any{},
			"executors": []any{}})
	}
	for id := range l.completed {
		completed = append(completed, object{"id": id, "active": false, "connected": false, "recovered": false})
	}
	for _, m := range l.ranks {
		agents = append(agents, object{"id": m.a.id, "hostname": m.a.opt.Hostname, "port": m.a.port, "pid": "slave(1)@" + hostPort(m.a.port),
			"active": m.connected, "version": Version, "resources": m.total.plain(), "used_resources": m.total.sub(m.free).plain(),
			"attributes": plainAttributes(m.a.opt.Attributes)})
	}
	return object{"version": Version, "git_tag": Version, "id": l.id, "pid": "master@" + hostPort(l.m.port), "hostname": "127.0.0.1", "leader": l.info().PID,
		"frameworks": frameworks, "completed_frameworks": completed, "slaves": agents}
}

// plainAttributes are attributes as /state has them: values by name (unobserved).
func plainAttributes(attributes []mesos.Attribute) object {
	out := object{}
	for _, a := range attributes {
		switch {
		case a.Text != nil:
			out[a.Name] = a.Text.Value
		case a.Scalar != nil:
			out[a.Name] = a.Scalar.Value
		}
	}
	return out
}

// flags are those of a master that say what Options do (unobserved).
func (o Options) flags() map[string]string {
	const pings = 5
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "secs" }
	out := map[string]string{
		"agent_ping_timeout": seconds(o.AgentTimeout / pings), "max_agent_ping_timeouts": strconv.Itoa(pings), "agent_reregister_timeout": seconds(o.AgentReturn),
		"allocation_interval": seconds(o.Allocation), "authenticate_http_frameworks": strconv.FormatBool(len(o.Credentials) > 0),
	}
	if o.OfferTimeout > 0 {
		out["offer_timeout"] = seconds(o.OfferTimeout)
	}
	maps.Copy(out, o.Flags)
	return out
}

// roles are those that frameworks have, or limits, with what their tasks use (unobserved).
func (l *leader) roles() []object {
	names, ids, used := map[string]bool{}, map[string][]string{}, map[string]bundle{}
	for name := range l.c.opt.Limits {
		names[name] = true
	}
	for _, f := range l.order {
		for _, r := range f.roles() {
			names[r] = true
			ids[r] = append(ids[r], f.id)
		}
		for _, t := range f.tasks {
			if !t.freed {
				used[t.role] = used[t.role].add(t.used)
			}
		}
	}
	out := []object{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		consumed := object{}
		for resource := range l.c.opt.Limits[name] {
			consumed[resource] = used[name].amount(resource)
		}
		out = append(out, object{"name": name, "weight": 1.0, "frameworks": ids[name], "resources": used[name].plain(),
			"quota": object{"role": name, "limit": l.c.opt.Limits[name], "guarantee": object{}, "consumed": consumed}})
	}
	return out
}

// plain is resources as /state has them: amounts by name.
func (b bundle) plain() object {
	out := object{mesos.CPUs: 0.0, mesos.Mem: 0.0, mesos.Disk: 0.0, mesos.GPUs: 0.0}
	for _, p := range b {
		if p.kind.Type == mesos.TypeScalar {
			out[p.kind.Name] = b.amount(p.kind.Name)
		}
	}
	return out
}

func (l *leader) agentsV1() object {
	agents := []object{}
	for _, m := range l.ranks {
		agents = append(agents, object{"active": m.connected, "version": Version, "pid": "slave(1)@" + hostPort(m.a.port), "total_resources": m.total.list("", false),
			"agent_info": object{"id": mesos.ID{Value: m.a.id}, "hostname": m.a.opt.Hostname, "port": m.a.port, "resources": m.total.list("", false),
				"attributes": m.a.opt.Attributes}})
	}
	return object{"agents": agents}
}

func (l *leader) tasksV1() object {
	tasks := []object{}
	for _, f := range l.order {
		for _, id := range f.order {
			t := f.tasks[id]
			task := object{"name": t.name, "task_id": mesos.ID{Value: id}, "framework_id": mesos.ID{Value: f.id}, "agent_id": mesos.ID{Value: t.agent},
				"state": t.state, "resources": t.resources}
			if t.labels != nil {
				task["labels"] = t.labels // unobserved
			}
			tasks = append(tasks, task)
		}
	}
	return object{"tasks": tasks}
}

func (l *leader) frameworksV1() object {
	frameworks := []object{}
	for _, f := range l.order {
		frameworks = append(frameworks, object{"framework_info": f.info, "active": f.stream != nil, "connected": f.stream != nil, "recovered": false})
	}
	return object{"frameworks": frameworks}
}
