package api

import (
	"net/http"
	"net/http/pprof"

	"github.com/labstack/echo/v4"
)

// profiles are the routes of [net/http/pprof], which `go tool pprof` reads. They tell about the process and can slow it down, so they are
// guarded, and there only if they were asked for.
func (s *Server) profiles() []route {
	if !s.o.Pprof {
		return nil
	}
	named := map[string]http.HandlerFunc{"cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace}
	one := func(c echo.Context) error {
		h, ok := named[c.Param("profile")]
		if !ok {
			h = pprof.Index // the list, or a profile by its name
		}
		h(c.Response(), c.Request())
		return nil
	}
	return []route{
		{http.MethodGet, "/debug/pprof/", guarded, true, one},
		{http.MethodGet, "/debug/pprof/:profile", guarded, true, one},
	}
}
