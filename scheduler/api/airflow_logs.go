package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
)

// logPart is how much of a log one JSON answer has, in bytes; the rest is asked for by its token.
const logPart = 1 << 20

const ndjson = "application/x-ndjson"

// airflowLog answers with a log as lines: a part of it, as JSON with a token that asks for the next, or all of it as one JSON document a line.
func (s *Server) airflowLog(c echo.Context) error {
	try, err := tryNumber(c)
	if err != nil {
		return err
	}
	offset, err := number(c, "token", 0, 1<<60, 0)
	if err != nil {
		return invalid("token is not one that an answer had")
	}
	d, i, err := s.instanceOf(c)
	if err != nil {
		return err
	}
	k := key{d.Tasks[i].Task, d.Tasks[i].MapIndex}
	a := attempt(d, k, try)
	if a == nil {
		return fmt.Errorf("find try %d of task %q: %w", try, k.task, scheduler.ErrNotFound)
	}
	exec := s.d.Executors[a.Executor]
	if a.Executor == "" {
		return fmt.Errorf("find the log of task %q: no executor runs it: %w", k.task, scheduler.ErrNotFound)
	}
	if exec == nil {
		return fmt.Errorf("%w: the log is with executor %q", errNotHere, a.Executor)
	}
	if strings.Contains(c.Request().Header.Get(echo.HeaderAccept), ndjson) {
		return s.streamLog(c, exec, a.ID, offset)
	}
	// The order matters: what was written before the end is read after it is known.
	over := a.State.Terminal() || state(d, k).Terminal()
	return logAsJSON(c, exec, a.ID, offset, over)
}

// logAsJSON answers with the part of a log that begins at offset; over says that the log does not grow any more.
func logAsJSON(c echo.Context, exec scheduler.Executor, attempt string, offset int64, over bool) error { //layout:allow params it is one answer
	text, err := readLog(c.Request().Context(), exec, attempt, offset)
	if err != nil {
		return err
	}
	whole := len(text) <= logPart
	if !whole {
		text = text[:logPart]
	}
	if end := bytes.LastIndexByte(text, '\n') + 1; end > 0 && !(whole && over) {
		text = text[:end] // The last line may go on.
	} else if whole && !over {
		text = nil
	}
	out := airflow.Log{Lines: []airflow.Line{}}
	for line := range bytes.Lines(text) {
		out.Lines = append(out.Lines, lineOf(line))
	}
	if !whole || !over {
		next := strconv.FormatInt(offset+int64(len(text)), 10)
		out.Next = &next
	}
	return c.JSON(http.StatusOK, out)
}

// readLog reads one byte more than a part, if there is as much. A task that has not written yet has an empty log.
func readLog(ctx context.Context, exec scheduler.Executor, attempt string, offset int64) ([]byte, error) {
	r, err := exec.Log(ctx, attempt, offset)
	if errors.Is(err, scheduler.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, logPart+1))
}

func lineOf(line []byte) airflow.Line {
	return airflow.Line{Event: strings.ToValidUTF8(string(bytes.TrimRight(line, "\r\n")), "\uFFFD")}
}

// streamLog writes the log up to its present end, line by line.
func (s *Server) streamLog(c echo.Context, exec scheduler.Executor, attempt string, offset int64) error {
	r, err := exec.Log(c.Request().Context(), attempt, offset)
	if errors.Is(err, scheduler.ErrNotFound) {
		r, err = io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	out := s.stream(c, ndjson)
	c.Response().WriteHeader(http.StatusOK)
	enc, lines := json.NewEncoder(out), newLineReader(r)
	for {
		line, err := lines.ReadSlice('\n') // A long line comes in parts.
		if len(line) > 0 {
			if err := enc.Encode(lineOf(line)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return out.flush()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
