package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"millrace/scheduler/mesossim"
)

// RunDouble runs a double of a Mesos cluster until ctx ends, and writes the address of its master, once it is up.
func RunDouble(ctx context.Context, agents int, w io.Writer) (err error) {
	c, err := mesossim.New(mesossim.Options{Agents: make([]mesossim.AgentOptions, agents)})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := fmt.Fprintln(w, c.URL()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// StartDouble starts self as a process of its own that runs a double, and returns the address of its master. stop ends it and what it runs.
func StartDouble(ctx context.Context, self string, agents int) (master string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, self, "bench", "target", "--mesos-agents", fmt.Sprint(agents))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for this process, which has something to tell its master first.
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, fmt.Errorf("start a double of Mesos: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start a double of Mesos: it ended before it was up: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}
