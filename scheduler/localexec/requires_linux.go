//go:build !linux

package localexec

// See the file of the same name in package runner.
const _ = millrace_runs_local_tasks_on_linux_only
