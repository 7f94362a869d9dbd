package mesosexec

import (
	_ "embed"
	"strings"

	"millrace/scheduler/mesosexec/sandbox"
)

// The files of a sandbox that the wrapper makes, and the task or we read.
const (
	inputFile  = "millrace-input.json"
	outputFile = sandbox.OutputName
	// refusedFile has a sentence that says why the task's program could not be executed. It is there only then.
	refusedFile = sandbox.RefusedName
	// workDir is where a command starts that has nothing fetched; what has, starts where that is, in the sandbox itself.
	workDir = "work"
)

// leaks are variables that agents, and their executors, have in their own environments and that tasks inherit: a program of Mesos would take each as a flag.
// Source: executorEnvironment in src/slave/slave.cpp, src/launcher/executor.cpp, and src/docker/docker.cpp, of Mesos 1.11.
var leaks = []string{
	"LIBPROCESS_IP", "LIBPROCESS_PORT", "MESOS_AGENT_ENDPOINT", "MESOS_ALLOCATION_ROLE", "MESOS_CHECKPOINT", "MESOS_CONTAINER_IP", "MESOS_CONTAINER_NAME",
	"MESOS_DIRECTORY", "MESOS_DOMAIN_SOCKET", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "MESOS_EXECUTOR_ID", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "MESOS_FRAMEWORK_ID",
	"MESOS_HTTP_COMMAND_EXECUTOR", "MESOS_NATIVE_JAVA_LIBRARY", "MESOS_NATIVE_LIBRARY", "MESOS_RECOVERY_TIMEOUT", "MESOS_SANDBOX", "MESOS_SLAVE_ID",
	"MESOS_SLAVE_PID", "MESOS_SUBSCRIPTION_BACKOFF_MAX",
}

// wrapperText is what is started instead of a command. It gives the command what the task contract says, and becomes it:
//
//	sh -c WRAPPER sh DIRECTORY HEARTBEAT CODE PARTS part… argv…
//
// DIRECTORY is where the command starts, within the sandbox; HEARTBEAT is yes or no; CODE is plain, or gzip (in base64), which is how the input comes; PARTS is in how
// many parts. It is for any POSIX shell, since images have what they have, and all that it needs but mkdir is built in; a large input needs base64 and gzip. Its own variables are not exported, so that the command does
// not see them. The trap is for what only exec finds out, such as a script whose interpreter is not there.
//
//go:embed wrapper.sh
var wrapperText string

// wrapperOf returns the wrapper for a command with an environment: what agents have put there is taken out, unless it is in env.
func wrapperOf(env []string) string {
	ours := map[string]bool{}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		ours[name] = true
	}
	var unset []string
	for _, name := range leaks {
		if !ours[name] {
			unset = append(unset, name)
		}
	}
	return strings.Replace(wrapperText, "@LEAKS@", strings.Join(unset, " "), 1)
}
