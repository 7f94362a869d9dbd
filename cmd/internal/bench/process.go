package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"millrace/cmd/internal/loopback"
)

// process is a server under test.
type process struct {
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	ingest  string
	console string
	dir     string
}

// start runs self with args, in which INGEST, CONSOLE and DIR are replaced, and waits until url answers 200.
func start(ctx context.Context, self, dir string, args ...string) (*process, error) {
	p := &process{dir: dir}
	var err error
	if p.ingest, err = loopback.Free(); err != nil {
		return nil, err
	}
	if p.console, err = loopback.Free(); err != nil {
		return nil, err
	}
	for i, a := range args {
		args[i] = strings.NewReplacer("INGEST", p.ingest, "CONSOLE", p.console, "DIR", dir).Replace(a)
	}
	p.cmd = exec.CommandContext(ctx, self, args...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 30 * time.Second
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, p.ready(ctx)
}

func (p *process) ready(ctx context.Context) error {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		resp, err := http.Get("http://" + p.ingest + "/readyz")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	_ = p.stop()
	return fmt.Errorf("start %s: not ready after 20s:\n%s", strings.Join(p.cmd.Args, " "), p.stderr.String())
}

// stop asks the process to drain and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}

// usage is what the operating system says of a process.
type usage struct {
	CPU     time.Duration `json:"cpu_ns"`
	RSS     int64         `json:"rss_bytes"`
	PeakRSS int64         `json:"peak_rss_bytes"`
}

// usageOf reads /proc: proc(5), fields 14 and 15 of stat in ticks of 10 ms, VmRSS and VmHWM of status in KiB.
func usageOf(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	u.CPU = time.Duration(user+system) * 10 * time.Millisecond
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.RSS = kib << 10
		case "VmHWM":
			u.PeakRSS = kib << 10
		}
	}
	return u, nil
}
