package mesossim

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"millrace/scheduler/mesos"
)

// health is what is known of a task's health. All of it is unobserved: after Mesos's protocol files.
type health struct {
	is       *bool // nil: not known yet
	failures int
	started  time.Time
	next     *timer
}

// orElse returns a number of the protocol, or its default.
func orElse[T int | float64](v *T, standard T) T {
	if v == nil {
		return standard
	}
	return *v
}

// watch begins to check the health of a task that runs.
func (t *task) watch(out *output) {
	h := t.info.HealthCheck
	if h == nil {
		return
	}
	t.health.started = t.a.c.now()
	t.health.next = t.a.c.after(t.a.c.opt.seconds(orElse(h.DelaySeconds, 15)), func() { t.check(h, out) })
}

// check makes one check in a goroutine, which ends with its time-out.
func (t *task) check(h *mesos.HealthCheck, out *output) {
	c := t.a.c
	if t.ended || t.killed || c.closed {
		return
	}
	c.running.Go(func() {
		ctx, stop := context.WithTimeout(context.Background(), max(c.opt.seconds(orElse(h.TimeoutSeconds, 20)), milli))
		defer stop()
		ok := t.healthy(ctx, h, out)
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.ended || t.killed {
			return
		}
		t.judge(h, ok)
		if !t.killed {
			t.health.next = c.after(c.opt.seconds(orElse(h.IntervalSeconds, 10)), func() { t.check(h, out) })
		}
	})
}

// judge takes the result of a check: a change is reported, and too many failures in a row end the task.
func (t *task) judge(h *mesos.HealthCheck, ok bool) {
	s := &t.health
	if !ok && s.is == nil && t.a.c.now().Sub(s.started) < t.a.c.opt.seconds(orElse(h.GracePeriodSeconds, 10)) {
		return
	}
	changed := s.is == nil || *s.is != ok
	s.is = &ok
	if changed {
		t.report(mesos.TaskRunning, mesos.ReasonTaskHealthCheck, mesos.SourceExecutor, "")
	}
	if ok {
		s.failures = 0
		return
	}
	s.failures++
	if s.failures >= orElse(h.ConsecutiveFailures, 3) {
		t.kill(t.policy())
	}
}

// healthy makes the check itself.
func (t *task) healthy(ctx context.Context, h *mesos.HealthCheck, out *output) bool {
	switch {
	case h.Command != nil:
		cmd := t.command(h.Command, out)
		if cmd.Start() != nil {
			return false
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // It may have ended.
		defer stop()
		return cmd.Wait() == nil
	case h.TCP != nil:
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostPort(h.TCP.Port))
		return err == nil && conn.Close() == nil
	case h.HTTP != nil:
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(h.HTTP.Port)+h.HTTP.Path, nil)
		if err != nil {
			return false
		}
		res, err := http.DefaultClient.Do(req)
		return err == nil && res.Body.Close() == nil && res.StatusCode >= 200 && res.StatusCode < 400
	}
	return true
}
