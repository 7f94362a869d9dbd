package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// page is the answer of a list. next is "" on the last one.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// list makes nil an empty list, as it is in JSON.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func (s *Server) listBatches(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	batches, next, err := s.d.Store.Batches(c.Request().Context(), scheduler.BatchQuery{
		Tenant: c.QueryParam("tenant"), Source: c.QueryParam("source"), Before: c.QueryParam("before"), Limit: int(limit),
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[batcher.Batch]{list(batches), next})
}

// batchDetail is scheduler.BatchDetail without null.
type batchDetail struct {
	Batch        batcher.Batch         `json:"batch"`
	Dispositions []trigger.Disposition `json:"dispositions"`
}

func (s *Server) getBatch(c echo.Context) error {
	d, err := s.batch(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, batchDetail{d.Batch, list(d.Dispositions)})
}

func (s *Server) batch(c echo.Context) (*scheduler.BatchDetail, error) {
	if s.d.Store == nil {
		return nil, errNoSchedule
	}
	return s.d.Store.Batch(c.Request().Context(), param(c, "batch"))
}

// codecOf returns how the rows of an object were written: the extension of its key.
func codecOf(key string) string {
	_, ext, _ := strings.Cut(key[strings.LastIndexByte(key, '/')+1:], ".")
	return ext
}

func (s *Server) getRows(c echo.Context) error {
	skip, err := number(c, "offset", 0, 1<<40, 0)
	if err != nil {
		return err
	}
	limit, err := number(c, "limit", 0, 1<<40, 0)
	if err != nil {
		return err
	}
	rows, err := s.openRows(c)
	if err != nil {
		return err
	}
	defer rows.Close()
	out := s.stream(c, "application/x-ndjson")
	c.Response().WriteHeader(http.StatusOK)
	if skip == 0 && limit == 0 {
		_, err = io.Copy(out, rows)
		return err
	}
	return copyRows(out, newLineReader(rows), skip, limit)
}

func (s *Server) openRows(c echo.Context) (io.ReadCloser, error) {
	d, err := s.batch(c)
	if err != nil {
		return nil, err
	}
	if s.d.Objects == nil || s.d.Codec == nil {
		return nil, errNoObjects
	}
	if d.Batch.Void != "" {
		return io.NopCloser(strings.NewReader("")), nil
	}
	body, _, err := s.d.Objects.Get(c.Request().Context(), d.Batch.Key)
	if err != nil {
		return nil, fmt.Errorf("read object of batch %s: %w", d.Batch.ID, err)
	}
	rows, err := s.d.Codec.Rows(codecOf(d.Batch.Key), body)
	if err != nil {
		return nil, fmt.Errorf("decompress object of batch %s: %w", d.Batch.ID, err)
	}
	return rows, nil
}

// copyRows copies limit lines (0: all) after the first skip.
func copyRows(to io.Writer, from *bufio.Reader, skip, limit int64) error {
	for n := int64(0); limit == 0 || n < skip+limit; {
		part, err := from.ReadSlice('\n')
		if n >= skip {
			if _, err := to.Write(part); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
			n++
		case errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull): // A long line comes in parts.
			return err
		}
	}
	return nil
}

func newLineReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 64<<10) }
