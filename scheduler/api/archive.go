package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/archive"
)

// archivedAt is where an archived run is.
type archivedAt struct {
	Object string `json:"object"`
	URI    string `json:"uri"`
}

// pastRun is a run that is in the archive.
type pastRun struct {
	rec *archive.Record
	at  archivedAt
}

// runOrPast returns a run of the archive, or of the store, without its mapped tasks then, of which there may be a hundred thousand: they are
// counted. past is nil for one of the store.
func (s *Server) runOrPast(ctx context.Context, id string) (d *scheduler.RunDetail, past *pastRun, err error) {
	d, err = s.d.Store.Look(ctx, id)
	if !errors.Is(err, scheduler.ErrNotFound) {
		return d, nil, err
	}
	if past, err = s.past(ctx, id, err); err != nil {
		return nil, nil, err
	}
	return &past.rec.RunDetail, past, nil
}

// past returns an archived run; missing is the error of one that never was.
func (s *Server) past(ctx context.Context, id string, missing error) (*pastRun, error) {
	h, ok := s.d.Store.(scheduler.History)
	if !ok {
		return nil, missing
	}
	key, err := h.Archived(ctx, id)
	switch {
	case errors.Is(err, scheduler.ErrNotFound):
		return nil, missing
	case err != nil:
		return nil, err
	case key == "":
		return nil, fmt.Errorf("find run %q: it ended and was forgotten after store.retention, without an archive (store.archive): %w", id, scheduler.ErrNotFound)
	case s.d.Objects == nil:
		return nil, errNoObjects
	}
	rec, err := archive.NewReader(s.d.Objects).Find(ctx, key, id)
	if err != nil {
		return nil, err
	}
	return &pastRun{rec, archivedAt{key, s.d.Objects.URI(key)}}, nil
}

// pastLogs answers with what the archive has of a run's logs: their ends.
func (s *Server) pastLogs(c echo.Context, q logQuery, past *pastRun) error {
	f := &follower{s: s, q: q}
	d := &past.rec.RunDetail
	tasks := f.wanted(d)
	if q.task != "" && len(tasks) == 0 {
		return fmt.Errorf("find task %q of run %s: %w", q.task, q.run, scheduler.ErrNotFound)
	}
	f.open(c)
	for _, k := range tasks {
		a := attempt(d, k, q.try)
		if a == nil {
			continue
		}
		if len(tasks) > 1 {
			if err := f.sink.title(k, a.Try); err != nil {
				return err
			}
		}
		if err := f.tail(past, a.ID); err != nil {
			return err
		}
	}
	return f.sink.end()
}

// tail writes what the archive has of one log, with a word on what it is.
func (f *follower) tail(past *pastRun, attempt string) error {
	for _, l := range past.rec.Logs {
		if l.Attempt != attempt {
			continue
		}
		text := "the run is archived"
		if kept := int64(len(l.Tail)); kept < l.Bytes {
			text += fmt.Sprintf(", with the last %d of %d bytes", kept, l.Bytes)
		}
		if err := f.sink.note(text + ": " + past.at.Object); err != nil {
			return err
		}
		if _, err := f.sink.copy(io.NopCloser(strings.NewReader(l.Tail)), 0); err != nil {
			return err
		}
		return f.sink.finish()
	}
	return f.sink.note("the run is archived, and there was no log any more: " + past.at.Object)
}

// listArchives lists the objects of the archive.
func (s *Server) listArchives(c echo.Context) error {
	if s.d.Objects == nil {
		return errNoObjects
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	items, next, err := archive.NewReader(s.d.Objects).List(c.Request().Context(), c.QueryParam("before"), int(limit))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[archive.Item]{items, next})
}

// pruneNow does at once what is done once a day.
func (s *Server) pruneNow(c echo.Context) error {
	if s.d.Prune == nil {
		return errNoSchedule
	}
	done, err := s.d.Prune(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, done)
}

// getArchive answers with the lines of an object of the archive.
func (s *Server) getArchive(c echo.Context) error {
	if s.d.Objects == nil {
		return errNoObjects
	}
	lines, err := archive.NewReader(s.d.Objects).Open(c.Request().Context(), c.QueryParam("key"))
	if err != nil {
		return err
	}
	defer func() { _ = lines.Close() }() // only read
	return c.Stream(http.StatusOK, "application/x-ndjson", lines)
}
