package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"millrace/scheduler"
)

// command runs a program for a notice: the JSON on stdin, the most important of it in the environment. No shell is involved. The program and what
// it has started are killed when the time is over.
func (s *Service) command(ctx context.Context, n *Notifier, id string, body *scheduler.NoticeBody) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the notice: %w", err)
	}
	out := &tail{}
	cmd := exec.CommandContext(ctx, n.Run[0], n.Run[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(raw, '\n')), out, out
	cmd.Env = append(append([]string{}, s.opts.Env...), environment(id, body)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a child that has left the group may hold the pipes
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success():
		return nil
	case errors.As(err, &exit):
		if text := oneLine(out.String()); text != "" {
			return fmt.Errorf("%s ended with %v: %s", n.Run[0], exit, text)
		}
		return fmt.Errorf("%s ended with %v", n.Run[0], exit)
	}
	return fmt.Errorf("start %s: %w", n.Run[0], err)
}

// environment has what a short script needs.
func environment(id string, b *scheduler.NoticeBody) []string {
	vars := []struct{ name, val string }{
		{"NOTICE_ID", id}, {"EVENT", b.Event}, {"DAG_ID", b.DAG}, {"RUN_ID", b.Run}, {"STATE", string(b.State)}, {"REASON", strings.TrimPrefix(reasonOf(b), ": ")},
		{"URL", b.URL}, {"BATCHES", strconv.Itoa(b.Batches)}, {"TEXT", headline(b) + reasonOf(b)},
	}
	if b.Task != nil {
		vars = append(vars, struct{ name, val string }{"TASK_ID", b.Task.Task})
	}
	var out []string
	for _, v := range vars {
		out = append(out, "MILLRACE_"+v.name+"="+strings.ReplaceAll(v.val, "\x00", ""))
	}
	return out
}

// tail keeps the last bytes that were written.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-maxExcerpt):]...)
	t.buf = t.buf[max(0, len(t.buf)-maxExcerpt):]
	return len(p), nil
}

// String returns them.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
