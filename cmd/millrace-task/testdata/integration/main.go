// Command integration is the program of a task image in a test.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{""}
	}
	switch args[0] {
	case "exit":
		code, _ := strconv.Atoi(args[1])
		os.Exit(code)
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "orphan":
		orphan()
	case "parent":
		child := exec.Command("/integration/run", "child")
		fail(child.Start())
		fmt.Println(child.Process.Pid)
	case "child":
	default:
		input, err := os.ReadFile(os.Getenv("MILLRACE_INPUT"))
		fail(err)
		fail(os.WriteFile(os.Getenv("MILLRACE_OUTPUT"), fmt.Appendf(nil, `{"args":%d}`, len(args)-2), 0o644))
		fmt.Printf("parent %d args %v input %s\n", os.Getppid(), args, input)
	}
}

// orphan has a child whose child is left to the first process, and waits until that has reaped it.
func orphan() {
	out, err := exec.Command("/integration/run", "parent").Output()
	fail(err)
	var pid int
	_, err = fmt.Sscan(string(out), &pid)
	fail(err)
	for syscall.Kill(pid, 0) == nil {
		runtime.Gosched()
	}
	fmt.Println("no zombie")
}

func fail(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
