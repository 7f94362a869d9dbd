package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// logQuery says which output of a run is wanted.
type logQuery struct {
	run, task string
	// try is 0 for the newest.
	try, mapIndex int
	offset        int64
	follow        bool
}

func logQueryOf(c echo.Context) (q logQuery, err error) {
	q = logQuery{run: param(c, "run"), task: c.QueryParam("task")}
	switch text := c.QueryParam("follow"); text {
	case "1", "true":
		q.follow = true
	case "", "0", "false":
	default:
		return q, invalid("follow is %q, want 1 or 0", text)
	}
	try, err := number(c, "try", 1, 1<<30, 0)
	if err != nil {
		return q, err
	}
	mapIndex, err := number(c, "map_index", scheduler.NoMap, 1<<30, scheduler.NoMap)
	if err != nil {
		return q, err
	}
	q.try, q.mapIndex = int(try), int(mapIndex)
	if q.offset, err = number(c, "offset", 0, 1<<60, 0); err != nil {
		return q, err
	}
	if id := c.Request().Header.Get("Last-Event-ID"); id != "" {
		if n, err := strconv.ParseInt(id, 10, 64); err == nil && n >= 0 {
			q.offset = n
		}
	}
	if q.offset > 0 && q.task == "" {
		return q, invalid("offset needs a task")
	}
	return q, nil
}

func (s *Server) getLogs(c echo.Context) error {
	q, err := logQueryOf(c)
	if err != nil {
		return err
	}
	if s.d.Store == nil {
		return errNoSchedule
	}
	ctx := c.Request().Context()
	d, past, err := s.runOrPast(ctx, param(c, "run"))
	if err != nil {
		return err
	}
	if past != nil {
		return s.pastLogs(c, q, past)
	}
	f := &follower{s: s, q: q}
	if q.mapIndex != scheduler.NoMap {
		if d, err = f.look(ctx, key{q.task, q.mapIndex}); err != nil {
			return err
		}
	}
	tasks := f.wanted(d)
	if q.task != "" && len(tasks) == 0 {
		return fmt.Errorf("find task %q of run %s: %w", q.task, q.run, scheduler.ErrNotFound)
	}
	if q.task != "" && q.try > 0 && !q.follow && attempt(d, tasks[0], q.try) == nil {
		return fmt.Errorf("find try %d of task %q: %w", q.try, q.task, scheduler.ErrNotFound)
	}
	f.open(c)
	for i := range tasks {
		err := f.task(ctx, tasks[i], len(tasks) > 1)
		if err == nil {
			err = f.mapped(ctx, tasks[i])
		}
		if errors.Is(err, errEnded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return f.sink.end()
}

// errEnded says that the reader has gone or the server ends.
var errEnded = errors.New("stream ended")

// follower copies the output of attempts as it comes.
type follower struct {
	s    *Server
	q    logQuery
	sink sink
}

// key names a task within its run.
type key struct {
	task     string
	mapIndex int
}

// wanted lists the tasks that were asked for, in the order of the DAG.
func (f *follower) wanted(d *scheduler.RunDetail) []key {
	var out []key
	for _, t := range d.Tasks {
		if f.q.task == "" || t.Task == f.q.task && t.MapIndex == f.q.mapIndex {
			out = append(out, key{t.Task, t.MapIndex})
		}
	}
	return out
}

// attempt returns a try of a task, the newest for 0, or nil.
func attempt(d *scheduler.RunDetail, k key, try int) *scheduler.Attempt {
	var found *scheduler.Attempt
	for i := range d.Attempts {
		a := &d.Attempts[i]
		if a.Task == k.task && a.MapIndex == k.mapIndex && (a.Try == try || try == 0 && (found == nil || a.Try > found.Try)) {
			found = a
		}
	}
	return found
}

// state of the task as d has it.
func state(d *scheduler.RunDetail, k key) scheduler.State {
	i := slices.IndexFunc(d.Tasks, func(t scheduler.TaskRun) bool { return t.Task == k.task && t.MapIndex == k.mapIndex })
	if i < 0 {
		return scheduler.StateRemoved
	}
	return d.Tasks[i].State
}

// task copies one try of a task, or, when it follows, one after the other until the task has ended.
func (f *follower) task(ctx context.Context, k key, titled bool) error {
	for try, last := f.q.try, 0; ; {
		d, err := f.look(ctx, k)
		if err != nil {
			return err
		}
		over := state(d, k).Terminal() || d.Run.State.Terminal()
		a := attempt(d, k, try)
		if a != nil && a.Try > last {
			last = a.Try
			if titled || last > 1 && f.q.follow && f.q.try == 0 {
				if err := f.sink.title(k, last); err != nil {
					return err
				}
			}
			if err := f.copy(ctx, k, a); err != nil {
				return err
			}
			f.q.offset = 0
			if f.q.try > 0 {
				return nil
			}
			continue // Look again: a retry may have begun meanwhile.
		}
		if over || !f.q.follow {
			return nil
		}
		if err := f.pause(ctx); err != nil {
			return err
		}
	}
}

// copy copies the output of an attempt, until it has ended if it follows.
func (f *follower) copy(ctx context.Context, k key, a *scheduler.Attempt) error {
	exec := f.s.d.Executors[a.Executor]
	if a.Executor == "" {
		return f.sink.note("no executor runs it: it writes no log")
	}
	if exec == nil {
		return f.sink.note("the executor " + strconv.Quote(a.Executor) + " is not in this process")
	}
	offset := f.q.offset
	for {
		// The order matters: what was written before the end is read after it is known.
		over, err := f.over(ctx, k, a.Try)
		if err != nil {
			return err
		}
		r, err := exec.Log(ctx, a.ID, offset)
		if err == nil {
			offset, err = f.sink.copy(r, offset)
		}
		if err != nil && !errors.Is(err, scheduler.ErrNotFound) {
			return err
		}
		if over || !f.q.follow {
			return f.sink.finish()
		}
		if err := f.pause(ctx); err != nil {
			return err
		}
	}
}

func (f *follower) over(ctx context.Context, k key, try int) (bool, error) {
	d, err := f.look(ctx, k)
	if err != nil {
		return false, err
	}
	a := attempt(d, k, try)
	return a == nil || a.State.Terminal() || !a.EndedAt.IsZero() || state(d, k).Terminal(), nil
}

func (f *follower) pause(ctx context.Context) error {
	if err := f.sink.flush(); err != nil {
		return err
	}
	if !f.s.wait(ctx, f.s.o.Poll) {
		return errEnded
	}
	return nil
}

// sink is where output goes: plain text, or server-sent events.
type sink struct {
	out *stream
	sse bool
	// ids says that an offset is enough to resume; next is that of what comes next.
	ids  bool
	next int64
	// part is a line that has not ended yet, for events; open says that there is one in plain text.
	part []byte
	open bool
}

const eventStream = "text/event-stream"

func (f *follower) open(c echo.Context) {
	f.sink.sse = strings.Contains(c.Request().Header.Get(echo.HeaderAccept), eventStream)
	f.sink.ids = f.q.task != "" && f.q.try > 0
	kind := "text/plain; charset=utf-8"
	if f.sink.sse {
		kind = eventStream
	}
	f.sink.out = f.s.stream(c, kind)
	c.Response().WriteHeader(http.StatusOK)
	_ = f.sink.out.flush() // So that the reader sees that there is an answer.
}

// copy copies r, which begins at offset, closes it, and returns the offset of its end.
func (s *sink) copy(r io.ReadCloser, offset int64) (int64, error) {
	defer r.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		offset += int64(n)
		if n > 0 {
			if err := s.take(buf[:n], offset); err != nil {
				return offset, err
			}
		}
		if errors.Is(err, io.EOF) {
			return offset, nil
		}
		if err != nil {
			return offset, err
		}
	}
}

// take sends b, which ends at the offset next.
func (s *sink) take(b []byte, next int64) error {
	if !s.sse {
		s.open = b[len(b)-1] != '\n'
		_, err := s.out.Write(b)
		return err
	}
	s.part = append(s.part, b...)
	for {
		line, rest, ok := bytes.Cut(s.part, []byte{'\n'})
		if !ok {
			s.next = next
			return nil
		}
		if err := s.event(line, next-int64(len(rest))); err != nil {
			return err
		}
		s.part = rest
	}
}

// event sends a line; next is the offset after it. A carriage return would end the event's line.
func (s *sink) event(line []byte, next int64) error {
	var b bytes.Buffer
	if s.ids {
		fmt.Fprintf(&b, "id: %d\n", next)
	}
	for part := range bytes.SplitSeq(line, []byte{'\r'}) {
		fmt.Fprintf(&b, "data: %s\n", part)
	}
	b.WriteByte('\n')
	_, err := s.out.Write(b.Bytes())
	return err
}

// finish ends a last line that has no end of its own.
func (s *sink) finish() error {
	if s.sse && len(s.part) > 0 {
		part := s.part
		s.part = nil
		return s.event(part, s.next)
	}
	return nil
}

func (s *sink) title(k key, try int) error {
	name := k.task
	if k.mapIndex != scheduler.NoMap {
		name += "/" + strconv.Itoa(k.mapIndex)
	}
	return s.note(fmt.Sprintf("==> %s (try %d) <==", name, try))
}

// note says something about the output, on a line of its own.
func (s *sink) note(text string) error {
	format := "%s\n"
	switch {
	case s.sse:
		format = "event: note\ndata: %s\n\n"
	case s.open:
		format = "\n%s\n"
	}
	s.open = false
	_, err := fmt.Fprintf(s.out, format, text)
	return err
}

func (s *sink) flush() error { return s.out.flush() }

// end tells a browser not to come again.
func (s *sink) end() error {
	if !s.sse {
		return nil
	}
	_, err := io.WriteString(s.out, "event: end\ndata: end\n\n")
	return err
}
