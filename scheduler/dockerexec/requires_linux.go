//go:build !linux

package dockerexec

// It shares names of logs and the masking of secrets with the runner of local tasks, which needs Linux.
const _ = millrace_runs_containers_from_linux_only
