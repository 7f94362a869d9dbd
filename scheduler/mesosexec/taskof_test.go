package mesosexec

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
	"millrace/scheduler/spec"
)

// digest is what the image of these tests was pinned to.
const digest = "@sha256:0a0b"

// launchOf returns the first attempt of a task as a DAG file has it.
func launchOf(t *testing.T, task string) *scheduler.Launch {
	t.Helper()
	dags, err := spec.Compile("d.yaml", []byte("dag: d\ntasks: {a: "+task+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	a := dags[0].Tasks[0]
	l := &scheduler.Launch{
		ID: "r1.a.-1.1", Run: "r1", Task: "a", MapIndex: scheduler.NoMap, Try: 1, Argv: a.Run, Env: []string{"MILLRACE_DAG_ID=d"}, Input: []byte("{}"),
		Resources: a.Resources, Constraints: a.Constraints, Machine: a.Machine, Timeout: a.Timeout.Run, Grace: a.Timeout.Grace, Heartbeat: a.Timeout.Heartbeat,
	}
	if a.Shell != "" {
		l.Argv = []string{"sh", "-c", a.Shell}
	}
	if c := a.Container; c != nil {
		box := *c
		box.Image += digest
		l.Container = &box
	}
	return l
}

// told returns a task as an agent is told of it, without what all tasks have alike: the wrapper, and what says which it is.
func told(t *testing.T, l *scheduler.Launch, o TaskOptions, ports ...uint64) (string, error) {
	t.Helper()
	info, err := taskOf(l, &match.Placed{Ports: ports}, mesos.ID{Value: "S0"}, o)
	if err != nil {
		return "", err
	}
	info.Name, info.TaskID, info.AgentID, info.Labels = "", mesos.ID{}, mesos.ID{}, nil
	for i, arg := range info.Command.Arguments {
		if arg == wrapperOf(l.Env) {
			info.Command.Arguments[i] = "WRAPPER"
		}
	}
	text, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(string(text), `{"name":"","task_id":{"value":""},"agent_id":{"value":""},`), nil
}

// ports is an environment with the numbers of ports.
func ports(list ...string) string {
	return `"environment":{"variables":[{"name":"MILLRACE_DAG_ID","value":"d"},` + strings.Join(list, ",") + `]},`
}

// TestTaskOf: what a DAG file says becomes what an agent of Mesos is told.
func TestTaskOf(t *testing.T) {
	t.Parallel()
	const (
		env     = `"environment":{"variables":[{"name":"MILLRACE_DAG_ID","value":"d"}]},`
		wrapped = `"shell":false,"value":"/bin/sh","arguments":["sh","-c","WRAPPER","sh","work","no","plain","1","{}","x"]`
		plain   = `"command":{` + env + wrapped + `}`
		data    = `"environment":{"variables":[{"name":"MILLRACE_DAG_ID","value":"d"},{"name":"MILLRACE_INPUT_DATA","value":"{}"}]},"shell":false`
		boxed   = `"command":{` + env + `"shell":false,"arguments":["-c","WRAPPER","sh","work","no","plain","1","{}","x"]}`
		asShell = `"parameters":[{"key":"entrypoint","value":"/bin/sh"}`
	)
	port0, port31005 := `{"name":"PORT0","value":"31000"},{"name":"PORTS","value":"31000"}`, `{"name":"PORT0","value":"31005"},{"name":"PORTS","value":"31005"}`
	docker := TaskOptions{Containerizer: scheduler.ContainerizerDocker, DockerOptions: true}
	for _, c := range []struct {
		name, task string
		o          TaskOptions
		placed     []uint64
		want       string
	}{
		{name: "a command", task: "{run: [x]}", want: plain},
		{name: "limits", task: "{run: [x], resources: {cpu_limit: 2, mem_limit: 1GiB}}", want: plain + `,"limits":{"cpus":{"value":2},"mem":{"value":1024}}`},
		{name: "times", task: "{run: [x], timeout: {run: 1h, grace: 20s}}",
			want: plain + `,"kill_policy":{"grace_period":{"nanoseconds":20000000000}},"max_completion_time":{"nanoseconds":3680000000000}`},
		{name: "user", task: "{run: [x], user: ann}", o: TaskOptions{User: "bob"}, want: `"command":{` + env + wrapped + `,"user":"ann"}`},
		{name: "user of all", task: "{run: [x]}", o: TaskOptions{User: "bob"}, want: `"command":{` + env + wrapped + `,"user":"bob"}`},
		{name: "a port", task: "{run: [x], ports: 1}", placed: []uint64{31000}, want: `"command":{` + ports(port0) + wrapped + `}`},
		{name: "ports", task: "{run: [x], ports: [{}, 31005, {}]}", placed: []uint64{31000, 31005, 31007}, want: `"command":{` + ports(
			`{"name":"PORT0","value":"31000"}`, `{"name":"PORT1","value":"31005"}`, `{"name":"PORT2","value":"31007"}`, `{"name":"PORTS","value":"31000,31005,31007"}`) + wrapped + `}`},
		{name: "uris", task: "{run: [x], uris: [https://f/a.tgz, {value: /b, executable: true, cache: true, output_file: bin/b}]}",
			want: `"command":{"uris":[{"value":"https://f/a.tgz","extract":true},{"value":"/b","executable":true,"extract":false,"cache":true,"output_file":"bin/b"}],` + env +
				strings.Replace(wrapped, `"work"`, `"."`, 1) + `}`},

		{name: "http", task: "{run: [x], health_check: {http: {port: 80, path: /h, scheme: https}, delay: 0s, interval: 500ms, timeout: 1m, failures: 2, grace: 3s}}",
			want: plain + `,"health_check":{"type":"HTTP","delay_seconds":0,"interval_seconds":0.5,"timeout_seconds":60,"consecutive_failures":2,"grace_period_seconds":3,` +
				`"http":{"scheme":"https","port":80,"path":"/h"}}`},
		{name: "tcp", task: "{run: [x], health_check: {tcp: {port: 80}}}", want: plain + `,"health_check":{"type":"TCP","tcp":{"port":80}}`},
		{name: "argv", task: "{run: [x], health_check: {command: [a, b]}}", want: plain + `,"health_check":{"type":"COMMAND","command":{"shell":false,"value":"a","arguments":["a","b"]}}`},
		{name: "shell", task: "{run: [x], health_check: {command: a b}}", want: plain + `,"health_check":{"type":"COMMAND","command":{"shell":true,"value":"a b"}}`},

		{name: "an image", task: "{image: load, args: [a]}", want: `"command":{` + data + `,"arguments":["a"]},"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"load` + digest + `"}}}}`},
		{name: "an image with limits of time", task: "{image: load, timeout: {grace: 20s, heartbeat: 1m}}", want: `"command":{"environment":{"variables":[` +
			`{"name":"MILLRACE_DAG_ID","value":"d"},{"name":"MILLRACE_GRACE","value":"20s"},{"name":"MILLRACE_HEARTBEAT_TIMEOUT","value":"1m0s"},{"name":"MILLRACE_INPUT_DATA","value":"{}"}]},"shell":false},` +
			`"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"load` + digest + `"}}}},"kill_policy":{"grace_period":{"nanoseconds":20000000000}}`},
		{name: "an image with a command", task: "{image: load, run: [x], pull: always}",
			want: plain + `,"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"load` + digest + `"},"cached":false}}}`},
		{name: "a network", task: "{image: load, run: [x], ports: [{container: 80}], container: {network: net-1}, health_check: {tcp: {port_index: 0}}}", placed: []uint64{31000},
			want: `"command":{` + ports(port0) + wrapped + `},"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"load` + digest + `"}}},` +
				`"network_infos":[{"name":"net-1","port_mappings":[{"host_port":31000,"container_port":80,"protocol":"tcp"}]}]},"health_check":{"type":"TCP","tcp":{"port":80}}`},
		{name: "volumes", task: "{image: load, run: [x], container: {volumes: [{container_path: /d, host_path: /srv, mode: ro}, {container_path: /e, name: v, driver: rexray}]}}",
			want: plain + `,"container":{"type":"MESOS","volumes":[{"mode":"RO","container_path":"/d","host_path":"/srv"},` +
				`{"mode":"RW","container_path":"/e","source":{"type":"DOCKER_VOLUME","docker_volume":{"driver":"rexray","name":"v"}}}],` +
				`"mesos":{"image":{"type":"DOCKER","docker":{"name":"load` + digest + `"}}}}`},

		{name: "docker", task: "{image: load, args: [a], pull: always}", o: docker,
			want: `"command":{` + data + `,"arguments":["a"]},"container":{"type":"DOCKER","docker":{"image":"load` + digest + `","network":"HOST","force_pull_image":true}}`},
		{name: "docker with a command", task: "{image: load, run: [x], user: ann, container: {containerizer: docker, network: none}}",
			want: strings.TrimSuffix(boxed, "}") + `,"user":"ann"},"container":{"type":"DOCKER","docker":{"image":"load` + digest + `","network":"NONE",` + asShell + `,{"key":"user","value":"ann"}]}}`},
		{name: "docker with a bridge", task: "{image: load, run: [x], ports: [{host: 31005, container: 53, protocol: udp}], container: {network: bridge}, health_check: {http: {port_index: 0}}}",
			o: docker, placed: []uint64{31005},
			want: strings.Replace(boxed, env, ports(port31005), 1) + `,"container":{"type":"DOCKER","docker":{"image":"load` + digest + `","network":"BRIDGE",` +
				`"port_mappings":[{"host_port":31005,"container_port":53,"protocol":"udp"}],` + asShell + `]}},"health_check":{"type":"HTTP","http":{"port":53}}`},
		{name: "docker with a network", task: "{image: load, run: [x], ports: 1, container: {network: net-1}, health_check: {tcp: {port_index: 0}}}", o: docker, placed: []uint64{31000},
			want: strings.Replace(boxed, env, ports(port0), 1) + `,"container":{"type":"DOCKER","docker":{"image":"load` + digest + `","network":"USER",` +
				`"port_mappings":[{"host_port":31000,"container_port":31000,"protocol":"tcp"}],` + asShell + `]},"network_infos":[{"name":"net-1"}]},"health_check":{"type":"TCP","tcp":{"port":31000}}`},
		{name: "docker with all rights", task: "{image: load, run: [x], container: {privileged: true, parameters: {shm-size: 1g}}}", o: docker,
			want: boxed + `,"container":{"type":"DOCKER","docker":{"image":"load` + digest + `","network":"HOST","privileged":true,` + asShell + `,{"key":"shm-size","value":"1g"}]}}`},
		{name: "not docker after all", task: "{image: load, run: [x], container: {containerizer: mesos}}", o: docker,
			want: plain + `,"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"load` + digest + `"}}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := told(t, launchOf(t, c.task), c.o, c.placed...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want+"}", got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, got)
			}
		})
	}
}

// noise is a text that can not be compressed by much.
func noise(n int) []byte {
	text := make([]byte, n)
	for i, rng := 0, rand.New(rand.NewPCG(1, 2)); i < n; i++ {
		text[i] = '#' + byte(rng.IntN(90))
	}
	return text
}

// TestTaskOfRefuses: what can never be launched says why.
func TestTaskOfRefuses(t *testing.T) {
	t.Parallel()
	large := func(n int) func(l *scheduler.Launch) {
		return func(l *scheduler.Launch) { l.Input = noise(n) }
	}
	for _, c := range []struct {
		name, task string
		o          TaskOptions
		change     func(l *scheduler.Launch)
		want       string
	}{
		{name: "no command", task: "{run: [x]}", change: func(l *scheduler.Launch) { l.Argv = nil }, want: "has no command"},
		{name: "no program", task: "{run: [x]}", change: func(l *scheduler.Launch) { l.Argv = []string{""} }, want: "has no command"},
		{name: "an option", task: "{run: [-x]}", want: `command "-x" begins with a dash`},
		{name: "no text", task: "{run: [x]}", change: func(l *scheduler.Launch) { l.Argv = []string{"x", "a\xff"} }, want: `argument "a\xff" is no text`},
		{name: "no text in a variable", task: "{run: [x]}", change: func(l *scheduler.Launch) { l.Env = []string{"A=\xff"} }, want: "the value of variable A is no text"},
		{name: "a large input", task: "{run: [x]}", change: large(200_000), want: "an agent of Mesos hands on 114688 at most; the input has 200000"},
		{name: "a large input for Docker", task: "{image: load, run: [x], container: {containerizer: docker}}", change: large(1_000_000), want: "more than the 983040 that can be sent to Docker; the input has 1000000"},
		{name: "a large environment", task: "{run: [x]}", change: func(l *scheduler.Launch) { l.Env = []string{"A=" + strings.Repeat("x", 60_000)} }, want: "command, environment and input take"},
		{name: "GPUs of Docker", task: "{image: load, resources: {gpu: 1}, container: {containerizer: docker}}", want: "1 GPUs are asked for, and the docker containerizer hands out none"},
		{name: "rights", task: "{image: load, container: {containerizer: docker, privileged: true}}", want: "are not permitted on this installation"},
		{name: "flags", task: "{image: load, container: {containerizer: docker, parameters: {init: true}}}", want: "are not permitted on this installation"},
		{name: "flags without Docker", task: "{image: load, container: {parameters: {init: true}}}", want: "the containerizer mesos knows neither"},
		{name: "bridge", task: "{image: load, container: {network: bridge}}", want: "the containerizer mesos has no network called bridge"},
		{name: "none", task: "{image: load, container: {network: none}}", want: "the containerizer mesos has no network called none"},
		{name: "a secret for Docker", task: "{image: load, container: {containerizer: docker}}", o: TaskOptions{Secrets: SecretsTyped},
			change: func(l *scheduler.Launch) { l.Env, l.Secrets = []string{"A=s3"}, []string{"s3"} }, want: "variable A has a secret, and the docker containerizer does not know"},
	} {
		l := launchOf(t, c.task)
		if c.change != nil {
			c.change(l)
		}
		if got, err := told(t, l, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %s and %v, want %q", c.name, got, err, c.want)
		}
	}
}

// TestWhichTaskItIs: people who look at a cluster find out what they see.
func TestWhichTaskItIs(t *testing.T) {
	t.Parallel()
	l := launchOf(t, "{run: [x]}")
	l.MapIndex, l.Timeout = 3, time.Minute
	resources := []mesos.Resource{{Name: mesos.CPUs, Type: mesos.TypeScalar, Scalar: &mesos.Scalar{Value: 1}, AllocationInfo: &mesos.AllocationInfo{Role: "r"}}}
	info, err := taskOf(l, &match.Placed{Resources: resources}, mesos.ID{Value: "S0"}, TaskOptions{Labels: map[string]string{"millrace": "here"}})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, label := range info.Labels.Labels {
		labels[label.Key] = label.Value
	}
	want := map[string]string{"millrace": "here", labelDAG: "d", labelRun: "r1", labelTask: "a", labelMapIndex: "3", labelTry: "1", labelAttempt: l.ID}
	if diff := cmp.Diff(want, labels); diff != "" {
		t.Error(diff)
	}
	if info.Name != "d.a[3]" || info.TaskID.Value != l.ID || info.AgentID.Value != "S0" || !cmp.Equal(info.Resources, resources) {
		t.Errorf("got %+v", info)
	}
}

// TestSecretVariables: a variable with a secret in it has the type SECRET if the installation wants that; all are plain otherwise.
func TestSecretVariables(t *testing.T) {
	t.Parallel()
	l := launchOf(t, "{run: [x]}")
	l.Env, l.Secrets = []string{"A=x", "URL=db://u:s3cret@h", "A=y"}, []string{"", "s3cret"}
	for o, want := range map[string]string{
		SecretsPlain: `[{"name":"A","value":"y"},{"name":"URL","value":"db://u:s3cret@h"}]`,
		SecretsTyped: `[{"name":"A","value":"y"},{"name":"URL","type":"SECRET","secret":{"type":"VALUE","value":{"data":"ZGI6Ly91OnMzY3JldEBo"}}}]`,
	} {
		if got, err := told(t, l, TaskOptions{Secrets: o}); err != nil || !strings.Contains(got, `"variables":`+want) {
			t.Errorf("%s: got %s and %v, want %s", o, got, err, want)
		}
	}
}

// TestLargeInputs: an input goes with the message as it is as long as it fits, in parts where there can be several, and compressed otherwise.
func TestLargeInputs(t *testing.T) {
	t.Parallel()
	l := launchOf(t, "{image: load, run: [x], container: {containerizer: docker}}")
	l.Input = []byte(`"` + strings.Repeat("é/", 100_000) + `"`)
	info, err := taskOf(l, &match.Placed{}, mesos.ID{}, TaskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	args := info.Command.Arguments
	if got := strings.Join(args[7:len(args)-1], ""); args[5] != "plain" || args[6] != "4" || got != string(l.Input) {
		t.Errorf("got %s parts, %s, with %d bytes, want 4 with %d", args[6], args[5], len(got), len(l.Input))
	}
	for _, part := range args[7 : len(args)-1] {
		if len(part) > partBytes || !strings.ContainsAny(part[:2], "é/\"") {
			t.Errorf("got a part of %d bytes that begins with %q", len(part), part[:2])
		}
	}
	for _, c := range []struct {
		input []byte
		code  string
	}{{noise(80_000), "plain"}, {bytes.Repeat([]byte("x"), 500_000), "gzip"}} {
		l.Container, l.Input = nil, c.input
		info, err := taskOf(l, &match.Placed{}, mesos.ID{}, TaskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if args := info.Command.Arguments; args[6] != c.code || args[7] != "1" {
			t.Errorf("%d bytes: got %q, want %s in one part", len(c.input), args[6:8], c.code)
		}
	}
}

// TestInputOfAnEntrypoint: a program of the image finds the input in a variable, unless it is too large for one.
func TestInputOfAnEntrypoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		box   string
		input []byte
		want  string
	}{{"mesos", noise(15_000), inputDataVar}, {"mesos", bytes.Repeat([]byte(`"`), 40_000), inputGzipVar}, {"mesos", noise(100_000), "MILLRACE_DAG_ID"},
		{"docker", noise(90_000), inputDataVar}, {"docker", bytes.Repeat([]byte(`"`), 100_000), inputGzipVar}} {
		l := launchOf(t, "{image: load, container: {containerizer: "+c.box+"}}")
		l.Input = c.input
		info, err := taskOf(l, &match.Placed{}, mesos.ID{}, TaskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		vars := info.Command.Environment.Variables
		last := vars[len(vars)-1]
		if last.Name != c.want || last.Name == inputDataVar && last.Value != string(l.Input) {
			t.Errorf("%s, %d bytes: got the variable %s, want %s", c.box, len(l.Input), last.Name, c.want)
		}
	}
}

func TestTaskOptions(t *testing.T) {
	t.Parallel()
	if err := (TaskOptions{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	err := TaskOptions{Containerizer: "rkt", Secrets: "none", CPU: -1}.Validate()
	for _, want := range []string{`containerizer "rkt" is not known`, `secrets are "none"`, "-1 CPUs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
