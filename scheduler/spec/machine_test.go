package spec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestMachine(t *testing.T) {
	t.Parallel()
	none, second := time.Duration(0), time.Second
	for _, tt := range []struct {
		name, task, rest string
		want             *scheduler.Machine
		fault            string
	}{
		{name: "nothing", task: "run: x"},
		{name: "nothing in words", task: "{run: x, ports: 0, uris: []}"},
		{name: "user", task: "{run: x, user: ann}", rest: "defaults: {user: bob}", want: &scheduler.Machine{User: "ann"}},
		{name: "user of defaults", task: "run: x", rest: "defaults: {user: bob}", want: &scheduler.Machine{User: "bob"}},
		{name: "number of ports", task: "{run: x, ports: 2}", want: &scheduler.Machine{Ports: make([]scheduler.Port, 2)}},
		{name: "ports", task: "{run: x, ports: [31005, {}, {host: 31006, container: 53, protocol: udp}, {container: 80, protocol: tcp}]}",
			want: &scheduler.Machine{Ports: []scheduler.Port{{Host: 31005}, {}, {Host: 31006, Container: 53, Protocol: "udp"}, {Container: 80}}}},
		{name: "a uri", task: "{run: x, uris: https://files.example/a.tgz}", want: &scheduler.Machine{URIs: []scheduler.URI{{Value: "https://files.example/a.tgz", Extract: true}}}},
		{name: "uris", task: `{run: x, uris: ["https://files.example/a.tgz?v=1", {value: /opt/b.zip, extract: false}, {value: s3://b/c.gz, executable: true, cache: true}, {value: hdfs://d, extract: true, output_file: e/d.tar}]}`,
			want: &scheduler.Machine{URIs: []scheduler.URI{{Value: "https://files.example/a.tgz?v=1", Extract: true}, {Value: "/opt/b.zip"},
				{Value: "s3://b/c.gz", Executable: true, Cache: true}, {Value: "hdfs://d", Extract: true, OutputFile: "e/d.tar"}}}},
		{name: "http", task: "{run: x, ports: 2, health_check: {http: {port_index: 1, path: /h, scheme: http}, delay: 0s, interval: 1s, failures: 2}}",
			want: &scheduler.Machine{Ports: make([]scheduler.Port, 2), Health: &scheduler.Health{HTTP: &scheduler.HealthHTTP{HealthPort: scheduler.HealthPort{Index: 1}, Path: "/h"},
				Delay: &none, Interval: &second, Failures: 2}}},
		{name: "tcp", task: "{run: x, health_check: {tcp: {port: 80}}}", want: &scheduler.Machine{Health: &scheduler.Health{TCP: &scheduler.HealthPort{Port: 80}}}},
		{name: "shell", task: "{run: x, health_check: {command: test -e ok}}", want: &scheduler.Machine{Health: &scheduler.Health{Shell: "test -e ok"}}},
		{name: "argv", task: "{run: x, health_check: {command: [test, -e, ok]}}", want: &scheduler.Machine{Health: &scheduler.Health{Command: []string{"test", "-e", "ok"}}}},
		{name: "an approval needs no machine", task: "{approval: go}", rest: "defaults: {user: bob}"},

		{name: "user of none", task: "{run: x, user: 'a b'}", fault: `"a b" can not be the name of a user`},
		{name: "port", task: "{run: x, ports: [70000]}", fault: "a port must be from 0 to 65535"},
		{name: "port 0", task: "{run: x, ports: [0]}", fault: "a port must be from 1 to 65535 (leave it out for one that is free)"},
		{name: "port twice", task: "{run: x, ports: [31005, {host: 31005}]}", fault: "port 31005 of the machine stands twice"},
		{name: "protocol", task: "{run: x, ports: [{protocol: sctp}]}", fault: `protocol "sctp" is not known (write one of tcp, udp)`},
		{name: "too many ports", task: "{run: x, ports: 101}", fault: "ports must be from 0 to 100"},
		{name: "no uri", task: "{run: x, uris: tool}", fault: `a uri is "tool", and names nothing that could be fetched`},
		{name: "expression", task: `{run: x, uris: "https://files.example/${{ run.id }}"}`, fault: "${{ }} can not stand in a uri (write a task for each, with when)"},
		{name: "both", task: "{run: x, uris: [{value: /a, extract: true, executable: true}]}", fault: "a uri is an archive or a program, and not both"},
		{name: "outside", task: "{run: x, uris: [{value: /a, output_file: ../b}]}", fault: `output_file is "../b": want a relative path`},
		{name: "ours", task: "{run: x, uris: /srv/millrace-output}", fault: "millrace has its own files by such names"},
		{name: "no check", task: "{run: x, health_check: {delay: 1s}}", fault: "health_check has 0 of http, tcp and command"},
		{name: "two checks", task: "{run: x, health_check: {tcp: {port: 1}, command: x}}", fault: "health_check has 2 of http, tcp and command"},
		{name: "no such port", task: "{run: x, ports: 1, health_check: {tcp: {port_index: 1}}}", fault: `task "a" has a health_check of its port 1 (they count from 0), and 1 ports`},
		{name: "path", task: "{run: x, health_check: {http: {port: 1, path: h}}}", fault: `path is "h", and does not begin with a slash`},
		{name: "no failure", task: "{run: x, health_check: {tcp: {port: 1}, failures: 0}}", fault: "failures must be at least 1"},
		{name: "parked", task: "{approval: go, ports: 1}", fault: `task "a" has approval and ports`},
		{name: "memory", task: "{run: x, resources: {mem: 2GB, mem_limit: 1GB}}", fault: "mem_limit is 1000000000 bytes, less than mem, which is 2000000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			task := tt.task
			if !strings.HasPrefix(task, "{") {
				task = "{" + task + "}"
			}
			dags, err := Compile("d.yaml", []byte(fmt.Sprintf("dag: d\n%s\ntasks: {a: %s}\n", tt.rest, task)))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, dags[0].Tasks[0].Machine); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestContainer(t *testing.T) {
	t.Parallel()
	const image = "{image: load, container: {"
	for _, tt := range []struct {
		name, box string
		want      scheduler.Container
		fault     string
	}{
		{name: "nothing", want: scheduler.Container{Image: "load"}},
		{name: "host", box: "network: host", want: scheduler.Container{Image: "load"}},
		{name: "all", box: "containerizer: docker, network: net-1, privileged: true, parameters: {shm-size: 1g, cap-add: [A, B], init: true}, volumes: [{container_path: /d, host_path: /srv, mode: ro}, {container_path: /e, name: v, driver: rexray}]",
			want: scheduler.Container{Image: "load", Containerizer: "docker", Network: "net-1", Privileged: true,
				Parameters: []scheduler.Parameter{{Key: "cap-add", Value: "A"}, {Key: "cap-add", Value: "B"}, {Key: "init", Value: "true"}, {Key: "shm-size", Value: "1g"}},
				Volumes:    []scheduler.Volume{{ContainerPath: "/d", HostPath: "/srv", ReadOnly: true}, {ContainerPath: "/e", Name: "v", Driver: "rexray"}}}},
		{name: "containerizer", box: "containerizer: rkt", fault: `containerizer "rkt" is not known (write one of mesos, docker)`},
		{name: "network", box: "network: 'a b'", fault: `"a b" can not be the name of a network`},
		{name: "nowhere", box: "volumes: [{host_path: /srv}]", fault: "a volume does not say where it is mounted"},
		{name: "nothing mounted", box: "volumes: [{container_path: /d}]", fault: "a volume is either a directory of the machine or one of a driver"},
		{name: "relative", box: "volumes: [{container_path: d, host_path: /srv}]", fault: `container_path is "d": want an absolute path`},
		{name: "driver", box: "volumes: [{container_path: /d, host_path: /srv, driver: x}]", fault: "a volume has a driver, and is a directory of the machine"},
		{name: "mode", box: "volumes: [{container_path: /d, host_path: /srv, mode: r}]", fault: `mode "r" is not known`},
		{name: "dashes", box: "parameters: {--init: true}", fault: `"--init" can not be a flag of docker run`},
		{name: "another key's flag", box: "parameters: {entrypoint: /bin/sh}", fault: "the flag entrypoint of docker run is not for parameters (write the key run)"},
		{name: "flags of docker", box: "containerizer: mesos, parameters: {init: true}", fault: "parameters are for containerizer docker"},
		{name: "rights of docker", box: "containerizer: mesos, privileged: true", fault: "privileged is for containerizer docker"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dags, err := Compile("d.yaml", []byte("dag: d\ntasks: {a: "+image+tt.box+"}}}\n"))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, dags[0].Tasks[0].Container); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := Compile("d.yaml", []byte("dag: d\ntasks: {a: {run: x, container: {network: host}}}\n")); err == nil || !strings.Contains(err.Error(), `task "a" has container, and no image`) {
		t.Errorf("without an image: got %v", err)
	}
}
