package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"millrace/scheduler/spec"
)

// dagSchema serves the JSON Schema of DAG files.
func (s *Server) dagSchema(c echo.Context) error {
	text, err := spec.Schema()
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, "application/schema+json", text)
}
