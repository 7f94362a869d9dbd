//go:build !linux

package runner

// The runner needs pidfds, /proc and child subreapers. Where there is no Linux, this line says so by not compiling.
const _ = millrace_runs_local_tasks_on_linux_only
